"""One update of an agent, split into its parts."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from sparl.bench.timing import in_turns, seconds
from sparl.methods import preset
from sparl.networks.adam import Adam
from sparl.networks.mlp import Array, Network, Trace
from sparl.networks.target import OwnPatternTarget, SharedPatternTarget
from sparl.replay.ring_buffer import RingBuffer
from sparl.training.loop import Training
from sparl.training.rewire import EvolvingLearner

# What an update is made of, and the methods in which it happens; the rest is Python and NumPy.
# A step of Adam computes the gradient too: its time is divided, see _gradients_share.
PARTS: dict[str, tuple[tuple[type, str], ...]] = {
    "sampling": ((RingBuffer, "sample"),),
    "forward": ((Network, "forward"), (Network, "__call__")),
    "gradients": ((Network, "input_gradient"),),
    "Adam": ((Adam, "step"),),
    "target": ((SharedPatternTarget, "follow"),),
    "target rule": ((OwnPatternTarget, "follow"),),
    "evolution": ((EvolvingLearner, "_evolve"),),
}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "DS-TD3": {"method": "DS-TD3"},
    "TD3, batch 256": {"method": "TD3", "batch_size": 256},
    "RLx2-TD3, 95 %": {
        "method": "RLx2-TD3", "actor_sparsity": 0.95, "critic_sparsity": 0.95,
        "n_step_delay_updates": 0,
    },
    "RLx2-SAC, 90/80 %": {"method": "RLx2-SAC", "n_step_delay_updates": 0},
    "DS-SAC": {"method": "DS-SAC"},
}  # fmt: skip


def _gradients_share(network: Network, trace: Trace, output_gradient: Array) -> float:
    """Which part of the time of a step of Adam the gradient alone takes."""
    copy = network.copy()
    gradient, m, v = np.zeros((3, copy.parameters.size), np.float32)

    def alone() -> None:
        copy.gradient(trace, output_gradient, gradient)

    def both() -> None:
        copy.adam_step(trace, output_gradient, m, v, 1, 1e-3, 0.9, 0.999, 1e-8, 0.0)
        copy.finish()

    calls = {"alone": partial(seconds, alone, 0.002), "both": partial(seconds, both, 0.002)}
    took = in_turns(calls, 5)
    return min(took["alone"] / took["both"], 1.0)


@contextmanager
def _clocks(spent: dict[str, float], shares: dict[int, float]) -> Iterator[None]:
    """Add the seconds spent in each part while this lasts; shares: of networks seen, by id."""
    originals: list[tuple[type, str, Callable[..., Any]]] = []
    for part, methods in PARTS.items():
        for owner, name in methods:
            original = getattr(owner, name)
            originals.append((owner, name, original))

            def timed(*args: Any, _call: Any = original, _part: str = part, **kwargs: Any) -> Any:
                if _part == "Adam" and id(args[1]) not in shares:
                    shares[id(args[1])] = _gradients_share(*args[1:])
                start = time.perf_counter()
                try:
                    return _call(*args, **kwargs)
                finally:
                    took = time.perf_counter() - start
                    gradients = took * shares[id(args[1])] if _part == "Adam" else 0.0
                    spent["gradients"] += gradients
                    spent[_part] += took - gradients

            setattr(owner, name, timed)
    try:
        yield
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


def split(
    env: str, threads: int, fields: dict[str, Any], *, updates: int, repetitions: int
) -> dict[str, float]:
    """Microseconds of each part of an update, its evolutions included in proportion.

    Args:
        env: the environment whose shapes the networks have.
        threads: of the engine; with several, what goes on later counts where it is waited for.
        fields: of the configuration, the method included.
        updates: in one repetition.
        repetitions: of which the median is taken.
    """
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        config = preset(
            env=env, threads=threads, steps=1_000_000, warmup_env_steps=1000,
            run_dir=f"{folder}/run", **fields,
        )  # fmt: skip
        training = Training(config, quiet=True)
        with closing(training):
            training.observation = training.environment.reset(seed=0)
            for _ in range(1200):
                training.step()
            shares: dict[int, float] = {}
            with _clocks(dict.fromkeys(PARTS, 0.0), shares):
                for _ in range(2 * config.actor_every):
                    training.update()
            for _ in range(repetitions):
                spent = dict.fromkeys(PARTS, 0.0)
                start = time.perf_counter()
                with _clocks(spent, shares):
                    for _ in range(updates):
                        training.update()
                total = time.perf_counter() - start
                spent["Python and NumPy"] = total - sum(spent.values())
                spent["total"] = total
                for part, took in spent.items():
                    found.setdefault(part, []).append(1e6 * took / updates)
    return {part: median(values) for part, values in found.items()}
