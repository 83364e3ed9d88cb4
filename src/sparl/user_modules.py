"""Modules of the user's that register environments or rules: `sparl --import MODULE`."""

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
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit, for example, would end the command silently
        raise UsageError(f"--import {name}: cannot be imported ({name_and_text(error)})") from None
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
