"""Dynamic-capacity replay: forget old transitions that the policy no longer resembles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sparl.replay.ring_buffer import RingBuffer
from sparl.types import Array


@dataclass(frozen=True)
class DynamicCapacity:
    """RLx2's rule (Tan et al. 2023, section 4.2), as its released code applies it.

    At each check: D = mean over the oldest `probe` transitions and the action's entries of
    (pi(s) - a)^2 / 2, a the stored noise-free action, in [-1, 1]. If D > threshold and there are
    more than `minimum` transitions, the oldest `share` are forgotten, never below `minimum`.

    Attributes:
        minimum: transitions that are always kept.
        probe: oldest transitions that are compared with the policy.
        threshold: of D.
        until_below: forget again and again until D is at most the threshold, as the paper's text
            says; the released code forgets once per check.
        share: of the transitions, forgotten at a time.
    """

    minimum: int
    probe: int = 2048
    threshold: float = 0.2
    until_below: bool = False
    share: float = 0.1

    def distance(self, replay: RingBuffer, policy: Callable[[Array], Array]) -> float:
        """D: how far the policy has moved from what it did in the oldest transitions."""
        rows = replay.rows(np.arange(min(self.probe, replay.size)))
        difference = policy(replay.observation[rows]) - replay.noise_free_action[rows]
        return float((difference**2).mean() / 2)

    def apply(self, replay: RingBuffer, policy: Callable[[Array], Array]) -> float:
        """Check once and forget where due; returns the D that the check began with."""
        first = distance = self.distance(replay, policy)
        while distance > self.threshold:
            count = min(int(self.share * replay.size), replay.size - self.minimum)
            if count <= 0:
                break
            replay.forget(count)
            if not self.until_below:
                break
            distance = self.distance(replay, policy)
        return first
