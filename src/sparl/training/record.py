"""Record a run while it is trained: run.json, CSV files, degrees.json and TensorBoard events."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from sparl.agents import AGENTS
from sparl.agents.agent import Agent
from sparl.architecture import Architecture
from sparl.configuration import Config
from sparl.errors import DataError
from sparl.identity import results_version
from sparl.labels import method_label
from sparl.networks.spec import layer_key
from sparl.topology.propose import rule_digests
from sparl.training.environment import Environment
from sparl.training.environment_state import can_be_resumed
from sparl.training.evaluate import Evaluation
from sparl.training.interrupt import StoppedBy
from sparl.training.machine import cpu_seconds, machine, made_with, versions
from sparl.training.memory import peak_memory_bytes
from sparl.training.plan_text import plan_text
from sparl.training.run import Run
from sparl.training.run_folder import (
    DEGREES,
    DEGREES_BYTES,
    EVALUATIONS,
    METRICS,
    RUN,
    TOPOLOGY,
    RunFolder,
    read_evaluations,
)
from sparl.training.tasks import module_of
from sparl.training.tensorboard import EventFile
from sparl.training.tensors import ANY_NAME


class Record:
    """Writes the files that record a run's progress, and averages metrics between two rows.

    Args:
        folder: the folder of the run.
        config: the configuration of the run.
        architecture: the architecture of the agent's networks.
        environment: the environment of the run.
        threads: number of threads that the native code may use.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: Config,
        architecture: Architecture,
        environment: Environment,
        threads: int,
    ) -> None:
        self.folder = folder
        self.config = config
        self.architecture = architecture
        self.environment = environment
        self.threads = threads
        self.averages = Averages()
        self.evaluations: list[tuple[int, float]] = []  # environment step, mean return
        self.last_metrics: dict[str, float] = {}  # last row of metrics.csv
        self._events = EventFile(folder.files) if config.tensorboard else None
        self.continued: list[dict[str, Any]] = []  # at which steps and how exactly it was resumed
        self.had_checkpoint = False  # whether the run has ever had a checkpoint
        self._started = time.monotonic()
        self._cpu_started = cpu_seconds()

    @property
    def seconds(self) -> float:
        """Wall-clock time of the run, without work that was lost in interruptions [s]."""
        return time.monotonic() - self._started

    @property
    def cpu_seconds(self) -> float:
        """CPU time of the run and its ended child processes, without lost work [s]."""
        return cpu_seconds() - self._cpu_started

    @property
    def last_evaluated(self) -> int:
        """Step of the last evaluation."""
        return self.evaluations[-1][0]

    def resume(self, seconds: float, cpu: float, continued: list[dict[str, Any]]) -> None:
        """Continue the record of a run whose CSV files have been truncated to a checkpoint.

        Args:
            seconds: wall-clock time up to the checkpoint.
            cpu: CPU time up to the checkpoint.
            continued: at which steps and how exactly the run was resumed.

        Raises:
            DataError: if the evaluations cannot be read.
        """
        self._started = time.monotonic() - seconds
        self._cpu_started = cpu_seconds() - cpu
        self.continued = continued
        self.had_checkpoint = True
        self.evaluations = read_evaluations(self.folder)

    def result(self, stopped_by: StoppedBy | None) -> Run:
        """Return the result of the run so far."""
        evaluations = tuple(self.evaluations)
        return Run(self.folder.path, self.config, evaluations, stopped_by, self.seconds)

    def run(self, state: str, env_step: int, updates: int) -> None:
        """Write run.json: state, machine, versions, environment and schedule."""
        self.folder.write_json(
            RUN,
            {
                "state": state,
                **self._when(env_step, updates),
                "cpu_seconds": round(self.cpu_seconds, 3),
                "continued": self.continued,
                "had_checkpoint": self.had_checkpoint,
                "bit_exact": all(not each["not_exact_because"] for each in self.continued),
                "peak_memory_bytes": peak_memory_bytes(),
                "machine": {**machine(), "threads": self.threads},
                "versions": versions(),
                "environment": {
                    "id": self.config.env,
                    "notes": self.environment.notes,
                    "observations": self.environment.n_obs,
                    "actions": self.environment.n_act,
                    "module": module_of(self.config.env),  # which registered the environment
                },
                "method": method_label(self.config),
                "preset": results_version(self.config),
                "schedule": plan_text(self.config, self.architecture),
            },
        )

    def evaluation(self, env_step: int, updates: int, result: Evaluation) -> None:
        """Append a row to evaluations.csv."""
        self.evaluations.append((env_step, result.mean))
        columns: dict[str, Any] = {"mean": result.mean, "std": result.std}
        columns |= {f"return_{i}": value for i, value in enumerate(result.returns)}
        columns |= {f"length_{i}": value for i, value in enumerate(result.lengths)}
        columns = {"cpu_seconds": round(self.cpu_seconds, 3), **columns}
        self.folder.growing.append(EVALUATIONS, {**self._when(env_step, updates), **columns})
        steps_per_second = env_step / max(self.seconds, 1e-9)
        self._show(
            env_step,
            {
                "evaluation/return_mean": result.mean,
                "evaluation/return_std": result.std,
                "evaluation/episode_length": sum(result.lengths) / len(result.lengths),
                "time/env_steps_per_second": steps_per_second,
            },
        )

    def metrics(self, env_step: int, updates: int, counts: Mapping[str, int]) -> dict[str, float]:
        """Append a row to metrics.csv: these counts, and the means since the previous row.

        Args:
            env_step: the environment step.
            updates: number of updates of the agent so far.
            counts: the values of the columns episodes and replay_size.

        Returns:
            The means, by name.
        """
        counts = {**counts, "n_step": self.config.n_step_at(updates + 1)}
        means = self.averages.take()
        names = list(AGENTS[self.config.agent].metrics)
        names.insert(3, "episode_return")  # the order of columns since version 0.1
        if self.config.dynamic_buffer:
            names.append("policy_distance")
        columns = {name: means.get(name, "") for name in names}
        self.folder.growing.append(METRICS, {**self._when(env_step, updates), **counts, **columns})
        groups = {
            "episodes": "rollout", "episode_return": "rollout",
            "replay_size": "replay", "policy_distance": "replay",
        }  # fmt: skip
        self.last_metrics = {n: float(v) for n, v in {**counts, **columns}.items() if v != ""}
        shown = {f"{groups.get(n, 'train')}/{n}": v for n, v in self.last_metrics.items()}
        self._show(env_step, shown)
        return means

    def topology(self, env_step: int, agent: Agent) -> None:
        """Append a row to topology.csv for each topology update of a layer since the last call."""
        for network, learner in agent.learners.items():
            for update in learner.topology_updates:
                row = asdict(update)
                self.folder.growing.append(
                    TOPOLOGY, {"agent_update": row.pop("agent_update"), "network": network, **row}
                )
                layer_name = f"topology/{network}.{layer_key((update.member, update.layer))}"
                self._show(env_step, {f"{layer_name}.initial_overlap": update.initial_overlap})
            learner.topology_updates.clear()

    def degrees(self, agent: Agent, env_step: int) -> None:
        """Write degrees.json: each neuron's connection count at step 0 and at this step.

        For each network, member and layer, `out` counts the connections of each input neuron, and
        `in` counts the connections of each output neuron. Nothing is written after step 0 if the
        counts at step 0 are unknown because the file was deleted.

        Raises:
            DataError: if the file is damaged.
        """
        layouts = {name: learner.network.layout for name, learner in agent.learners.items()}
        now: dict[str, list[list[dict[str, list[int]]]]] = {
            network: [
                [
                    {
                        "out": np.bincount(p.inputs, minlength=p.n_in).tolist(),
                        "in": np.bincount(p.outputs, minlength=p.n_out).tolist(),
                    }
                    for (of, _), p in layout
                    if of == member
                ]
                for member in range(layout.spec.members)
            ]
            for network, layout in layouts.items()
        }
        initial = now if env_step == 0 else self._initial_degrees()
        if initial is not None:
            content = {"initial": initial, "now": now}
            self.folder.write(DEGREES, json.dumps(content, separators=(",", ":")).encode())

    def _initial_degrees(self) -> Any:
        """Return the counts at step 0 in degrees.json; None if there are none."""
        if not self.folder.files.has(DEGREES):
            return None
        try:
            return self.folder.read_json(DEGREES, DEGREES_BYTES).get("initial")
        except DataError as error:
            raise DataError(
                f"{error}; restore the file from a copy, or delete it to resume the run without it"
            ) from None

    def close(self) -> None:
        """Close the event file."""
        if self._events is not None:
            self._events.close()

    def _show(self, env_step: int, values: Mapping[str, float]) -> None:
        """Write values to the TensorBoard event file, if the configuration requests one."""
        if self._events is not None:
            self._events.scalars(env_step, values)

    def _when(self, env_step: int, updates: int) -> dict[str, Any]:
        return {
            "env_step": env_step,
            "updates": updates,
            "wall_seconds": round(self.seconds, 3),
        }


def not_exact_because(
    config: Config, environment: dict[str, Any] | None, about: Mapping[str, Any]
) -> list[str]:
    """Return the reasons why a run cannot be resumed bit for bit from a checkpoint.

    Args:
        config: the configuration of the run.
        environment: the environment's state in the checkpoint; None if it was not saved.
        about: the entries of the checkpoint's manifest that CheckpointSaver wrote.
    """
    because = []
    if not can_be_resumed(environment):
        because.append(f"the state of {config.env} cannot be saved, so a new episode begins")
    here = made_with()
    because += [
        f"{name} is now {here.get(name)} but was {value}"
        for name, value in about["made_with"].items()
        if value != here.get(name)
    ]
    rules = rule_digests(config.drop, config.grow, config.density_schedule)
    return because + [
        f"the code of {rule} has changed"
        for rule, digest in about.get("rules", {}).items()  # not in older checkpoints
        if digest != rules.get(rule, digest)
    ]


def exactness_text(because: Sequence[str]) -> str:
    """Describe how exactly a run is resumed, given the reasons why it is not exact."""
    return f"not exactly: {'; '.join(because)}" if because else "bit for bit"


def resumption_text(continued: Mapping[str, Any]) -> str:
    """Describe an entry of `Record.continued`."""
    return f"at step {continued['env_step']:,}, {exactness_text(continued['not_exact_because'])}"


def finite(values: dict[str, float]) -> dict[str, float]:
    """Check that the values of an agent's update are finite, and return them.

    Raises:
        FloatingPointError: if a value is not finite.
    """
    for name, value in values.items():
        if not math.isfinite(value):
            raise FloatingPointError(f"{name} is {value}")
    return values


class Averages:
    """Computes the means of the values that were added since the last call of `take`."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, values: dict[str, float]) -> None:
        """Add values to the means."""
        for name, value in values.items():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = (total + value, count + 1)

    def take(self) -> dict[str, float]:
        """Return the means, and reset them."""
        means = {name: total / count for name, (total, count) in self._sums.items()}
        self._sums.clear()
        return means

    def state(self) -> dict[str, tuple[float, int]]:
        """Return the sums and counts."""
        return dict(self._sums)

    def expected_state(self) -> dict[str, tuple[float, int]]:
        """Return a template of the state: sums and counts, with arbitrary names as keys."""
        return {ANY_NAME: (0.0, 0)}

    def restore(self, state: dict[str, tuple[float, int]]) -> None:
        """Restore a state.

        Raises:
            ValueError: if a count is less than 1.
        """
        if any(count < 1 for _, count in state.values()):
            raise ValueError("the counts of averages must be at least 1")
        self._sums = {name: (total, count) for name, (total, count) in state.items()}
