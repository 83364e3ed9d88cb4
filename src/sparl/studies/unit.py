"""A unit of a study: one idempotent call of `sparl train --run-dir D --resume auto`.

A unit may be executed any number of times, on any machine that can access the folder: a finished
run is not changed, and a stopped run is resumed from its last checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sparl.console import PlainConsole
from sparl.errors import DataError, ResourceError, RunInUse, SparlError
from sparl.studies.progress import FAILURE
from sparl.studies.study import Unit
from sparl.training.folder import Folder
from sparl.training.toml_files import toml_bytes
from sparl.wording import visible

FIELDS_FILE = "asked.toml"  # the fields that the study sets
OUTPUT = "output.txt"  # the output of the training process
TAIL_BYTES = 1 << 16  # size of the part of the output that is searched for the last line
NO_FAILURE = (0, RunInUse.exit_code, 129, 130, 143)  # finished, in use, or stopped by a signal


def words(folder: Path, unit: Unit) -> list[str]:
    """Write a unit's fields to its folder, and return the `sparl` command that trains it.

    Raises:
        DataError: if the run's folder or one of its files is a link or a special file.
        ResourceError: if the file cannot be written.
    """
    run = Folder(folder).at(unit.id)
    try:
        run.make()
    except OSError as error:
        raise ResourceError(f"cannot write {run.path}: {error.strerror}") from None
    run.write(FIELDS_FILE, toml_bytes(unit.fields))
    return [
        "train", "--config", str(run.path / FIELDS_FILE), "--run-dir", str(run.path),
        "--threads", "1", "--resume", "auto",
    ]  # fmt: skip


def record_end(folder: Path, unit: Unit, exit_code: int) -> None:
    """Record the failure of a unit, or delete the record of an earlier failure.

    Args:
        folder: folder of the study.
        unit: the unit that ended.
        exit_code: exit code of its process.
    """
    run = Folder(folder).at(unit.id)
    if exit_code in NO_FAILURE:
        with _contained(unit), suppress(OSError):
            run.remove(FAILURE)
        return
    killed = "" if exit_code > 0 else f"killed by signal {-exit_code}; last output: "
    record_loss(folder, unit, f"{killed}{_last_line(run)}", exit_code)


def _last_line(run: Folder) -> str:
    """Return the last line that a run's process printed, or a text that explains its absence."""
    try:
        text = run.read_end(OUTPUT, TAIL_BYTES).decode("utf-8", "replace")
    except DataError as error:
        return str(error)
    return (text.splitlines() or ["the run ended without output"])[-1]


def record_loss(folder: Path, unit: Unit, error: str, exit_code: int | None = None) -> None:
    """Record why a run did not finish; `exit_code` is None if there is no exit code."""
    content = {"exit_code": exit_code, "error": visible(error)}
    data = (json.dumps(content) + "\n").encode()
    with _contained(unit):
        Folder(folder).at(unit.id).write(FAILURE, data)


@contextmanager
def _contained(unit: Unit) -> Iterator[None]:
    """Print errors that concern a run's folder, so that they do not end the study."""
    try:
        yield
    except SparlError as error:
        PlainConsole(stderr=True).print(
            f"warning: the outcome of {unit.id} could not be recorded: {error}"
        )
