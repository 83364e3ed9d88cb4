"""The pattern a layer starts with."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from sparl.sparse.pattern import Pattern
from sparl.topology.grow import random_free_positions


def random_pattern(n_in: int, n_out: int, connections: int, rng: Generator) -> Pattern:
    """Exactly `connections` of them, uniformly at random: growth from nothing."""
    empty = Pattern(n_in, n_out, np.empty(0, np.int64))
    return Pattern(n_in, n_out, random_free_positions(empty, connections, rng))


def largest_of_uniform(
    n_in: int, n_out: int, connections: int, bound: float, rng: Generator
) -> tuple[Pattern, NDArray[np.float32]]:
    """The `connections` largest magnitudes of a uniform initialisation, and their values.

    RLx2's released code draws all n_in n_out weights and keeps the largest of them. This draws
    the same distribution without the others: which positions they are is uniform, and their
    magnitudes are the top order statistics of as many uniform draws, one below the other.

    Args:
        n_in: inputs.
        n_out: outputs.
        connections: how many to keep.
        bound: the weights are uniform within it.
        rng: the stream.
    """
    pattern = random_pattern(n_in, n_out, connections, rng)
    # The largest of k uniforms on [0, 1] is u^(1/k); below it the others are uniform again.
    remaining = n_in * n_out - np.arange(connections)
    magnitudes = bound * np.exp(np.cumsum(np.log1p(-rng.random(connections)) / remaining))
    rng.shuffle(magnitudes)
    signs = np.where(rng.random(connections) < 0.5, -1.0, 1.0)
    return pattern, (signs * magnitudes).astype(np.float32)


def largest_of_matrix(matrix: NDArray[np.float32], connections: int) -> Pattern:
    """The positions of the `connections` largest magnitudes of [n_out, n_in], ties by position."""
    magnitudes = np.abs(matrix).reshape(-1)
    order = np.argsort(-magnitudes, kind="stable")[:connections]
    n_out, n_in = matrix.shape
    return Pattern(n_in, n_out, np.sort(order))
