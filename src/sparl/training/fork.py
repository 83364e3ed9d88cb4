"""A copy of this process that does a part of the work on another core; what copies must not keep.

An environment may fork, too. No child keeps a descriptor of ours: with that of a lock, a run's
folder would stay locked for as long as the child lives.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys
import warnings
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

CAN_FORK = sys.platform == "linux"  # elsewhere libraries of the system need not work in a copy
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


class HasDescriptors(Protocol):
    """Something whose close() closes its descriptors; it may be called again."""

    def close(self) -> None:
        """Close them."""


_ours: weakref.WeakSet[HasDescriptors] = weakref.WeakSet()


def close_in_children(ours: HasDescriptors) -> None:
    """Close this in every child that is forked from now on, whoever forks it."""
    _ours.add(ours)


def _close_ours() -> None:
    for each in list(_ours):
        each.close()


os.register_at_fork(after_in_child=_close_ours)


def shared_zeros(rows: int, columns: int) -> NDArray[np.float64]:
    """Float64 zeros, [rows, columns], that this process and its copies read and write alike."""
    memory = mmap.mmap(-1, 8 * rows * columns)
    return np.frombuffer(memory, np.float64).reshape(rows, columns)


class Fork:
    """A copy of this process that calls `work` and ends, while this one goes on.

    What it does to memory stays its own, but for arrays of shared_zeros. It closes the files of
    this process, so that no lock outlives this one in it, ends with this process, says nothing, and
    leaves the terminal's Ctrl-C to this one.

    Args:
        work: what it calls; must not need this process' other threads.

    Raises:
        OSError: no process is to be had.
    """

    def __init__(self, work: Callable[[], object]) -> None:
        parent = os.getpid()
        with warnings.catch_warnings():  # of locks that other threads may hold
            warnings.simplefilter("ignore", DeprecationWarning)
            self._process = os.fork()
        if not self._process:
            _do_and_exit(work, parent)

    def succeeded(self) -> bool:
        """Wait for its end: whether work() returned, as far as one can know."""
        try:
            _, status = os.waitpid(self._process, 0)
        except ChildProcessError:  # nobody can where SIGCHLD is ignored
            status = 1
        self._process = 0
        return status == 0

    def close(self) -> None:
        """End it, if succeeded() was not asked."""
        if self._process:
            with suppress(ProcessLookupError):
                os.kill(self._process, signal.SIGKILL)
            self.succeeded()


def _do_and_exit(work: Callable[[], object], parent: int) -> None:
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for standard in range(3):
            os.dup2(nowhere, standard)
        for file in list(Path("/proc/self/fd").iterdir()):
            if int(file.name) > 2:
                with suppress(OSError):  # that of the listing is closed already
                    os.close(int(file.name))
        sys.stdout = sys.stderr = os.fdopen(1, "w", errors="backslashreplace")
        if os.getppid() == parent:
            work()
            status = 0
    finally:
        os._exit(status)
