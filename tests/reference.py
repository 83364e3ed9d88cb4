"""Compute the results of the kernels in NumPy, in the precision of the inputs.

Weights are dense [n_out, n_in] matrices with zeros where there is no connection.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparl.sparse.pattern import Pattern

Float = NDArray[np.float64]


def to_dense(pattern: Pattern, values: NDArray[np.floating]) -> Float:
    """Return [n_out, n_in] from one value per connection in canonical order."""
    dense = np.zeros(pattern.size)
    dense[pattern.positions] = values
    return dense.reshape(pattern.n_out, pattern.n_in)


def from_dense(pattern: Pattern, dense: Float) -> Float:
    """Return one value per connection, [N], from [n_out, n_in]."""
    return dense.reshape(-1)[pattern.positions]


def product(w: Float, bias: Float, x: Float) -> Float:
    """Return y = x W^T + b, [B, n_out], for x [B, n_in]."""
    return x @ w.T + bias


def weight_gradient(pattern: Pattern, dy: Float, x: Float) -> Float:
    """Return g[k] = sum_b dy[b, output_k] x[b, input_k], [N]."""
    return from_dense(pattern, dy.T @ x)


def input_gradient(w: Float, dy: Float) -> Float:
    """Return dx = dy W, [B, n_in]."""
    return dy @ w


def relu(x: Float) -> Float:
    """Return max(x, 0); NaN stays NaN."""
    return np.where(x < 0, 0, x)


def adam(
    p: Float, g: Float, m: Float, v: Float, step: int, lr: float, decay: float,
    beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8,
) -> tuple[Float, Float, Float]:  # fmt: skip
    """Return p, m and v after one Adam step with L2 in the gradient.

    See Kingma & Ba 2015, algorithm 1.
    """
    g = g + decay * p
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    m_hat, v_hat = m / (1 - beta1**step), v / (1 - beta2**step)
    return p - lr * m_hat / (np.sqrt(v_hat) + epsilon), m, v


def keep_largest(values: Float, count: int) -> Float:
    """Set all but the `count` largest magnitudes to 0; of equal ones, keep the later ones."""
    out = values.copy()
    order = np.argsort(np.abs(values.reshape(-1)), kind="stable")
    out.reshape(-1)[order[: max(values.size - count, 0)]] = 0
    return out
