"""Escape text from files for each language that a report is written in.

Names of folders and the content of a run's files are not trusted.
"""

from __future__ import annotations

import html
import json
import re

from sparl.wording import visible

# The start of a formula in a spreadsheet's cell, full-width forms included. In many countries a
# semicolon begins another cell.
_FORMULA = re.compile("((?:^|;)[\\s\"']*)(?=[=+@\uff1d\uff0b\uff0d\uff20-])")
# Emphasis, code, links, HTML, table cells, and the texts that GitHub turns into links by itself.
_MARKDOWN = re.compile(
    r"[\\`*\[\]<>|&~@]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.", re.IGNORECASE
)


def in_html(text: str) -> str:
    """Return a text for the content or an attribute of HTML."""
    return html.escape(visible(text))


def in_chart(text: str) -> str:
    """Return a text for a value of a Vega-Lite specification, which draws it as it is."""
    return visible(text).replace("\n", " ")


def in_script(value: object) -> str:
    """Return a value as JSON for the content of a script element, which `<` could end.

    Raises:
        ValueError: the value holds a number that is not finite, which JSON does not know.
    """
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def in_markdown(text: str) -> str:
    """Return a text for a line or a table cell in Markdown."""
    return _MARKDOWN.sub(r"\\\g<0>", visible(text).replace("\n", " "))


def in_csv(value: object) -> object:
    """Return a cell for CSV: numbers unchanged, texts such that no spreadsheet evaluates them."""
    if not isinstance(value, str):
        return value
    return _FORMULA.sub(r"\1'", visible(value).replace("\n", " "))
