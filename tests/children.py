"""Start processes for tests, and make sure that they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any


def sparl(
    *words: str, deaf: bool = False, **how: Any
) -> AbstractContextManager[subprocess.Popen[str]]:
    """Start `sparl WORDS`; see `command`."""
    return command(sys.executable, "-m", "sparl", *words, deaf=deaf, **how)


@contextmanager
def command(*words: str, deaf: bool = False, **how: Any) -> Iterator[subprocess.Popen[str]]:
    """Start a process; kill it and all processes that it started at the end of the block.

    Args:
        words: the words of the command line.
        deaf: whether the process ignores SIGINT from its start, like background jobs of a script.
        how: further arguments for Popen; standard output and standard error go to a pipe.
    """
    mark = f"BEGUN_BY_TEST={uuid.uuid4().hex}"
    name, _, value = mark.partition("=")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", **how.pop("env", {}), name: value}
    before = signal.signal(signal.SIGINT, signal.SIG_IGN if deaf else signal.default_int_handler)
    hang_up = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    try:
        process = subprocess.Popen(words, text=True, env=environment, **pipes | how)
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGHUP, hang_up)
    with process:
        try:
            yield process
        finally:
            process.kill()
            for about in Path("/proc").glob("[0-9]*/environ"):
                with suppress(OSError):
                    if mark.encode() in about.read_bytes():
                        os.kill(int(about.parts[2]), signal.SIGKILL)


def wait_until(happened: Callable[[], object]) -> None:
    """Wait until a condition is true; fail after a time limit."""
    end = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < end, "the condition did not become true in time"
        time.sleep(0.01)


def has_handler(process: int, by: signal.Signals) -> bool:
    """Return whether a process has installed a handler for a signal."""
    status = Path(f"/proc/{process}/status").read_text()
    (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (by - 1) & 1)


def waiting(waits: Path, count: int) -> list[int]:
    """Wait until `count` processes are waiting in bad_environments:Waits-v0; return their ids."""
    wait_until(lambda: len(list(waits.iterdir())) == count)
    return [int(path.name) for path in waits.iterdir()]


def release(waits: Path) -> None:
    """End the waiting of all processes in bad_environments:Waits-v0."""
    waits.rename(waits.with_name("waited"))
