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

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparl.agents.action_head import DETERMINISTIC
from sparl.agents.agent import Agent, smallest
from sparl.agents.network_role import NetworkRole, NetworkSize, critics_role
from sparl.networks.network import PackedInput
from sparl.random_streams import Normals
from sparl.replay.batch import Batch
from sparl.types import Array


@dataclass(frozen=True)
class TD3Settings:
    """The numbers of the algorithm. Noises are in units of the action scaled to [-1, 1]."""

    critics: int = 2
    tau: float = 0.005
    policy_delay: int = 2  # updates of the critics per update of the actor
    exploration_noise: float = 0.1
    target_noise: float = 0.2
    noise_clip: float = 0.5


class TD3(Agent):
    """An actor, an ensemble of critics (two in the paper), and a target of each."""

    settings: TD3Settings
    settings_type = TD3Settings
    head = DETERMINISTIC

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.actor_learner = self.learners["actor"]
        self.critics_learner = self.learners["critics"]
        self.critics = self.critics_learner.network
        self.actor_target = self.targets["actor"]
        self.critics_target = self.targets["critics"]

    @classmethod
    def network_roles(cls, settings: TD3Settings, n_obs: int, n_act: int) -> dict[str, NetworkRole]:
        """Return pi(s), [B, n_obs] -> [B, n_act], and Q(s, a), [B, n_obs + n_act] -> [E, B, 1]."""
        actor = NetworkRole(
            n_obs, n_act, "actor", "tanh", target=True, update_period=settings.policy_delay,
            first_gradient_input=n_obs,
        )  # fmt: skip
        return {"actor": actor, "critics": critics_role(n_obs, n_act, settings.critics)}

    @classmethod
    def multiply_adds(
        cls, settings: TD3Settings, sizes: Mapping[str, NetworkSize], n_act: int, n_step: int
    ) -> float:
        """Count the multiply-adds of one update, per sample of the batch.

        Counted: both targets' passes, the critics' pass and gradients, and every policy_delay
        updates the actor's pass and gradients and what they need of the first critic: its pass,
        and its input gradient for the action alone. The leftovers (about 4 %) in DS's targets are
        not.
        """
        actor, critic, n = sizes["actor"], sizes["critics"], settings.critics
        q, a = critic.connections, actor.connections
        critic_update = a + n * q + n * (q + q + critic.deep_connections)
        first_critic = q + critic.deep_connections
        actor_update = a + first_critic + critic.of_inputs(n_act) + a + actor.deep_connections
        return critic_update + actor_update / settings.policy_delay

    def act(self, observation: Array) -> tuple[Array, Array]:
        """The action to take in a state, [n_obs], and the noise-free one, [n_act] each."""
        noise_free = self.actor(observation[np.newaxis])[0]
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
