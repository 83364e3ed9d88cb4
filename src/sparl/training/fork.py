"""A copy of this process that does a part of the work on another core."""

from __future__ import annotations

import mmap
import os
import signal
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CAN_FORK = sys.platform == "linux"  # elsewhere libraries of the system need not work in a copy


def shared_zeros(rows: int, columns: int) -> NDArray[np.float64]:
    """Float64 zeros, [rows, columns], that this process and its copies read and write alike."""
    memory = mmap.mmap(-1, 8 * rows * columns)
    return np.frombuffer(memory, np.float64).reshape(rows, columns)


class Fork:
    """A copy of this process that calls `work` and ends, while this one goes on.

    What it does to memory stays its own, but for arrays of shared_zeros. It holds no file open, so
    that no lock outlives this process in it, and leaves the terminal's Ctrl-C to this one.

    Args:
        work: what it calls; must not need this process' other threads.

    Raises:
        OSError: no process is to be had.
    """

    def __init__(self, work: Callable[[], object]) -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with warnings.catch_warnings():  # of locks that other threads may hold
                warnings.simplefilter("ignore", DeprecationWarning)
                self._process = os.fork()
            if not self._process:
                _do_and_exit(work)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def succeeded(self) -> bool:
        """Wait for its end: whether work() returned."""
        _, status = os.waitpid(self._process, 0)
        self._process = 0
        return status == 0

    def close(self) -> None:
        """End it, if succeeded() has not seen its end."""
        if self._process:
            os.kill(self._process, signal.SIGKILL)
            self.succeeded()


def _do_and_exit(work: Callable[[], object]) -> None:
    status = 1
    try:
        for file in list(Path("/proc/self/fd").iterdir()):
            with suppress(OSError):  # that of the listing is closed already
                os.close(int(file.name))
        work()
        status = 0
    finally:
        os._exit(status)
