"""Medians over repetitions that take turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median


def seconds(call: Callable[[], object], least: float) -> float:
    """Mean seconds of a call, over at least so many seconds of calls."""
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


def in_turns(contestants: Mapping[str, Callable[[], float]], repetitions: int) -> dict[str, float]:
    """The median of what each contestant measures, one repetition of all after the other."""
    found: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repetitions):
        for name, measure in contestants.items():
            found[name].append(measure())
    return {name: median(values) for name, values in found.items()}
