"""The squashed Gaussian policy a = tanh(u), u ~ N(mean, std), with its gradients by hand.

Haarnoja et al. 2018, appendix C. Everything is elementwise over [B, n_act] but the log-density,
which is summed over the action: [B, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sparl import _native
from sparl.types import Array

LogStdRule = Literal["clamp", "tanh"]


@dataclass(frozen=True, eq=False)
class Sample:
    """Actions drawn, their log-densities, and what the gradient needs.

    Attributes:
        action: [B, n_act], in (-1, 1) up to rounding.
        log_density: [B, 1], log pi(a | s).
        noise: [B, n_act], the standard normal draws.
        std: [B, n_act].
        slope: [B, n_act], d log_std / d head.
    """

    action: Array
    log_density: Array
    noise: Array
    std: Array
    slope: Array


def sample(
    heads: Array, noise: Array, rule: LogStdRule, pool: _native.Pool | None = None
) -> Sample:
    """A = tanh(mean + std eps) and log pi(a).

    log_std = min(max(head, -20), 2) ("clamp"), or -5 + 3.5 (tanh(head) + 1), between -5 and 2
    ("tanh", RLx2).

    log pi(a) = sum_j [-eps_j^2 / 2 - log_std_j - log(2 pi) / 2 - log(1 - tanh(u_j)^2)], with
    log(1 - tanh(u)^2) = 2 (log 2 - |u| - log(1 + exp(-2 |u|))), which stays finite for any u.

    Args:
        heads: [B, 2 n_act], the network's output: means, then what log_std follows from.
        noise: [B, n_act], standard normal.
        rule: how log_std follows from its head.
        pool: the threads that compute; None: the default pool's.
    """
    action, log_density, std, slope = _native.squashed_normal(heads, noise, rule == "tanh", pool)
    return Sample(action, log_density, noise, std, slope)


def gradient(drawn: Sample, d_action: Array, d_log_density: float) -> Array:
    """dL/d heads, [B, 2 n_act], with the noise held fixed (the reparameterisation trick).

    d a / d u = 1 - a^2;  d log pi / d u = 2 a;  d u / d mean = 1;  d u / d log_std = std eps;
    d log pi / d log_std = -1 besides what goes through u.

    Args:
        drawn: from sample.
        d_action: float32 [B, n_act], dL/d a.
        d_log_density: dL/d log pi, the same for all.

    Raises:
        ValueError, TypeError: shapes or dtypes do not fit.
    """
    return _native.squashed_normal_gradient(
        drawn.action, drawn.std, drawn.noise, drawn.slope, d_action, d_log_density
    )
