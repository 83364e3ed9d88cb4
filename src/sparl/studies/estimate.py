"""Estimate the time and memory of a study from a short trial of each configuration."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sparl.configuration import Config
from sparl.cost import network_bytes
from sparl.replay.ring_buffer import replay_bytes
from sparl.studies.study import Unit
from sparl.training.assemble import assemble

TRIAL_STEPS = 100
# Memory used by Python, NumPy, Gymnasium, MuJoCo and checkpoint buffers, measured over 1M steps.
PROCESS_BYTES = 165_000_000


@dataclass(frozen=True)
class Estimate:
    """Time and memory of one run on one core."""

    seconds: float
    bytes: int


def estimates(units: Mapping[Unit, int]) -> tuple[dict[str, Estimate], int]:
    """Estimate the remaining time and the memory of each unit.

    Args:
        units: for each unit, the environment step from which it is trained.

    Returns:
        The estimates by unit id, and the number of trials. Units that differ only in their seeds
        share a trial.
    """
    found: dict[Config, Estimate] = {}
    needs = {}
    for unit, env_step in units.items():
        kind = replace(unit.config, seed=0)
        if kind not in found:
            found[kind] = _trial(kind)
        left = 1 - env_step / kind.end
        needs[unit.id] = replace(found[kind], seconds=left * found[kind].seconds)
    return needs, len(found)


def _trial(config: Config) -> Estimate:
    """Measure training steps with updates, and one evaluation after these few steps.

    Evaluations of a trained agent take longer in tasks where an untrained agent falls immediately.
    """
    with tempfile.TemporaryDirectory() as folder:
        short = replace(
            config, run_dir=str(Path(folder) / "run"), threads=1, warmup_env_steps=config.batch_size
        )
        training = assemble(short, quiet=True)
        try:
            training.begin_episode(seed=0)
            for _ in range(short.warmup_env_steps + 10):
                training.step()
            start = time.perf_counter()
            for _ in range(TRIAL_STEPS):
                training.step()
            step = (time.perf_counter() - start) / TRIAL_STEPS
            start = time.perf_counter()
            training.evaluator.evaluate(training.agent.policy)
            evaluation = time.perf_counter() - start
            n_obs, n_act = training.environment.n_obs, training.environment.n_act
            networks = network_bytes(training.architecture, config.batch_size)
        finally:
            training.close()
    replay = replay_bytes(config.replay_rows, n_obs, n_act, config.dynamic_buffer)
    evaluations = 1 + config.end // config.evaluate_every_env_steps
    return Estimate(config.end * step + evaluations * evaluation, PROCESS_BYTES + networks + replay)
