"""Lay out texts and tables for terminals of any width, without splitting a word."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

GAP = 2  # spaces between two columns
INDENT = " " * GAP


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: the title; line feeds separate its lines.
        rank: if the table is too wide, all columns with the largest rank are omitted first;
            columns with rank 0 are always shown.
        left: whether the cells are left-aligned.
        width: minimum width [characters].
    """

    title: str
    rank: int = 0
    left: bool = False
    width: int = 0

    def widened(self, cells: Sequence[str]) -> int:
        """Return the width that the title and the cells need."""
        return max(self.width, *map(len, (*self.title.split("\n"), *cells)))

    def aligned(self, cell: str, width: int) -> str:
        """Pad a cell to a width."""
        return cell.ljust(width) if self.left else cell.rjust(width)


def wrapped(text: str, width: int) -> str:
    """Break the lines of a text between words; a word longer than a line is not split.

    Continuation lines are indented by two more spaces than the line that they continue.
    """
    return "\n".join(_wrapped_line(line, width) for line in text.split("\n"))


def _wrapped_line(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    indent = line[: len(line) - len(line.lstrip())] + INDENT
    return textwrap.fill(
        line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def fitting(columns: Sequence[Column], widths: Sequence[int], width: int) -> list[int]:
    """Return the indices of the columns to show in a line of this width.

    Columns are added in order of rank, until the columns of one rank do not fit together.
    """
    shown: list[int] = []
    for rank in sorted({column.rank for column in columns}):
        added = [i for i, column in enumerate(columns) if column.rank == rank]
        needed = sum(widths[i] + GAP for i in shown + added) - GAP
        if needed > width and rank > 0:
            break
        shown += added
    return sorted(shown)


def title_lines(columns: Sequence[Column], widths: Sequence[int]) -> list[str]:
    """Return the lines of the titles; titles with fewer lines are aligned at the bottom."""
    titles = [column.title.split("\n") for column in columns]
    height = max(map(len, titles), default=0)
    padded = [[""] * (height - len(title)) + title for title in titles]
    return [row_line(columns, widths, [title[i] for title in padded]) for i in range(height)]


def row_line(columns: Sequence[Column], widths: Sequence[int], cells: Sequence[str]) -> str:
    """Return the line that shows the cells of a row."""
    padded = (c.aligned(t, w) for c, t, w in zip(columns, cells, widths, strict=True))
    return INDENT.join(padded).rstrip()


def table_lines(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int, *, names: bool = False
) -> list[str]:
    """Return the lines of a table.

    Args:
        columns: the columns.
        rows: the cells of each row.
        width: maximum length of a line.
        names: whether, if the table is too wide, each cell of the first column gets a line to
            itself, above the other cells of its row.
    """
    if names and sum(_widths(columns, rows)) + GAP * (len(columns) - 1) > width:
        below = table_lines(columns[1:], [row[1:] for row in rows], width - GAP)
        titles, cells = below[: len(below) - len(rows)], below[len(below) - len(rows) :]
        lines = [columns[0].title, *(INDENT + title for title in titles)]
        for row, cell in zip(rows, cells, strict=True):
            lines += [row[0], INDENT + cell]
        return lines
    widths = _widths(columns, rows)
    kept = fitting(columns, widths, width)
    columns, widths = [columns[i] for i in kept], [widths[i] for i in kept]
    cells_of = ([row[i] for i in kept] for row in rows)
    return [
        *title_lines(columns, widths), *(row_line(columns, widths, cells) for cells in cells_of)
    ]  # fmt: skip


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[int]:
    return [column.widened([row[i] for row in rows]) for i, column in enumerate(columns)]
