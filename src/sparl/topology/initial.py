"""Choose the initial pattern of a layer."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from sparl.sparse.pattern import Pattern
from sparl.topology.grow import random_free_positions


def random_pattern(n_in: int, n_out: int, connections: int, rng: Generator) -> Pattern:
    """Draw a pattern with exactly `connections` connections, uniformly at random.

    Raises:
        ValueError: if the layer has fewer positions.
    """
    empty = Pattern(n_in, n_out, np.empty(0, np.int64))
    return Pattern(n_in, n_out, random_free_positions(empty, connections, rng))


def largest_of_uniform(
    n_in: int, n_out: int, connections: int, bound: float, rng: Generator
) -> tuple[Pattern, NDArray[np.float32]]:
    """Draw the largest weights of a uniform initialisation.

    RLx2's released code draws all n_in * n_out weights and keeps those of largest magnitude. This
    function samples the kept weights directly, from the same distribution: positions are uniform,
    and magnitudes are the largest order statistics of n_in * n_out uniform draws.

    Args:
        n_in: number of inputs.
        n_out: number of outputs.
        connections: number of weights to keep.
        bound: bound of the initial weights, which are uniform in [-bound, bound].
        rng: the random generator.

    Returns:
        The pattern and the weights of its connections, float32 [connections].

    Raises:
        ValueError: if the layer has fewer positions.
    """
    pattern = random_pattern(n_in, n_out, connections, rng)
    # The maximum of k uniform draws from [0, 1] is distributed like u^(1/k) with a uniform u; given
    # the maximum, the other k - 1 draws are uniform below it.
    remaining = n_in * n_out - np.arange(connections)
    magnitudes = bound * np.exp(np.cumsum(np.log1p(-rng.random(connections)) / remaining))
    rng.shuffle(magnitudes)
    signs = np.where(rng.random(connections) < 0.5, -1.0, 1.0)
    return pattern, (signs * magnitudes).astype(np.float32)


def largest_of_matrix(matrix: NDArray[np.float32], connections: int) -> Pattern:
    """Return the pattern of the `connections` largest magnitudes in a matrix [n_out, n_in].

    Among equal magnitudes, lower positions are preferred.
    """
    magnitudes = np.abs(matrix).reshape(-1)
    order = np.argsort(-magnitudes, kind="stable")[:connections]
    n_out, n_in = matrix.shape
    return Pattern(n_in, n_out, np.sort(order))
