"""Initial parameters."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from sparl.networks.layout import Layout
from sparl.types import Array


def uniform_fan_in(layout: Layout, rng: Generator) -> Array:
    """Weights and biases uniform within 1/sqrt(n_in), n_in the layer's full number of inputs.

    The bound of TD3's released code (PyTorch's default for linear layers). A sparse layer draws
    the same distribution for its existing connections and is not rescaled (Sokar et al. 2021).

    Returns:
        float32 [layout.parameters].
    """
    flat = np.empty(layout.parameters, np.float32)
    for block in layout.blocks.values():
        layer = layout.spec.layers[block.place[1]]
        bound = fan_in_bound(layer.n_in, layer.n_out)
        values = rng.uniform(-bound, bound, block.size).astype(np.float32)
        layout.write_block(flat, block, values)
    return flat


def xavier_uniform(layout: Layout, rng: Generator) -> Array:
    """Weights uniform within sqrt(6 / (n_in + n_out)), of the full layer; biases 0."""
    flat = np.zeros(layout.parameters, np.float32)
    for place, pattern in layout:
        bound = xavier_bound(pattern.n_in, pattern.n_out)
        weights = rng.uniform(-bound, bound, pattern.connections).astype(np.float32)
        layout.write(flat, place, weights)
    return flat


def orthogonal(layout: Layout, rng: Generator) -> Array:
    """Matrices with orthonormal rows or columns (Saxe et al. 2014), existing connections kept.

    Biases are 0. Needs each matrix once in full, [n_out, n_in].
    """
    flat = np.zeros(layout.parameters, np.float32)
    for place, pattern in layout:
        matrix = orthogonal_matrix(pattern.n_in, pattern.n_out, rng)
        layout.write(flat, place, matrix.reshape(-1)[pattern.positions])
    return flat


def fan_in_bound(n_in: int, n_out: int) -> float:
    """1/sqrt(n_in)."""
    return float(1 / np.sqrt(n_in))


def xavier_bound(n_in: int, n_out: int) -> float:
    """sqrt(6 / (n_in + n_out))."""
    return float(np.sqrt(6 / (n_in + n_out)))


def orthogonal_matrix(n_in: int, n_out: int, rng: Generator) -> Array:
    """float32 [n_out, n_in], uniform over matrices with orthonormal rows or columns."""
    tall = rng.standard_normal((max(n_in, n_out), min(n_in, n_out)))
    q, r = np.linalg.qr(tall)
    q = q * np.sign(np.diag(r))  # makes the distribution uniform
    return np.ascontiguousarray(q if n_out >= n_in else q.T, np.float32)
