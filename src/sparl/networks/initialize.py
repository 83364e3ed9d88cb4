"""Initial parameters."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from sparl.networks.mlp import Array, Layout


def uniform_fan_in(layout: Layout, rng: Generator) -> Array:
    """Weights and biases uniform within 1/sqrt(n_in), n_in the layer's full number of inputs.

    The bound of TD3's released code (PyTorch's default for linear layers). A sparse layer draws
    the same distribution for its existing connections and is not rescaled (Sokar et al. 2021).

    Returns:
        float32 [layout.parameters].
    """
    flat = np.empty(layout.parameters, np.float32)
    for place, pattern in layout:
        bound = 1 / np.sqrt(pattern.n_in)
        weights = rng.uniform(-bound, bound, pattern.connections).astype(np.float32)
        layout.write(flat, place, weights)
        flat[layout.biases_slice(place)] = rng.uniform(-bound, bound, pattern.n_out)
    return flat
