"""Print plain text in any encoding, and break lines between words on a terminal."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from typing import IO, Any, NoReturn, cast

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from sparl.text_table import Column, table_lines, wrapped
from sparl.wording import visible

_WIDE = 10_000  # columns


class PlainConsole(Console):
    """Prints without colours or markup; a closed pipe raises BrokenPipeError.

    On a terminal, `print` breaks the lines of a text between words. Elsewhere no line is broken.
    Characters that the stream cannot encode, and control and invisible characters, are written as
    escape sequences, because the text may come from files and environments.
    """

    def __init__(self, *, stderr: bool = False, quiet: bool = False) -> None:
        super().__init__(
            stderr=stderr, quiet=quiet, highlight=False, markup=False, emoji=False,
            soft_wrap=True, force_jupyter=False,
        )  # fmt: skip
        if not self.is_terminal:
            self.width = _WIDE  # a table in a pipe or a file is not wrapped

    def print(self, *objects: Any, **how: Any) -> None:
        """Print as Rich does, but break the lines of strings between words on a terminal."""
        if self.is_terminal:
            width = self.width
            objects = tuple(
                wrapped(visible(each), width) if isinstance(each, str) else each for each in objects
            )
        super().print(*objects, **how)

    def copyable(self, text: str) -> None:
        """Print a path, a command or data without breaking lines, so that it can be copied."""
        super().print(text)

    def table(
        self, columns: Sequence[Column], rows: Sequence[Sequence[str]], *, names: bool = False
    ) -> None:
        """Print a table; see `sparl.text_table.table_lines`."""
        cells = [[visible(cell).replace("\n", "\\n") for cell in row] for row in rows]
        for line in table_lines(columns, cells, self.width, names=names):
            super().print(line)

    def render_str(self, text: str, **how: Any) -> Text:
        """Convert text as Rich does, after escaping characters that would make its width wrong."""
        return super().render_str(visible(text), **how)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Render as Rich does, but write only printable characters and line feeds."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))

    @property
    def is_terminal(self) -> bool:
        """Whether the output is a terminal.

        Rich also assumes a terminal if FORCE_COLOR is set, as it is in notebooks and in many CI
        systems, and would write a progress bar into their logs.
        """
        try:
            return self.file.isatty()
        except (AttributeError, ValueError):  # not a file, or closed
            return False

    @property
    def file(self) -> IO[str]:
        """The output stream."""
        return cast(IO[str], Escaping(super().file))

    @file.setter
    def file(self, new_file: IO[str]) -> None:
        self._file = new_file

    def on_broken_pipe(self) -> NoReturn:
        """Raise BrokenPipeError. Rich would exit the process, but training must continue."""
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
