"""Compare the statistics with rliable's."""

from __future__ import annotations

import numpy as np
import pytest
from rliable import library, metrics

from sparl.report import statistics as stat


def _scores(seed: int, runs: int, tasks: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(1.0, 0.5, (runs, tasks))


@pytest.mark.parametrize(("runs", "tasks"), [(1, 1), (3, 5), (5, 4), (8, 3), (10, 1)])
def test_aggregates_equal_those_of_rliable(runs: int, tasks: int) -> None:
    x = _scores(runs, runs, tasks)
    assert stat.interquartile_mean(list(x.T)) == pytest.approx(metrics.aggregate_iqm(x))
    assert stat.mean_score(list(x.T)) == pytest.approx(metrics.aggregate_mean(x))


@pytest.mark.parametrize(("runs", "over"), [(5, 5), (3, 8)])
def test_probability_of_improvement(runs: int, over: int) -> None:
    x, y = _scores(1, runs, 4), _scores(2, over, 4).round(1)
    expected = metrics.probability_of_improvement(x, y)
    assert stat.probability_of_improvement(list(x.T), list(y.T)) == pytest.approx(expected)


def test_performance_profile() -> None:
    x, tau = _scores(3, 5, 4), np.linspace(0, 2, 21)
    expected, _ = library.create_performance_profile({"x": x}, tau, reps=2)
    assert stat.performance_profile(list(x.T), tau) == pytest.approx(expected["x"])


def test_intervals_of_the_interquartile_mean() -> None:
    x = _scores(4, 10, 5)
    values, bounds = library.get_interval_estimates(
        {"x": x}, lambda s: np.array([metrics.aggregate_iqm(s)]), reps=4000
    )
    rng = np.random.default_rng(0)
    found = stat.stratified_bootstrap(stat.interquartile_mean, list(x.T), rng, resamples=4000)
    (low,), (high,) = bounds["x"]
    # Both intervals are random; their bounds agree within a few percent of the width.
    width = high - low
    assert found.value == pytest.approx(values["x"][0])
    assert found.low == pytest.approx(low, abs=0.1 * width)
    assert found.high == pytest.approx(high, abs=0.1 * width)
