"""SAC: soft actor-critic (Haarnoja et al. 2018, arXiv 1812.05905, algorithm 1).

DS-SAC (Sokar et al. 2021) and RLx2-SAC (Tan et al. 2023) are this file with other learners,
targets and batches.

Departures
    * One formula serves every n: over a window of m steps the target adds the entropy of every
      state reached, y = R + sum_k discount_k (-alpha log pi_k) + discount min_i Q_i'(s', a')
      (Tan et al.); for n = 1 it is SAC's own.
    * Actions live in [-1, 1] and are scaled at the environment. RLx2's code multiplies both heads
      by the action bound before the tanh; here they are not.
    * While collecting data the action is sampled, as the SAC paper says; RLx2's code takes the
      mean.
    * The temperature's loss is -alpha (log pi + target entropy), as in the paper, but Adam's
      variable is log(alpha), as in RLx2's released code. (With log(alpha) in place of alpha in the
      loss, a common variant, alpha falls about twice as fast at first.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from sparl.agents.agent import Agent, Learner, smallest
from sparl.agents.squashed_gaussian import LogStdRule, Sample, gradient, sample
from sparl.networks.network import Network, PackedInput
from sparl.networks.target import Target
from sparl.random_streams import Normals
from sparl.replay.batch import Batch
from sparl.types import Array, State


@dataclass(frozen=True)
class SACSettings:
    """The numbers of the algorithm."""

    tau: float = 0.005
    hard_target_every: int = 0  # updates between copies with tau = 1; 0: follow each update
    alpha: float = 0.2  # temperature, or its first value where it is learned
    learn_alpha: bool = False  # towards a target entropy of -n_act
    learning_rate: float = 3e-4  # of the temperature
    log_std: LogStdRule = "clamp"
    collect: str = "sample"  # or "mean"


_LARGEST_LOG_ALPHA = 80.0  # whose exponential is a float32


class Temperature:
    """alpha, fixed or learned by Adam on its logarithm towards a target entropy."""

    def __init__(self, settings: SACSettings, n_act: int) -> None:
        self.learned = settings.learn_alpha
        self.learning_rate = settings.learning_rate
        self.target_entropy = -float(n_act)
        self.log_alpha = float(np.log(settings.alpha))
        self.m = self.v = 0.0
        self.steps = 0

    @property
    def alpha(self) -> float:
        """The temperature."""
        return float(np.exp(self.log_alpha))

    def step(self, log_density: np.float32) -> None:
        """Minimise -alpha (mean log pi + target entropy) by one step of Adam in log(alpha)."""
        if not self.learned:
            return
        # d/d log(alpha) of -exp(log alpha) c is -alpha c
        gradient = -self.alpha * float(log_density + self.target_entropy)
        self.steps += 1
        self.m = 0.9 * self.m + 0.1 * gradient
        self.v = 0.999 * self.v + 0.001 * gradient**2
        m_hat, v_hat = self.m / (1 - 0.9**self.steps), self.v / (1 - 0.999**self.steps)
        self.log_alpha -= self.learning_rate * m_hat / (v_hat**0.5 + 1e-8)

    def state(self) -> State:
        """All that is needed to go on."""
        return {"log_alpha": self.log_alpha, "m": self.m, "v": self.v, "steps": self.steps}

    def restore(self, state: State) -> None:
        """Take over a state.

        Raises:
            ValueError: a number that cannot be.
        """
        self.log_alpha, self.m, self.v = (float(state[k]) for k in ("log_alpha", "m", "v"))
        if not (abs(self.log_alpha) <= _LARGEST_LOG_ALPHA and self.v >= 0):
            raise ValueError(f"log_alpha is {self.log_alpha}, its second moment {self.v}")
        self.steps = int(state["steps"])


class SAC(Agent):
    """A stochastic actor, an ensemble of critics (two in the paper), targets, and how they learn.

    Args:
        actor_learner: of the actor, [B, n_obs] -> [B, 2 n_act]: means, then log_std heads; linear.
        critics_learner: of the ensemble of critics, [B, n_obs + n_act] -> [E, B, 1], whose input
            gradient covers the action.
        critics_target: follows the critics.
        settings: the numbers.
        exploration_rng: stream of the actions taken.
        target_rng: stream of the actions in the updates.
    """

    parts = (
        "temperature", "actor", "critics", "actor_learner", "critics_learner", "critics_target",
        "exploration_rng", "target_rng",
    )  # fmt: skip

    def __init__(
        self,
        actor_learner: Learner,
        critics_learner: Learner,
        critics_target: Target,
        settings: SACSettings,
        exploration_rng: Generator,
        target_rng: Generator,
    ) -> None:
        self.actor: Network = actor_learner.network
        self.critics: Network = critics_learner.network
        self.actor_learner = actor_learner
        self.critics_learner = critics_learner
        self.critics_target = critics_target
        self.settings = settings
        self.temperature = Temperature(settings, self.n_act)
        self.exploration_rng = Normals(exploration_rng)
        self.target_rng = Normals(target_rng)
        self.updates = 0

    @property
    def n_act(self) -> int:
        """Length of an action."""
        return self.actor.layout.n_out // 2

    def policy(self, observation: Array) -> Array:
        """A = tanh(mean(s)): float32 [B, n_act] in (-1, 1) for float32 [B, n_obs]."""
        return np.tanh(self.actor(observation)[:, : self.n_act])

    def act(self, observation: Array) -> tuple[Array, Array]:
        """The action to take in a state, [n_obs], and the noise-free one, [n_act] each."""
        heads = self.actor(observation[np.newaxis])
        drawn = self._draw(heads, self.exploration_rng)
        noise_free = np.tanh(heads[0, : self.n_act])
        return (noise_free if self.settings.collect == "mean" else drawn.action[0]), noise_free

    def update(self, batch: Batch) -> dict[str, float]:
        """One update of critics, actor, temperature and targets.

        Returns:
            critic_loss, summed over the critics; q, their mean; actor_loss; alpha; entropy.
        """
        cfg = self.settings
        self.updates += 1
        alpha = np.float32(self.temperature.alpha)
        observation = PackedInput(batch.observation)

        # a_k ~ pi(s_k) at every state reached in the window, the last one is s'
        path_observation, path_discount = batch.path()
        size, n, n_obs = path_observation.shape
        path = self._draw(self.actor(path_observation.reshape(-1, n_obs)), self.target_rng)
        next_action = np.ascontiguousarray(path.action.reshape(size, n, -1)[:, -1])
        # y = R + sum_k discount_k (-alpha log pi(a_k|s_k)) + discount min_i Q_i'(s', a')
        entropy = -alpha * path.log_density.reshape(size, n)
        next_q = smallest(self.critics_target(batch.next_observation, next_action))
        soft = (path_discount * entropy).sum(axis=1, keepdims=True)
        y = batch.reward + soft + batch.discount * next_q

        # Critics: minimise sum_i mean (Q_i(s, a) - y)^2
        q, trace = self.critics.forward(observation, batch.action)
        error = q - y
        self.critics_learner.step(trace, error * np.float32(2 / size), self.updates)

        # Actor: minimise mean (alpha log pi(a|s) - min_i Q_i(s, a)), a ~ pi(s)
        heads, actor_trace = self.actor.forward(observation)
        drawn = self._draw(heads, self.target_rng)
        min_q, d_action = self.critics.value_and_input_gradient(
            observation, drawn.action, weight=-1 / size
        )
        d_heads = gradient(drawn, d_action, float(alpha / np.float32(size)))
        self.actor_learner.step(actor_trace, d_heads, self.updates)

        # Temperature: minimise mean -alpha (log pi(a|s) + target entropy)
        log_density = drawn.log_density.sum() / np.float32(size)  # mean() does more in Python
        self.temperature.step(log_density)

        # Targets: theta' = tau theta + (1 - tau) theta', or a copy every so many updates
        if not cfg.hard_target_every:
            self.critics_target.follow(cfg.tau)
        elif self.updates % cfg.hard_target_every == 0:
            self.critics_target.follow(1.0)
        return {
            "critic_loss": float(np.vdot(error, error)) / size,
            "q": float(q.sum()) / q.size,
            "actor_loss": float((alpha * drawn.log_density - min_q).sum()) / size,
            "alpha": float(alpha),
            "entropy": -float(log_density),
        }

    def _draw(self, heads: Array, rng: Normals) -> Sample:
        """Actions drawn, for the actor's heads [B, 2 n_act]."""
        noise = rng(len(heads), self.n_act)
        return sample(heads, noise, self.settings.log_std, self.actor.pool)
