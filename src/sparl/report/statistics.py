"""Statistics of returns, as plain functions.

Sources: Sokar et al., Dynamic Sparse Training for Deep Reinforcement Learning (arXiv 2106.04217),
called DS; Tan et al., RLx2 (ICLR 2023); Agarwal et al., Deep Reinforcement Learning at the Edge of
the Statistical Precipice (NeurIPS 2021), called rliable. A curve is float [K], the mean returns of
a run's K evaluations in order; scores are one float [runs] per task, and tasks may differ in runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike

from sparl.types import Float64Array

Scores = Sequence[Float64Array]


class Interval(NamedTuple):
    """An estimate between two bounds."""

    value: float
    low: float
    high: float


def mean_and_std(values: ArrayLike) -> tuple[float, float]:
    """Return the mean and standard deviation over runs, as the papers print them.

    The deviation divides by n - 1 (neither paper says which); NaN for a single run.

    Raises:
        ValueError: no value.
    """
    x = _filled(values)
    return float(x.mean()), float(x.std(ddof=1)) if x.size > 1 else float("nan")


def final_return(curve: ArrayLike, last: int = 10) -> float:
    """Return the mean of the last evaluations (DS: 10, RLx2: 30), or of all if there are fewer.

    Raises:
        ValueError: no evaluation, or last below 1.
    """
    if last < 1:
        raise ValueError(f"final_return: last is {last}, must be at least 1")
    return float(_filled(curve)[-last:].mean())


def learning_curve_area(curve: ArrayLike) -> float:
    """Return the sum of all evaluations / 1e6, as DS prints it (201 evaluations of 1M steps)."""
    return float(_filled(curve).sum() / 1e6)


def percent_of(value: float, baseline: float) -> float:
    """Return a return in percent of the dense agent's (RLx2); NaN unless the latter is above 0."""
    return 100.0 * value / baseline if baseline > 0 else float("nan")


def steps_to_reach(
    env_steps: Sequence[int], curve: ArrayLike, goal: float, window: int = 10
) -> int | None:
    """Return the first step at which the mean of `window` evaluations reaches the goal.

    DS compares steps to a baseline's final return; with window 10 both sides are means of 10.

    Args:
        env_steps: of each evaluation, ascending [environment steps].
        curve: float [K].
        goal: a return.
        window: number of evaluations that are averaged; steps with fewer are skipped.

    Returns:
        The step of the window's last evaluation; None if it never happens.
    """
    x = np.asarray(curve, np.float64)
    if x.size < window:
        return None
    sums = np.cumsum(np.concatenate([[0.0], x]))
    reached = np.flatnonzero((sums[window:] - sums[:-window]) / window >= goal)
    return int(env_steps[int(reached[0]) + window - 1]) if reached.size else None


def interquartile_mean(scores: Scores) -> float:
    """Return the mean of the middle half of all runs of all tasks (rliable, section 4.3).

    As there, floor(n / 4) values are left out at each end.
    """
    x = np.sort(_filled(np.concatenate([np.ravel(s) for s in scores])))
    out = x.size // 4
    return float(x[out : x.size - out].mean())


def mean_score(scores: Scores) -> float:
    """Return the mean over tasks of each task's mean over runs."""
    return float(np.mean([_filled(s).mean() for s in scores]))


def stratified_bootstrap(
    statistic: Callable[[Scores], float],
    scores: Scores,
    rng: Generator,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> Interval:
    """Percentile interval over resamples of the runs within each task (rliable, section 4.1).

    Args:
        statistic: of scores.
        scores: one float [runs] per task.
        rng: draws the resamples.
        confidence: share of the resamples within the bounds.
        resamples: how many.
    """

    def resampled() -> Scores:
        return [s[rng.integers(s.size, size=s.size)] for s in scores]

    values = [statistic(resampled()) for _ in range(resamples)]
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(statistic(scores), float(low), float(high))


def curve_interval(curves: Float64Array, rng: Generator, *, resamples: int = 1000) -> Float64Array:
    """Percentile 95 % interval of the mean curve over runs.

    Args:
        curves: float [runs, K].
        rng: draws the resamples of whole runs.
        resamples: how many.

    Returns:
        float [2, K], low and high; for a single run both are that run.
    """
    runs = len(curves)
    means = curves[rng.integers(runs, size=(resamples, runs))].mean(axis=1)
    return np.asarray(np.quantile(means, [0.025, 0.975], axis=0), np.float64)


def probability_of_improvement(scores: Scores, over: Scores) -> float:
    """Return the mean over tasks of P(run of first > run of second), ties half (rliable, 4.3).

    Raises:
        ValueError: not the same number of tasks.
    """
    chances = []
    for ours, theirs in zip(scores, over, strict=True):
        difference = _filled(ours)[:, np.newaxis] - _filled(theirs)
        chances.append(np.mean((difference > 0) + 0.5 * (difference == 0)))
    return float(np.mean(chances))


def performance_profile(scores: Scores, thresholds: ArrayLike) -> Float64Array:
    """Share of runs whose score is above each threshold, mean over tasks (rliable, section 4.2).

    Args:
        scores: one float [runs] per task.
        thresholds: float [T].

    Returns:
        float [T].
    """
    tau = np.asarray(thresholds, np.float64)
    shares = [(_filled(s)[:, np.newaxis] > tau).mean(axis=0) for s in scores]
    return np.asarray(np.mean(shares, axis=0), np.float64)


def _filled(values: ArrayLike) -> Float64Array:
    x = np.asarray(values, np.float64)
    if x.size == 0:
        raise ValueError("no value")
    return x
