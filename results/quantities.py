"""The quantities by which the papers' claims are judged, and their intervals; see CLAIMS.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparl.archive.finished_run import FinishedRun
from sparl.random_streams import stream
from sparl.report import statistics as stat
from sparl.report.papers import PAPER_LAST
from sparl.types import Float64Array

RESAMPLES = 10_000
Runs = Sequence[FinishedRun]
Mean = Callable[..., Any]  # np.mean or geometric_mean


def geometric_mean(ratios: Float64Array, axis: int) -> Float64Array:
    """Return the geometric mean of positive ratios along an axis."""
    return np.asarray(np.exp(np.log(ratios).mean(axis=axis)))


@cache
def final_return(run: FinishedRun) -> float:
    """Return the mean of the run's last evaluations, as many as its paper averages."""
    return stat.final_return(run.trained_returns, PAPER_LAST[run.config.settings])


@cache
def area(run: FinishedRun) -> float:
    """Return the area under the run's learning curve."""
    return stat.learning_curve_area(run.returns)


def fraction_that_reaches(run: FinishedRun, goals: Float64Array) -> Float64Array:
    """Return the fraction of a run after which the mean of 10 evaluations reaches each goal.

    Args:
        run: the run.
        goals: returns, float [goals].

    Returns:
        float [goals]; NaN if a goal is never reached.
    """
    means = stat.moving_means(run.trained_returns)
    steps = run.env_steps[run.updates > 0][-means.size :] if means.size else np.zeros(0)
    first = np.searchsorted(np.maximum.accumulate(means), goals)
    return np.append(steps / run.config.end, np.nan)[first]


@dataclass(frozen=True)
class Quantity:
    """A number that compares the runs of two methods on a task.

    Attributes:
        text: the quantity in words, with placeholders for both methods.
        each: returns the value of a run for each mean final return of the second method, float
            [goals]; NaN stands for "never", which counts as 1.
        relative: whether the mean value of the first method is divided by that of the second.
        form: format of a value.
    """

    text: str
    each: Callable[[FinishedRun, Float64Array], Float64Array]
    relative: bool
    form: str

    def values(self, runs: Runs, other: Runs) -> Float64Array:
        """Return the value of each run, given the runs of the second method, float [runs]."""
        goal = np.array([np.mean([final_return(run) for run in other])])
        return np.concatenate([self.each(run, goal) for run in runs])

    def of(self, ours: Runs, other: Runs) -> float:
        """Return the quantity for the runs of both methods."""
        return float(self._resampled(ours, other, *(_all(runs) for runs in (ours, other)))[0])

    def _resampled(
        self, ours: Runs, other: Runs, of_ours: NDArray[Any], of_other: NDArray[Any]
    ) -> Float64Array:
        """Return the quantity for resamples of the runs, int [resamples, runs] each."""
        goals = np.array([final_return(run) for run in other])[of_other].mean(axis=1)

        def mean(runs: Runs, places: NDArray[Any]) -> Float64Array:
            values = np.nan_to_num(np.stack([self.each(run, goals) for run in runs]), nan=1.0)
            return np.asarray(np.take_along_axis(values, places.T, axis=0).mean(axis=0))

        found = mean(ours, of_ours)
        return found / mean(other, of_other) if self.relative else found

    def interval(self, pairs: Sequence[tuple[Runs, Runs]], mean: Mean = np.mean) -> stat.Interval:
        """Return the mean over tasks with its 95 % percentile bootstrap interval.

        The runs of each method on each task are resampled independently.

        Args:
            pairs: the runs of both methods on each task.
            mean: np.mean or geometric_mean.
        """
        rng = stream(0, "verdicts")
        resampled = []
        for ours, other in pairs:
            places = [
                rng.integers(len(runs), size=(RESAMPLES, len(runs))) for runs in (ours, other)
            ]
            resampled.append(self._resampled(ours, other, *places))
        low, high = np.quantile(mean(np.array(resampled), axis=0), [0.025, 0.975])
        return stat.Interval(self.mean(pairs, mean), float(low), float(high))

    def mean(self, pairs: Sequence[tuple[Runs, Runs]], mean: Mean = np.mean) -> float:
        """Return the mean of the quantity over tasks: np.mean or geometric_mean."""
        return float(mean(np.array([self.of(ours, other) for ours, other in pairs]), axis=0))


def _all(runs: Runs) -> NDArray[Any]:
    return np.arange(len(runs))[np.newaxis]


QUANTITIES = {
    "final return": Quantity(
        "final return of {} / final return of {}",
        lambda run, goals: np.full(goals.shape, final_return(run)), True, ",.0f",
    ),
    "area": Quantity(
        "learning-curve area of {} / area of {}",
        lambda run, goals: np.full(goals.shape, area(run)), True, ".3f",
    ),
    "steps": Quantity(
        "steps of {} to the mean final return of {} / steps of the run",
        fraction_that_reaches, False, ".3f",
    ),
}  # fmt: skip
