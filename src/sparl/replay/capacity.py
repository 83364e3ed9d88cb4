"""Dynamic-capacity replay: forget old transitions that the policy no longer resembles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sparl.replay.batch import Array
from sparl.replay.ring_buffer import RingBuffer


@dataclass(frozen=True)
class DynamicCapacity:
    """RLx2's rule (Tan et al. 2023, section 4.2), as its released code applies it.

    Every `check_every_env_steps`: D = mean over the oldest `probe` transitions and the action's
    entries of (pi(s) - a)^2 / 2, a the stored noise-free action, in [-1, 1]. If D > threshold
    and there are more than `minimum` transitions, the oldest `share` are forgotten, never below
    `minimum`.
    """

    minimum: int
    check_every_env_steps: int = 10_000
    threshold: float = 0.2
    share: float = 0.1
    probe: int = 2048

    def distance(self, replay: RingBuffer, policy: Callable[[Array], Array]) -> float:
        """D: how far the policy has moved from what it did in the oldest transitions."""
        rows = replay.rows(np.arange(min(self.probe, replay.size)))
        difference = policy(replay.observation[rows]) - replay.noise_free_action[rows]
        return float((difference**2).mean() / 2)

    def apply(self, replay: RingBuffer, policy: Callable[[Array], Array]) -> float:
        """Check once and forget where due; returns D."""
        distance = self.distance(replay, policy)
        if distance > self.threshold and replay.size > self.minimum:
            replay.forget(min(int(self.share * replay.size), replay.size - self.minimum))
        return distance
