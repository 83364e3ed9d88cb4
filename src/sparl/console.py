"""A console that prints plain lines and says when nobody reads them any more."""

from __future__ import annotations

from typing import NoReturn

from rich.console import Console


class PlainConsole(Console):
    """Lines as they are: no highlighting, no wrapping; a closed pipe is a BrokenPipeError."""

    def __init__(self, *, stderr: bool = False, quiet: bool = False) -> None:
        super().__init__(stderr=stderr, quiet=quiet, highlight=False, soft_wrap=True)

    def on_broken_pipe(self) -> NoReturn:
        """Rich would end the process here, a training included."""
        raise BrokenPipeError
