"""A progress bar and tables in a notebook."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console

from sparl.wording import visible

_LEFT = 'style="text-align:left"'  # notebooks right-align all cells, even those with text


def in_notebook() -> bool:
    """Return whether this process runs the cells of a notebook."""
    return Console().is_jupyter


def html_table(rows: Iterable[Sequence[str]], heads: Sequence[str] = ()) -> str:
    """Return an HTML table; the first cell of each row is its heading.

    Args:
        rows: the text of each cell, row by row; this function escapes it.
        heads: the column headings, if any.
    """
    parts = ["".join(f'<th scope="col" {_LEFT}>{head}</th>' for head in heads)] if heads else []
    for first, *others in rows:
        cells = "".join(f"<td {_LEFT}>{html.escape(visible(text))}</td>" for text in others)
        parts.append(f'<th scope="row" {_LEFT}>{html.escape(visible(first))}</th>{cells}')
    return f"<table>{''.join(f'<tr>{part}</tr>' for part in parts)}</table>"


class NotebookBar:
    """A progress bar that is updated in place in a notebook's cell, without ipywidgets."""

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, done: int, total: int, text: str) -> None:
        """Show the progress.

        Args:
            done: number of steps so far.
            total: total number of steps.
            text: the text next to the bar.
        """
        from IPython.display import display

        page = (
            '<label style="display:flex;flex-wrap:wrap;align-items:center;gap:0 1em">'
            f'<progress value="{done}" max="{total}" style="width:20em;max-width:100%"></progress>'
            f'<span style="white-space:pre-wrap">{html.escape(text)}</span></label>'
        )
        content = {"text/html": page, "text/plain": text}
        if self._handle is None:
            self._handle = display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)
