"""Measure durations, and compute medians over interleaved repetitions."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median


def seconds(call: Callable[[], object], least: float) -> float:
    """Return the mean duration of a call [s], over calls that take at least `least` s together."""
    call()
    times = 1
    while True:
        start = time.perf_counter()
        for _ in range(times):
            call()
        took = time.perf_counter() - start
        if took >= least:
            return took / times
        times *= 2


def medians(contestants: Mapping[str, Callable[[], float]], repetitions: int) -> dict[str, float]:
    """Return each contestant's median; the repetitions of all contestants are interleaved."""
    found: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repetitions):
        for name, measure in contestants.items():
            found[name].append(measure())
    return {name: median(values) for name, values in found.items()}
