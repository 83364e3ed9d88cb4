"""TD3: twin delayed deep deterministic policy gradient (Fujimoto et al. 2018, algorithm 1).

Static- and DS-TD3 (Sokar et al. 2021) and SS-, SET-, RigL-, RLx2- and Tiny-TD3 (Tan et al. 2023)
use this file with different learners, targets and batches. The agent does not know which
connections of its networks exist or when the connections change.

Departures
    From the TD3 paper, in all methods, following its authors' later code:
    * The hidden layers have 256 units each (the paper: 400 and 300).
    * The first 25,000 steps take uniformly random actions (the paper: 10,000 or 1,000).
    * Actions with noise are clipped to [-1, 1]; algorithm 1 does not state this.
    From the TD3 paper, with the settings "ds" (TD3, Static-TD3, DS-TD3), following Sokar et al.:
    * The gradient of every parameter, biases included, contains L2 weight decay of 2e-4.
    From the TD3 paper, with the settings "rlx2" (the other methods), following Tan et al.:
    * Batches have 256 transitions and the learning rate is 3e-4 (the paper: 100 and 1e-3).
    * Targets may have n steps (RLx2-TD3): y = R + discount min_i Q_i'(s', a'), where R, discount
      and s' are those of a window of m <= n steps. For n = 1 this is the target of the TD3 paper.
    From Sokar et al.'s released code, in all methods:
    * Actions are in [-1, 1], and only the environment scales them to its bounds. In the released
      code, the critic reads actions in the environment's units (Humanoid: at most 0.4).
    * The noise clip and all noises are in units of the action in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike

from sparl.agents.action_head import DETERMINISTIC
from sparl.agents.agent import Agent, Learner, critics_spec, smallest
from sparl.networks.network import PackedInput
from sparl.networks.spec import NetworkSpec, mlp
from sparl.networks.target import Target
from sparl.random_streams import Normals
from sparl.replay.batch import Batch
from sparl.types import Array


@dataclass(frozen=True)
class TD3Settings:
    """Hyperparameters of TD3; noises are in units of the action in [-1, 1]."""

    critics: int
    tau: float
    policy_delay: int  # updates of the critics per update of the actor
    exploration_noise: float
    target_noise: float
    noise_clip: float


class TD3(Agent):
    """A deterministic actor, an ensemble of critics (two in the paper), and a target of each."""

    settings: TD3Settings
    settings_type = TD3Settings
    head = DETERMINISTIC
    metrics = ("critic_loss", "actor_loss", "q")
    main_metrics = ("critic_loss", "q")

    def __init__(
        self,
        learners: Mapping[str, Learner],
        targets: Mapping[str, Target],
        settings: TD3Settings,
        exploration_rng: Generator,
        target_rng: Generator,
    ) -> None:
        super().__init__(learners, targets, settings, exploration_rng, target_rng)
        self.actor_learner = self.learners["actor"]
        self.critics_learner = self.learners["critics"]
        self.critics = self.critics_learner.network
        self.actor_target = self.targets["actor"]
        self.critics_target = self.targets["critics"]

    @classmethod
    def network_specs(
        cls, settings: TD3Settings, hidden: Sequence[int], n_obs: int, n_act: int
    ) -> dict[str, NetworkSpec]:
        """Return the specs of the actor, pi(s), and the critics, Q_i(s, a).

        For a batch of B, the actor maps [B, n_obs] to [B, n_act], and the E critics map
        [B, n_obs + n_act] to [E, B, 1].
        """
        actor = NetworkSpec(
            mlp((n_obs, *hidden, n_act), cls.head.output), label="actor", target=True,
            update_period=settings.policy_delay, first_gradient_input=n_obs,
        )  # fmt: skip
        return {"actor": actor, "critics": critics_spec(hidden, n_obs, n_act, settings.critics)}

    @classmethod
    def multiply_adds(
        cls, settings: TD3Settings, specs: Mapping[str, NetworkSpec], n_act: int, n_step: int
    ) -> float:
        """Count the multiply-adds of one update, per sample of the batch.

        Every update includes the forward passes of both targets and the forward pass and gradients
        of the critics. Every policy_delay-th update adds the forward pass and gradients of the
        actor, the forward pass of the first critic, and the gradient of that critic with respect to
        the action.
        The leftover connections in DS's targets (about 4 %) are not counted.
        """
        actor, critic, n = specs["actor"], specs["critics"], settings.critics
        q, a = critic.connections, actor.connections
        critic_update = a + n * q + n * (q + q + critic.deep_connections)
        first_critic = q + critic.deep_connections
        actor_update = a + first_critic + critic.of_inputs(n_act) + a + actor.deep_connections
        return critic_update + actor_update / settings.policy_delay

    def act(self, observation: ArrayLike) -> tuple[Array, Array]:
        """Return an exploratory and a noise-free action in [-1, 1], float32 [n_act] each.

        Args:
            observation: [n_obs], of any real dtype; it is converted to float32.

        Raises:
            ValueError: if the observation has the wrong shape.
        """
        noise_free = self.actor(self.batch_of_one(observation))[0]
        # Exploration: a = clip(pi(s) + eps, -1, 1), eps ~ N(0, sigma)
        noise = self._noise(self.exploration_rng, noise_free, self.settings.exploration_noise)
        return _clip(noise_free + noise, 1), noise_free

    def update(self, batch: Batch) -> dict[str, float]:
        """Update the critics and, every policy_delay-th time, the actor and all targets.

        Args:
            batch: B transitions, float32; observations [B, n_obs], actions [B, n_act].

        Returns:
            critic_loss, the sum of the critics' losses; q, the mean of their outputs; and
            actor_loss, if the actor was updated.

        Raises:
            ValueError: if the observations or actions have the wrong length.
        """
        self.check_batch(batch)
        cfg = self.settings
        self.updates += 1
        observation = PackedInput(batch.observation)
        next_observation = PackedInput(batch.next_observation)

        # Target policy smoothing: a' = clip(pi'(s') + eps, -1, 1), eps = clip(N(0, sigma), -c, c)
        next_action = self.actor_target(next_observation)
        noise = self._noise(self.target_rng, next_action, cfg.target_noise)
        next_action = _clip(next_action + _clip(noise, cfg.noise_clip), 1)

        # Clipped double Q-learning: y = R + discount * min_i Q_i'(s', a')
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
            # Deterministic policy gradient: maximise mean Q_1(s, pi(s))
            action, actor_trace = self.actor.forward(observation)
            q1, d_action = self.critics.value_and_input_gradient(
                observation, action, weight=-1 / len(action), member=0
            )
            self.actor_learner.step(actor_trace, d_action, self.updates)
            record["actor_loss"] = -float(q1.sum()) / q1.size

            # Soft update of the targets: theta' = tau theta + (1 - tau) theta'
            self.actor_target.soft_update(cfg.tau)
            self.critics_target.soft_update(cfg.tau)
        return record

    @staticmethod
    def _noise(rng: Normals, like: Array, scale: float) -> Array:
        return rng(*like.shape) * np.float32(scale)


def _clip(values: Array, limit: float) -> Array:
    return np.minimum(np.maximum(values, -limit), limit)
