"""Keep the process working when standard output or standard error is closed or fails."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any


def open_closed_streams() -> None:
    """Open the null device on each standard descriptor that is closed.

    Otherwise, the next file to be opened, for example one of a run's files, would get the
    descriptor of standard output, and all printed text would be written to that file. Call this
    function before opening any file.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is `descriptor`
            os.set_inheritable(descriptor, True)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            stream = open(descriptor, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


class Unfailing:
    """A text stream that discards all output after the first write error.

    Attributes:
        lost: the first write error; None if nothing was lost.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self.lost: OSError | ValueError | None = None

    def write(self, text: str) -> int:
        """Write text; after an error, discard it."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError) as error:  # ValueError: the stream was closed
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        """Write buffered text; after an error, discard it."""
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
    """Replace standard output and standard error with Unfailing streams within the context.

    Yields:
        The stream that replaces standard output.
    """
    before = sys.stdout, sys.stderr
    output, errors = Unfailing(sys.stdout), Unfailing(sys.stderr)
    sys.stdout, sys.stderr = output, errors
    try:
        yield output
    finally:
        output.flush()  # not sys.stdout, which an environment may have replaced
        errors.flush()
        sys.stdout, sys.stderr = before


def send_nowhere(stream: IO[str]) -> None:
    """Redirect a stream to the null device, including the text that Python has buffered."""
    with suppress(OSError, ValueError):  # the stream has no descriptor
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
