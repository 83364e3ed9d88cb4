"""Tables, with plain values for CSV files and formatted text for pages."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sparl.report.escape import in_csv, in_markdown

Row = dict[str, Any]
NONE = "-"  # a cell without a value


@dataclass(frozen=True)
class Table:
    """A table: rows of plain values, and the columns that a page shows.

    Attributes:
        name: name of the table's file, without its extension.
        title: heading of the table's section.
        note: a paragraph that explains the table.
        columns: the heading of each column, and a function that formats its cell in a row. The
            first two columns are aligned to the left, and the others to the right.
        rows: the plain values of each row; None represents an empty cell.
    """

    name: str
    title: str
    note: str
    columns: Sequence[tuple[str, Callable[[Row], str]]]
    rows: list[Row]

    def cells(self) -> list[list[str]]:
        """Return the formatted cells of all rows, without columns that are empty in every row."""
        shown = self.shown()
        return [[text(row) for _, text in shown] for row in self.rows]

    def shown(self) -> list[tuple[str, Callable[[Row], str]]]:
        """Return the columns that are not empty in every row."""
        return [(h, f) for h, f in self.columns if any(f(row) != NONE for row in self.rows)]

    def markdown(self) -> str:
        """Return the formatted rows as a Markdown table."""
        heads = [heading for heading, _ in self.shown()]
        cells = [[in_markdown(cell) for cell in row] for row in self.cells()]
        lines = [heads, ["---", "---", *["---:"] * (len(heads) - 2)], *cells]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"

    def csv(self) -> str:
        """Return the plain values as CSV, in full precision."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: in_csv(v) for name, v in row.items()} for row in self.rows)
        return text.getvalue()


def number(value: float | None, form: str) -> str:
    """Format a number; return "-" for None and NaN."""
    return NONE if value is None or math.isnan(value) else format(value, form)


def if_fewer(count: int, last: int) -> str:
    """Return a remark if a mean covers fewer evaluations than its heading states, or ""."""
    return "" if count == last else f" (last {count})"
