"""Statistics of returns.

The docstrings cite these sources:

* DS: Sokar et al., Dynamic Sparse Training for Deep Reinforcement Learning (arXiv 2106.04217).
* RLx2: Tan et al., RLx2 (ICLR 2023).
* rliable: Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice
  (NeurIPS 2021).

A curve, float [K], contains the mean returns of a run's K evaluations in order. Scores contain one
array, float [runs], for each task; the number of runs may differ between tasks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.random import Generator
from numpy.typing import ArrayLike

from sparl.types import Float64Array

Scores = Sequence[Float64Array]
# The percentile bootstrap interval of two values is the range between them, and contains the mean
# in only half of the cases. Reports therefore give no interval of fewer runs than this.
FEWEST_RUNS_OF_INTERVAL = 3


class Interval(NamedTuple):
    """An estimate and the bounds of its confidence interval."""

    value: float
    low: float
    high: float


def mean_and_std(values: ArrayLike) -> tuple[float, float]:
    """Return the mean and the standard deviation over runs.

    The divisor of the variance is n - 1; the papers do not state theirs. For a single run, the
    standard deviation is NaN.

    Raises:
        ValueError: if there are no values.
    """
    x = _filled(values)
    return float(x.mean()), float(x.std(ddof=1)) if x.size > 1 else float("nan")


def final_return(curve: ArrayLike, last: int = 10) -> float:
    """Return the mean of the last evaluations (DS: 10, RLx2: 30), or of all if there are fewer.

    Raises:
        ValueError: if there are no evaluations, or if `last` is less than 1.
    """
    if last < 1:
        raise ValueError(f"final_return: last is {last} but must be at least 1")
    return float(_filled(curve)[-last:].mean())


def learning_curve_area(curve: ArrayLike) -> float:
    """Return the sum of the curve divided by 1e6, as in DS (201 evaluations in 1M steps).

    Raises:
        ValueError: if there are no evaluations.
    """
    return float(_filled(curve).sum() / 1e6)


def percent_of(value: float, baseline: float) -> float:
    """Return a value in percent of a baseline (RLx2), or NaN if the baseline is not positive."""
    return 100.0 * value / baseline if baseline > 0 else float("nan")


def steps_to_reach(
    env_steps: Sequence[int], curve: ArrayLike, goal: float, window: int = 10
) -> int | None:
    """Return the first step at which the mean of the last `window` evaluations reaches the goal.

    DS compares methods by the number of steps until they reach a baseline's final return. With a
    window of 10, both this mean and the final return are means of 10 evaluations.

    Args:
        env_steps: the step of each evaluation, in ascending order [environment steps].
        curve: float [K].
        goal: the return to reach.
        window: number of evaluations that are averaged.

    Returns:
        The step of the last evaluation in the window; None if the goal is never reached or there
        are fewer than `window` evaluations.
    """
    reached = np.flatnonzero(moving_means(curve, window) >= goal)
    return int(env_steps[int(reached[0]) + window - 1]) if reached.size else None


def moving_means(curve: ArrayLike, window: int = 10) -> Float64Array:
    """Return the mean of every `window` evaluations in a row.

    Args:
        curve: float [K].
        window: number of evaluations that are averaged.

    Returns:
        float [K - window + 1], or [0] if there are fewer evaluations. Each mean is computed like
        `final_return`, so that the last one equals it exactly.
    """
    x = np.asarray(curve, np.float64)
    if x.size < window:
        return np.zeros(0)
    return np.asarray(sliding_window_view(x, window).mean(axis=1), np.float64)


def smoothed(curves: Float64Array) -> Float64Array:
    """Average each evaluation with the ones before it, in windows of 5 % of all evaluations.

    For the runs of both papers, the window is that of the final return: 10 of 201 evaluations in
    1M steps (DS), and 30 of 601 in 3M steps (RLx2).

    Args:
        curves: float [runs, K].

    Returns:
        float [runs, K]. The first means are those of fewer evaluations; with fewer than 40
        evaluations, nothing is averaged.
    """
    window = max(1, curves.shape[1] // 20)
    first = [curves[:, :k].mean(axis=1) for k in range(1, window)]
    full = sliding_window_view(curves, window, axis=1).mean(axis=2)
    return np.column_stack([*first, full])


def interquartile_mean(scores: Scores) -> float:
    """Return the mean of the middle half of the runs in all tasks (rliable, section 4.3).

    If all tasks have the same number of runs, the floor(n / 4) smallest and the floor(n / 4)
    largest of the n values are discarded, as in rliable. If they do not, each run counts with the
    reciprocal of its task's number of runs, so that all tasks have the same weight, and the
    fraction floor(n / 4) / n of the total weight is discarded on either side.

    Raises:
        ValueError: if a task has no values.
    """
    each = [_filled(s) for s in scores]
    runs, common = sum(s.size for s in each), math.lcm(*(s.size for s in each))
    weights = np.concatenate([np.full(s.size, runs * common // s.size) for s in each])
    x = np.concatenate(each)
    order = np.argsort(x, kind="stable")
    total, discarded = runs * common * len(each), runs // 4 * common * len(each)
    upper = np.minimum(np.cumsum(weights[order]), total - discarded)
    lower = np.append(discarded, np.maximum(upper[:-1], discarded))
    return float(np.average(x[order], weights=np.maximum(upper - lower, 0)))


def mean_score(scores: Scores) -> float:
    """Return the mean score of each task over its runs, averaged over the tasks."""
    return float(np.mean([_filled(s).mean() for s in scores]))


def stratified_bootstrap(
    statistic: Callable[[Scores], float],
    scores: Scores,
    rng: Generator,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> Interval:
    """Return the percentile interval of a stratified bootstrap (rliable, section 4.1).

    Runs are resampled within each task.

    Args:
        statistic: a function of scores.
        scores: one array, float [runs], for each task.
        rng: the generator that draws the resamples.
        confidence: fraction of the resamples within the bounds.
        resamples: number of resamples.
    """

    def resampled() -> Scores:
        return [s[rng.integers(s.size, size=s.size)] for s in scores]

    values = [statistic(resampled()) for _ in range(resamples)]
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(statistic(scores), float(low), float(high))


def curve_interval(curves: Float64Array, rng: Generator, *, resamples: int = 1000) -> Float64Array:
    """Return the 95 % percentile bootstrap interval of the mean curve.

    Args:
        curves: float [runs, K].
        rng: the generator that draws the resamples of runs.
        resamples: number of resamples.

    Returns:
        float [2, K], the lower and the upper bounds. For a single run, both equal its curve.
    """
    runs = len(curves)
    means = curves[rng.integers(runs, size=(resamples, runs))].mean(axis=1)
    return np.asarray(np.quantile(means, [0.025, 0.975], axis=0), np.float64)


def probability_of_improvement(scores: Scores, over: Scores) -> float:
    """Return the probability of improvement, averaged over tasks (rliable, section 4.3).

    For each task, it is the probability that a run of `scores` has a larger value than a run of
    `over`. Ties count half.

    Raises:
        ValueError: if the numbers of tasks differ, or a task has no values.
    """
    chances = []
    for ours, theirs in zip(scores, over, strict=True):
        difference = _filled(ours)[:, np.newaxis] - _filled(theirs)
        chances.append(np.mean((difference > 0) + 0.5 * (difference == 0)))
    return float(np.mean(chances))


def performance_profile(scores: Scores, thresholds: ArrayLike) -> Float64Array:
    """Return the fraction of runs with a score above each threshold (rliable, section 4.2).

    The fraction is averaged over the tasks.

    Args:
        scores: one array, float [runs], for each task.
        thresholds: float [T].

    Returns:
        float [T].
    """
    tau = np.asarray(thresholds, np.float64)
    fractions = [(_filled(s)[:, np.newaxis] > tau).mean(axis=0) for s in scores]
    return np.asarray(np.mean(fractions, axis=0), np.float64)


def _filled(values: ArrayLike) -> Float64Array:
    x = np.asarray(values, np.float64)
    if x.size == 0:
        raise ValueError("there are no values")
    return x
