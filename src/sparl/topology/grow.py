"""Grow rules choose where to add connections. A rule returns `count` free positions."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from sparl.sparse.pattern import Pattern, Positions, union
from sparl.topology.layer_view import LayerView
from sparl.topology.rules import GRADIENT, grow_rule


@grow_rule("random")
def grow_random(layer: LayerView, kept: Pattern, count: int, rng: Generator) -> Positions:
    """Grow at random free positions, which include those just dropped (Mocanu et al. 2018)."""
    return random_free_positions(kept, count, rng)


@grow_rule("gradient", needs={GRADIENT})
def grow_largest_gradient(layer: LayerView, kept: Pattern, count: int, rng: Generator) -> Positions:
    """Grow where |dL/dw| is largest (RigL, Evci et al. 2020).

    Among equal magnitudes, lower positions are preferred. The dense gradient is read in chunks of
    rows, and only the best `count` positions so far are kept, so that the memory in addition to one
    chunk is proportional to the number of connections for layers of any width.

    Raises:
        ValueError: if the layer has no gradient.
        FloatingPointError: if a gradient is not finite.
    """
    if layer.gradient is None:
        raise ValueError(
            "grow_largest_gradient: layer.gradient is None, but the rule needs the gradient"
        )
    chunk_rows = max(1, CHUNK_VALUES // kept.n_in)
    positions = np.empty(0, np.int64)
    scores = np.empty(0, np.float32)
    for first in range(0, kept.n_out, chunk_rows):
        magnitude = np.abs(layer.gradient[first : first + chunk_rows]).reshape(-1)
        if not np.isfinite(magnitude).all():
            raise FloatingPointError("a gradient is not finite")
        start, end = first * kept.n_in, first * kept.n_in + magnitude.size
        inside = slice(*np.searchsorted(kept.positions, (start, end)))
        magnitude[kept.positions[inside] - start] = -1.0  # not free
        best = _largest(magnitude, count)
        best = best[magnitude[best] >= 0]
        positions = np.concatenate([positions, best + start])
        scores = np.concatenate([scores, magnitude[best]])
        best = _largest(scores, count)
        positions, scores = positions[best], scores[best]
    return np.sort(positions)


CHUNK_VALUES = 1 << 20  # maximum entries of the dense gradient per chunk, or one longer row


def _largest(values: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the ascending indices of the `count` largest values.

    Among equal values, lower indices are preferred. If there are fewer values, all indices are
    returned.
    """
    if values.size <= count:
        return np.arange(values.size)
    threshold = np.partition(values, values.size - count)[values.size - count]
    above = np.flatnonzero(values > threshold)
    ties = np.flatnonzero(values == threshold)
    return np.sort(np.concatenate([above, ties[: count - above.size]]))


def random_free_positions(kept: Pattern, count: int, rng: Generator) -> Positions:
    """Draw `count` distinct free positions uniformly, without listing all free positions.

    Memory is proportional to the number of kept connections plus the count. The free position with
    a given rank is the rank plus the number of kept positions before that free position.

    Returns:
        Ascending positions, int64 [count].

    Raises:
        ValueError: if there are fewer than `count` free positions.
    """
    ranks = distinct_integers(kept.size - kept.connections, count, rng)
    free_before = kept.positions - np.arange(kept.connections)  # before each kept position
    return ranks + np.searchsorted(free_before, ranks, side="right")


def distinct_integers(population: int, count: int, rng: Generator) -> Positions:
    """Draw `count` distinct integers from [0, population) uniformly, in ascending order.

    Memory is O(count).

    Raises:
        ValueError: if count exceeds population.
    """
    if count > population:
        raise ValueError(
            f"{count} distinct integers cannot be drawn from a population of {population}"
        )
    if count > population // 2:  # draw the complement instead
        wanted = np.ones(population, np.bool_)
        wanted[distinct_integers(population, population - count, rng)] = False
        return np.flatnonzero(wanted)
    drawn = np.empty(0, np.int64)
    while drawn.size < count:
        more = rng.integers(population, size=count - drawn.size, dtype=np.int64)
        drawn = union(drawn, np.sort(more))  # np.unique's hash table takes minutes for millions
    return drawn
