"""Which connections go. A rule takes a layer and a count and returns indices of connections."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from sparl.topology.density import round_half_up
from sparl.topology.layer_view import LayerView

Indices = NDArray[np.int64]


class DropRule(Protocol):
    """Chooses what to drop."""

    def __call__(self, layer: LayerView, count: int, rng: Generator) -> Indices:
        """int64 [count]: indices, without repetition, into the layer's connections."""


def drop_smallest(layer: LayerView, count: int, rng: Generator) -> Indices:
    """The `count` weights of smallest magnitude, ties by canonical position."""
    return _smallest(np.abs(layer.weights), count)


def drop_nearest_zero_of_each_sign(layer: LayerView, count: int, rng: Generator) -> Indices:
    """SET's rule (Mocanu et al. 2018) as DS uses it: dead links, then the smallest of each sign.

    Weights that are exactly 0 go first. The rest of the count is shared between positive and
    negative weights in proportion to their numbers; of each sign those nearest zero go, ties by
    canonical position.
    """
    w = layer.weights
    zeros, positive, negative = (np.flatnonzero(s) for s in (w == 0, w > 0, w < 0))
    rest = count - min(count, zeros.size)
    signed = positive.size + negative.size
    of_positive = round_half_up(rest * positive.size / signed) if signed else 0
    return np.concatenate(
        [
            zeros[:count],
            positive[_smallest(w[positive], of_positive)],
            negative[_smallest(-w[negative], rest - of_positive)],
        ]
    )


def _smallest(values: NDArray[np.float32], count: int) -> Indices:
    """Indices of the `count` smallest values, ties by index, in linear time."""
    if count <= 0:
        return np.empty(0, np.int64)
    threshold = np.partition(values, count - 1)[count - 1]
    below = np.flatnonzero(values < threshold)
    ties = np.flatnonzero(values == threshold)
    return np.concatenate([below, ties[: count - below.size]])
