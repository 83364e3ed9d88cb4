"""The final return of each run, alone and in percent of the dense agent's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparl.archive.finished_run import FinishedRun
from sparl.report import statistics as stat
from sparl.report.papers import PAPER_LAST
from sparl.report.runs import Collection, Group
from sparl.types import Float64Array


def final(group: Group, last: int = 10) -> Float64Array:
    """Return each run's mean over the last evaluations after its first update, float [runs]."""
    return np.array([stat.final_return(run.trained_returns, last) for run in group.runs])


def final_as_in_paper(group: Group) -> Float64Array:
    """Return each run's final return over as many evaluations as its settings' paper takes."""
    return final(group, PAPER_LAST[group.config.settings])


def averaged(runs: Sequence[FinishedRun], last: int) -> int:
    """Return how many evaluations a final return is the mean of: `last`, or all if fewer."""
    return min(last, *(run.trained_returns.size for run in runs))


def scores(runs: Collection) -> dict[str, list[tuple[Group, Group]]]:
    """For each method, its groups with a dense agent to compare with, and that."""
    found: dict[str, list[tuple[Group, Group]]] = {}
    for group in runs.groups:
        dense = runs.dense(group)
        if dense is not None and float(final_as_in_paper(dense).mean()) > 0:
            found.setdefault(group.label, []).append((group, dense))
    return {k: v for k, v in found.items() if any(g is not d for g, d in v)}


def normalized(pairs: Sequence[tuple[Group, Group]]) -> list[Float64Array]:
    """Final returns in percent of the dense agent's mean, one float [runs] per environment."""
    return [
        100 * final_as_in_paper(group) / float(final_as_in_paper(dense).mean())
        for group, dense in pairs
    ]
