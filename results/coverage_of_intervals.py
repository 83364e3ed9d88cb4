"""Estimate how often the 95 % intervals of CLAIMS.md contain the true ratio.

    python results/coverage_of_intervals.py

Draws the final returns of two methods from normal distributions whose standard deviation is 10 % of
the mean, with the true ratio 0.97 of the means, and computes the percentile bootstrap interval of
the ratio, from 1,000 resamples instead of the 10,000 of verdicts.py. At this ratio, a claim
"≥ 0.97" is at its bound, so that the interval should lie on either side of 0.97 in 2.5 % of the
cases each.
"""

from __future__ import annotations

import numpy as np

RUNS = (3, 5, 10)
RATIO, SPREAD = 0.97, 0.1
REPETITIONS, RESAMPLES = 20_000, 1_000


def main() -> None:
    """Print the coverage and the frequencies of intervals above and below the true ratio."""
    rng = np.random.default_rng(0)
    print("runs of each method   within   above   below")
    for count in RUNS:
        above = below = 0
        for _ in range(REPETITIONS):
            ours, other = rng.normal((RATIO, 1), (SPREAD * RATIO, SPREAD), (count, 2)).T
            drawn = [
                values[rng.integers(count, size=(RESAMPLES, count))].mean(axis=1)
                for values in (ours, other)
            ]
            low, high = np.quantile(drawn[0] / drawn[1], [0.025, 0.975])
            above += low >= RATIO
            below += high < RATIO
        shown = [1 - (above + below) / REPETITIONS, above / REPETITIONS, below / REPETITIONS]
        print(f"{count:19d}  {shown[0]:8.1%} {shown[1]:7.1%} {shown[2]:7.1%}")


if __name__ == "__main__":
    main()
