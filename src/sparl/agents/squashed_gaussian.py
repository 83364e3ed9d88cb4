"""The squashed Gaussian policy a = tanh(u), u ~ N(mean, std), with its gradients by hand.

Haarnoja et al. 2018, appendix C. Everything is elementwise over [B, n_act] but the log-density,
which is summed over the action: [B, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
LogStdRule = Literal["clamp", "tanh"]

LOG_STD_RANGES: dict[LogStdRule, tuple[float, float]] = {"clamp": (-20.0, 2.0), "tanh": (-5.0, 2.0)}


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


def log_std(head: Array, rule: LogStdRule) -> tuple[Array, Array]:
    """log_std from the network's second head, and its derivative.

    clamp: min(max(x, -20), 2). tanh: -5 + 3.5 (tanh(x) + 1), between -5 and 2 (RLx2).
    """
    low, high = LOG_STD_RANGES[rule]
    if rule == "clamp":
        inside = (head >= low) & (head <= high)
        return head.clip(low, high), inside.astype(np.float32)
    t = np.tanh(head)
    half = np.float32((high - low) / 2)
    return np.float32(low) + half * (t + 1), half * (1 - t * t)


def sample(mean: Array, head: Array, noise: Array, rule: LogStdRule) -> Sample:
    """A = tanh(mean + std eps) and log pi(a).

    log pi(a) = sum_j [-eps_j^2 / 2 - log_std_j - log(2 pi) / 2 - log(1 - tanh(u_j)^2)], with
    log(1 - tanh(u)^2) = 2 (log 2 - |u| - log(1 + exp(-2 |u|))), which stays finite for any u.

    Args:
        mean: [B, n_act].
        head: [B, n_act], the network's second head.
        noise: [B, n_act], standard normal.
        rule: how log_std follows from the head.
    """
    log_sigma, slope = log_std(head, rule)
    std = np.exp(log_sigma)
    u = mean + std * noise
    size = np.abs(u)
    log_squash = 2 * (np.float32(np.log(2)) - size - np.log(1 + np.exp(-2 * size)))
    log_normal = -0.5 * noise * noise - log_sigma - np.float32(0.5 * np.log(2 * np.pi))
    log_density = (log_normal - log_squash).sum(axis=-1, keepdims=True)
    return Sample(np.tanh(u), log_density, noise, std, slope)


def gradients(drawn: Sample, d_action: Array, d_log_density: Array) -> tuple[Array, Array]:
    """dL/d mean and dL/d head, with the noise held fixed (the reparameterisation trick).

    d a / d u = 1 - a^2;  d log pi / d u = 2 a;  d u / d mean = 1;  d u / d log_std = std eps;
    d log pi / d log_std = -1 besides what goes through u.

    Args:
        drawn: from sample.
        d_action: [B, n_act], dL/d a.
        d_log_density: [B, 1], dL/d log pi.
    """
    a = drawn.action
    d_u = d_action * (1 - a * a) + d_log_density * 2 * a
    d_log_std = d_u * drawn.std * drawn.noise - d_log_density
    return d_u, d_log_std * drawn.slope
