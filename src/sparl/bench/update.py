"""Measure the duration of each part of an agent's update."""

from __future__ import annotations

import cProfile
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from statistics import median
from typing import Any

from sparl.learner import SparseLearner
from sparl.methods import preset
from sparl.networks.adam import Adam
from sparl.networks.network import Network
from sparl.networks.target import OwnPatternTarget, SharedPatternTarget
from sparl.replay.ring_buffer import RingBuffer
from sparl.training.assemble import assemble
from sparl.training.loop import Training

# The parts of an update and the functions that execute each; the rest is Python and NumPy.
PARTS: dict[str, tuple[Callable[..., Any], ...]] = {
    "sampling": (RingBuffer.sample,),
    "forward": (Network.forward, Network.__call__),
    "forward and input gradients": (Network.value_and_input_gradient,),
    "gradients and Adam": (Adam.step,),
    "target": (SharedPatternTarget.soft_update,),
    "target rule": (OwnPatternTarget.soft_update,),
    "topology update": (SparseLearner._propose, SparseLearner._rewire),
}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "DS-TD3": {"method": "DS-TD3"},
    "TD3": {"method": "TD3"},
    "DS-TD3, batch 256": {"method": "DS-TD3", "batch_size": 256},
    "TD3, batch 256": {"method": "TD3", "batch_size": 256},
    "RLx2-TD3, 95 %": {
        "method": "RLx2-TD3", "actor_sparsity": 0.95, "critic_sparsity": 0.95,
        "n_step_delay_updates": 0,
    },
    "TD3, rlx2": {"method": "TD3", "settings": "rlx2"},
    "RLx2-SAC, 90/80 %": {"method": "RLx2-SAC", "n_step_delay_updates": 0},
    "SAC, rlx2": {"method": "SAC", "settings": "rlx2"},
    "DS-SAC": {"method": "DS-SAC"},
}  # fmt: skip


def _updates(training: Training, number: int) -> dict[str, float]:
    """Profile `number` updates, and return the time spent in each part and in total [s]."""
    # Without builtins, the profiler counts only calls of Python functions, which are few.
    profiler = cProfile.Profile(builtins=False)
    start = time.perf_counter()
    with profiler:
        for _ in range(number):
            training.update()
    total = time.perf_counter() - start
    seconds = {entry.code: entry.totaltime for entry in profiler.getstats()}
    spent = {
        part: sum(seconds.get(function.__code__, 0.0) for function in functions)
        for part, functions in PARTS.items()
    }
    return {**spent, "Python and NumPy": total - sum(spent.values()), "total": total}


def split(
    env: str, threads: int, fields: dict[str, Any], *, updates: int, repetitions: int
) -> dict[str, float]:
    """Return the mean duration of each part of an update [us]; topology updates are included.

    Args:
        env: environment that determines the shapes of the networks.
        threads: number of threads of the native code. Waiting for work that runs in the background
            counts for the part that waits.
        fields: fields of the configuration, including the method.
        updates: number of updates in a repetition.
        repetitions: number of repetitions; each result is their median.
    """
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        config = preset(
            env=env, threads=threads, steps=1_000_000, warmup_env_steps=1000,
            run_dir=f"{folder}/run", **fields,
        )  # fmt: skip
        with closing(assemble(config, quiet=True)) as training:
            training.begin_episode(seed=0)
            for _ in range(1200):
                training.step()
            for _ in range(repetitions):
                for part, took in _updates(training, updates).items():
                    found.setdefault(part, []).append(1e6 * took / updates)
    return {part: median(values) for part, values in found.items()}
