"""Repeat the beginning of an archived run, and compare the evaluations of both.

    python results/repeat.py results/runs/Walker2d-v3/DS-TD3_seed0

The run is repeated with its own configuration for 50,000 steps, or as many as --steps states.

Exit codes
    0: all evaluations are equal, bit for bit.
    1: they differ, although the software versions and the instruction set are the same.
    2: they differ, but are not comparable, because something is not the same; or invalid usage.
    Others: the archived run is damaged, or training failed; see `sparl --help`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from sparl.archive.finished_run import FinishedRun
from sparl.errors import SparlError, UsageError
from sparl.identity import results_version
from sparl.text_table import Column, table_lines
from sparl.training.callbacks import ActiveRun, Callback, Callbacks
from sparl.training.evaluate import Evaluation
from sparl.training.machine import made_with
from sparl.training.run_folder import EVALUATIONS, RunFolder
from sparl.training.start import train

Evaluations = dict[int, dict[str, str]]  # the columns of evaluations.csv, by environment step
_DURATIONS = ("wall_seconds", "cpu_seconds")
_PACKAGES = ("numpy", "gymnasium", "mujoco")


def main(arguments: Sequence[str] | None = None) -> int:
    """Repeat the beginning of a run, print both sets of evaluations, and return the exit code."""
    parser = argparse.ArgumentParser(description="Repeat the beginning of an archived run.")
    parser.add_argument("run", type=Path, help="folder of an archived run")
    parser.add_argument("--steps", type=int, default=50_000, help="environment steps to repeat")
    args = parser.parse_args(arguments)
    try:
        run = FinishedRun.read(args.run)
        archived = evaluations(args.run)
        repeated = {k: row for k, row in repeat(run, args.steps).items() if k in archived}
    except SparlError as error:
        print(f"repeat: {error}", file=sys.stderr)
        return error.exit_code
    differ = [step for step, row in repeated.items() if row != archived[step]]
    print_both(archived, repeated, differ)
    if not differ:
        print(f"all {len(repeated)} evaluations are equal")
        return 0
    print(f"{len(differ)} of {len(repeated)} evaluations differ, first at step {differ[0]:,}")
    others = other_conditions(run)
    if others:
        print(f"the runs are not comparable: {'; '.join(others)}")
    return 2 if others else 1


def repeat(run: FinishedRun, steps: int) -> Evaluations:
    """Train for some steps with a run's configuration; return the evaluations.

    Raises:
        SparlError: if the number of steps is out of range or the run cannot be trained.
    """
    if not 0 < steps <= run.config.end:
        raise UsageError(f"--steps is {steps} but must be in [1, {run.config.end}], as in the run")
    with TemporaryDirectory(prefix="sparl-repeat-") as folder:
        path = Path(folder) / "run"
        config = replace(run.config, stop_at=steps, run_dir=str(path), tensorboard=False)
        train(config, quiet=True, callbacks=Callbacks(Progress()))
        return evaluations(path)


class Progress(Callback):
    """Prints a line for each evaluation of the repeated run."""

    def on_evaluation(self, run: ActiveRun, evaluation: Evaluation) -> None:
        """Print the step and the mean return."""
        print(f"step {run.env_step:,} of {run.config.end:,}: return {evaluation.mean:,.1f}")


def evaluations(path: Path) -> Evaluations:
    """Return the rows of a run's evaluations.csv, without durations, by environment step."""
    rows = RunFolder.open(path).rows(EVALUATIONS, whole=True)
    return {
        int(row["env_step"]): {k: v for k, v in row.items() if k not in _DURATIONS} for row in rows
    }


def other_conditions(run: FinishedRun) -> list[str]:
    """Describe each condition that affects results and differs from that of the archived run."""
    here, there = made_with(), {**run.about["versions"], **run.about["machine"]}
    here["version of the results"] = str(results_version(run.config))
    there["version of the results"] = str(run.about.get("preset", 1))
    return [
        f"{name} is {here[name]}, but was {there.get(name)}"
        for name in (*_PACKAGES, "instruction_set", "version of the results")
        if here[name] != there.get(name)
    ]


def print_both(archived: Evaluations, repeated: Evaluations, differ: Sequence[int]) -> None:
    """Print the mean return of each repeated evaluation beside the archived one."""
    rows = [
        (f"{step:,}", archived[step]["mean"], row["mean"], "no" if step in differ else "yes")
        for step, row in repeated.items()
    ]
    columns = [Column(title) for title in ("step", "archived", "repeated", "equal")]
    print("\n".join(table_lines(columns, rows, width=100)))


if __name__ == "__main__":
    sys.exit(main())
