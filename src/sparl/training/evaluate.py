"""Evaluation: episodes without noise, always from the same starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sparl.networks.mlp import Array
from sparl.random_streams import integer_seed
from sparl.training.environment import Environment


@dataclass(frozen=True)
class Evaluation:
    """Undiscounted return and length [environment steps] of each episode."""

    returns: tuple[float, ...]
    lengths: tuple[int, ...]

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(np.mean(self.returns))

    @property
    def std(self) -> float:
        """Standard deviation of the returns over the episodes (divided by their number)."""
        return float(np.std(self.returns))


def evaluate(
    policy: Callable[[Array], Array], environment: Environment, episodes: int, seed: int
) -> Evaluation:
    """Play `episodes` episodes; episode i starts from (seed, i) whatever was played before.

    Args:
        policy: float32 [B, n_obs] -> [B, n_act] in [-1, 1].
        environment: its state is lost.
        episodes: how many.
        seed: the evaluation seed.
    """
    returns, lengths = [], []
    for episode in range(episodes):
        observation = environment.reset(seed=integer_seed(seed, episode))
        total, length, ended = 0.0, 0, False
        while not ended:
            step = environment.step(policy(observation[np.newaxis])[0])
            observation = step.observation
            total += step.reward
            length += 1
            ended = step.terminated or step.truncated
        returns.append(total)
        lengths.append(length)
    return Evaluation(tuple(returns), tuple(lengths))
