"""SAC: soft actor-critic (Haarnoja et al. 2018, arXiv 1812.05905, algorithm 1).

DS-SAC (Sokar et al. 2021) and RLx2-SAC (Tan et al. 2023) use this file with different learners,
targets and batches.

Departures
    * Targets may have n steps (Tan et al.). Over a window of m <= n steps, the target adds the
      entropy at every state reached: y = R + sum_k discount_k (-alpha log pi_k) + discount
      min_i Q_i'(s', a'). For n = 1 this is the target of the SAC paper.
    * The loss of a critic is (Q_i(s, a) - y)^2, without the paper's factor of 1/2.
    * The first steps (10,000 with the settings "ds", 25,000 with "rlx2") take uniformly random
      actions; the paper's algorithm has no such steps.
    * With the settings "ds" (SAC, Static-SAC, DS-SAC), following Sokar et al., the temperature is
      fixed at 0.2. The targets of the sparse methods are not updated softly; every 1,000 updates,
      copies of the critics replace them. A copy equals the critics, so the target's own pattern
      in DS-SAC (Sokar et al., algorithm 3) has no effect.
    * log_std is bounded, by a clamp with the settings "ds" and by a tanh with "rlx2". The paper's
      algorithm does not state a bound.
    * Actions are in [-1, 1], and only the environment scales them to its bounds. RLx2's code
      multiplies the mean and log_std by the action bound before the tanh; this file does not.
    * Actions in the environment are sampled during training, as in the SAC paper. RLx2's code uses
      the mean; the setting `collect` selects one of the two.
    * The loss of the temperature is -alpha (log pi + target entropy), as in the paper, but Adam
      updates log(alpha), as in RLx2's released code. (In a common variant, log(alpha) replaces
      alpha in the loss; alpha then decreases about twice as fast at first.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike

from sparl.agents.action_head import SQUASHED_MEAN
from sparl.agents.agent import Agent, Learner, critics_spec, smallest
from sparl.agents.squashed_gaussian import LogStdRule, Sample, gradient, sample
from sparl.networks.network import PackedInput
from sparl.networks.spec import NetworkSpec, mlp
from sparl.networks.target import Target
from sparl.random_streams import Normals
from sparl.replay.batch import Batch
from sparl.types import Array, State


@dataclass(frozen=True)
class SACSettings:
    """Hyperparameters of SAC."""

    critics: int
    tau: float
    hard_target_every: int  # period of hard updates (tau = 1); 0 means soft updates only
    alpha: float  # temperature; the initial value if learn_alpha is set
    learn_alpha: bool  # learn alpha for a target entropy of -n_act
    learning_rate: float  # step size of the temperature
    log_std: LogStdRule
    collect: str  # action during training: "sample" or "mean"


_LARGEST_LOG_ALPHA = 80.0  # exp(80) is finite in float32


class Temperature:
    """The temperature alpha, which is fixed, or learned by Adam so as to reach a target entropy."""

    def __init__(self, settings: SACSettings, n_act: int) -> None:
        self.learned = settings.learn_alpha
        self.learning_rate = settings.learning_rate
        self.target_entropy = -float(n_act)
        self.log_alpha = float(np.log(settings.alpha))
        self.m = self.v = 0.0
        self.steps = 0

    @property
    def alpha(self) -> float:
        """The temperature, the weight of the entropy."""
        return float(np.exp(self.log_alpha))

    def step(self, log_density: np.float32) -> None:
        """Apply one step of Adam to log(alpha) for the loss -alpha (mean log pi + target entropy).

        Args:
            log_density: mean of log pi(a | s) over the batch.
        """
        if not self.learned:
            return
        # d/d log(alpha) [-exp(log(alpha)) c] = -alpha c
        gradient = -self.alpha * float(log_density + self.target_entropy)
        self.steps += 1
        self.m = 0.9 * self.m + 0.1 * gradient
        self.v = 0.999 * self.v + 0.001 * gradient**2
        m_hat, v_hat = self.m / (1 - 0.9**self.steps), self.v / (1 - 0.999**self.steps)
        self.log_alpha -= self.learning_rate * m_hat / (v_hat**0.5 + 1e-8)

    def state(self) -> State:
        """Return all values that change during training and affect later results."""
        return {"log_alpha": self.log_alpha, "m": self.m, "v": self.v, "steps": self.steps}

    def restore(self, state: State) -> None:
        """Restore a state.

        Raises:
            KeyError: if an entry is missing.
            ValueError: if log_alpha or its second moment is out of range.
        """
        self.log_alpha, self.m, self.v = (float(state[k]) for k in ("log_alpha", "m", "v"))
        if not (abs(self.log_alpha) <= _LARGEST_LOG_ALPHA and self.v >= 0):
            raise ValueError(
                f"temperature: log_alpha is {self.log_alpha} and its second moment is {self.v}, "
                f"but log_alpha must be in [-{_LARGEST_LOG_ALPHA:g}, {_LARGEST_LOG_ALPHA:g}] and "
                "the second moment nonnegative"
            )
        self.steps = int(state["steps"])

    @staticmethod
    def check(state: State, updates: int) -> None:
        """Check the step counter of a state against the number of the agent's updates.

        Raises:
            ValueError: if there are more steps than updates.
        """
        if int(state["steps"]) > updates:
            raise ValueError(
                f"temperature: Adam has made {state['steps']} steps, more than the agent's "
                f"{updates} updates"
            )


class SAC(Agent):
    """A stochastic actor, an ensemble of critics (two in the paper), and target critics."""

    settings: SACSettings
    settings_type = SACSettings
    head = SQUASHED_MEAN
    metrics = ("critic_loss", "actor_loss", "q", "alpha", "entropy")
    main_metrics = ("critic_loss", "q")
    reads_path = True

    def __init__(
        self,
        learners: Mapping[str, Learner],
        targets: Mapping[str, Target],
        settings: SACSettings,
        exploration_rng: Generator,
        target_rng: Generator,
    ) -> None:
        super().__init__(learners, targets, settings, exploration_rng, target_rng)
        self.actor_learner = self.learners["actor"]
        self.critics_learner = self.learners["critics"]
        self.critics = self.critics_learner.network
        self.critics_target = self.targets["critics"]
        self.temperature = Temperature(self.settings, self.n_act)

    @classmethod
    def network_specs(
        cls, settings: SACSettings, hidden: Sequence[int], n_obs: int, n_act: int
    ) -> dict[str, NetworkSpec]:
        """Return the actor, pi(. | s), and the critics, Q_i(s, a).

        The actor maps [B, n_obs] to [B, 2 n_act]: the means, then the unbounded log_std. The
        critics map [B, n_obs + n_act] to [E, B, 1].
        """
        layers = mlp((n_obs, *hidden, 2 * n_act), cls.head.output)
        actor = NetworkSpec(layers, label="actor", first_gradient_input=n_obs)
        return {"actor": actor, "critics": critics_spec(hidden, n_obs, n_act, settings.critics)}

    @classmethod
    def multiply_adds(
        cls, settings: SACSettings, specs: Mapping[str, NetworkSpec], n_act: int, n_step: int
    ) -> float:
        """Count the multiply-adds of one update, per sample of the batch.

        The count includes the actor's forward pass at each of the n states of a window, the forward
        pass of the target critics, and the forward passes and gradients of the critics and of the
        actor. The actor's gradient also requires the forward pass of all critics and their gradient
        with respect to the action; both are counted.
        """
        actor, critic, n = specs["actor"], specs["critics"], settings.critics
        q, a = critic.connections, actor.connections
        critic_update = n_step * a + n * q + n * (q + q + critic.deep_connections)
        all_critics = n * (q + critic.deep_connections + critic.of_inputs(n_act))
        actor_update = a + all_critics + a + actor.deep_connections
        return critic_update + actor_update

    @classmethod
    def results_version(cls, settings: SACSettings) -> int:
        """Return 2 if the temperature is learned, because sparl 0.2 changed this; otherwise 1."""
        return 2 if settings.learn_alpha else 1

    def parts(self) -> dict[str, Any]:
        """Return all components, including the temperature, by name."""
        return {"temperature": self.temperature, **super().parts()}

    def check(self, state: dict[str, State], updates: int) -> None:
        """Check the counters of a state against the number of updates.

        Raises:
            ValueError: if a counter contradicts the number of updates.
        """
        super().check(state, updates)
        self.temperature.check(state["temperature"], updates)

    def act(self, observation: ArrayLike) -> tuple[Array, Array]:
        """Return an exploratory and a noise-free action in [-1, 1], float32 [n_act] each.

        Args:
            observation: [n_obs], of any real dtype; it is converted to float32.

        Raises:
            ValueError: if the observation has the wrong shape.
        """
        heads = self.actor(self.batch_of_one(observation))
        drawn = self._draw(heads, self.exploration_rng)
        noise_free = self.head(heads, self.n_act)[0]
        return (noise_free if self.settings.collect == "mean" else drawn.action[0]), noise_free

    def update(self, batch: Batch) -> dict[str, float]:
        """Update the critics, the actor, the temperature and the targets.

        Args:
            batch: B transitions, float32; observations [B, n_obs], actions [B, n_act]; with paths
                if n > 1.

        Returns:
            critic_loss, the sum of the critics' losses; q, the mean of their outputs; actor_loss;
            alpha, as used in this update; and entropy, the mean of -log pi.

        Raises:
            ValueError: if the observations or actions have the wrong length.
        """
        self.check_batch(batch)
        cfg = self.settings
        self.updates += 1
        alpha = np.float32(self.temperature.alpha)
        observation = PackedInput(batch.observation)
        next_observation = PackedInput(batch.next_observation)

        # Sample a_k ~ pi(s_k) at every state reached in the window; the last state is s'
        path_observation, path_discount = batch.path()
        size, n, n_obs = path_observation.shape
        states = next_observation if n == 1 else path_observation.reshape(-1, n_obs)
        path = self._draw(self.actor(states), self.target_rng)
        next_action = np.ascontiguousarray(path.action.reshape(size, n, -1)[:, -1])
        # Target: y = R + sum_k discount_k (-alpha log pi(a_k|s_k)) + discount min_i Q_i'(s', a')
        entropy = -alpha * path.log_density.reshape(size, n)
        next_q = smallest(self.critics_target(next_observation, next_action))
        soft = (path_discount * entropy).sum(axis=1, keepdims=True)
        y = batch.reward + soft + batch.discount * next_q

        # Critics: minimise sum_i mean (Q_i(s, a) - y)^2
        q, trace = self.critics.forward(observation, batch.action)
        error = q - y
        self.critics_learner.step(trace, error * np.float32(2 / size), self.updates)

        # Actor: minimise mean (alpha log pi(a|s) - min_i Q_i(s, a)), a ~ pi(s) reparameterised
        heads, actor_trace = self.actor.forward(observation)
        drawn = self._draw(heads, self.target_rng)
        min_q, d_action = self.critics.value_and_input_gradient(
            observation, drawn.action, weight=-1 / size
        )
        d_heads = gradient(drawn, d_action, float(alpha / np.float32(size)))
        self.actor_learner.step(actor_trace, d_heads, self.updates)

        # Temperature: minimise mean -alpha (log pi(a|s) + target entropy)
        log_density = drawn.log_density.sum() / np.float32(size)  # faster than mean()
        self.temperature.step(log_density)

        # Targets: theta' = tau theta + (1 - tau) theta', or a copy every hard_target_every updates
        if not cfg.hard_target_every:
            self.critics_target.soft_update(cfg.tau)
        elif self.updates % cfg.hard_target_every == 0:
            self.critics_target.soft_update(1.0)
        return {
            "critic_loss": float(np.vdot(error, error)) / size,
            "q": float(q.sum()) / q.size,
            "actor_loss": float((alpha * drawn.log_density - min_q).sum()) / size,
            "alpha": float(alpha),
            "entropy": -float(log_density),
        }

    def _draw(self, heads: Array, rng: Normals) -> Sample:
        """Sample actions for the actor's outputs, [B, 2 n_act]."""
        noise = rng(len(heads), self.n_act)
        return sample(heads, noise, self.settings.log_std, self.actor.pool)
