"""Print plain lines in any encoding."""

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
    """Prints without colours, markup or wrapping; a closed pipe raises BrokenPipeError.

    Characters that the stream cannot encode, and control and invisible characters, are written as
    escape sequences, because the text may come from files and environments.
    """

    def __init__(self, *, stderr: bool = False, quiet: bool = False) -> None:
        super().__init__(
            stderr=stderr, quiet=quiet, highlight=False, markup=False, emoji=False, soft_wrap=True
        )
        if not self.is_terminal:
            self.width = _WIDE  # a table in a pipe or a file is not wrapped

    def render_str(self, text: str, **how: Any) -> Text:
        """Convert text as Rich does, so that its width is the number of visible characters."""
        return super().render_str(visible(text), **how)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Render as Rich does, with printable characters and line feeds only."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))

    @property
    def file(self) -> IO[str]:
        """The output stream."""
        return cast(IO[str], Escaping(super().file))

    @file.setter
    def file(self, new_file: IO[str]) -> None:
        self._file = new_file

    def on_broken_pipe(self) -> NoReturn:
        """Raise an exception; Rich would end the process, but training must continue."""
        raise BrokenPipeError


class Escaping:
    """A text stream that writes characters that it cannot encode as escape sequences."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text; escape the characters that the stream cannot encode."""
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        return self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def escape_unencodable_output() -> None:
    """Make standard output escape the characters that it cannot encode.

    Call this only in sparl's own process, where it also affects the help texts and the output of
    environments, which bypass PlainConsole.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
