"""The squashed Gaussian policy a = tanh(u), u ~ N(mean, std), and its analytic gradients.

See Haarnoja et al. 2018, appendix C. All operations are elementwise over [B, n_act], except that
the log-density is summed over the entries of an action, which gives [B, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sparl import _native
from sparl.types import Array

LogStdRule = Literal["clamp", "tanh"]


@dataclass(frozen=True, eq=False)
class Sample:
    """Sampled actions, their log-densities, and the values that the gradient needs; all float32.

    Attributes:
        action: [B, n_act], in (-1, 1) up to rounding.
        log_density: [B, 1], log pi(a | s).
        noise: [B, n_act], the standard normal draws.
        std: [B, n_act].
        slope: [B, n_act], d log_std / d head; head is the unbounded log_std.
    """

    action: Array
    log_density: Array
    noise: Array
    std: Array
    slope: Array


def sample(
    heads: Array, noise: Array, rule: LogStdRule, pool: _native.Pool | None = None
) -> Sample:
    """Sample actions a = tanh(mean + std eps) and compute log pi(a).

    log_std is min(max(head, -20), 2) for the rule "clamp". For the rule "tanh", from RLx2, it is
    -5 + 3.5 (tanh(head) + 1), between -5 and 2.

    log pi(a) = sum_j [-eps_j^2 / 2 - log_std_j - log(2 pi) / 2 - log(1 - tanh(u_j)^2)], with
    log(1 - tanh(u)^2) = 2 (log 2 - |u| - log(1 + exp(-2 |u|))), which is finite for every u.

    Args:
        heads: float32 [B, 2 n_act], the network's outputs: the means, then the unbounded log_std.
        noise: float32 [B, n_act], the standard normal draws eps.
        rule: the rule that bounds log_std.
        pool: the thread pool; None means the calling thread only.

    Raises:
        ValueError, TypeError: if shapes or dtypes do not match.
    """
    action, log_density, std, slope = _native.squashed_normal(heads, noise, rule == "tanh", pool)
    return Sample(action, log_density, noise, std, slope)


def gradient(drawn: Sample, d_action: Array, d_log_density: float) -> Array:
    """Compute dL/d heads, float32 [B, 2 n_act], for fixed noise (the reparameterisation trick).

    d a / d u = 1 - a^2;  d log pi / d u = 2 a;  d u / d mean = 1;  d u / d log_std = std eps;
    d log pi / d log_std = -1 in addition to the effect of log_std through u.

    Args:
        drawn: the value returned by sample.
        d_action: float32 [B, n_act], dL/d a.
        d_log_density: dL/d log pi, the same for all samples.

    Raises:
        ValueError, TypeError: if shapes or dtypes do not match.
    """
    return _native.squashed_normal_gradient(
        drawn.action, drawn.std, drawn.noise, drawn.slope, d_action, d_log_density
    )
