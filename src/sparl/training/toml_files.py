"""TOML files: of configurations, and of studies."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from sparl.configuration import FIELDS, Config, typed_fields
from sparl.errors import UsageError
from sparl.training.durable import user_path
from sparl.training.texts import check_texts

TOML_BYTES = 1 << 20  # of a file that is read, at most
_OTHER_FORMS = (".yaml", ".yml", ".json")


def toml_bytes(content: Mapping[str, Any]) -> bytes:
    """The content as a TOML file; bytes of a path that are not UTF-8 stay as they are."""
    return tomli_w.dumps(content).encode("utf-8", "surrogateescape")


def read_toml(path: Path) -> dict[str, Any]:
    """The fields of a configuration file that a user names; arrays become tuples.

    Raises:
        UsageError: missing, not TOML, unknown fields or wrong types.
    """
    return fields_of(load_toml(path, "configuration"), path)


def fields_of(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """A configuration's fields, from a TOML file's content; arrays become tuples.

    Raises:
        UsageError: unknown fields or wrong types.
    """
    unset = content.pop("unset", [])
    fields = typed_fields(content, str(path))
    optional = {name for name in FIELDS if getattr(Config, name) is None}
    if not isinstance(unset, list) or not optional.issuperset(map(str, unset)):
        raise UsageError(f"{path}: unset is {unset!r}, must be names of fields that can be unset")
    return {**fields, **dict.fromkeys(unset)}


def load_toml(path: Path, kind: str) -> dict[str, Any]:
    """The content of a TOML file that a user names; a pipe will do.

    Args:
        path: the file.
        kind: what it is, for the user.

    Raises:
        UsageError: missing, empty, too large or not TOML.
    """
    try:
        with user_path(path).open("rb") as file:
            data = file.read(TOML_BYTES + 1)
    except FileNotFoundError:
        raise UsageError(f"{kind} file {path} does not exist") from None
    except IsADirectoryError:
        inside = path / "config.toml"
        hint = f"; did you mean {inside}?" if kind == "configuration" and inside.is_file() else ""
        raise UsageError(f"{kind} file {path} is a folder, must be a TOML file{hint}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{kind} file {path} cannot be read: {reason}") from None
    return parse_toml(data, path, kind)


def parse_toml(data: bytes, path: Path, kind: str) -> dict[str, Any]:
    """The content of a TOML file that was read.

    Raises:
        UsageError: empty, too large or not TOML.
    """
    try:
        if len(data) > TOML_BYTES:
            raise ValueError(f"more than {TOML_BYTES:,} bytes")
        content = tomllib.loads(data.decode("utf-8", "surrogateescape"))
        check_texts(content)
    except (ValueError, RecursionError) as error:
        if path.suffix in _OTHER_FORMS:
            form = path.suffix.lstrip(".").upper()
            raise UsageError(
                f"{kind} file {path} is {form}, must be TOML: lines such as seed = 0"
            ) from None
        raise UsageError(f"{kind} file {path} cannot be read as TOML: {error}") from None
    if not content:
        raise UsageError(f"{kind} file {path} is empty")
    return content
