"""Measure the parts of one update of an agent."""

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
from sparl.methods import preset
from sparl.networks.adam import Adam
from sparl.networks.mlp import Array, Network, Trace
from sparl.networks.target import OwnPatternTarget, SharedPatternTarget
from sparl.replay.ring_buffer import RingBuffer
from sparl.training.loop import Training
from sparl.training.rewire import EvolvingLearner

# The parts of an update and the methods that they consist of; the rest is Python and NumPy.
# DIVIDED lists methods that contain two parts.
PARTS: dict[str, tuple[tuple[type, str], ...]] = {
    "sampling": ((RingBuffer, "sample"),),
    "forward": ((Network, "forward"), (Network, "__call__")),
    "gradients": (),
    "Adam": (),
    "target": ((SharedPatternTarget, "follow"),),
    "target rule": ((OwnPatternTarget, "follow"),),
    "topology update": ((EvolvingLearner, "_propose"), (EvolvingLearner, "_rewire")),
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

    For one member: the time of all members' outputs divided by their number.
    """
    stack, parameters = network.layout.stack, network.parameters
    members = 1 if member is None else len(network.layout.patterns)
    alone = partial(stack.outputs, parameters, inputs)
    both = partial(stack.value_and_input_gradient, parameters, inputs, weight, member)
    return min(_share(alone, both) / members, 1.0)


def _gradients_share(_: Adam, network: Network, trace: Trace, output_gradient: Array) -> float:
    """Return the share of the gradient in the time of a step of Adam."""
    copy = network.copy()
    gradient, m, v = np.zeros((3, copy.parameters.size), np.float32)

    def alone() -> None:
        copy.gradient(trace, output_gradient, gradient)

    def both() -> None:
        copy.adam_step(trace, output_gradient, m, v, 1, 1e-3, 0.9, 0.999, 1e-8, 0.0)
        copy.finish()

    return min(_share(alone, both), 1.0)


# Methods whose time is divided between two parts, and the function that measures the first's share.
DIVIDED: tuple[tuple[type, str, str, str, Callable[..., float]], ...] = (
    (Network, "value_and_input_gradient", "forward", "gradients", _forward_share),
    (Adam, "step", "gradients", "Adam", _gradients_share),
)


@contextmanager
def _clocks(spent: dict[str, float], shares: dict[int, float]) -> Iterator[None]:
    """Add up the seconds spent in each part in the block.

    Args:
        spent: receives the seconds of each part.
        shares: shares of the first part in divided calls, by owner.
    """
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
    """Measure each part of an update [us], including its share of topology updates.

    Args:
        env: the environment that determines the sizes of the networks.
        threads: number of native threads; with several, concurrent work is attributed to the part
            that waits for it.
        fields: fields of the configuration, including the method.
        updates: updates per repetition.
        repetitions: number of repetitions for the median.
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
