"""The unit of every study: the idempotent `sparl train --run-dir D --resume auto`.

It may be run any number of times, by anybody who sees the folder: what is finished is left alone,
what stopped goes on from its last checkpoint.
"""

from __future__ import annotations

import json
from pathlib import Path

from sparl.studies.plan import Unit
from sparl.studies.progress import FAILURE
from sparl.training.durable import make_folder, write_whole
from sparl.training.toml_files import toml_bytes
from sparl.wording import visible

ASKED = "asked.toml"  # the fields that were set
OUTPUT = "output.txt"  # what the training printed
IN_USE = 7  # exit code: another process has the folder
NO_FAILURE = (0, IN_USE, 130, 143)  # or the run was asked to stop


def words(folder: Path, unit: Unit) -> list[str]:
    """Write down what is asked for, and the words after `sparl` that do it."""
    path = folder / unit.id
    make_folder(path)
    write_whole(path / ASKED, toml_bytes(unit.fields))
    return [
        "train", "--config", str(path / ASKED), "--run-dir", str(path), "--threads", "1",
        "--resume", "auto",
    ]  # fmt: skip


def record_end(path: Path, exit_code: int) -> None:
    """Remember a failure, or forget one that is past."""
    if exit_code in NO_FAILURE:
        (path / FAILURE).unlink(missing_ok=True)
        return
    lines = (path / OUTPUT).read_text("utf-8", "replace").splitlines() or ["ended without a word"]
    killed = "" if exit_code > 0 else f"killed by signal {-exit_code}; last words: "
    record_loss(path, f"{killed}{lines[-1]}", exit_code)


def record_loss(path: Path, error: str, exit_code: int | None = None) -> None:
    """Remember why a run did not end by itself."""
    content = {"exit_code": exit_code, "error": visible(error)}
    write_whole(path / FAILURE, (json.dumps(content) + "\n").encode())
