"""Escape text from files for each language in which a report is written.

Names of folders and the content of a run's files are not trusted.
"""

from __future__ import annotations

import html
import json
import re

from sparl.wording import visible

# The start of a formula in a spreadsheet cell, including full-width forms. In many countries a
# semicolon separates cells.
_FORMULA = re.compile("((?:^|;)[\\s\"']*)(?=[=+@\uff1d\uff0b\uff0d\uff20-])")
# Markup for emphasis, code, links, HTML and table cells, and text that GitHub turns into links.
_MARKDOWN = re.compile(
    r"[\\`*\[\]<>|&~@]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.", re.IGNORECASE
)


def in_html(text: str) -> str:
    """Escape text for the content of an HTML element or for an attribute."""
    return html.escape(visible(text))


def in_chart(text: str) -> str:
    """Prepare text for a value in a Vega-Lite specification, which needs no escaping."""
    return visible(text).replace("\n", " ")


def in_script(value: object) -> str:
    """Return a value as JSON for the content of a script element.

    The character `<` is escaped, because it could end the element.

    Raises:
        ValueError: if the value contains a number that is not finite, which JSON does not support.
    """
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def in_markdown(text: str) -> str:
    """Escape text for a line or a table cell in Markdown."""
    return _MARKDOWN.sub(r"\\\g<0>", visible(text).replace("\n", " "))


def in_csv(value: object) -> object:
    """Return a value for a CSV cell; escape strings so that no spreadsheet evaluates them."""
    if not isinstance(value, str):
        return value
    return _FORMULA.sub(r"\1'", visible(value).replace("\n", " "))
