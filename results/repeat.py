"""Repeat the beginning of an archived run, and compare the evaluations of both.

    python results/repeat.py results/runs/Walker2d-v3/DS-TD3_seed0

The run is repeated with its own configuration for 50,000 steps, or as many as --steps states.

Exit codes
    0: all evaluations are equal, bit for bit.
    1: they differ, although everything that affects results is the same.
    2: they differ, but something else differs too, so the runs are not comparable; or the usage is
       invalid.
    Others: those of `sparl train`, for example 3 if the archived run is damaged.
"""

from __future__ import annotations

import argparse
import platform
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from sparl.archive.finished_run import FinishedRun
from sparl.errors import SparlError, UsageError
from sparl.identity import results_version
from sparl.text_table import Column, table_lines
from sparl.training.callbacks import ActiveRun, Callback, Callbacks
from sparl.training.evaluate import Evaluation
from sparl.training.interrupt import StoppedBy
from sparl.training.machine import machine as current_machine
from sparl.training.machine import made_with
from sparl.training.run_folder import EVALUATIONS, RunFolder
from sparl.training.start import train
from sparl.wording import counted, shown

Evaluations = dict[int, dict[str, str]]  # the columns of evaluations.csv, by environment step
_DURATIONS = ("wall_seconds", "cpu_seconds")


def main(arguments: Sequence[str] | None = None) -> int:
    """Repeat the beginning of a run, print both sets of evaluations, and return the exit code."""
    parser = argparse.ArgumentParser(description="Repeat the beginning of an archived run.")
    parser.add_argument("run", type=Path, help="folder of an archived run")
    parser.add_argument("--steps", type=int, default=50_000, help="environment steps to repeat")
    args = parser.parse_args(arguments)
    try:
        run = FinishedRun.read(args.run)
        archived = evaluations(args.run)
        found, stopped_by = repeat(run, args.steps)
    except SparlError as error:
        print(f"repeat: {error}", file=sys.stderr)
        return error.exit_code
    if isinstance(stopped_by, signal.Signals):
        return 128 + stopped_by
    repeated = {step: row for step, row in found.items() if step in archived}
    differ = [step for step, row in repeated.items() if row != archived[step]]
    print_both(archived, repeated, differ)
    if not differ:
        print(f"equal: {counted(len(repeated), 'evaluation')}")
        return 0
    print(f"{len(differ)} of {len(repeated)} evaluations differ, first at step {differ[0]:,}")
    others = other_conditions(run)
    if others:
        print(f"the runs are not comparable: {'; '.join(others)}")
    return 2 if others else 1


def repeat(run: FinishedRun, steps: int) -> tuple[Evaluations, StoppedBy | None]:
    """Train for some steps with a run's configuration.

    Returns:
        The evaluations, and the signal that stopped the training early, if any.

    Raises:
        SparlError: if the number of steps is out of range or the run cannot be trained.
    """
    last = run.config.end
    first = min(run.config.warmup_env_steps + run.config.evaluate_every_env_steps, last)
    if not first <= steps <= last:
        raise UsageError(
            f"--steps is {steps} but must be in [{first}, {last}], from the first evaluation after "
            "the warm-up to the end of the run"
        )
    with TemporaryDirectory(prefix="sparl-repeat-") as folder:
        path = Path(folder) / "run"
        config = replace(run.config, stop_at=steps, run_dir=str(path), tensorboard=False)
        stopped_by = train(config, quiet=True, callbacks=Callbacks(Progress())).stopped_by
        return evaluations(path), stopped_by


class Progress(Callback):
    """Prints a line for each evaluation."""

    def on_evaluation(self, run: ActiveRun, evaluation: Evaluation) -> None:
        """Print the step and the mean return."""
        print(f"step {run.env_step:,} of {run.config.end:,}: return {evaluation.mean:,.1f}")


def evaluations(path: Path) -> Evaluations:
    """Return the rows of a run's evaluations.csv, without durations, by environment step."""
    rows = RunFolder.open(path).rows(EVALUATIONS, whole=True)
    return {
        int(float(row["env_step"])): {k: v for k, v in row.items() if k not in _DURATIONS}
        for row in rows
    }


def other_conditions(run: FinishedRun) -> list[str]:
    """Describe each condition that affects results and differs from that of the archived run."""
    here = conditions(
        {**made_with(), **current_machine()}, platform.platform(), results_version(run.config)
    )
    machine = run.about.get("machine", {})
    there = conditions(
        {**run.about.get("versions", {}), **machine}, str(machine.get("system", "")),
        run.about.get("preset", 1),
    )  # fmt: skip
    differ = [
        f"{name} is {shown(here[name])}, but was {shown(there[name])}"
        for name in here
        if here[name] != there[name]
    ]
    exact = run.about.get("bit_exact", True)
    return differ if exact else [*differ, "the archived run was not resumed exactly"]


def conditions(made_with: Mapping[str, str], system: str, version: int) -> dict[str, str]:
    """Return the conditions that affect results, by name.

    Args:
        made_with: versions of packages, the instruction set, and the treatment of subnormals.
        system: the platform, for example "Linux-6.1-x86_64-with-glibc2.36".
        version: the version of the results; see `sparl.identity.results_version`.
    """
    names = ("numpy", "gymnasium", "mujoco", "instruction_set")
    return {
        **{name: made_with.get(name, "unknown") for name in names},
        "the treatment of subnormal numbers": made_with.get("subnormals", "kept"),
        "the C library": system.rpartition("-with-")[2] or "unknown",
        "the version of the results": str(version),
    }


def print_both(archived: Evaluations, repeated: Evaluations, differ: Sequence[int]) -> None:
    """Print the mean return of each repeated evaluation next to the archived one."""
    rows = [
        (f"{step:,}", archived[step]["mean"], row["mean"], "no" if step in differ else "yes")
        for step, row in repeated.items()
    ]
    columns = [Column(title) for title in ("step", "archived", "repeated", "equal")]
    print("\n".join(table_lines(columns, rows, width=100)))


if __name__ == "__main__":
    sys.exit(main())
