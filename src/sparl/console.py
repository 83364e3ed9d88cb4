"""A console that prints plain lines in any encoding."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from typing import IO, Any, NoReturn, cast

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from sparl.wording import visible

_WIDE = 10_000  # columns


class PlainConsole(Console):
    """Lines as they are: no colours, markup or wrapping; a closed pipe is a BrokenPipeError.

    A character that the stream cannot encode, and one that a terminal would obey or not show, is
    written as an escape sequence: what is printed may come from files and environments.
    """

    def __init__(self, *, stderr: bool = False, quiet: bool = False) -> None:
        super().__init__(
            stderr=stderr, quiet=quiet, highlight=False, markup=False, emoji=False, soft_wrap=True
        )
        if not self.is_terminal:
            self.width = _WIDE  # a table in a pipe or a file is as wide as its content

    def render_str(self, text: str, **how: Any) -> Text:
        """As Rich's; the text is measured as it is shown."""
        return super().render_str(visible(text), **how)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """As Rich's; whatever is rendered has printable characters and line feeds alone."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))

    @property
    def file(self) -> IO[str]:
        """The stream that is written to."""
        return cast(IO[str], Escaping(super().file))

    @file.setter
    def file(self, new_file: IO[str]) -> None:
        self._file = new_file

    def on_broken_pipe(self) -> NoReturn:
        """Rich would end the process here, a training included."""
        raise BrokenPipeError


class Escaping:
    """A text stream that writes characters missing from its encoding as escape sequences."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, as a stream does."""
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        return self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def escape_unencodable_output() -> None:
    """Make standard output write what it cannot encode as escape sequences, whoever prints it.

    For a process of our own; what environments print and the help texts do not pass PlainConsole.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
