"""Standard output and error that may be closed, full, or read by nobody; the work continues."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any


def open_closed_streams() -> None:
    """Open closed standard descriptors on the null device.

    Otherwise the next file that is opened, one of a run for example, would get the number of
    standard output, and everything printed would be written into it. To be called first of all.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
            os.set_inheritable(descriptor, True)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            stream = open(descriptor, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


class Unfailing:
    """A text stream that loses what cannot be written, and everything after that.

    Attributes:
        lost: why the first loss happened; None: nothing was lost.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self.lost: OSError | ValueError | None = None

    def write(self, text: str) -> int:
        """Write a text, as a stream does."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError) as error:  # ValueError: an environment has closed it
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        """Write what is buffered, as a stream does."""
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._lose(error)

    def _lose(self, error: OSError | ValueError) -> None:
        self.lost = self.lost or error
        send_nowhere(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def unfailing_streams() -> Iterator[Unfailing]:
    """Make standard output and error unfailing in the block; returns standard output."""
    before = sys.stdout, sys.stderr
    output, errors = Unfailing(sys.stdout), Unfailing(sys.stderr)
    sys.stdout, sys.stderr = output, errors
    try:
        yield output
    finally:
        output.flush()  # an environment may have put others in their place
        errors.flush()
        sys.stdout, sys.stderr = before


def send_nowhere(stream: IO[str]) -> None:
    """Send a stream to the null device, what Python still holds of it included."""
    with suppress(OSError, ValueError):  # it has no descriptor
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
