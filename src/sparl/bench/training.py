"""Measure the speed of training, including evaluations, and a lower bound on the training time."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sparl.agents import AGENTS, settings_of
from sparl.architecture import architecture
from sparl.bench.peers import PEERS
from sparl.bench.timing import medians, seconds
from sparl.bench.update import CONFIGURATIONS
from sparl.errors import SparlError
from sparl.methods import preset
from sparl.training.environment import make_environment
from sparl.training.interrupt import PARENT
from sparl.training.run_folder import EVALUATIONS, RunFolder

WARMUP, SPAN = 2_000, 5_000  # environment steps without updates, and measured steps


def steps_per_second(env: str, threads: int, fields: dict[str, Any]) -> float:
    """Measure environment steps per second of a training process with evaluations.

    The measurement lasts from the evaluation at step 5,000 to the one at step 10,000 and uses the
    times that the run recorded.
    """
    options = {
        "env": env, "threads": threads, "steps": 2 * SPAN, "horizon_env_steps": 1_000_000,
        "warmup_env_steps": WARMUP, "evaluate_every_env_steps": SPAN, **fields,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        flags = [f"--{k.replace('_', '-')}={v}" for k, v in {**options, "run_dir": run}.items()]
        command = [sys.executable, "-m", "sparl", "train", *flags]
        environment = {**os.environ, PARENT: str(os.getpid())}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            raise SparlError(f"bench: training failed: {done.stderr.strip()}")
        rows = RunFolder.open(run).rows(EVALUATIONS)
    clock = {int(row["env_step"]): float(row["wall_seconds"]) for row in rows}
    return SPAN / (clock[2 * SPAN] - clock[SPAN])


def floor(env: str, fields: dict[str, Any], peak_gflops: float) -> dict[str, float]:
    """Return a lower bound on the time per environment step on one core [ms].

    Returns:
        A dict with three times, whose sum is the bound: "update", for the multiply-adds of an
        update at the core's peak; "environment", for one simulator step; and "evaluation", for the
        simulator steps of an evaluation whose episodes have maximum length, divided by the 5,000
        steps between two evaluations. Episodes that end early make evaluations shorter.
    """
    config = preset(env=env, **fields)
    environment = make_environment(config)
    nets = architecture(config, environment.n_obs, environment.n_act)
    each = AGENTS[config.agent].multiply_adds(
        settings_of(config), nets.networks, environment.n_act, config.n_step
    )
    rng = np.random.default_rng(0)
    gym = environment.gym
    gym.reset(seed=0)

    def step() -> None:
        action = environment.scale(rng.uniform(-1, 1, environment.n_act).astype(np.float32))
        _, _, terminated, truncated, _ = gym.step(action)
        if terminated or truncated:
            gym.reset()

    spec = gym.spec
    longest = (spec and spec.max_episode_steps) or 1000
    simulator = 1e3 * seconds(step, 0.5)
    environment.close()
    return {
        "update": 1e3 * 2e-9 * each * config.batch_size / peak_gflops,
        "environment": simulator,
        "evaluation": simulator * config.evaluation_episodes * longest / SPAN,
    }


def all_trainings(
    env: str, peak_gflops: float, *, repetitions: int, against: list[str]
) -> list[dict[str, Any]]:
    """Measure all configurations and peers in interleaved repetitions, and the lower bounds."""
    contestants: dict[str, Callable[[], float]] = {}
    for name, fields in CONFIGURATIONS.items():
        for threads in (1, 2):
            contestants[f"{name}|{threads}"] = partial(steps_per_second, env, threads, fields)
    for peer in against:
        for threads in (1, 2):
            contestants[f"{peer}|{threads}"] = partial(PEERS[peer], env, threads)
    found = medians(contestants, repetitions)
    rows = []
    for name in [*CONFIGURATIONS, *against]:
        row: dict[str, Any] = {"name": name, "steps_per_second": {}}
        for threads in (1, 2):
            row["steps_per_second"][threads] = found[f"{name}|{threads}"]
        if name in CONFIGURATIONS:
            row["floor_ms"] = floor(env, CONFIGURATIONS[name], peak_gflops)
        rows.append(row)
    return rows
