"""Lay out the help of a command, whose options are the fields of a dataclass."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sparl.text_table import GAP, INDENT, wrapped

_LEFT = 38  # maximum number of columns of an option and its value
_SIDE_BY_SIDE = 72  # minimum width at which descriptions are to the right of their options


@dataclass(frozen=True)
class HelpLine:
    """An option and its description, as shown in the help.

    Attributes:
        option: the option, followed by its default or by a placeholder for its value.
        text: the description.
    """

    option: str
    text: str


def help_text(
    usage: str, description: str, groups: Mapping[str, Sequence[HelpLine]], width: int
) -> str:
    """Return the help of a command.

    Args:
        usage: the command with its arguments.
        description: what the command does.
        groups: the options by title; "" has no title.
        width: maximum length of a line.
    """
    paragraphs = (" ".join(part.split()) for part in description.split("\n\n"))
    parts = [wrapped(f"usage: {usage}", width), *(_filled(part, width) for part in paragraphs)]
    longest = max((len(line.option) for lines in groups.values() for line in lines), default=0)
    for title, lines in groups.items():
        if lines:
            shown = described(lines, width, longest)
            parts.append(f"{title}\n{shown}" if title else shown)
    return "\n\n".join(part for part in parts if part)


def described(lines: Sequence[HelpLine], width: int, longest: int = 0) -> str:
    """Return names and their texts, side by side or, on a narrow terminal, below each other.

    Args:
        lines: the names and texts.
        width: maximum length of a line.
        longest: length of the longest name in all groups; 0 means the longest of these names.
    """
    longest = longest or max(len(line.option) for line in lines)
    column = min(longest + GAP, _LEFT) if width >= _SIDE_BY_SIDE else 2 * GAP
    return "\n".join(_option_lines(line, column, width) for line in lines)


def _filled(text: str, width: int) -> str:
    """Break a paragraph between words, without an indent."""
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)


def _option_lines(line: HelpLine, column: int, width: int) -> str:
    """Return an option with its text to the right, or with the text below if the option is long."""
    left = f"{INDENT}{line.option}"
    texts = textwrap.wrap(
        line.text, max(width - column - GAP, 20), break_long_words=False, break_on_hyphens=False
    )
    first = ""
    if len(left) <= column and texts:
        first = texts.pop(0)
    rest = [" " * (column + GAP) + text for text in texts]
    return "\n".join([f"{left:<{column}}{INDENT}{first}".rstrip(), *rest])


def field_docs(options: type[Any]) -> dict[str, str]:
    """Return the docstrings of a dataclass's fields, base classes first."""
    docs: dict[str, str] = {}
    for cls in reversed(options.__mro__[:-1]):
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
        name = ""
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                for statement in node.body:
                    if isinstance(statement, ast.AnnAssign):
                        name = ast.unparse(statement.target)
                    elif isinstance(statement, ast.Expr) and name:
                        docs[name] = " ".join(str(ast.literal_eval(statement.value)).split())
                        name = ""
    return docs
