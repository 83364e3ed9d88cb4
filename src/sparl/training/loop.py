"""The training loop: act, step, remember, update, evaluate, record. Read this page first."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparl import _native
from sparl.configuration import Config, check
from sparl.errors import Diverged, ResourceError, UsageError
from sparl.methods import architecture, connections, densified
from sparl.networks.mlp import Array
from sparl.random_streams import generator_state, integer_seed, restore_generator, stream
from sparl.replay.capacity import DynamicCapacity
from sparl.replay.ring_buffer import RingBuffer, replay_bytes
from sparl.training.agent_file import load_agent, save_agent
from sparl.training.console import RunConsole
from sparl.training.environment import Environment
from sparl.training.evaluate import Evaluation, evaluate
from sparl.training.machine import available_cores, machine, memory_bytes, versions
from sparl.training.rewire import EvolvingLearner, build_agent, schedule
from sparl.training.run_folder import EVALUATIONS, METRICS, RUN, TOPOLOGY, RunFolder

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

    def __init__(self, config: Config, *, quiet: bool = False) -> None:
        check(config)
        self.config = config
        _native.set_threads(config.threads or min(available_cores(), 4))
        limits = (config.max_episode_steps, config.contact_forces)
        self.environment = Environment(config.env, *limits)
        self.evaluation_environment = Environment(config.env, *limits)
        n_obs, n_act = self.environment.n_obs, self.environment.n_act
        self.architecture = architecture(config, n_obs, n_act)
        self.agent = build_agent(config, self.architecture)
        self.capacity_rule = DynamicCapacity(config.replay_minimum)
        self.replay = _replay(config, n_obs, n_act)
        self.replay_rng = stream(config.seed, "replay")
        self.warmup_rng = stream(config.seed, "random actions")
        self.warmup_policy = _warmup_policy(config, self.environment)
        self.env_step = 0
        self.episodes = 0
        self.episode_return = 0.0
        self.observation: Array = np.zeros(n_obs, np.float32)
        self.recorded = Averages()
        self.evaluations: list[tuple[int, float]] = []
        self.folder = RunFolder.create(config)
        self.console = RunConsole(config.end, self._connections(), quiet=quiet)
        self.started = time.monotonic()

    def run(self) -> Run:
        """Train to the end, or until a signal asks to stop.

        Raises:
            EnvironmentFault, Diverged, ResourceError: what was evaluated so far is kept.
        """
        self._record_run("running")
        self._announce()
        try:
            with self.console, stop_on_signal() as stop:
                self._evaluate()
                seed = integer_seed(self.config.seed)
                self.observation = self.environment.reset(seed=seed)
                while self.env_step < self.config.end and stop.signal is None:
                    self._step()
                    if self.env_step % self.config.evaluate_every_env_steps == 0:
                        self._evaluate()
                    self.console.stepped(self.env_step)
                if stop.signal is None and self.evaluations[-1][0] != self.env_step:
                    self._evaluate()
            self._finish(stop.signal)
        except Exception:
            self._record_run("failed")
            raise
        finally:
            self.folder.close()
            self.environment.close()
            self.evaluation_environment.close()
        seconds = time.monotonic() - self.started
        evaluations = tuple(self.evaluations)
        return Run(self.folder.path, self.config, evaluations, stop.signal, seconds)

    def _step(self) -> None:
        """One step of the environment, and the updates that follow it."""
        config = self.config
        warming_up = self.env_step < config.warmup_env_steps
        if warming_up and self.warmup_policy is not None:
            noise_free = self.warmup_policy(self.observation[np.newaxis])[0]
            action = noise_free
        elif warming_up:
            action = self.warmup_rng.uniform(-1, 1, self.environment.n_act).astype(np.float32)
            noise_free = action
        else:
            action, noise_free = self.agent.act(self.observation)
            if not np.isfinite(action).all():
                raise self._diverged(f"the action is {action.tolist()}")

        step = self.environment.step(action)
        self.env_step += 1
        self.episode_return += step.reward
        self.replay.add(
            self.observation, action, noise_free, step.reward,
            step.observation, step.terminated, step.truncated,
        )  # fmt: skip
        self.observation = step.observation
        if step.terminated or step.truncated:
            self.episodes += 1
            self.recorded.add({"episode_return": self.episode_return})
            self.episode_return = 0.0
            self.observation = self.environment.reset()

        if not warming_up:
            for _ in range(config.updates_per_env_step):
                self._update()
        if config.dynamic_buffer and self.env_step % self.capacity_rule.check_every_env_steps == 0:
            distance = self.capacity_rule.apply(self.replay, self.agent.policy)
            self.recorded.add({"policy_distance": distance})

    def _update(self) -> None:
        config = self.config
        batch = self.replay.sample(config.batch_size, self._n_step(), self.replay_rng)
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is reported below
            record = self.agent.update(batch)
        if not np.isfinite(record["critic_loss"]):
            raise self._diverged(f"the critics' loss is {record['critic_loss']}")
        self.recorded.add(record)

    def _n_step(self) -> int:
        """Steps of the next update's targets."""
        delayed = self.agent.updates < self.config.n_step_delay_updates
        return 1 if delayed else self.config.n_step

    def _diverged(self, what: str) -> Diverged:
        return Diverged(
            f"diverged at step {self.env_step} (update {self.agent.updates}): {what}; the same "
            f"happens again with the same configuration and --seed {self.config.seed}; try a "
            "smaller --learning-rate"
        )

    def _evaluate(self) -> None:
        """Evaluate, and write what happened since the last time."""
        config = self.config
        result = evaluate(
            self.agent.policy, self.evaluation_environment,
            config.evaluation_episodes, config.evaluation_seed,
        )  # fmt: skip
        self.evaluations.append((self.env_step, result.mean))
        self.folder.append(EVALUATIONS, {**self._when(), **_columns(result)})
        self._record_metrics()
        self._record_topology()
        self.console.evaluated(self.env_step, result)

    def _when(self) -> dict[str, Any]:
        return {
            "env_step": self.env_step,
            "updates": self.agent.updates,
            "wall_seconds": round(time.monotonic() - self.started, 3),
        }

    def _record_metrics(self) -> None:
        means = self.recorded.take()
        names = ["critic_loss", "actor_loss", "q", "episode_return"]
        if self.config.agent == "SAC":
            names += ["alpha", "entropy"]
        if self.config.dynamic_buffer:
            names.append("policy_distance")
        self.folder.append(
            METRICS,
            {
                **self._when(),
                "episodes": self.episodes,
                "replay_size": self.replay.size,
                "n_step": self._n_step(),
                **{name: means.get(name, "") for name in names},
            },
        )

    def _record_topology(self) -> None:
        for network, learner in self._learners().items():
            for evolution in learner.evolutions:
                row = asdict(evolution)
                member, layer = row.pop("place")
                self.folder.append(
                    TOPOLOGY,
                    {
                        "agent_update": row.pop("agent_update"),
                        "network": network, "member": member, "layer": layer,
                        **row,
                    },
                )  # fmt: skip
            learner.evolutions.clear()

    def _learners(self) -> dict[str, EvolvingLearner]:
        learners = {"actor": self.agent.actor_learner, "critics": self.agent.critics_learner}
        return {k: v for k, v in learners.items() if isinstance(v, EvolvingLearner)}

    def _finish(self, stopped_by: signal.Signals | None) -> None:
        """Write the agent and say how it went."""
        if self.evaluations[-1][0] != self.env_step:  # else it stands in the evaluation's line
            self._record_metrics()
            self._record_topology()
        config = self.config
        about = {"method": config.method, "env": config.env, "env_step": self.env_step}
        save_agent(
            self.folder, self.agent.networks(), self.environment, about,
            squashed=config.agent == "SAC",
        )  # fmt: skip
        state = "finished" if stopped_by is None else f"stopped by {stopped_by.name}"
        self._record_run(state)
        seconds = time.monotonic() - self.started
        say = self.console.say
        say("")
        if stopped_by is not None:
            say(f"{state} at step {self.env_step:,}; everything evaluated so far is kept")
        say(f"{config.method} on {config.env}, seed {config.seed}: {self._connections()}")
        say(
            f"{self.env_step:,} steps, {self.agent.updates:,} updates in {seconds:,.0f} s "
            f"({self.env_step / seconds:,.0f} steps/s with evaluations)"
        )
        best_step, best = max(self.evaluations, key=lambda e: e[1])
        last_step, last = self.evaluations[-1]
        say(f"return: {last:,.1f} at step {last_step:,}, best {best:,.1f} at step {best_step:,}")
        say(f"run: {self.folder.path}   again: sparl evaluate {self.folder.path}")

    def _announce(self) -> None:
        """What will happen, before it does."""
        say = self.console.say
        for note in [*self.environment.notes, *self.architecture.notes]:
            say(f"note: {note}")
        config = self.config
        say(
            f"{config.method} on {config.env}: {self._connections()}, "
            f"{_native.isa()}, {_native.threads()} threads, run {self.folder.path}"
        )
        for line in self.plan():
            say(line)

    def plan(self) -> list[str]:
        """What the schedules will do, in words."""
        config = self.config
        lines = [
            f"{config.warmup_env_steps:,} random steps, then {config.updates_per_env_step} "
            f"update(s) of {config.batch_size} transitions per step, until step {config.end:,} of "
            f"a horizon of {config.horizon:,}"
        ]
        for network in ("actor", "critics"):
            plan = schedule(config, network)
            if plan.last_due is None:
                lines.append(f"{network}: connections never change")
                continue
            clock = "agent" if plan.clock == "agent" else network
            per_step = float(config.updates_per_env_step)
            if plan.clock == "network" and network == "actor":
                per_step = per_step / config.policy_delay
            first, last = (
                config.warmup_env_steps + int(np.ceil(u / per_step))
                for u in (plan.first, plan.last_due)
            )
            lines.append(
                f"{network}: {plan.total:,} evolutions of {plan.fraction:.1%} of the connections"
                f"{' annealed to 0' if plan.annealed else ''}, "
                f"every {plan.every:,} updates of the {clock}, the first at update {plan.first:,} "
                f"(step {first:,}), the last at {plan.last_due:,} (step {last:,})"
            )
        if config.n_step > 1:
            begins = config.warmup_env_steps + config.n_step_delay_updates
            lines.append(
                f"targets of {config.n_step} steps from update {config.n_step_delay_updates:,} on "
                f"(step {begins:,})"
            )
        return lines

    def _connections(self) -> str:
        arch = self.architecture
        now = connections(arch.actor) + arch.critics * connections(arch.critic)
        full = connections(densified(arch.actor)) + arch.critics * connections(
            densified(arch.critic)
        )
        return f"{now:,} of {full:,} connections"

    def _record_run(self, state: str) -> None:
        self.folder.write_json(
            RUN,
            {
                "state": state,
                **self._when(),
                "machine": machine(),
                "versions": versions(),
                "environment": {"id": self.config.env, "notes": self.environment.notes},
                "schedule": self.plan(),
            },
        )

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on."""
        return {
            "agent": self.agent.state(),
            "replay": self.replay.state(),
            "environment": self.environment.state(),
            "replay_rng": generator_state(self.replay_rng),
            "warmup_rng": generator_state(self.warmup_rng),
            "observation": self.observation,
            "recorded": self.recorded.state(),
            "counters": {
                "env_step": self.env_step,
                "episodes": self.episodes,
                "episode_return": self.episode_return,
            },
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a state of a run of the same configuration."""
        self.agent.restore(state["agent"])
        self.replay.restore(state["replay"])
        restore_generator(self.replay_rng, state["replay_rng"])
        restore_generator(self.warmup_rng, state["warmup_rng"])
        self.recorded.restore(state["recorded"])
        for name, value in state["counters"].items():
            setattr(self, name, value)
        seed = integer_seed(self.config.seed, self.env_step)
        self.observation = self.environment.reset(seed=seed)
        if state["environment"] is not None:
            self.environment.restore(state["environment"])
            self.observation = state["observation"].copy()
        elif self.replay.size:
            # A new episode: what the last one would have brought is not known.
            self.replay.cut()
            self.episode_return = 0.0


class Averages:
    """Means of what was recorded since they were last taken."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, values: dict[str, float]) -> None:
        """Count these values in."""
        for name, value in values.items():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = (total + value, count + 1)

    def take(self) -> dict[str, float]:
        """The means, and start anew."""
        means = {name: total / count for name, (total, count) in self._sums.items()}
        self._sums.clear()
        return means

    def state(self) -> dict[str, tuple[float, int]]:
        """Sums and counts."""
        return dict(self._sums)

    def restore(self, state: dict[str, tuple[float, int]]) -> None:
        """Take over a state."""
        self._sums = dict(state)


class Stop:
    """Whether a signal asked to stop."""

    signal: signal.Signals | None = None


@contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """Note the first SIGINT or SIGTERM; a second one ends the process as usual."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    watched = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in watched}

    def note(number: int, _frame: object) -> None:
        stop.signal = signal.Signals(number)
        for each in watched:
            signal.signal(each, signal.SIG_DFL)

    for number in watched:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _columns(result: Evaluation) -> dict[str, Any]:
    columns: dict[str, Any] = {"mean": result.mean, "std": result.std}
    columns |= {f"return_{i}": value for i, value in enumerate(result.returns)}
    columns |= {f"length_{i}": value for i, value in enumerate(result.lengths)}
    return columns


def _warmup_policy(config: Config, environment: Environment) -> Policy | None:
    """The policy of the run to start from, if there is one.

    Raises:
        DataError: it cannot be read.
        UsageError: it is for another environment.
    """
    if config.warm_start is None:
        return None
    agent = load_agent(config.warm_start)
    if (agent.n_obs, agent.n_act) != (environment.n_obs, environment.n_act):
        raise UsageError(
            f"warm_start {config.warm_start}: its agent takes {agent.n_obs} observations and gives "
            f"{agent.n_act} actions, {config.env} has {environment.n_obs} and {environment.n_act}"
        )
    return agent.policy


def _replay(config: Config, n_obs: int, n_act: int) -> RingBuffer:
    """The replay, if it fits into memory.

    Raises:
        ResourceError: with the capacity that would fit.
    """
    capacity = min(config.replay_capacity, config.end)
    wanted = replay_bytes(capacity, n_obs, n_act, config.dynamic_buffer)
    available = int(0.9 * memory_bytes())
    if wanted > available:
        fits = available // replay_bytes(1, n_obs, n_act, config.dynamic_buffer)
        raise ResourceError(
            f"a replay of {capacity:,} transitions takes {wanted / 1e9:,.1f} GB of "
            f"{available / 1e9:,.1f} GB; --replay-capacity {fits} would fit"
        )
    return RingBuffer(capacity, n_obs, n_act, config.gamma, keep_noise_free=config.dynamic_buffer)
