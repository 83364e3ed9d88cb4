"""Which connections come. A rule takes a layer and a count and returns free positions."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.random import Generator

from sparl.sparse.pattern import Pattern, Positions
from sparl.topology.layer_view import LayerView


class GrowRule(Protocol):
    """Chooses what to grow."""

    def __call__(self, layer: LayerView, kept: Pattern, count: int, rng: Generator) -> Positions:
        """int64 [count]: positions, without repetition, that are free in `kept`."""


def grow_random(layer: LayerView, kept: Pattern, count: int, rng: Generator) -> Positions:
    """Uniform among all free positions, those just dropped included (Mocanu et al. 2018)."""
    return random_free_positions(kept, count, rng)


def random_free_positions(kept: Pattern, count: int, rng: Generator) -> Positions:
    """`count` distinct free positions, uniformly, without listing the free ones.

    Memory is proportional to kept connections and count. The rank-th free position is
    rank + (kept positions before it).
    """
    ranks = distinct_integers(kept.size - kept.connections, count, rng)
    free_before = kept.positions - np.arange(kept.connections)  # free positions before each kept
    return ranks + np.searchsorted(free_before, ranks, side="right")


def distinct_integers(population: int, count: int, rng: Generator) -> Positions:
    """`count` distinct integers of [0, population), uniformly, ascending, in memory O(count).

    Raises:
        ValueError: count exceeds population.
    """
    if count > population:
        raise ValueError(f"{count} distinct integers of {population}")
    if count > population // 2:  # draw what is left out instead
        left_out = distinct_integers(population, population - count, rng)
        return np.setdiff1d(np.arange(population, dtype=np.int64), left_out, assume_unique=True)
    drawn = np.empty(0, np.int64)
    while drawn.size < count:
        more = rng.integers(population, size=count - drawn.size, dtype=np.int64)
        fresh = np.setdiff1d(more, drawn)  # unique, and not drawn before
        drawn = np.union1d(drawn, fresh)
    return drawn
