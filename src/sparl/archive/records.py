"""Check the records that reports read, which may be damaged or come from an untrusted source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sparl.errors import DataError
from sparl.training.run_folder import EVALUATIONS, METRICS, RESTORE, TOPOLOGY

NumberRow = dict[str, float]
_MOST = 1e100  # largest accepted number; sums and products of such numbers are finite
_COUNTS = ("env_step", "agent_update", "updates", "wall_seconds", "cpu_seconds")
_AT_LEAST = dict.fromkeys((*_COUNTS, "connections"), 0)
_AT_MOST = dict.fromkeys(_COUNTS, 1e12)


def numbers(
    path: Path, rows: Iterable[Mapping[str, Any]], needed: Sequence[str], others: Sequence[str] = ()
) -> list[NumberRow]:
    """Convert the cells in the given columns to finite numbers.

    Args:
        path: the CSV file, for messages.
        rows: the rows of the file.
        needed: columns that must have a number in every row.
        others: columns that may be missing and may have empty cells, which are omitted.

    Raises:
        DataError: if a number is missing, malformed or out of range.
    """
    read: list[NumberRow] = []
    for line, row in enumerate(rows, 2):
        wanted = [*needed, *(name for name in others if row.get(name))]
        for name in wanted:
            try:
                value = float(row[name])
                fits = _AT_LEAST.get(name, -_MOST) <= value <= _AT_MOST.get(name, _MOST)
            except (KeyError, TypeError, ValueError):
                fits = False
            if not fits:
                raise DataError(
                    f"{path}: in line {line}, {name} is {str(row.get(name))[:80]}, which is not a "
                    "valid number"
                )
        read.append({name: float(row[name]) for name in wanted})
    return read


def check_whole(
    path: Path, env_step: int, evaluations: Sequence[NumberRow], metrics: Sequence[NumberRow],
    topology: Mapping[str, Sequence[NumberRow]], degrees: Mapping[str, Any],
) -> None:  # fmt: skip
    """Check that the records of a finished run reach the run's last step.

    A run writes an evaluation and metrics at its last step, and a row of topology.csv for each
    layer that a topology update changes. `env_step` is the run's last step; `FinishedRun` describes
    the other arguments.

    Raises:
        DataError: if records are missing.
    """
    for name, rows in ((EVALUATIONS, evaluations), (METRICS, metrics)):
        if not rows or rows[-1]["env_step"] != env_step:
            at = f"it ends at step {rows[-1]['env_step']:,.0f}" if rows else "it has no data"
            raise DataError(
                f"{path / name}: {at}, but the run finished at step {env_step:,}; {RESTORE}"
            )
    for network, updates in topology.items():
        if degrees and not updates and degrees["initial"][network] != degrees["now"][network]:
            raise DataError(
                f"{path / TOPOLOGY}: there is no topology update of the {network}, but its "
                f"connections changed; {RESTORE}"
            )


def check_steps(path: Path, evaluations: Sequence[NumberRow], every: int) -> None:
    """Check that there is an evaluation at each multiple of `every` steps and at the end.

    This is required because a report matches the evaluations of several runs by index.

    Raises:
        DataError: if an evaluation is missing or at another step.
    """
    for index, row in enumerate(evaluations):
        last = index == len(evaluations) - 1
        step, latest = row["env_step"], index * every
        if step != latest and not (last and latest - every < step < latest):
            raise DataError(
                f"{path}: line {index + 2} is for step {step:,.0f} but must be for step {latest:,}"
            )


def check_trained(path: Path, evaluations: Sequence[NumberRow], warmup_env_steps: int) -> None:
    """Check that the agent was evaluated after at least one update.

    Raises:
        DataError: if all evaluations came before the first update.
    """
    if not any(row["updates"] for row in evaluations):
        raise DataError(
            f"{path}: the agent was not updated in {evaluations[-1]['env_step']:,.0f} steps, so no "
            f"trained agent was evaluated; train for more steps than the {warmup_env_steps:,} of "
            "the warm-up"
        )


def check_about(path: Path, about: Mapping[str, Any]) -> None:
    """Check the values in run.json that reports show or compute with.

    Raises:
        DataError: if a value has the wrong type or is out of range.
    """
    versions, machine = about.get("versions", {}), about.get("machine", {})
    texts = {name: versions.get(name, "") for name in ("commit", "sparl", "mujoco")}
    texts |= {name: machine.get(name, "") for name in ("cpu", "instruction_set")}
    counts = {"threads": machine.get("threads", 0)}
    counts |= {
        "peak_memory_bytes": about.get("peak_memory_bytes", 0),
        "preset": about.get("preset", 1),
    }
    environment = about.get("environment", {})
    if "observations" in environment:
        counts |= {name: environment.get(name) for name in ("observations", "actions")}
    wrong = [name for name, value in texts.items() if not isinstance(value, str)]
    wrong += [name for name, n in counts.items() if type(n) is not int or not 0 <= n <= _MOST]
    wrong += [n for n in ("observations", "actions") if n not in wrong and counts.get(n) == 0]
    if wrong:
        name = wrong[0]
        rule = "a non-negative integer" if name in counts else "a string"
        if name in ("observations", "actions"):
            rule = "a positive integer"
        raise DataError(
            f"{path}: {name} is {str({**texts, **counts}[name])[:80]} but must be {rule}"
        )


def check_degrees(path: Path, degrees: Mapping[str, Any], networks: Sequence[str]) -> None:
    """Check that degrees.json describes the same networks at the start and at the end.

    Args:
        path: the file, for messages.
        degrees: the content of the file; see `Record.degrees`.
        networks: names of the agent's networks.

    Raises:
        DataError: if the networks at the start and at the end differ, or the file is damaged.
    """
    try:
        initial, now = (_sizes(degrees[when], networks) for when in ("initial", "now"))
    except (AttributeError, KeyError, TypeError, ValueError):
        raise DataError(
            f"{path}: the degrees of {' and '.join(networks)} are missing or invalid"
        ) from None
    if initial != now:
        raise DataError(f"{path}: the networks differ in size between the start and the end")


def _sizes(
    networks: Mapping[str, Any], names: Sequence[str]
) -> dict[str, list[list[tuple[int, int]]]]:
    """Return the numbers of inputs and outputs of each layer, for each member of each network."""
    if networks.keys() != set(names):
        raise ValueError
    return {
        network: [[_size(layer) for layer in _list(member)] for member in _list(members)]
        for network, members in networks.items()
    }


def _size(layer: Mapping[str, Any]) -> tuple[int, int]:
    out, into = _list(layer["out"]), _list(layer["in"])
    for degrees, most in ((out, len(into)), (into, len(out))):
        if not all(type(degree) is int and 0 <= degree <= most for degree in degrees):
            raise ValueError
    return len(out), len(into)


def _list(value: object) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ValueError
    return value
