"""Read and write TOML files: configurations and studies."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from sparl.configuration import COMMAND_LINE_ONLY, FIELDS, Config
from sparl.configuration_checks import typed_fields
from sparl.errors import UsageError
from sparl.training.durable import user_path
from sparl.training.texts import check_texts
from sparl.wording import shown

TOML_BYTES = 1 << 19  # maximum size of a file that is read
UNSET = "unset"  # key of the list of fields that are None, which TOML cannot represent
_PARTS = 16  # maximum number of parts of a dotted key
# Matches strings and comments, including unterminated ones; the rest contains the keys. No group
# is possessive, because Python before 3.11.5 matches some possessive groups incorrectly.
_STRINGS = re.compile(
    r'''"""[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*(?:"{3,5})?|\'\'\'[^']*(?:'(?!\'\')[^']*)*(?:'{3,5})?'''
    r"""|"[^"\\\n]*(?:\\.[^"\\\n]*)*"?|'[^'\n]*'?|#[^\n]*""",
    re.DOTALL,
)
_LONG_KEY = re.compile(rf"(?<![\w-])(?:[\w-]++[ \t]*+\.[ \t]*+){{{_PARTS}}}")
_OTHER_FORMS = (".yaml", ".yml", ".json")


def toml_bytes(content: Mapping[str, Any]) -> bytes:
    """Serialize content as TOML; bytes of a path that are not UTF-8 are preserved."""
    return tomli_w.dumps(content).encode("utf-8", "surrogateescape")


def read_toml(path: Path) -> dict[str, Any]:
    """Read the fields of a configuration file that the user names; arrays become tuples.

    Raises:
        UsageError: if the file is missing or not valid TOML, or contains an unknown field, a value
            of the wrong type, or a field that only the command line may set.
    """
    found = fields_of(load_toml(path, "configuration"), path)
    for name in COMMAND_LINE_ONLY:
        if name in found:
            raise UsageError(
                f"configuration file {path}: {name} cannot be set in a file, because a downloaded "
                "file could then choose which folder is written or replaced; use "
                f"--{name.replace('_', '-')} on the command line"
            )
    return found


def fields_of(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return a configuration's fields from the content of a TOML file; arrays become tuples.

    Raises:
        UsageError: if a field is unknown, a value has the wrong type, or `unset` is not valid.
    """
    unset = content.pop(UNSET, [])
    fields = typed_fields(content, str(path))
    optional = {name for name in FIELDS if getattr(Config, name) is None}
    if not isinstance(unset, list) or not all(isinstance(u, str) and u in optional for u in unset):
        raise UsageError(
            f"{path}: unset is {shown(unset)} but must be a list of names of optional fields "
            f"({', '.join(sorted(optional))})"
        )
    return {**fields, **dict.fromkeys(unset)}


def load_toml(path: Path, kind: str) -> dict[str, Any]:
    """Read a TOML file that the user names, which may be a named pipe.

    Args:
        path: the file.
        kind: the kind of file, for error messages: "configuration" or "study".

    Raises:
        UsageError: if the file is missing, empty, too large or not TOML, or a string in it has
            control characters.
    """
    try:
        with user_path(path).open("rb") as file:
            data = file.read(TOML_BYTES + 1)
    except FileNotFoundError:
        raise UsageError(f"{kind} file {path} does not exist") from None
    except IsADirectoryError:
        inside = path / "config.toml"
        hint = f"; did you mean {inside}?" if kind == "configuration" and inside.is_file() else ""
        raise UsageError(f"{kind} file {path} is a folder but must be a TOML file{hint}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{kind} file {path} cannot be read: {reason}") from None
    if len(data) > TOML_BYTES:
        raise UsageError(f"{kind} file {path} is larger than the maximum of {TOML_BYTES:,} bytes")
    return parse_toml(data, path, kind)


def parse_toml(data: bytes, path: Path, kind: str) -> dict[str, Any]:
    """Parse the content of a TOML file.

    Raises:
        UsageError: if the file is empty or not TOML, or a string in it has control characters.
    """
    try:
        text = data.decode("utf-8", "surrogateescape").removeprefix("\ufeff")  # byte-order mark
        _check_dotted_keys(text)
        content = tomllib.loads(text)
        check_texts(content)
    except (ValueError, RecursionError) as error:
        if path.suffix in _OTHER_FORMS:
            form = path.suffix.lstrip(".").upper()
            raise UsageError(
                f"{kind} file {path} is {form} but must be TOML: lines such as seed = 0"
            ) from None
        raise UsageError(f"{kind} file {path} cannot be read as TOML: {error}") from None
    if not content:
        raise UsageError(f"{kind} file {path} is empty")
    return content


def _check_dotted_keys(text: str) -> None:
    """Reject long dotted keys (a.b.c...): tomllib's time and memory are quadratic in their length.

    Raises:
        ValueError: if a key is too long; the message gives the line number.
    """
    keys = _STRINGS.sub(lambda found: "s" + "\n" * found[0].count("\n"), text)
    long = _LONG_KEY.search(keys)
    if long:
        line = keys.count("\n", 0, long.start()) + 1
        raise ValueError(f"a key has more than {_PARTS} parts (at line {line})")
