"""How far the runs of a study are, read from their folders alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Group
from rich.table import Table

from sparl.archive.records import numbers
from sparl.errors import DataError
from sparl.studies.plan import Unit
from sparl.training.folder import Folder
from sparl.training.run_folder import EVALUATIONS, RUN, RunFolder
from sparl.wording import counted

State = Literal["waiting", "running", "stopped", "failed", "finished"]
_OF_EVALUATION = ("env_step", "wall_seconds", "mean")
FAILURE = "failure.json"  # why the last attempt ended: exit code and last line


@dataclass(frozen=True)
class Progress:
    """Of one run.

    Attributes:
        unit: the run.
        state: waiting has not begun, stopped goes on when the study runs again.
        env_step: of the last evaluation [environment steps].
        rate: between the last two evaluations [environment steps / s]; 0 if unknown.
        last_return: mean of the last evaluation; None before it.
        error: what a failed run said last.
    """

    unit: Unit
    state: State
    env_step: int = 0
    rate: float = 0.0
    last_return: float | None = None
    error: str = ""


def progress(folder: Path, unit: Unit) -> Progress:
    """How far a run is."""
    study = Folder(folder)
    try:
        study.has_folder(unit.id)
    except DataError as reason:
        return Progress(unit, "failed", error=str(reason))
    run = RunFolder(study.at(unit.id))
    env_step, rate, last = 0, 0.0, None
    try:
        about = run.read_json(RUN) if run.files.has(RUN) else {}
        rows = numbers(run.path / EVALUATIONS, run.rows(EVALUATIONS)[-2:], _OF_EVALUATION)
        points = [(row["env_step"], row["wall_seconds"]) for row in rows]
        if rows:
            env_step, last = int(points[-1][0]), rows[-1]["mean"]
        if len(points) == 2 and points[1][1] > points[0][1]:
            rate = max(points[1][0] - points[0][0], 0) / (points[1][1] - points[0][1])
    except DataError:
        about = {}  # being written, or damaged; whoever trains it says which
    state, error = _state(run, about.get("state"))
    return Progress(unit, state, env_step, rate, last, error)


def archived_progress(path: Path, unit: Unit) -> Progress:
    """That of a run which an archive holds in this folder: it has finished."""
    rows = RunFolder(path).rows(EVALUATIONS)[-1:]
    (last,) = numbers(path / EVALUATIONS, rows, _OF_EVALUATION)
    return Progress(unit, "finished", int(last["env_step"]), last_return=last["mean"])


def _state(run: RunFolder, told: object) -> tuple[State, str]:
    if told == "finished":
        return "finished", ""
    if run.in_use():
        return "running", ""
    try:
        if run.files.has(FAILURE):
            return "failed", str(run.read_json(FAILURE)["error"])
    except (DataError, KeyError):
        return "failed", ""
    return ("stopped" if told is not None else "waiting"), ""


def table(every: Sequence[Progress]) -> Group:
    """Every run that is neither waiting nor finished, counts, the time left; and what failed."""
    counts = {
        state: sum(p.state == state for p in every)
        for state in ("finished", "running", "stopped", "failed", "waiting")
    }
    under_way = [p for p in every if p.state not in ("waiting", "finished")]
    shown = Table(box=None, pad_edge=False)
    shown.add_column("run", overflow="fold")  # no name is cut
    for column in ("state", "steps", "steps/s", "return"):
        shown.add_column(column, justify="right")
    for p in under_way:
        shown.add_row(
            p.unit.id, p.state, f"{p.env_step:,} of {p.unit.config.end:,}",
            f"{p.rate:,.0f}" if p.rate else "-",
            "-" if p.last_return is None else f"{p.last_return:,.1f}",
        )  # fmt: skip
    text = ", ".join(f"{n} {state}" for state, n in counts.items() if n)
    # Not in the table, which would break them into lines of its own width.
    told = [f"{counted(len(every), 'run')}: {text}{_left(every)}"]
    told += [f"{p.unit.id}: {p.error}" for p in every if p.error]
    return Group(*([shown] if under_way else []), *told)


def _left(every: Sequence[Progress]) -> str:
    """The time left, if what runs now goes on at its rate until all is done."""
    rate = sum(p.rate for p in every if p.state == "running")
    steps = sum(p.unit.config.end - p.env_step for p in every if p.state != "finished")
    if not rate or not steps:
        return ""
    return f"; about {hours(steps / rate)} left"


def hours(seconds: float) -> str:
    """H:MM h, or minutes."""
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02} h"
