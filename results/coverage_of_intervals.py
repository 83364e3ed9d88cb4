"""Estimate how reliable the intervals and verdicts of CLAIMS.md are, by simulated runs.

    python results/coverage_of_intervals.py

Intervals are percentile bootstrap intervals of the ratio of two means, from 1,000 resamples instead
of the 10,000 of verdicts.py.

The first table draws the final returns of two methods from normal distributions whose standard
deviation is 10 % of the mean, with the true ratio 0.97 of the means. At this ratio, a claim
"≥ 0.97" is at its bound, so that the interval should lie on either side of 0.97 in 2.5 % of the
cases each.

The second table does the same for the interval of a single mean, which reports show.

The third table draws the runs of two methods with the same mean from gamma distributions, whose
relative standard deviations are those that Sokar et al. print for DS-TD3 and TD3.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from claims import DS, FIVE, TD3
from quantities import geometric_mean
from sparl.configuration import Config
from sparl.report.papers import printed
from sparl.types import Float64Array

RUNS = (3, 5, 10)
RATIO, SPREAD = 0.97, 0.1
REPETITIONS, RESAMPLES = 20_000, 1_000
PLANNED = dict(zip(FIVE, (5, 5, 5, 5, 3), strict=True))
REPETITIONS_OF_EQUAL = 4_000
RUNS_OF_ONE, REPETITIONS_OF_ONE = (2, 3, 5), 6_000


def main() -> None:
    """Print all tables."""
    rng = np.random.default_rng(0)
    print("runs of each method   within   above   below")
    for count in RUNS:
        above = below = 0
        for _ in range(REPETITIONS):
            ours, other = rng.normal((RATIO, 1), (SPREAD * RATIO, SPREAD), (count, 2)).T
            low, high = np.quantile(resampled_ratios(ours, other, rng), [0.025, 0.975])
            above += low >= RATIO
            below += high < RATIO
        shown = [1 - (above + below) / REPETITIONS, above / REPETITIONS, below / REPETITIONS]
        print(f"{count:19d}  {shown[0]:8.1%} {shown[1]:7.1%} {shown[2]:7.1%}")
    single_mean(np.random.default_rng(0))
    equal_methods(np.random.default_rng(0))


def single_mean(rng: Generator) -> None:
    """Print how often the interval of the mean of one method's runs contains the true mean."""
    print("runs of one method   within")
    for count in RUNS_OF_ONE:
        runs = rng.normal(1, SPREAD, (REPETITIONS_OF_ONE, count))
        bounds = [np.quantile(resampled_means(each, rng), [0.025, 0.975]) for each in runs]
        within = np.mean([low <= 1 <= high for low, high in bounds])
        print(f"{count:18d}  {within:7.1%}")


def equal_methods(rng: Generator) -> None:
    """Print how often equal methods are judged to be equal or better, better, and worse."""
    names = [*FIVE, "mean of all", "geometric mean of all"]
    values = np.zeros((REPETITIONS_OF_EQUAL, len(names), 3))  # estimate, low, high
    spreads = {task: [relative_spread(side.config(task)) for side in (DS, TD3)] for task in FIVE}
    for repetition in values:
        found = []
        for task, count in PLANNED.items():
            ours, other = (rng.gamma(1 / cv**2, cv**2, count) for cv in spreads[task])
            ratios = resampled_ratios(ours, other, rng)
            found.append(np.append(ratios, ours.mean() / other.mean()))
        ratios = np.array(found)
        together = [ratios.mean(axis=0), geometric_mean(ratios, axis=0)]
        for cell, each in zip(repetition, [*ratios, *together], strict=True):
            cell[:] = each[-1], *np.quantile(each[:-1], [0.025, 0.975])
    print("equal methods           spreads       mean ratio  all ≥ 0.97  all > 1  all < 0.97")
    for k, name in enumerate(names):
        estimate, low, high = values[:, k].T
        spread = ", ".join(f"{cv:.0%}" for cv in spreads.get(name, ()))
        print(
            f"{name:22s}  {spread:12s}  {estimate.mean():10.3f}  {np.mean(low >= RATIO):10.1%}  "
            f"{np.mean(low > 1):7.1%}  {np.mean(high < RATIO):10.1%}"
        )


def relative_spread(config: Config) -> float:
    """Return the standard deviation that the paper prints, divided by the mean."""
    paper = printed(config)
    assert paper.mean is not None
    assert paper.std is not None
    return paper.std / paper.mean


def resampled_ratios(ours: Float64Array, other: Float64Array, rng: Generator) -> Float64Array:
    """Return the ratio of the means of each resample, float [RESAMPLES]."""
    return resampled_means(ours, rng) / resampled_means(other, rng)


def resampled_means(values: Float64Array, rng: Generator) -> Float64Array:
    """Return the mean of each resample, float [RESAMPLES]."""
    places = rng.integers(values.size, size=(RESAMPLES, values.size))
    return np.asarray(values[places].mean(axis=1))


if __name__ == "__main__":
    main()
