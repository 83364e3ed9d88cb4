"""Compare gathering batches from the replay buffer in C++ and in NumPy.

    python benchmarks/replay.py

The output is the time of drawing a batch from a full buffer of 200,000 transitions in microseconds
(medians of interleaved repetitions), and the median and the quartiles of the ratio of both times.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median, quantiles
from typing import Any

import numpy as np
from numpy.random import Generator

from sparl import _native
from sparl.replay.ring_buffer import RingBuffer

CAPACITY, PAIRS, BATCHES = 200_000, 41, 20


def full_ring(n_obs: int, n_act: int, threads: int, rng: Generator) -> RingBuffer:
    """Create a ring buffer that has wrapped around, with episodes of 100 steps."""
    ring = RingBuffer(CAPACITY, n_obs, n_act, 0.99, pool=_native.Pool(threads))
    nothing = np.zeros(n_act)
    for step in range(CAPACITY + 50_000):
        if ring.episode_over:
            ring.begin(rng.standard_normal(n_obs))
        action, reached = rng.uniform(-1, 1, n_act), rng.standard_normal(n_obs)
        ring.add(action, nothing, 1.0, reached, False, truncated=step % 100 == 99)
    return ring


def in_numpy(ring: RingBuffer, n: int, ages: Any) -> tuple[Any, ...]:
    """Compute the result of RingBuffer.windows(paths=False) in NumPy."""
    rows = ring.rows(ages)
    last, steps, powers = rows.copy(), np.ones(len(ages), np.int64), 0.99 ** np.arange(n + 1)
    continues, total = np.ones(len(ages), bool), ring.reward[rows].copy()
    for m in range(1, n):
        continues &= ~ring.episode_end[last] & (ages + m < ring.size)
        last = np.where(continues, (last + 1) % ring.capacity, last)
        steps += continues
        total += np.where(continues, powers[m] * ring.reward[last], 0)
    reached = ring.observation[(last + 1) % ring.capacity]
    apart = ring.apart[last]
    reached[apart] = ring._reached.of(ring.first + (ages + steps)[apart] - 1)
    discount = np.where(ring.terminated[last], 0, powers[steps])
    return ring.observation[rows], ring.action[rows], total, discount, reached


def took(gather: Callable[[Any], object], ring: RingBuffer, batch: int, rng: Generator) -> float:
    """Return the time of one batch [microseconds]."""
    start = time.perf_counter()
    for _ in range(BATCHES):
        gather(rng.integers(ring.size, size=batch))
    return 1e6 * (time.perf_counter() - start) / BATCHES


def main() -> None:
    """Print a line for each task, batch size and number of threads."""
    rng = np.random.default_rng(0)
    for name, n_obs, n_act in (("HalfCheetah", 17, 6), ("Humanoid", 348, 17)):
        for threads in (1, 2):
            ring = full_ring(n_obs, n_act, threads, rng)
            for batch, n in ((100, 1), (256, 3)):
                gather = partial(ring.windows, n_step=n, paths=False), partial(in_numpy, ring, n)
                pairs = [[took(each, ring, batch, rng) for each in gather] for _ in range(PAIRS)]
                native, numpy = (median(column) for column in zip(*pairs, strict=True))
                low, middle, high = quantiles(other / own for own, other in pairs)
                print(
                    f"{name}, batch {batch}, n = {n}, {threads} threads: {native:.0f} us in C++, "
                    f"{numpy:.0f} us in NumPy, {middle:.2f} times ({low:.2f} to {high:.2f})"
                )


if __name__ == "__main__":
    main()
