"""Dynamic-capacity replay: forget old transitions if the policy has changed too much."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sparl.replay.ring_buffer import RingBuffer
from sparl.types import Array

_SHARE = 0.1  # fraction of the transitions that is forgotten each time


@dataclass(frozen=True)
class DynamicCapacity:
    """RLx2's dynamic-capacity replay (Tan et al. 2023, section 4.2), as in its released code.

    Each call of `apply` computes the policy distance D: the mean of (pi(s) - a)^2 / 2 over the
    oldest `probe` transitions and over the entries of an action, where a is the stored noise-free
    action in [-1, 1]. If D > threshold, the oldest tenth of the transitions is forgotten, but at
    least `minimum` transitions are kept. `sparl.build.capacity_rule` creates the rule that a
    configuration describes.

    Attributes:
        minimum: number of transitions that are always kept.
        probe: number of the oldest transitions, from which D is computed.
        threshold: the value of D above which transitions are forgotten.
        until_below: whether to forget repeatedly until D is at most the threshold, as in the
            paper's text; the released code forgets once per call.
    """

    minimum: int
    probe: int
    threshold: float
    until_below: bool

    def distance(self, replay: RingBuffer, policy: Callable[[Array], Array]) -> float:
        """Return D, the distance of the policy from the actions in the oldest transitions.

        Args:
            replay: the replay buffer, created with keep_noise_free=True.
            policy: maps observations, float32 [B, n_obs], to noise-free actions, float32
                [B, n_act], for example Agent.policy.

        Raises:
            ValueError: if the replay buffer was created without keep_noise_free.
        """
        if not replay.keep_noise_free:
            raise ValueError(
                "the replay buffer does not store the noise-free actions that the distance needs; "
                "create it with keep_noise_free=True"
            )
        rows = replay.rows(np.arange(min(self.probe, replay.size)))
        difference = policy(replay.observation[rows]) - replay.noise_free_action[rows]
        return float((difference**2).mean() / 2)

    def apply(self, replay: RingBuffer, policy: Callable[[Array], Array]) -> float:
        """Forget old transitions if D exceeds the threshold; return D before forgetting.

        The arguments and errors are those of `distance`.
        """
        first = distance = self.distance(replay, policy)
        while distance > self.threshold:
            count = min(int(_SHARE * replay.size), replay.size - self.minimum)
            if count <= 0:
                break
            replay.forget(count)
            if not self.until_below:
                break
            distance = self.distance(replay, policy)
        return first
