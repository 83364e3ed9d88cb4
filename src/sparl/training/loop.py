"""The training loop: act, step, remember, update, evaluate, record. Read this page first."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

from sparl import _native
from sparl.architecture import Architecture, architecture
from sparl.build import build_agent
from sparl.configuration import Config, differences, why_not_longer
from sparl.cost import least_checkpoint_bytes, network_bytes
from sparl.errors import (
    DataError,
    Diverged,
    EnvironmentFault,
    ResourceError,
    SparlError,
    UsageError,
)
from sparl.labels import method_label, without_effect
from sparl.learner import SparseLearner
from sparl.methods import check, config_of
from sparl.networks.mlp import Array
from sparl.random_streams import generator_state, integer_seed, restore_generator, stream
from sparl.replay.capacity import DynamicCapacity
from sparl.replay.ring_buffer import RingBuffer, Sampling, replay_bytes
from sparl.training.agent_file import load_agent, save_agent
from sparl.training.checkpoint import Checkpoints, no_checkpoint
from sparl.training.console import RunConsole
from sparl.training.durable import user_path
from sparl.training.environment import Environment, make_environment
from sparl.training.evaluate import Evaluator
from sparl.training.interrupt import Stop, interrupt_held, stop_on_signal
from sparl.training.machine import available_cores, made_with
from sparl.training.memory import give_freed_memory_back, memory_bytes
from sparl.training.plan import connections_text, plan
from sparl.training.record import Record, how_it_went_on, not_exact_because
from sparl.training.run_folder import GROWING, RunFolder, check_continued
from sparl.training.tasks import module_of
from sparl.training.team import Team
from sparl.training.tensorboard import require_tensorboard
from sparl.training.wrappers import reject_lasting_state
from sparl.user_modules import command_line

_LONGEST_RUN = 1e12  # seconds
Policy = Callable[[Array], Array]


@dataclass(frozen=True)
class Run:
    """What training leaves.

    Attributes:
        path: the run's folder.
        config: the resolved configuration.
        evaluations: (environment step, mean return) of each evaluation.
        stopped_by: the signal that stopped it early, or None.
        seconds: wall-clock time.
    """

    path: Path
    config: Config
    evaluations: tuple[tuple[int, float], ...]
    stopped_by: signal.Signals | None
    seconds: float

    @property
    def final_return(self) -> float:
        """Mean return of the last evaluation; NaN if there was none."""
        return self.evaluations[-1][1] if self.evaluations else float("nan")


class Training:
    """One run: everything it is made of, and the loop over environment steps."""

    def __init__(
        self, config: Config, *, quiet: bool = False, folder: RunFolder | None = None
    ) -> None:
        """Prepare a run.

        Args:
            config: its choices.
            quiet: print nothing.
            folder: of the run to go on with, locked; None: a new one.
        """
        check(config)
        if config.tensorboard:
            require_tensorboard()
        reject_lasting_state(lambda: make_environment(config))
        self.config = config
        cores = available_cores()
        threads = config.threads or min(cores, 4)
        self.team = Team(min(threads, cores) if folder else threads)  # begun on a larger machine
        with ExitStack() as opened:  # and closed again where anything of this raises
            with interrupt_held():
                self.environment = opened.enter_context(closing(make_environment(config)))
                self.evaluator = Evaluator(
                    lambda: make_environment(config),
                    config.evaluation_episodes,
                    config.evaluation_seed,
                )
                opened.callback(self.evaluator.close)
                n_obs, n_act = self.environment.n_obs, self.environment.n_act
                self.architecture = architecture(config, n_obs, n_act)
                if folder:
                    Checkpoints(folder.files).check_hold(
                        least_checkpoint_bytes(config, self.architecture)
                    )
                _check_memory(config, self.architecture, n_obs, n_act)
                self.agent = build_agent(config, self.architecture)
                self.capacity_rule = capacity_rule(config)
                self.replay = _replay(config, n_obs, n_act)
                self.replay_rng = stream(config.seed, "replay")
                self._ahead: Sampling | None = None  # the next update's batch
                self.warmup_rng = stream(config.seed, "random actions")
                self.warmup_policy = None if folder else _warmup_policy(config, self.environment)
                self.env_step = 0
                self.episodes = 0
                self.episode_return = 0.0
                self.observation: Array = np.zeros(n_obs, np.float32)
                self.folder = opened.enter_context(closing(folder or RunFolder.create(config)))
                self.checkpoints = Checkpoints(self.folder.files)
                self._failed_saves = 0
                self._observations: Array | None = None  # of the last evaluation
                self.record = Record(
                    self.folder, config, self.architecture, self.environment, self.team.most
                )
                opened.callback(self.record.close)
                self._made_with = made_with()
                self.connections = connections_text(self.architecture)
                self.console = RunConsole(
                    config.end, self.connections, config.warmup_env_steps, quiet=quiet
                )
            self._opened = opened.pop_all()

    def run(self) -> Run:
        """Train to the end, or until a signal asks to stop.

        Raises:
            EnvironmentFault, Diverged, ResourceError: what was evaluated so far is kept.
        """
        config = self.config
        stop = Stop()
        try:
            self.record.run("running", self.env_step, self.agent.updates)
            self._write_degrees()
            self._announce()
            with self.console, stop_on_signal() as stop:
                if not self.record.evaluations:
                    self._evaluate()
                    self.observation = self.environment.reset(seed=integer_seed(config.seed))
                self.console.begin(self.env_step)
                while self.env_step < config.end and stop.signal is None:
                    self.step()
                    if self.env_step % config.evaluate_every_env_steps == 0:
                        self._evaluate()
                    if self.env_step % config.checkpoint_every_env_steps == 0:
                        self._checkpoint()
                    self.console.stepped(self.env_step)
                # A signal during the last step is too late to stop anything.
                stopped_by = stop.signal if self.env_step < config.end else None
                if self.env_step < config.steps or config.keep_checkpoint or stop.signal:
                    self._checkpoint(last=True)
                if stopped_by is None and self._last_evaluated() != self.env_step:
                    self._evaluate()
            self._finish(stopped_by)
        except SystemExit as error:  # of a signal handler of the environment's, for example
            with suppress(SparlError):
                self.record.run("failed", self.env_step, self.agent.updates)
            raise EnvironmentFault(
                f"environment {config.env}: SystemExit: {error}, raised by other code while the "
                f"run was at step {self.env_step}, perhaps by its handler of a signal"
            ) from None
        except Exception as error:
            # Ctrl-C reaches the worker processes of an environment, too, and may end them first.
            if not isinstance(error, EnvironmentFault) or stop.signal is None:
                with suppress(SparlError):
                    self.record.run("failed", self.env_step, self.agent.updates)
                raise
            stopped_by = stop.signal
            self.console.warn(
                f"{error}; this was after {stopped_by.name}, so nothing was saved since the last "
                f"checkpoint; to resume from there: {self._command('resume')}"
            )
        finally:
            self.close()
        evaluations = tuple(self.record.evaluations)
        return Run(self.folder.path, self.config, evaluations, stopped_by, self.record.seconds)

    def close(self) -> None:
        """Release the environments and the run's folder."""
        self._opened.close()

    def step(self) -> None:
        """One step of the environment, and the updates that follow it.

        With several threads the first of them goes on beside that step, where its batch does not
        reach it.
        """
        config = self.config
        if self.env_step < config.warmup_env_steps:
            if self.warmup_policy is not None:
                action = self.warmup_policy(self.observation[np.newaxis])[0]
            else:
                action = self.warmup_rng.uniform(-1, 1, self.environment.n_act).astype(np.float32)
            ended = self._take(action, action)
        else:
            action, noise_free = self.agent.act(self.observation)
            if not np.isfinite(action).all():
                raise self._diverged(f"the action is {action.tolist()}", self.env_step)
            with self.team:
                self._begin_update()
                beside = self._ahead is not None and self._ahead.windows.complete
                update = partial(self.update, self.env_step + 1)
                ended = self._take(action, noise_free, update if beside else None)
                for _ in range(config.updates_per_env_step - (1 if beside else 0)):
                    update()
        if ended:
            self.episodes += 1
            self.record.averages.add({"episode_return": self.episode_return})
            self.episode_return = 0.0
            self.observation = self.environment.reset()
        if config.dynamic_buffer and self.env_step % config.replay_check_every_env_steps == 0:
            distance = self.capacity_rule.apply(self.replay, self.agent.policy)
            self.record.averages.add({"policy_distance": distance})

    def _take(
        self, action: Array, noise_free: Array, meanwhile: Callable[[], None] | None = None
    ) -> bool:
        """Take an action, and remember what it led to; returns whether that ended the episode."""
        step = self.environment.step(action, meanwhile)
        self.env_step += 1
        self.episode_return += step.reward
        self.replay.add(
            self.observation, action, noise_free, step.reward,
            step.observation, step.terminated, step.truncated,
        )  # fmt: skip
        self.observation = step.observation
        return step.terminated or step.truncated

    def update(self, env_step: int) -> None:
        """Sample a batch, and let the agent learn from it, after this step."""
        ahead, self._ahead = self._ahead, None
        batch = ahead.batch() if ahead else self.replay.sample(*self._how_to_sample())
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is reported below
            try:
                values = self.agent.update(batch)
            except FloatingPointError as error:
                raise self._diverged(str(error), env_step) from None
        if not np.isfinite(values["critic_loss"]):
            raise self._diverged(f"the critics' loss is {values['critic_loss']}", env_step)
        self.record.averages.add(values)

    def _begin_update(self) -> None:
        """Begin what the next update needs, whatever the environment's step gives."""
        if _native.threads() > 1:  # one could do nothing beside
            self._ahead = self.replay.sample_ahead(*self._how_to_sample())
        self.agent.draw_ahead()  # each time: it draws what was needed since

    def _how_to_sample(self) -> tuple[int, int, Generator, bool]:
        """Batch, steps of the targets, stream, and whether states on the way are wanted."""
        config = self.config
        return config.batch_size, self._n_step(), self.replay_rng, self.agent.reads_path

    def _n_step(self) -> int:
        """Steps of the next update's targets; updates count from 1."""
        delayed = self.agent.updates + 1 < self.config.n_step_delay_updates
        return 1 if delayed else self.config.n_step

    def _diverged(self, what: str, env_step: int) -> Diverged:
        return Diverged(
            f"diverged at step {env_step} (update {self.agent.updates}): {what}; the same "
            f"happens again with the same configuration and --seed {self.config.seed}; try a "
            "smaller --learning-rate"
        )

    def _evaluate(self) -> None:
        """Evaluate, and write what happened since the last time."""
        try:
            result = self.evaluator.evaluate(self.agent.policy)
        except Diverged as error:
            raise self._diverged(str(error), self.env_step) from None
        self._observations = result.observations
        self.record.evaluation(self.env_step, self.agent.updates, result)
        self._write_record()
        self.console.evaluated(self.env_step, result)

    def _last_evaluated(self) -> int:
        return self.record.evaluations[-1][0]

    def _checkpoint(self, *, last: bool = False) -> None:
        """Commit a checkpoint; what cannot be written now is tried again next time, twice.

        Raises:
            Diverged: a weight is not finite; the last finite checkpoint is kept.
            ResourceError: it is the last chance, or the third time, and training is not over.
        """
        if self.checkpoints.last_step == self.env_step:
            return
        self._check_finite()
        try:
            about = {
                "config": _as_json(self.config),
                "made_with": self._made_with,
                "growing_files": self.folder.flush(),
                "seconds": self.record.seconds,
                "cpu_seconds": self.record.cpu_seconds,
                "continued": self.record.continued,
            }
            self.checkpoints.save(self.env_step, self._state_without_replay(), self.replay, about)
        except ResourceError as error:
            self._failed_saves += 1
            if self.env_step == self.config.steps:
                self.console.warn(f"{error}; training is over")
            elif last or self._failed_saves == 3:
                raise ResourceError(
                    f"{error}; when there is room: {self._command('resume')}"
                ) from None
            else:
                self.console.warn(f"{error}; training goes on, and it is tried again")
        else:
            self._failed_saves = 0
            if not self.record.had_checkpoint:
                self.record.had_checkpoint = True
                with suppress(ResourceError):
                    self.record.run("running", self.env_step, self.agent.updates)
        finally:
            give_freed_memory_back()

    def _check_finite(self) -> None:
        for name, network in self.agent.networks().items():
            for part, values in network.items():
                if not np.isfinite(values).all():
                    raise self._diverged(f"{name}.{part} is not finite", self.env_step)

    def resume(self) -> None:
        """Go on from the newest checkpoint that is whole, from the start where there is none.

        Raises:
            DataError: there are checkpoints, and none can be used; or there were some.
        """
        self._go_on()
        if self.env_step < self.config.warmup_env_steps:
            self.warmup_policy = _warmup_policy(self.config, self.environment)

    def _go_on(self) -> None:
        self.environment.reset(seed=integer_seed(self.config.seed))
        like = self._state_without_replay()
        troubles = []
        for path in self.checkpoints.newest_first():
            try:
                self._go_on_from(path, like)
            except DataError as error:
                troubles.append(str(error))
                continue
            for trouble in troubles:
                self.console.warn(f"{trouble}; going on from {path.name}")
            return
        if troubles:
            raise no_checkpoint(troubles)
        gone = self.folder.why_not_anew(self.config)
        if gone:
            raise DataError(gone)
        about = self.folder.run()
        failed = about.get("state") == "failed"
        ended = f"failed at step {about['env_step']:,}" if failed else "ended"
        self.console.say(f"the run {ended} before its first checkpoint; it starts again at step 0")
        self.folder.rewind(dict.fromkeys(GROWING, 0))

    def _go_on_from(self, path: Path, like: dict[str, Any]) -> None:
        """Take over a checkpoint.

        Raises:
            DataError: it cannot be used.
        """
        state, about = self.checkpoints.load(path, like, self.longest(), self.replay)
        try:
            there = _config_of(path, about)
            if there.steps < self.config.steps and not why_not_longer(there):  # trained longer
                there = replace(there, steps=self.config.steps)
            other = differences(there, self.config)
            if other:
                raise DataError(f"{path}: of another configuration: {'; '.join(other)}")
            self.agent.check(state["agent"], _check_counters(self.config, state, self.replay))
            self._restore_without_replay(state)
            env, environment = self.config.env, state["environment"]
            because = not_exact_because(env, environment, about["made_with"])
            entry = {"env_step": self.env_step, "not_exact_because": because}
            check_continued(about["continued"])
            seconds, cpu = _seconds(about["seconds"]), about.get("cpu_seconds")
            cpu = None if cpu is None else _seconds(cpu)  # version 0.1 did not record it
            self.folder.rewind(about["growing_files"])
            self.record.go_on(seconds, cpu, [*about["continued"], entry])
        except (
            KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError,
            RecursionError,
        ) as error:  # fmt: skip
            raise DataError(f"{path}: cannot be used ({type(error).__name__}: {error})") from None

    def _write_record(self) -> None:
        """Metrics and evolutions since the last time."""
        counts = {
            "episodes": self.episodes, "replay_size": self.replay.size, "n_step": self._n_step(),
        }  # fmt: skip
        self.record.metrics(self.env_step, self.agent.updates, counts)
        self.record.topology(self.env_step, self._learners())

    def _write_degrees(self) -> None:
        self.record.degrees(
            {name: learner.network.layout for name, learner in self.agent.learners.items()}
        )

    def _learners(self) -> dict[str, SparseLearner]:
        learners = self.agent.learners
        return {k: v for k, v in learners.items() if isinstance(v, SparseLearner)}

    def _finish(self, stopped_by: signal.Signals | None) -> None:
        """Write the agent and say how it went."""
        if self._last_evaluated() != self.env_step:  # else it stands in the evaluation's line
            self._write_record()
        config = self.config
        self._check_finite()
        about = {"method": method_label(config), "env": config.env, "env_step": self.env_step}
        save_agent(
            self.folder, self.agent.networks(), self.environment, about, self._observations,
            self.agent.head,
        )  # fmt: skip
        self._write_degrees()
        self.folder.flush()
        state = "finished" if stopped_by is None else f"stopped by {stopped_by.name}"
        self.record.run(state, self.env_step, self.agent.updates)
        seconds = self.record.seconds
        if self.env_step == config.steps and not config.keep_checkpoint:
            self.checkpoints.remove_all()  # nothing is left to do
        say = self.console.say
        say("")
        if stopped_by is not None:
            say(f"{state} at step {self.env_step:,}; to go on: {self._command('resume')}")
        say(f"{method_label(config)} on {config.env}, seed {config.seed}: {self.connections}")
        say(
            f"{self.env_step:,} steps, {self.agent.updates:,} updates in {seconds:,.0f} s "
            f"({self.env_step / seconds:,.0f} steps/s with evaluations)"
        )
        best_step, best = max(self.record.evaluations, key=lambda e: e[1])
        last_step, last = self.record.evaluations[-1]
        say(f"return: {last:,.1f} at step {last_step:,}, best {best:,.1f} at step {best_step:,}")
        say(f"run: {self.folder.path}   again: {self._command('evaluate')}")

    def _command(self, name: str) -> str:
        return command_line(module_of(self.config.env), name, self.folder.path)

    def _announce(self) -> None:
        """What will happen, before it does."""
        say = self.console.say
        config = self.config
        notes = [*self.environment.notes, *self.architecture.notes, *without_effect(config)]
        for note in notes:
            say(f"note: {note}")
        if self.record.continued:
            last = self.record.continued[-1]
            tell = self.console.warn if last["not_exact_because"] else say
            tell(f"going on {how_it_went_on(last)}")
        say(
            f"{method_label(config)} on {config.env}: {self.connections}, "
            f"{_native.isa()}, {self.team.most} threads, run {self.folder.path}"
        )
        for line in plan(self.config, self.architecture):
            say(line)
        if config.end <= config.warmup_env_steps:
            self.console.warn(
                f"NOTHING WILL BE TRAINED: the run ends at step {config.end:,}, and its first "
                f"{config.warmup_env_steps:,} steps are random actions without updates; use more "
                "steps, or a smaller --warmup-env-steps"
            )

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on."""
        return {**self._state_without_replay(), "replay": self.replay.state()}

    def longest(self) -> dict[str, int]:
        """Return the largest length of each array of the state whose length may change."""
        return {f"agent/{path}": length for path, length in self.agent.longest().items()}

    def _state_without_replay(self) -> dict[str, Any]:
        return {
            "agent": self.agent.state(),
            "environment": self.environment.state(),
            "replay_rng": generator_state(self.replay_rng),
            "warmup_rng": generator_state(self.warmup_rng),
            "observation": self.observation,
            "recorded": self.record.averages.state(),
            "counters": {
                "env_step": self.env_step,
                "episodes": self.episodes,
                "episode_return": self.episode_return,
            },
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a state of a run of the same configuration."""
        self.replay.restore(state["replay"])
        self._restore_without_replay(state)

    def _restore_without_replay(self, state: dict[str, Any]) -> None:
        self.agent.restore(state["agent"])
        restore_generator(self.replay_rng, state["replay_rng"])
        restore_generator(self.warmup_rng, state["warmup_rng"])
        self.record.averages.restore(state["recorded"])
        for name, value in state["counters"].items():
            setattr(self, name, value)
        seed = integer_seed(self.config.seed, self.env_step)
        self.observation = self.environment.reset(seed=seed)
        if self.environment.restore(state["environment"]):
            self.observation = state["observation"].copy()
        else:  # a new episode: what the last one would have brought is not known
            self.replay.cut()
            self.episode_return = 0.0


def _check_counters(config: Config, state: dict[str, Any], replay: RingBuffer) -> int:
    """Check the counters of a checkpoint: all follow from the step, or are bounded by it.

    Returns:
        The agent's updates at that step.

    Raises:
        ValueError: one contradicts the step.
    """
    env_step, episodes = state["counters"]["env_step"], state["counters"]["episodes"]
    if not 0 <= env_step <= config.steps or episodes > env_step:
        raise ValueError(f"step {env_step} of {config.steps}, {episodes} episodes")
    if replay.first + replay.size != env_step:
        raise ValueError(f"{replay.first + replay.size} transitions in {env_step} steps")
    updates: int = max(env_step - config.warmup_env_steps, 0) * config.updates_per_env_step
    return updates


def _seconds(value: Any) -> float:
    """A duration in a checkpoint.

    Raises:
        ValueError, TypeError: it is none.
    """
    if not 0 <= float(value) < _LONGEST_RUN:
        raise ValueError(f"{value} seconds")
    return float(value)


def _config_of(path: Path, about: dict[str, Any]) -> Config:
    """The configuration in a checkpoint; fields that came since are what they are by default.

    Raises:
        DataError: it has a field that this version does not know, or a value that cannot be.
    """
    try:
        return config_of(about["config"], path)
    except UsageError as error:
        raise DataError(f"{error}; it was written by sparl {about['made_with']['sparl']}") from None


def _as_json(config: Config) -> dict[str, Any]:
    """The fields that are set, as JSON gives them back."""
    fields: dict[str, Any] = json.loads(json.dumps(config.as_dict()))
    return fields


def _warmup_policy(config: Config, environment: Environment) -> Policy | None:
    """The policy of the run to start from, if there is one.

    Raises:
        DataError: it cannot be read.
        UsageError: it is for another environment.
    """
    if config.warm_start is None:
        return None
    agent = load_agent(user_path(config.warm_start))
    if (agent.n_obs, agent.n_act) != (environment.n_obs, environment.n_act):
        raise UsageError(
            f"warm_start {config.warm_start}: its agent takes {agent.n_obs} observations and gives "
            f"{agent.n_act} actions, {config.env} has {environment.n_obs} and {environment.n_act}"
        )
    return agent.policy


def _replay(config: Config, n_obs: int, n_act: int) -> RingBuffer:
    """An empty replay."""
    rows, keep_noise_free = config.replay_rows, config.dynamic_buffer
    return RingBuffer(rows, n_obs, n_act, config.gamma, keep_noise_free=keep_noise_free)


def capacity_rule(config: Config) -> DynamicCapacity:
    """The rule of the dynamic buffer that a configuration describes."""
    return DynamicCapacity(
        config.replay_minimum,
        config.replay_probe_transitions or 8 * config.batch_size,
        config.replay_distance_threshold,
        config.replay_forget_until_below,
    )


def _check_memory(config: Config, nets: Architecture, n_obs: int, n_act: int) -> None:
    """Refuse a run that cannot fit into memory, before anything is allocated for it.

    Raises:
        ResourceError: with the bytes, and the replay that would fit.
    """
    available = int(0.9 * memory_bytes())
    capacity = config.replay_rows
    per_transition = replay_bytes(1, n_obs, n_act, config.dynamic_buffer)
    networks = network_bytes(nets, config.batch_size)
    if networks + capacity * per_transition <= available:
        return
    fits = (available - networks) // per_transition
    advice = (
        f"--replay-capacity {fits} would fit"
        if fits > 0
        else "a smaller --hidden, --batch-size or density would take less"
    )
    raise ResourceError(
        f"a replay of {capacity:,} transitions takes {capacity * per_transition / 1e9:,.1f} GB and "
        f"the networks about {networks / 1e9:,.1f} GB, of {available / 1e9:,.1f} GB; {advice}"
    )
