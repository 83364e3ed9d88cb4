"""A console that prints plain lines and says when nobody reads them any more."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from rich.console import Console


class PlainConsole(Console):
    """Lines as they are: no colours, markup or wrapping; a closed pipe is a BrokenPipeError."""

    def __init__(self, *, stderr: bool = False, quiet: bool = False) -> None:
        super().__init__(
            stderr=stderr, quiet=quiet, highlight=False, markup=False, emoji=False, soft_wrap=True
        )

    def on_broken_pipe(self) -> NoReturn:
        """Rich would end the process here, a training included."""
        raise BrokenPipeError


def nobody_reads() -> None:
    """Send standard output nowhere, what Python still holds of it included."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
