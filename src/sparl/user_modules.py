"""Modules of the user's that register environments or rules: `sparl --import MODULE`.

A module is imported because the user names it: on this command line, or in a call of this Python
process. A name that comes from a file never causes an import.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from sparl.errors import UsageError
from sparl.wording import name_and_text, shell_word

_imported: list[str] = []


def import_user_module(name: str) -> None:
    """Import a module that `--import` names, found in the current folder or as any other.

    Raises:
        UsageError: it cannot be imported.
    """
    _import(name, f"--import {name}")
    _imported.append(name)


def import_module_of(env_id: str) -> None:
    """Import the module of an environment that the user names as MODULE:ID; nothing for an ID.

    Raises:
        UsageError: it cannot be imported.
    """
    module = named_module(env_id)
    if module:
        _import(module, f"environment {env_id}: module {module}")


def named_module(env_id: str) -> str:
    """Return MODULE of an environment's id MODULE:ID, "" for an ID without a module."""
    return env_id.rpartition(":")[0]


def is_imported(module: str) -> bool:
    """Return whether this process has imported a module."""
    return module in sys.modules


def _import(name: str, asked: str) -> None:
    """Import a module; the current folder is on the search path during this import alone.

    Args:
        name: of the module.
        asked: how the user named it, for messages.
    """
    if name.endswith(".py") or not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(f"{asked}: must be the name of a module, such as my_rules")
    try:
        folder = str(Path.cwd())
    except FileNotFoundError:
        raise UsageError(f"{asked}: the current folder does not exist any more") from None
    sys.path.insert(0, folder)
    try:
        importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit, for example, would end the command silently
        raise UsageError(f"{asked}: cannot be imported ({name_and_text(error)})") from None
    finally:
        with suppress(ValueError):  # unless the module itself removed it
            sys.path.remove(folder)


def imported_modules() -> tuple[str, ...]:
    """What was imported so far, in order."""
    return tuple(_imported)


def import_flags(modules: Sequence[str]) -> list[str]:
    """The words before a command that import these modules again."""
    return [word for name in modules for word in ("--import", name)]


def sparl_command(words: str, module: str = "") -> str:
    """What a user types for a command, with every import that it needs.

    Args:
        words: of the command.
        module: that registers the environment, imported or not; "__main__": a script, of which
            only the user knows what to import instead.
    """
    modules = [name for name in imported_modules() if name != module]
    if module:
        modules.append("MODULE" if module == "__main__" else module)
    text = " ".join(["sparl", *import_flags(modules), words])
    script = " (MODULE: one that registers the environment)" if module == "__main__" else ""
    return f"{text}{script}"


def command_line(module: str, command: str, run: str | os.PathLike[str], options: str = "") -> str:
    """What a user types to run a command on a run.

    Args:
        module: that registers the run's environment; see `sparl.training.tasks.module_of`.
        command: evaluate, for example.
        run: the folder.
        options: of the command.
    """
    return sparl_command(f"{command} {shell_word(run)}{options and f' {options}'}", module)
