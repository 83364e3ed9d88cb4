"""Modules of the user's that register environments or rules: `sparl --import MODULE`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from sparl.errors import UsageError

_imported: list[str] = []


def import_user_module(name: str) -> None:
    """Import a module, found in the current folder or as any other.

    The current folder is on the search path during this import alone.

    Raises:
        UsageError: it cannot be imported.
    """
    if name.endswith(".py") or not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(f"--import {name}: must be the name of a module, such as my_rules")
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        importlib.import_module(name)
    except (Exception, SystemExit) as error:
        why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise UsageError(f"--import {name}: cannot be imported ({' '.join(why.split())})") from None
    finally:
        with suppress(ValueError):  # unless the module itself removed it
            sys.path.remove(folder)
    _imported.append(name)


def imported_modules() -> tuple[str, ...]:
    """What was imported so far, in order."""
    return tuple(_imported)


def import_flags(modules: Sequence[str]) -> list[str]:
    """The words before a command that import these modules again."""
    return [word for name in modules for word in ("--import", name)]


def sparl_command(words: str) -> str:
    """What a user types for a command, imports included."""
    return " ".join(["sparl", *import_flags(imported_modules()), words])
