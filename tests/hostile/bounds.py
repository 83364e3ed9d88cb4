"""Limit the memory and the time of a case, and read and write folders, for both fuzzers."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hostile.changes import Files

ROOM = 1 << 30  # bytes of address space that a case may use


class TooLong(BaseException):
    """A case takes too long; no command catches this exception."""


def _alarm(*_: object) -> None:
    raise TooLong


@contextmanager
def limits() -> Iterator[None]:
    """Limit the address space within the block, where an alarm raises TooLong."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    most = pages * os.sysconf("SC_PAGE_SIZE") + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    handler = signal.signal(signal.SIGALRM, _alarm)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGALRM, handler)


@contextmanager
def limited_to(seconds: int) -> Iterator[None]:
    """Raise TooLong if the block takes longer than this; it must be inside a block of `limits`."""
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def read(folder: Path) -> Files:
    """Return the files of a folder, except a run's lock."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def write(folder: Path, files: Files) -> None:
    """Write files into a folder."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
