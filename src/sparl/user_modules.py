"""Import the user's modules that register environments or rules: `sparl --import MODULE`.

A module is imported only if the user names it, on the command line or in a call in this Python
process. sparl never imports a module because a file names it.
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

# Suffix of the name of an environment that was given in Python as an object, a class or a function.
# No module registers such an environment, so functions return this suffix instead of the module.
WITHOUT_ID = "()"
_imported: list[str] = []


def import_user_module(name: str) -> None:
    """Import a module that `--import` names, from the current folder or Python's search path.

    Raises:
        UsageError: if the module cannot be imported.
    """
    _import(name, f"--import {name}")
    _imported.append(name)


def import_module_of(env_id: str) -> None:
    """Import the module of an environment that the user names as MODULE:ID.

    An ID without a module imports nothing.

    Raises:
        UsageError: if the module cannot be imported.
    """
    module = named_module(env_id)
    if module:
        _import(module, f"environment {env_id}: module {module}")


def named_module(env_id: str) -> str:
    """Return MODULE of an environment's id MODULE:ID, or "" for an id without a module."""
    return env_id.rpartition(":")[0]


def is_imported(module: str) -> bool:
    """Return whether this process has imported a module."""
    return module in sys.modules


def _import(name: str, origin: str) -> None:
    """Import a module; the current folder is on the search path during this import only.

    Args:
        name: name of the module.
        origin: how the user named the module, for messages.

    Raises:
        UsageError: if the module cannot be imported.
    """
    if name.endswith(".py") or not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(f"{origin}: {name!r} is not the name of a module, such as my_rules")
    try:
        folder = str(Path.cwd())
    except FileNotFoundError:
        raise UsageError(
            f"{origin}: the current folder no longer exists; change to an existing folder"
        ) from None
    sys.path.insert(0, folder)
    try:
        importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit, for example, would end the command silently
        raise UsageError(f"{origin}: cannot be imported ({name_and_text(error)})") from None
    finally:
        with suppress(ValueError):  # unless the module itself removed it
            sys.path.remove(folder)


def imported_modules() -> tuple[str, ...]:
    """Return the names of the modules that `--import` has imported, in order."""
    return tuple(_imported)


def import_flags(modules: Sequence[str]) -> list[str]:
    """Return the words that import these modules when they precede a command."""
    return [word for name in modules for word in ("--import", name)]


def sparl_command(words: str, module: str = "") -> str:
    """Return the command line that a user types for a command, with all required imports.

    Args:
        words: the command and its options.
        module: the module that registers the environment, whether or not it is imported;
            "__main__" stands for a script, which the user has to replace with a module.
    """
    modules = [name for name in imported_modules() if name != module]
    if module:
        modules.append("MODULE" if module == "__main__" else module)
    text = " ".join(["sparl", *import_flags(modules), words])
    script = (
        " (MODULE is the module that registers the environment)" if module == "__main__" else ""
    )
    return f"{text}{script}"


def _python_call(command: str, run: str | os.PathLike[str], options: str) -> str:
    """Return the Python call that resumes a run whose environment has no id, or loads its agent."""
    if command != "resume":
        return f"sparl.load({os.fspath(run)!r})"
    name, _, value = options.removeprefix("--").replace("-", "_").partition(" ")
    return f"sparl.resume({os.fspath(run)!r}, env=...{name and f', {name}={value}'})"


def command_line(module: str, command: str, run: str | os.PathLike[str], options: str = "") -> str:
    """Return the command line that applies a command to a run.

    Args:
        module: the module that registers the run's environment; see
            `sparl.training.tasks.module_of`. For WITHOUT_ID, the equivalent Python call is
            returned instead.
        command: name of the command, for example evaluate.
        run: the run's folder.
        options: options of the command.
    """
    if module == WITHOUT_ID:
        return _python_call(command, run, options)
    return sparl_command(f"{command} {shell_word(run)}{options and f' {options}'}", module)
