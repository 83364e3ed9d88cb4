"""Foreign text in a report: for each language, the one way in which it is written.

Names of folders, and whatever the files of a run say, may be anybody's.
"""

from __future__ import annotations

import html
import re

from sparl.wording import visible

# What begins a formula where a spreadsheet reads a cell; the wide forms do too. In many countries a
# semicolon begins another cell.
_FORMULA = re.compile("((?:^|;)[\\s\"']*)(?=[=+@\uff1d\uff0b\uff0d\uff20-])")
# Emphasis, code, links, HTML, table cells, and what GitHub makes a link without being asked.
_MARKDOWN = re.compile(
    r"[\\`*\[\]<>|&~@]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.", re.IGNORECASE
)


def in_html(text: str) -> str:
    """Return a text for the content or an attribute of HTML or SVG."""
    return html.escape(visible(text))


def in_markdown(text: str) -> str:
    """Return a text for a line or a table's cell in Markdown."""
    return _MARKDOWN.sub(r"\\\g<0>", visible(text).replace("\n", " "))


def in_csv(value: object) -> object:
    """Return a cell for CSV: a number as it is, a text so that no spreadsheet computes it."""
    if not isinstance(value, str):
        return value
    return _FORMULA.sub(r"\1'", visible(value).replace("\n", " "))
