"""The final return of each run, in absolute terms and in percent of the dense agent's return."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparl.archive.finished_run import FinishedRun
from sparl.report import statistics as stat
from sparl.report.papers import PAPER_LAST
from sparl.report.runs import Collection, Group
from sparl.types import Float64Array


def final(group: Group, last: int = 10) -> Float64Array:
    """Return each run's final return, float [runs].

    The final return is the mean of the last `last` evaluations, or of all if there are fewer.
    Evaluations before the first update are ignored.
    """
    return np.array([stat.final_return(run.trained_returns, last) for run in group.runs])


def final_as_in_paper(group: Group) -> Float64Array:
    """Return each run's final return, averaged over as many evaluations as in the run's paper."""
    return final(group, PAPER_LAST[group.config.settings])


def averaged(runs: Sequence[FinishedRun], last: int) -> int:
    """Return how many evaluations the final returns average: `last`, or fewer if a run has fewer.

    Evaluations before the first update are ignored. If the runs have different numbers of
    evaluations, the smallest number counts.
    """
    return min(last, *(run.trained_returns.size for run in runs))


def reaching(runs: Sequence[FinishedRun], goal: float, window: int) -> list[int | None]:
    """Return the environment step at which each run reaches a return; None if it never does.

    See `statistics.steps_to_reach`. Evaluations before the first update are ignored.

    Args:
        runs: the runs.
        goal: the return to reach.
        window: number of evaluations that are averaged.
    """
    found = []
    for run in runs:
        trained = run.updates > 0
        steps = run.env_steps[trained].astype(int).tolist()
        found.append(stat.steps_to_reach(steps, run.returns[trained], goal, window))
    return found


def scores(runs: Collection) -> dict[str, list[tuple[Group, Group]]]:
    """Return, for each method, pairs of a group and the dense group with which it is compared.

    Groups are omitted if there is no such dense group or its mean final return is not positive.
    Methods that are only compared with themselves, that is, dense methods, are omitted too.
    """
    found: dict[str, list[tuple[Group, Group]]] = {}
    for group in runs.groups:
        dense = runs.dense(group)
        if dense is not None and float(final_as_in_paper(dense).mean()) > 0:
            found.setdefault(group.label, []).append((group, dense))
    return {k: v for k, v in found.items() if any(g is not d for g, d in v)}


def normalized(pairs: Sequence[tuple[Group, Group]]) -> list[Float64Array]:
    """Return the final returns in percent of the dense agent's mean.

    The result contains one array, float [runs], per environment.
    """
    return [
        100 * final_as_in_paper(group) / float(final_as_in_paper(dense).mean())
        for group, dense in pairs
    ]
