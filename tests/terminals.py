"""Create terminals of a given width, and check the text that is printed to them."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import pytest

WIDTHS = [40, 80, *(pytest.param(width, marks=pytest.mark.slow) for width in (60, 120))]


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


MakeTerminal = Callable[[int], Terminal]


def check_lines(text: str, width: int, wide: str, path: str = "") -> None:
    """Check that lines fit, and that no word is split.

    Args:
        text: the printed text.
        width: the width of the terminal.
        wide: the text that the same command prints on a very wide terminal.
        path: a path, which must be on a separate line or at the end of a command.
    """
    for line in text.splitlines():
        if path and path in line:
            assert re.fullmatch(rf"\s*(sparl [\w ]+ )?{re.escape(path)}[\w./]*", line), line
        else:
            assert len(line) <= width or len(line.split()) == 1, line

    def words(printed: str) -> set[str]:
        found = (printed.replace(path, "") if path else printed).split()
        return {word for word in found if not re.search(r"\d|^-$", word)}  # times vary

    assert words(text) <= words(wide)
