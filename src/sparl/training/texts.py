"""Check strings from untrusted files, because they are later printed or written elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sparl.errors import DataError
from sparl.wording import has_control_characters


def parse_json(data: bytes, path: Path) -> dict[str, Any]:
    """Parse the content of a JSON file, which must be an object.

    Raises:
        DataError: if the content is not a JSON object, or a string has control characters.
    """
    try:
        content = json.loads(data)
        check_texts(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: the content is not a JSON object")
    return content


def check_texts(content: object) -> None:
    """Raise ValueError if a string in nested lists and dicts has control characters."""
    if isinstance(content, str):
        if has_control_characters(content):
            raise ValueError(f"a string contains control characters: {content[:80]!r}")
    elif isinstance(content, dict):
        for name, value in content.items():
            check_texts(name)
            check_texts(value)
    elif isinstance(content, list):
        for value in content:
            if isinstance(value, str | dict | list):  # skip the many numbers in degrees.json
                check_texts(value)
