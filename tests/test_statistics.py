"""Compare the statistics of returns with closed forms and worked examples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparl.report import statistics as stat

FINITE = st.floats(-1e6, 1e6)
SCORES = st.lists(st.lists(FINITE, min_size=1, max_size=6).map(np.array), min_size=1, max_size=4)


def test_the_standard_deviation_divides_by_n_minus_1() -> None:
    assert stat.mean_and_std([1.0, 2.0, 3.0]) == (2.0, 1.0)
    mean, std = stat.mean_and_std([5.0])
    assert mean == 5.0
    assert math.isnan(std)


def test_final_return_averages_the_last_evaluations_or_all() -> None:
    curve = np.arange(50.0)
    assert stat.final_return(curve) == 44.5
    assert stat.final_return(curve, 30) == 34.5
    assert stat.final_return(curve[:4]) == 1.5


@pytest.mark.parametrize("last", [0, -1])
def test_final_return_without_evaluations_raises_an_error(last: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        stat.final_return([1.0], last)
    with pytest.raises(ValueError, match="no value"):
        stat.final_return([])


def test_area_of_the_papers_201_evaluations() -> None:
    assert stat.learning_curve_area(np.full(201, 10_000.0)) == pytest.approx(2.01)


def test_percent_of_a_baseline_that_is_not_positive() -> None:
    assert stat.percent_of(99.0, 100.0) == 99.0
    assert math.isnan(stat.percent_of(99.0, 0.0))
    assert math.isnan(stat.percent_of(99.0, -5.0))


def test_steps_to_reach_a_return() -> None:
    steps, curve = [0, 10, 20, 30], [0.0, 4.0, 6.0, 8.0]
    assert stat.steps_to_reach(steps, curve, 5.0, window=1) == 20
    assert stat.steps_to_reach(steps, curve, 5.0, window=2) == 20
    assert stat.steps_to_reach(steps, curve, 6.0, window=2) == 30
    assert stat.steps_to_reach(steps, curve, 8.5, window=1) is None
    assert stat.steps_to_reach(steps, curve, 0.0, window=5) is None


def test_smoothed_curves_of_the_papers_lengths_end_at_the_final_returns() -> None:
    for count, last in ((201, 10), (601, 30)):
        curves = np.random.default_rng(0).normal(size=(3, count))
        means = stat.smoothed(curves)
        assert means.shape == curves.shape
        assert means[:, -1] == pytest.approx([stat.final_return(curve, last) for curve in curves])
        assert means[:, 4] == pytest.approx(curves[:, :5].mean(axis=1))
        assert means[:, 99] == pytest.approx(curves[:, 100 - last : 100].mean(axis=1))


def test_short_curves_are_not_smoothed() -> None:
    curves = np.array([[3.0, 1.0, 2.0] * 13])
    assert np.array_equal(stat.smoothed(curves), curves)


def test_interquartile_mean_of_eight_and_of_ten() -> None:
    assert stat.interquartile_mean([np.array([0.0, 1, 2, 3, 4, 5, 6, 100])]) == 3.5
    # 10 values: floor(10 / 4) = 2 are discarded at each end.
    assert stat.interquartile_mean([np.arange(5.0), np.arange(5.0, 10.0)]) == 4.5


def test_interquartile_mean_gives_all_tasks_the_same_weight() -> None:
    # Each run of the first task has 1/4 of the weight, and each of the second 1/8. Of the six runs,
    # floor(6 / 4) are discarded on either side, that is, 1/6 of the weight.
    few, many = np.array([0.0, 10.0]), np.array([20.0, 30.0, 40.0, 50.0])
    kept = [(0.0, 1 / 4 - 1 / 6), (10.0, 1 / 4), (20.0, 1 / 8), (30.0, 1 / 8), (40.0, 1 / 12)]
    expected = sum(value * weight for value, weight in kept) * 3 / 2
    assert stat.interquartile_mean([few, many]) == pytest.approx(expected)


@given(SCORES)
def test_interquartile_mean_lies_between_the_extremes(scores: list[np.ndarray]) -> None:
    pooled = np.concatenate(scores)
    value = stat.interquartile_mean(scores)
    assert pooled.min() - 1e-6 <= value <= pooled.max() + 1e-6


def test_bootstrap_of_the_mean_is_as_wide_as_the_normal_interval() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(10.0, 2.0, 400)
    found = stat.stratified_bootstrap(stat.mean_score, [x], rng, resamples=4000)
    half = 1.96 * x.std() / math.sqrt(x.size)
    assert found.value == pytest.approx(x.mean())
    assert found.low == pytest.approx(x.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(x.mean() + half, abs=0.1 * half)


def test_bootstrap_keeps_runs_within_their_task() -> None:
    # Returns are constant within each task, so only resampling across tasks would change the mean.
    scores = [np.full(5, 1.0), np.full(5, 9.0)]
    found = stat.stratified_bootstrap(stat.mean_score, scores, np.random.default_rng(0))
    assert found == (5.0, 5.0, 5.0)


def test_bootstrap_resamples_complete_runs_for_a_curve() -> None:
    rng = np.random.default_rng(0)
    one = np.arange(4.0)[np.newaxis]
    assert (stat.curve_interval(one, rng) == one).all()
    low, high = stat.curve_interval(np.array([[0.0, 0.0], [2.0, 2.0]]), rng)
    assert low.tolist() == [0.0, 0.0]
    assert high.tolist() == [2.0, 2.0]


def test_probability_of_improvement_counts_pairs() -> None:
    ours, theirs = [np.array([1.0, 3.0])], [np.array([2.0, 3.0])]
    # 1>2 no, 1>3 no, 3>2 yes, 3=3 half.
    assert stat.probability_of_improvement(ours, theirs) == 1.5 / 4


@given(SCORES)
def test_probability_of_improvement_over_itself_is_half(scores: list[np.ndarray]) -> None:
    assert stat.probability_of_improvement(scores, scores) == pytest.approx(0.5)


def test_probability_of_improvement_needs_the_same_tasks() -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        stat.probability_of_improvement([np.ones(2)], [np.ones(2), np.ones(2)])


def test_performance_profile_falls_from_one_to_zero() -> None:
    scores = [np.array([1.0, 2.0]), np.array([3.0, 3.0, 3.0, 3.0])]
    assert stat.performance_profile(scores, [0.0, 1.0, 2.5, 3.0]).tolist() == [1.0, 0.75, 0.5, 0.0]
