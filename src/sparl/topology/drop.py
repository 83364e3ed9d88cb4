"""Drop rules choose the connections to remove. A rule maps a layer and a count to indices."""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from sparl.topology.density import round_half_up
from sparl.topology.layer_view import LayerView
from sparl.topology.rules import Indices, drop_rule


def round_down(x: float) -> int:
    """Round x >= 0 down to an integer.

    A product such as 0.57 x 100, whose floating-point value is 56.99999999999999, becomes 57.
    """
    return math.floor(round(x, 9))


@drop_rule("smallest", rounding=round_down)
def drop_smallest(layer: LayerView, count: int, rng: Generator) -> Indices:
    """Drop the `count` weights of smallest magnitude (RigL, RLx2).

    Among equal magnitudes, those at lower canonical positions are dropped first. For N connections,
    the count is floor(fraction N), as in RLx2's released code.
    """
    return _smallest(np.abs(layer.weights), count)


@drop_rule("nearest_zero_of_each_sign", removes_dead_links=True)
def drop_nearest_zero_of_each_sign(layer: LayerView, count: int, rng: Generator) -> Indices:
    """Drop the positive and the negative weights nearest zero, as in DS and SET.

    See Mocanu et al. 2018. For L live connections, the count is round(fraction L). The count is
    divided between positive and negative weights in proportion to their numbers. Among equal
    weights, those at lower canonical positions are dropped first. Dead links, whose weight is
    exactly 0, are also removed, before this rule is called.
    """
    w = layer.weights
    positive, negative = np.flatnonzero(w > 0), np.flatnonzero(w < 0)
    of_positive = round_half_up(count * positive.size / max(w.size, 1))
    return np.concatenate(
        [
            positive[_smallest(w[positive], of_positive)],
            negative[_smallest(-w[negative], count - of_positive)],
        ]
    )


def _smallest(values: NDArray[np.float32], count: int) -> Indices:
    """Return, in linear time, the indices of the `count` smallest values.

    Among equal values, lower indices are preferred.
    """
    if count <= 0:
        return np.empty(0, np.int64)
    threshold = np.partition(values, count - 1)[count - 1]
    below = np.flatnonzero(values < threshold)
    ties = np.flatnonzero(values == threshold)
    return np.concatenate([below, ties[: count - below.size]])
