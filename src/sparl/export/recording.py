"""Observations as the policy meets them, to check exports on."""

from __future__ import annotations

import numpy as np

from sparl.configuration import Config
from sparl.export.policy import Policy
from sparl.networks.mlp import Array
from sparl.training.environment import make_environment
from sparl.training.evaluate import Evaluator

EPISODES = 3


def record(config: Config, policy: Policy) -> Array:
    """Observations of the first evaluation episodes, float32 [B, n_obs].

    Raises:
        EnvironmentFault: the environment raised, or returned what it must not.
    """
    met: list[Array] = []

    def recorded(observations: Array) -> Array:
        met.append(observations)
        return policy(observations)

    evaluator = Evaluator(lambda: make_environment(config), EPISODES, config.evaluation_seed)
    try:
        evaluator.evaluate(recorded)
    finally:
        evaluator.close()
    return np.concatenate(met)
