"""Read the progress of a study's runs from their folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sparl.archive.records import numbers
from sparl.errors import DataError
from sparl.studies.study import Unit
from sparl.text_table import Column, table_lines, wrapped
from sparl.training.folder import Folder
from sparl.training.run_folder import EVALUATIONS, RUN, RunFolder
from sparl.wording import counted, visible

UnitState = Literal["waiting", "running", "stopped", "failed", "finished"]
_OF_EVALUATION = ("env_step", "wall_seconds", "mean")
FAILURE = "failure.json"  # the exit code and the error of the last failed attempt


@dataclass(frozen=True)
class Progress:
    """The progress of one run.

    Attributes:
        unit: the run.
        state: "waiting" if the run has not started yet; a "stopped" run is resumed with the study.
        env_step: step of the last evaluation [environment steps].
        rate: speed between the last two evaluations [environment steps / s]; 0 if unknown.
        last_return: mean return of the last evaluation; None before the first evaluation.
        error: why the run failed, usually the last line of its output; "" in other states.
    """

    unit: Unit
    state: UnitState
    env_step: int = 0
    rate: float = 0.0
    last_return: float | None = None
    error: str = ""


def progress(folder: Path, unit: Unit) -> Progress:
    """Read the progress of a run."""
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
        about = {}  # a file is incomplete or damaged, which training will report
    state, error = _state(run, about.get("state"))
    return Progress(unit, state, env_step, rate, last, error)


def archived_progress(path: Path, unit: Unit) -> Progress:
    """Read the progress of an archived, and therefore finished, run.

    Args:
        path: the run's folder in the archive.
        unit: the run.
    """
    rows = RunFolder(path).rows(EVALUATIONS)[-1:]
    (last,) = numbers(path / EVALUATIONS, rows, _OF_EVALUATION)
    return Progress(unit, "finished", int(last["env_step"]), last_return=last["mean"])


def _state(run: RunFolder, recorded: object) -> tuple[UnitState, str]:
    """Return a run's state and, if it failed, the error.

    Args:
        run: the run's folder.
        recorded: the state in run.json; None if no state is recorded.
    """
    if recorded == "finished":
        return "finished", ""
    if run.in_use():
        return "running", ""
    try:
        if run.files.has(FAILURE):
            return "failed", str(run.read_json(FAILURE)["error"])
    except (DataError, KeyError):
        return "failed", ""
    return ("stopped" if recorded is not None else "waiting"), ""


_COLUMNS = (
    Column("run", left=True),
    Column("state"),
    Column("steps"),
    Column("steps/s", rank=2),
    Column("return", rank=1),
)


def table(every: Sequence[Progress], width: int) -> str:
    """Format the runs that have started but not finished as a table.

    Counts by state, the remaining time and errors follow the table.

    Args:
        every: all runs of the study.
        width: maximum length of a line [characters].
    """
    counts = {
        state: sum(p.state == state for p in every)
        for state in ("finished", "running", "stopped", "failed", "waiting")
    }
    rows = [
        [
            p.unit.id, p.state, f"{p.env_step:,} of {p.unit.config.end:,}",
            f"{p.rate:,.0f}" if p.rate else "-",
            "-" if p.last_return is None else f"{p.last_return:,.1f}",
        ]
        for p in every
        if p.state not in ("waiting", "finished")
    ]  # fmt: skip
    text = ", ".join(f"{n} {state}" for state, n in counts.items() if n)
    lines = table_lines(_COLUMNS, rows, width, names=True) if rows else []
    lines.append(f"{counted(len(every), 'run')}: {text}{_left(every)}")
    lines += [f"{p.unit.id}: {visible(p.error)}" for p in every if p.error]
    return wrapped("\n".join(lines), width)


def _left(every: Sequence[Progress]) -> str:
    """Format the remaining time at the running runs' total speed; "" if the speed is unknown."""
    rate = sum(p.rate for p in every if p.state == "running")
    steps = sum(p.unit.config.end - p.env_step for p in every if p.state != "finished")
    if not rate or not steps:
        return ""
    return f"; about {hours(steps / rate)} left"


def hours(seconds: float) -> str:
    """Format seconds as H:MM h, or as minutes below one hour."""
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02} h"
