"""TD3: twin delayed deep deterministic policy gradient (Fujimoto et al. 2018, algorithm 1).

DS-TD3 and Static-TD3 (Sokar et al. 2021) are this file with other learners and targets: which
connections exist, and how they change, is not an agent's business.

Departures
    From the TD3 paper, as its authors' later code and Sokar et al. have it:
    * networks 256-256 (the paper: 400-300);
    * L2 weight decay 2e-4 in the gradient of every parameter, biases included;
    * the first 25,000 steps take uniformly random actions (the paper: 10,000 or 1,000).
    From Sokar et al.'s released code:
    * actions are in [-1, 1] everywhere here and are scaled at the environment; there the critic
      sees them in the environment's units (Humanoid: within 0.4);
    * the noise clip and all noises are in units of the scaled action.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from sparl.agents.agent import Agent, Learner, smallest
from sparl.networks.network import Network, PackedInput
from sparl.networks.target import Target
from sparl.random_streams import Normals
from sparl.replay.batch import Batch
from sparl.types import Array


@dataclass(frozen=True)
class TD3Settings:
    """The numbers of the algorithm. Noises are in units of the action scaled to [-1, 1]."""

    tau: float = 0.005
    policy_delay: int = 2  # updates of the critics per update of the actor
    exploration_noise: float = 0.1
    target_noise: float = 0.2
    noise_clip: float = 0.5


class TD3(Agent):
    """An actor, an ensemble of critics (two in the paper), a target of each, and how they learn.

    Args:
        actor_learner: of the actor, [B, n_obs] -> [B, n_act] in (-1, 1).
        critics_learner: of the ensemble of critics, [B, n_obs + n_act] -> [E, B, 1], whose input
            gradient covers the action.
        actor_target: follows the actor.
        critics_target: follows the critics.
        settings: the numbers.
        exploration_rng: stream of the exploration noise.
        target_rng: stream of the target noise.
    """

    parts = (
        "actor", "critics", "actor_learner", "critics_learner", "actor_target", "critics_target",
        "exploration_rng", "target_rng",
    )  # fmt: skip

    def __init__(
        self,
        actor_learner: Learner,
        critics_learner: Learner,
        actor_target: Target,
        critics_target: Target,
        settings: TD3Settings,
        exploration_rng: Generator,
        target_rng: Generator,
    ) -> None:
        self.actor: Network = actor_learner.network
        self.critics: Network = critics_learner.network
        self.actor_learner = actor_learner
        self.critics_learner = critics_learner
        self.actor_target = actor_target
        self.critics_target = critics_target
        self.settings = settings
        self.exploration_rng = Normals(exploration_rng)
        self.target_rng = Normals(target_rng)
        self.updates = 0

    def policy(self, observation: Array) -> Array:
        """A = pi(s): float32 [B, n_act] in (-1, 1) for float32 [B, n_obs]."""
        return self.actor(observation)

    def act(self, observation: Array) -> tuple[Array, Array]:
        """The action to take in a state, [n_obs], and the noise-free one, [n_act] each."""
        noise_free = self.policy(observation[np.newaxis])[0]
        # Exploration: a = clip(pi(s) + eps, -1, 1), eps ~ N(0, sigma)
        noise = self._noise(self.exploration_rng, noise_free, self.settings.exploration_noise)
        return _clip(noise_free + noise, 1), noise_free

    def update(self, batch: Batch) -> dict[str, float]:
        """One update of the critics; every policy_delay-th also of the actor and the targets.

        Returns:
            critic_loss, summed over the critics; q, their mean; actor_loss, where due.
        """
        cfg = self.settings
        self.updates += 1
        observation = PackedInput(batch.observation)
        next_observation = PackedInput(batch.next_observation)

        # Target policy smoothing: a' = clip(pi'(s') + eps, -1, 1), eps = clip(N(0, sigma), -c, c)
        next_action = self.actor_target(next_observation)
        noise = self._noise(self.target_rng, next_action, cfg.target_noise)
        next_action = _clip(next_action + _clip(noise, cfg.noise_clip), 1)

        # Clipped double Q: y = R + discount * min_i Q_i'(s', a')
        next_q = smallest(self.critics_target(next_observation, next_action))
        y = batch.reward + batch.discount * next_q

        # Critics: minimise sum_i mean (Q_i(s, a) - y)^2
        q, trace = self.critics.forward(observation, batch.action)
        error = q - y
        self.critics_learner.step(trace, error * np.float32(2 / len(y)), self.updates)
        record = {
            "critic_loss": float(np.vdot(error, error)) / len(y),
            "q": float(q.sum()) / q.size,
        }

        if self.updates % cfg.policy_delay == 0:
            # Actor: maximise mean Q_1(s, pi(s))
            action, actor_trace = self.actor.forward(observation)
            q1, d_action = self.critics.value_and_input_gradient(
                observation, action, weight=-1 / len(action), member=0
            )
            self.actor_learner.step(actor_trace, d_action, self.updates)
            record["actor_loss"] = -float(q1.sum()) / q1.size

            # Targets: theta' = tau theta + (1 - tau) theta'
            self.actor_target.follow(cfg.tau)
            self.critics_target.follow(cfg.tau)
        return record

    @staticmethod
    def _noise(rng: Normals, like: Array, scale: float) -> Array:
        return rng(*like.shape) * np.float32(scale)


def _clip(values: Array, limit: float) -> Array:
    return np.minimum(np.maximum(values, -limit), limit)
