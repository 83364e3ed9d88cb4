"""One update of an agent, split into its parts."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from statistics import median
from typing import Any

from sparl.methods import preset
from sparl.networks.adam import Adam
from sparl.networks.mlp import Network
from sparl.networks.target import OwnPatternTarget, SharedPatternTarget
from sparl.replay.ring_buffer import RingBuffer
from sparl.training.loop import Training
from sparl.training.rewire import EvolvingLearner

# What an update is made of, and the methods in which it happens; the rest is Python and NumPy.
PARTS: dict[str, tuple[tuple[type, str], ...]] = {
    "sampling": ((RingBuffer, "sample"),),
    "forward": ((Network, "forward"), (Network, "__call__")),
    "gradients": ((Network, "gradient"), (Network, "input_gradient")),
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


@contextmanager
def _clocks(spent: dict[str, float]) -> Iterator[None]:
    """Add the seconds spent in each part while this lasts."""
    originals: list[tuple[type, str, Callable[..., Any]]] = []
    for part, methods in PARTS.items():
        for owner, name in methods:
            original = getattr(owner, name)
            originals.append((owner, name, original))

            def timed(*args: Any, _call: Any = original, _part: str = part, **kwargs: Any) -> Any:
                start = time.perf_counter()
                try:
                    return _call(*args, **kwargs)
                finally:
                    spent[_part] += time.perf_counter() - start

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
        threads: of the engine.
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
            for _ in range(repetitions):
                spent = dict.fromkeys(PARTS, 0.0)
                start = time.perf_counter()
                with _clocks(spent):
                    for _ in range(updates):
                        training.update()
                total = time.perf_counter() - start
                spent["Python and NumPy"] = total - sum(spent.values())
                spent["total"] = total
                for part, took in spent.items():
                    found.setdefault(part, []).append(1e6 * took / updates)
    return {part: median(values) for part, values in found.items()}
