"""The training loop: act, step, store, update, evaluate, record, checkpoint. Read this file first.

Other modules handle the rest of a run: `assemble` constructs its parts, `restore` resumes it from a
checkpoint, `announce` prints its schedule and outcome, and `ending` writes its results.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator

from sparl.agents.agent import Agent
from sparl.agents.observation_normalizer import Normalizer
from sparl.architecture import Architecture
from sparl.configuration import Config
from sparl.errors import Diverged
from sparl.random_streams import generator_state, integer_seed
from sparl.replay.capacity import DynamicCapacity
from sparl.replay.ring_buffer import RingBuffer
from sparl.training.announce import announce
from sparl.training.best_agent import BestAgent
from sparl.training.callbacks import Callbacks
from sparl.training.console import RunConsole
from sparl.training.ending import report_failure, write_results
from sparl.training.environment import Environment
from sparl.training.evaluate import Evaluator
from sparl.training.interrupt import Stop, StoppedBy, stop_on_signal
from sparl.training.record import Record, finite
from sparl.training.run import Run
from sparl.training.run_folder import RunFolder
from sparl.training.saving import CheckpointSaver
from sparl.training.tensors import Tree
from sparl.training.warmup import Warmup
from sparl.types import Array


@dataclass(eq=False)
class Training:
    """The training of one run: its parts, which `assemble` constructs, and its progress."""

    config: Config
    threads: int  # number of compute threads
    folder: RunFolder  # the locked folder of the run
    environment: Environment
    evaluator: Evaluator  # plays evaluation episodes in separate environments
    architecture: Architecture  # the sizes of the agent's networks
    agent: Agent
    normalizer: Normalizer  # converts observations to the inputs of the agent
    warmup: Warmup  # chooses the actions before the agent learns
    replay: RingBuffer
    replay_rng: Generator  # random stream of the batches
    capacity_rule: DynamicCapacity  # decides which transitions a dynamic replay buffer forgets
    record: Record
    best: BestAgent
    saver: CheckpointSaver
    console: RunConsole
    callbacks: Callbacks
    opened: ExitStack  # closes the environments, the record and the folder
    observation: Array  # the current observation, float32 [n_obs]
    env_step: int = 0  # number of environment steps so far
    episodes: int = 0  # number of episodes that have ended
    episode_return: float = 0.0  # undiscounted return of the current episode so far
    evaluation_observations: Array | None = None  # of the last evaluation
    stop: Stop = field(default_factory=Stop)  # the signal or callback that requested a stop

    def run(self) -> Run:
        """Train until the last step, or until a signal or a callback requests a stop.

        Raises:
            SparlError: if training failed, usually EnvironmentFault, Diverged, ResourceError, or
                UsageError from a custom rule; the evaluations recorded so far are kept.
            Exception, SystemExit: any exception raised by a callback, after the run has been saved.
        """
        try:
            self.record.run("running", self.env_step, self.agent.updates)
            self.record.degrees(self.agent, self.env_step)
            announce(self)
            with self.console, stop_on_signal(self.stop):
                self._train()
                stopped_by = self.stop.by if self.env_step < self.config.end else None
                self._save_last(stopped_by)
            self._check_finite()
            write_results(self, stopped_by)
        except (Exception, SystemExit) as error:
            stopped_by = report_failure(self, error, self.stop.signal)
        finally:
            self.close()
        self.callbacks.raise_error()
        return self.record.result(stopped_by)

    def close(self) -> None:
        """Release the environments and the run's folder."""
        self.opened.close()

    def _train(self) -> None:
        config = self.config
        if not self.record.evaluations:
            self._evaluate()
            self.begin_episode(integer_seed(config.seed))
        self.console.begin(self.env_step)
        while self.env_step < config.end and self.stop.by is None:
            self.step()
            self.callbacks.stepped(self)
            if self.env_step % config.evaluate_every_env_steps == 0:
                self._evaluate()
            if self.env_step % config.checkpoint_every_env_steps == 0:
                self._checkpoint()
            self.console.stepped(self.env_step)

    def begin_episode(self, seed: int | None = None) -> None:
        """Reset the environment, and begin an episode in the replay buffer.

        Args:
            seed: the seed of the episode; None continues the environment's random stream.
        """
        self.observation = self.environment.reset(seed=seed)
        self.replay.begin(self.observation)

    def step(self) -> None:
        """Act, take a step in the environment, store the transition, and update the agent."""
        action, noise_free = self._act()
        step = self.environment.step(action)
        self.env_step += 1
        self.replay.add(
            action, noise_free, step.reward, step.observation, step.terminated, step.truncated
        )
        self.observation = step.observation
        self.episode_return += step.reward
        if self.env_step > self.config.warmup_env_steps:
            for _ in range(self.config.updates_per_env_step):
                self.update()
        if step.terminated or step.truncated:
            self._end_episode()
        self._forget()

    def _act(self) -> tuple[Array, Array]:
        """Return the action to take, and the action without exploration noise.

        The normalizer's statistics count each observation once, when its action is chosen.
        """
        self.normalizer.update(self.observation)
        if self.env_step < self.config.warmup_env_steps:
            action = self.warmup.act(self.observation)
            return action, action
        action, noise_free = self.agent.act(self.normalizer(self.observation))
        if not np.isfinite(action).all():
            raise self._diverged(f"the action is {action.tolist()}")
        return action, noise_free

    def policy(self, observation: Array) -> Array:
        """Return noise-free actions, float32 [B, n_act], for observations, float32 [B, n_obs]."""
        return self.agent.policy(self.normalizer(observation))

    def update(self) -> None:
        """Sample a batch and update the agent with it."""
        n_step = self.config.n_step_at(self.agent.updates + 1)
        batch = self.replay.sample(
            self.config.batch_size, n_step, self.replay_rng, paths=self.agent.reads_path
        )
        with np.errstate(over="ignore", invalid="ignore"):  # `finite` reports non-finite values
            try:
                values = finite(self.agent.update(self.normalizer.batch(batch)))
            except FloatingPointError as error:
                raise self._diverged(str(error)) from None
        self.record.averages.add(values)

    def _end_episode(self) -> None:
        self.episodes += 1
        self.record.averages.add({"episode_return": self.episode_return})
        self.episode_return = 0.0
        self.begin_episode()

    def _forget(self) -> None:
        """At each scheduled check, let a dynamic replay buffer forget outdated transitions."""
        config = self.config
        if config.dynamic_buffer and self.env_step % config.replay_check_every_env_steps == 0:
            distance = self.capacity_rule.apply(self.replay, self.policy)
            self.record.averages.add({"policy_distance": distance})

    def _diverged(self, what: str) -> Diverged:
        return Diverged(
            f"diverged at step {self.env_step} (update {self.agent.updates}): {what}; the same "
            f"configuration and --seed {self.config.seed} always diverge at this step; try a "
            "smaller --learning-rate, or scale the rewards if they are large"
        )

    def _evaluate(self) -> None:
        """Evaluate the policy, and record the result and the metrics since the last evaluation."""
        try:
            result = self.evaluator.evaluate(self.policy)
        except Diverged as error:
            raise self._diverged(str(error)) from None
        self.evaluation_observations = result.observations
        self.record.evaluation(self.env_step, self.agent.updates, result)
        means = self._record()
        self.best.evaluated(self)
        self.console.evaluated(self.env_step, result, means, self.record.seconds)
        self.callbacks.evaluated(self, result)

    def _record(self) -> dict[str, float]:
        """Write the metrics and topology updates since the last call; return the metrics' means."""
        counts = {"episodes": self.episodes, "replay_size": self.replay.size}
        means = self.record.metrics(self.env_step, self.agent.updates, counts)
        self.record.topology(self.env_step, self.agent)
        return means

    def _checkpoint(self, *, last: bool = False) -> None:
        """Check that all weights are finite and commit a checkpoint, unless this step has one."""
        if self.saver.checkpoints.last_step != self.env_step:
            self._check_finite()
            state, updates = self.state(), self.agent.updates
            saved = self.saver.save(self.env_step, updates, state, self.replay, last=last)
            if saved is not None:
                self.callbacks.saved(self, saved)

    def _check_finite(self) -> None:
        wrong = self.agent.not_finite()
        if wrong:
            raise self._diverged(f"{wrong[0]} is not finite")

    def _save_last(self, stopped_by: StoppedBy | None) -> None:
        """Save a last checkpoint if needed; evaluate the agent unless this step was evaluated.

        If the run was stopped early, write the metrics without an evaluation.
        """
        if self.env_step < self.config.steps or self.config.keep_checkpoint or self.stop.by:
            self._checkpoint(last=True)
        if self.record.last_evaluated < self.env_step:
            if stopped_by is None:
                self._evaluate()
            else:
                self._record()

    def state(self) -> Tree:
        """Return all state that the rest of the run depends on, except the replay buffer."""
        counters = ("env_step", "episodes", "episode_return")
        return {
            "agent": self.agent.state(),
            "normalizer": self.normalizer.state(),
            "environment": self.environment.state(),
            "replay_rng": generator_state(self.replay_rng),
            "warmup_rng": self.warmup.state(),
            "observation": self.observation,
            "recorded": self.record.averages.state(),
            "counters": {name: getattr(self, name) for name in counters},
        }
