"""A console that prints plain lines and says when nobody reads them any more."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NoReturn

from rich.console import Console

from sparl.errors import ResourceError

_WIDE = 10_000  # columns


class PlainConsole(Console):
    """Lines as they are: no colours, markup or wrapping; a closed pipe is a BrokenPipeError."""

    def __init__(self, *, stderr: bool = False, quiet: bool = False) -> None:
        super().__init__(
            stderr=stderr, quiet=quiet, highlight=False, markup=False, emoji=False, soft_wrap=True
        )
        if not self.is_terminal:
            self.width = _WIDE  # a table in a pipe or a file is as wide as its content

    def print(self, *objects: Any, **how: Any) -> None:
        """As Rich's.

        Raises:
            BrokenPipeError: nobody reads it.
            ResourceError: standard output cannot be written.
        """
        with nullcontext() if self.stderr else output_checked():
            super().print(*objects, **how)

    def on_broken_pipe(self) -> NoReturn:
        """Rich would end the process here, a training included."""
        raise BrokenPipeError


@contextmanager
def output_checked() -> Iterator[None]:
    """For what prints and does no more: standard output that cannot be written, in one line.

    Raises:
        ResourceError: instead of the OSError of a full disk.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        nobody_reads()
        raise ResourceError(f"standard output cannot be written: {error.strerror}") from None


def nobody_reads() -> None:
    """Send standard output nowhere, what Python still holds of it included."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
