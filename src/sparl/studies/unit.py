"""The unit of every study: the idempotent `sparl train --run-dir D --resume auto`.

It may be run any number of times, by anybody who sees the folder: what is finished is left alone,
what stopped goes on from its last checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sparl.console import PlainConsole
from sparl.errors import DataError, ResourceError, SparlError
from sparl.studies.plan import Unit
from sparl.studies.progress import FAILURE
from sparl.training.folder import Folder
from sparl.training.toml_files import toml_bytes
from sparl.wording import visible

ASKED = "asked.toml"  # the fields that were set
OUTPUT = "output.txt"  # what the training printed
IN_USE = 7  # exit code: another process has the folder
LAST_WORDS = 1 << 16  # bytes of the output in which the last line is looked for
NO_FAILURE = (0, IN_USE, 129, 130, 143)  # or the run was asked to stop


def words(folder: Path, unit: Unit) -> list[str]:
    """Write down what is asked for, and the words after `sparl` that do it.

    Raises:
        DataError: a link or a special file is in the place of the run's folder or file.
        ResourceError: it cannot be written.
    """
    run = Folder(folder).at(unit.id)
    try:
        run.make()
    except OSError as error:
        raise ResourceError(f"cannot write {run.path}: {error.strerror}") from None
    run.write(ASKED, toml_bytes(unit.fields))
    return [
        "train", "--config", str(run.path / ASKED), "--run-dir", str(run.path), "--threads", "1",
        "--resume", "auto",
    ]  # fmt: skip


def record_end(folder: Path, unit: Unit, exit_code: int) -> None:
    """Remember a failure, or forget one that is past; what prevents it is printed.

    Args:
        folder: of the study.
        unit: that has ended.
        exit_code: of its process.
    """
    run = Folder(folder).at(unit.id)
    if exit_code in NO_FAILURE:
        with _contained(unit), suppress(OSError):
            run.remove(FAILURE)
        return
    killed = "" if exit_code > 0 else f"killed by signal {-exit_code}; last words: "
    record_loss(folder, unit, f"{killed}{_last_line(run)}", exit_code)


def _last_line(run: Folder) -> str:
    """What a run's process printed last."""
    try:
        text = run.read_end(OUTPUT, LAST_WORDS).decode("utf-8", "replace")
    except DataError as error:
        return str(error)
    return (text.splitlines() or ["ended without a word"])[-1]


def record_loss(folder: Path, unit: Unit, error: str, exit_code: int | None = None) -> None:
    """Remember why a run did not end by itself; what prevents it is printed."""
    content = {"exit_code": exit_code, "error": visible(error)}
    data = (json.dumps(content) + "\n").encode()
    with _contained(unit):
        Folder(folder).at(unit.id).write(FAILURE, data)


@contextmanager
def _contained(unit: Unit) -> Iterator[None]:
    """An error in a run's folder must not end its study: it is printed."""
    try:
        yield
    except SparlError as error:
        PlainConsole(stderr=True).print(f"warning: the end of {unit.id} is not recorded: {error}")
