"""A progress bar in a notebook."""

from __future__ import annotations

import html
from typing import Any

from rich.console import Console


def in_notebook() -> bool:
    """Return whether this process runs the cells of a notebook."""
    return Console().is_jupyter


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
            '<div style="display:flex;flex-wrap:wrap;align-items:center;gap:0 1em">'
            f'<progress value="{done}" max="{total}" style="width:20em;max-width:100%"></progress>'
            f"<span>{html.escape(text)}</span></div>"
        )
        content = {"text/html": page, "text/plain": text}
        if self._handle is None:
            self._handle = display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)
