"""Read and check the untrusted files of a finished run, for reports and archives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparl.agents import AGENTS, specs_of
from sparl.agents.agent import ACTOR
from sparl.architecture import architecture
from sparl.archive.records import (
    NumberRow,
    check_about,
    check_degrees,
    check_steps,
    check_trained,
    check_whole,
    numbers,
)
from sparl.configuration import Config
from sparl.errors import DataError, UsageError
from sparl.identity import run_id
from sparl.networks.spec import NetworkSpec
from sparl.training.about import about_run
from sparl.training.run_folder import (
    DEGREES,
    DEGREES_BYTES,
    EVALUATIONS,
    METRICS,
    RUN,
    TOPOLOGY,
    RunFolder,
)
from sparl.types import Float64Array
from sparl.user_modules import command_line

# The size limit of degrees.json: a base, and an addition for each hidden unit [bytes].
_DEGREES_BASE, _DEGREES_PER_UNIT = 1 << 22, 200
REPLAY = ("replay_size", "policy_distance", "n_step")
TOPOLOGY_UPDATE = ("agent_update", "connections", "initial_overlap", "moved", "returned")
DEAD = "dropped_dead"  # a column of topology.csv that runs of version 0.1 lack
UNDER_LOAD = 1.2  # ratio of wall-clock to CPU time above which a run counts as under load


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """The records of a finished run.

    Attributes:
        path: the run's folder.
        config: the configuration of the run.
        about: the content of run.json.
        env_steps: step of each evaluation [environment steps].
        updates: number of updates before each evaluation.
        seconds: wall-clock time from the start to each evaluation [s].
        cpu_seconds: CPU time from the start to each evaluation [s]; None if it was not recorded.
        returns: mean return of each evaluation.
        metrics: rows of metrics.csv, with env_step and those columns in REPLAY that were recorded.
        topology: rows of topology.csv, by network, with the columns in TOPOLOGY_UPDATE and, if it
            was recorded, DEAD.
        degrees: the content of degrees.json; empty if the file was not recorded.
    """

    path: Path
    config: Config
    about: dict[str, Any]
    env_steps: Float64Array
    updates: Float64Array
    seconds: Float64Array
    cpu_seconds: Float64Array | None
    returns: Float64Array
    metrics: list[NumberRow]
    topology: dict[str, list[NumberRow]]
    degrees: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> FinishedRun:
        """Read a run's folder.

        Raises:
            DataError: if the run is unfinished or damaged.
        """
        try:
            run = cls._read(path)
            run.id  # noqa: B018  raises if the method or the settings do not exist
        except DataError:
            raise
        except Exception as error:  # one damaged run must not prevent a report
            text = " ".join(str(error).split())[:500]
            raise DataError(f"{path}: cannot be read ({type(error).__name__}: {text})") from None
        return run

    @classmethod
    def _read(cls, path: Path) -> FinishedRun:
        folder = RunFolder.open(path)
        config, about = folder.config(), folder.run()
        if about.get("state") != "finished":
            now = about_run(path)
            resumable = "continuation" in now and now["state"] != "running"
            words = command_line(folder.environment_module(), "resume", path)
            todo = f"; to finish it: {words}" if resumable else ""
            raise DataError(
                f"{path}: {now['state']} at step {now['env_step']:,} of {config.end:,}, but only "
                f"finished runs can be reported or archived{todo}"
            )
        names = ("env_step", "updates", "wall_seconds", "mean")
        lines = folder.rows(EVALUATIONS, whole=True)
        evaluations = numbers(path / EVALUATIONS, lines, names, ["cpu_seconds"])
        metrics = numbers(path / METRICS, folder.rows(METRICS, whole=True), ["env_step"], REPLAY)
        steps, updates, seconds, means = (
            np.array([row[name] for row in evaluations]) for name in names
        )
        cpu = [row["cpu_seconds"] for row in evaluations if "cpu_seconds" in row]
        cpu_seconds = np.array(cpu) if len(cpu) == len(evaluations) else None
        lines = folder.rows(TOPOLOGY, whole=True)
        updates_of_topology = list(
            zip(lines, numbers(path / TOPOLOGY, lines, TOPOLOGY_UPDATE, [DEAD]), strict=True)
        )
        check_about(path / RUN, about)
        most = min(DEGREES_BYTES, _DEGREES_BASE + _DEGREES_PER_UNIT * sum(config.hidden))
        degrees = folder.read_json(DEGREES, most) if (path / DEGREES).exists() else {}
        networks = list(specs_of(config))
        if degrees:
            check_degrees(path / DEGREES, degrees, networks)
        topology = {
            network: [row for line, row in updates_of_topology if line.get("network") == network]
            for network in networks
        }
        check_whole(path, about["env_step"], evaluations, metrics, topology, degrees)
        check_steps(path / EVALUATIONS, evaluations, config.evaluate_every_env_steps)
        check_trained(path, evaluations, config.warmup_env_steps)
        run = cls(
            path, config, about, steps, updates, seconds, cpu_seconds, means,
            metrics, topology, degrees,
        )  # fmt: skip
        if run.sizes:
            try:
                architecture(config, *run.sizes)
            except UsageError as error:
                raise DataError(f"{path}: {error}") from None
        return run

    @property
    def networks(self) -> dict[str, NetworkSpec]:
        """The agent's networks, by name, as if observations and actions had length 1."""
        return specs_of(self.config)

    @property
    def sizes(self) -> tuple[int, int] | None:
        """Lengths of an observation and of an action; None if the lengths were not recorded."""
        environment = self.about.get("environment", {})
        if "observations" in environment:
            return environment["observations"], environment["actions"]
        if not self.degrees:
            return None
        layers = self.degrees["now"][ACTOR][0]
        n_act = len(layers[-1]["in"]) // AGENTS[self.config.agent].head.outputs_per_action
        return (len(layers[0]["out"]), n_act) if n_act else None

    @property
    def trained_returns(self) -> Float64Array:
        """Mean returns of the evaluations after the first update."""
        return self.returns[self.updates > 0]

    @property
    def under_load(self) -> bool:
        """Whether wall-clock time exceeds CPU time by more than 20 %; False if unknown."""
        if self.cpu_seconds is None:
            return False
        return bool(self.seconds[-1] > UNDER_LOAD * self.cpu_seconds[-1])

    @property
    def id(self) -> str:
        """Id of the run in studies; see `sparl.identity.run_id`."""
        return run_id(self.config, self.about.get("preset", 1))
