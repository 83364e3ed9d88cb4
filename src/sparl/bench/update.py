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

from sparl.bench.timing import medians, seconds
from sparl.learner import SparseLearner
from sparl.methods import preset
from sparl.networks.adam import Adam
from sparl.networks.network import Network, Trace
from sparl.networks.target import OwnPatternTarget, SharedPatternTarget
from sparl.replay.ring_buffer import RingBuffer
from sparl.training.loop import Training
from sparl.types import Array

# What an update is made of, and the methods in which it happens; the rest is Python and NumPy.
# A part that happens within another part's methods is separated from it by DIVIDED.
PARTS: dict[str, tuple[tuple[type, str], ...]] = {
    "sampling": ((RingBuffer, "sample"),),
    "forward": ((Network, "forward"), (Network, "__call__")),
    "gradients": (),
    "Adam": (),
    "target": ((SharedPatternTarget, "soft_update"),),
    "target rule": ((OwnPatternTarget, "soft_update"),),
    "topology update": ((SparseLearner, "_propose"), (SparseLearner, "_rewire")),
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


def _share(alone: Callable[[], object], both: Callable[[], object]) -> float:
    took = medians(
        {"alone": partial(seconds, alone, 0.002), "both": partial(seconds, both, 0.002)}, 5
    )
    return took["alone"] / took["both"]


def _forward_share(
    network: Network, *inputs: Array, weight: float, member: int | None = None
) -> float:
    """Return the share of the outputs in the time of a value and its input gradient.

    Of one member: all members' outputs over their number.
    """
    stack, parameters = network.layout.stack, network.parameters
    members = 1 if member is None else network.layout.members
    alone = partial(stack.outputs, parameters, inputs, network.pool)
    both = partial(stack.value_and_input_gradient, parameters, inputs, weight, member, network.pool)
    return min(_share(alone, both) / members, 1.0)


def _gradients_share(_: Adam, network: Network, trace: Trace, output_gradient: Array) -> float:
    """Return the share of the gradient in the time of a step of Adam."""
    stack, parameters = network.layout.stack, network.parameters.copy()
    gradient, m, v = np.zeros((3, parameters.size), np.float32)
    d = output_gradient.reshape(network.layout.members, trace.native.batch, -1)
    given = parameters, trace.native, d

    def alone() -> None:
        stack.gradient(*given, gradient, pool=network.pool)

    def both() -> None:
        stack.adam_step(*given, m, v, 1, 1e-3, 0.9, 0.999, 1e-8, 0.0, network.pool).finish()

    return min(_share(alone, both), 1.0)


# Methods whose time is divided between two parts, and the function that measures the first's share.
DIVIDED: tuple[tuple[type, str, str, str, Callable[..., float]], ...] = (
    (Network, "value_and_input_gradient", "forward", "gradients", _forward_share),
    (Adam, "step", "gradients", "Adam", _gradients_share),
)


@contextmanager
def _clocks(spent: dict[str, float], shares: dict[int, float]) -> Iterator[None]:
    """Add the seconds spent in each part while this lasts; shares: of divided calls, by owner."""
    whole = [
        (owner, name, part, part, None)
        for part, methods in PARTS.items()
        for owner, name in methods
    ]
    originals: list[tuple[type, str, Callable[..., Any]]] = []
    for owner, name, first, rest, find_share in (*whole, *DIVIDED):
        original = getattr(owner, name)
        originals.append((owner, name, original))

        def timed(
            *args: Any,
            _call: Any = original,
            _parts: tuple[str, str] = (first, rest),
            _find_share: Callable[..., float] | None = find_share,
            **keywords: Any,
        ) -> Any:
            share = 1.0
            if _find_share:
                if id(args[0]) not in shares:
                    shares[id(args[0])] = _find_share(*args, **keywords)
                share = shares[id(args[0])]
            start = time.perf_counter()
            try:
                return _call(*args, **keywords)
            finally:
                took = time.perf_counter() - start
                spent[_parts[0]] += took * share
                spent[_parts[1]] += took * (1 - share)

        setattr(owner, name, timed)
    try:
        yield
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


def split(
    env: str, threads: int, fields: dict[str, Any], *, updates: int, repetitions: int
) -> dict[str, float]:
    """Measure each part of an update [microseconds], topology updates included in proportion.

    Args:
        env: the environment whose shapes the networks have.
        threads: of the engine; with several, work that runs concurrently counts for the part that
            blocks until it has finished.
        fields: of the configuration, the method included.
        updates: in one repetition.
        repetitions: the median over these is returned.
    """
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        config = preset(
            env=env, threads=threads, steps=1_000_000, warmup_env_steps=1000,
            run_dir=f"{folder}/run", **fields,
        )  # fmt: skip
        training = Training(config, quiet=True)
        with closing(training):
            training.begin_episode(seed=0)
            for _ in range(1200):
                training.step()
            shares: dict[int, float] = {}
            with _clocks(dict.fromkeys(PARTS, 0.0), shares):
                for _ in range(2 * config.policy_delay):
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
