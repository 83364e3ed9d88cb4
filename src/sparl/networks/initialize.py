"""Draw the initial parameters of networks."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from sparl.networks.layout import Layout
from sparl.types import Array


def uniform_fan_in(layout: Layout, rng: Generator) -> Array:
    """Draw weights and biases uniformly from [-1/sqrt(n_in), 1/sqrt(n_in)].

    n_in is the number of inputs of the layer, regardless of its density. TD3's released code has
    the same bound (PyTorch's default for linear layers). The weights of a sparse layer are not
    rescaled (Sokar et al. 2021).

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
    """Draw weights uniformly from [-b, b], where b = sqrt(6 / (n_in + n_out)); biases are 0.

    n_in and n_out are the sizes of the layer, regardless of its density.

    Returns:
        float32 [layout.parameters].
    """
    flat = np.zeros(layout.parameters, np.float32)
    for place, pattern in layout:
        bound = xavier_bound(pattern.n_in, pattern.n_out)
        weights = rng.uniform(-bound, bound, pattern.connections).astype(np.float32)
        layout.write(flat, place, weights)
    return flat


def orthogonal(layout: Layout, rng: Generator) -> Array:
    """Draw matrices with orthonormal rows or columns (Saxe et al. 2014); biases are 0.

    The weights of a sparse layer are the entries of a dense matrix [n_out, n_in] at the positions
    of the existing connections.

    Returns:
        float32 [layout.parameters].
    """
    flat = np.zeros(layout.parameters, np.float32)
    for place, pattern in layout:
        matrix = orthogonal_matrix(pattern.n_in, pattern.n_out, rng)
        layout.write(flat, place, matrix.reshape(-1)[pattern.positions])
    return flat


def fan_in_bound(n_in: int, n_out: int) -> float:
    """Return 1 / sqrt(n_in)."""
    return float(1 / np.sqrt(n_in))


def xavier_bound(n_in: int, n_out: int) -> float:
    """Return sqrt(6 / (n_in + n_out))."""
    return float(np.sqrt(6 / (n_in + n_out)))


def orthogonal_matrix(n_in: int, n_out: int, rng: Generator) -> Array:
    """Draw a uniformly distributed matrix with orthonormal rows or columns.

    Returns:
        float32 [n_out, n_in].
    """
    tall = rng.standard_normal((max(n_in, n_out), min(n_in, n_out)))
    q, r = np.linalg.qr(tall)
    q = q * np.sign(np.diag(r))  # makes the distribution uniform
    return np.ascontiguousarray(q if n_out >= n_in else q.T, np.float32)
