"""Methods: named presets of all choices, per environment.

Sources: TD3, Fujimoto et al. 2018; Static-TD3 and DS-TD3, Sokar et al., Dynamic Sparse Training
for Deep Reinforcement Learning (arXiv 2106.04217), tables and text of its experiments.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sparl.configuration import Config
from sparl.errors import UsageError
from sparl.topology.density import Shape, erdos_renyi, round_half_up, scaled

ALIASES = {"StaticSparseTD3": "Static-TD3"}


@dataclass(frozen=True)
class Method:
    """A preset: what it is, where it comes from, what it sets.

    Attributes:
        name: what the user types.
        summary: one line.
        source: paper and section.
        fields: choices that differ from Config's defaults.
        sparse: takes the environment's lambdas and densities.
    """

    name: str
    summary: str
    source: str
    fields: dict[str, Any]
    sparse: bool


METHODS = {
    method.name: method
    for method in (
        Method("TD3", "dense networks", "Fujimoto et al. 2018", {}, sparse=False),
        Method(
            "Static-TD3",
            "random sparse networks that never change",
            "Sokar et al. 2021, baseline",
            {},
            sparse=True,
        ),
        Method(
            "DS-TD3",
            "sparse networks that evolve: SET, targets at the budget by magnitude",
            "Sokar et al. 2021, algorithms 1-3",
            {"rewire_every_updates": 1000, "target_pattern": "own"},
            sparse=True,
        ),
    )
}


def _lambda_density(lam: float, n_in: int, width: int = 256) -> float:
    return lam * (n_in + width) / (n_in * width)


# lambda_1 of Sokar et al., chosen for the observations of the -v3 tasks. Ant's and Humanoid's
# newer versions have fewer observations: there the density stays, as lambda would not mean it.
_LAMBDA_1 = {
    "HalfCheetah-v3": 7.0, "HalfCheetah-v4": 7.0, "HalfCheetah-v5": 7.0,
    "Hopper-v3": 7.0, "Hopper-v4": 7.0, "Hopper-v5": 7.0,
    "Walker2d-v3": 7.0, "Walker2d-v4": 7.0, "Walker2d-v5": 7.0,
    "Ant-v3": 40.0, "Humanoid-v3": 61.0, "Humanoid-v4": 61.0,
}  # fmt: skip
_LAMBDA_2 = 64.0
_V3_SIZES = {"Ant": (40.0, 111, 8), "Humanoid": (61.0, 376, 17)}  # lambda_1, observations, actions
_UNKNOWN_DENSITY = 0.5  # hidden layers, for an environment that the paper did not use


def find_method(name: str) -> Method:
    """The method of this name or alias.

    Raises:
        UsageError: unknown, with the nearest names.
    """
    name = ALIASES.get(name, name)
    if name not in METHODS:
        lower = {known.lower(): known for known in [*METHODS, *ALIASES]}
        near = [lower[n] for n in difflib.get_close_matches(name.lower(), lower, cutoff=0.4)]
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(METHODS)}"
        raise UsageError(f"unknown method '{name}'; {hint}")
    return METHODS[name]


def preset(method: str, env: str, **overrides: Any) -> Config:
    """The configuration of a method in an environment, with some fields set otherwise.

    Raises:
        UsageError: unknown method.
    """
    chosen = find_method(method)
    values: dict[str, Any] = dict(chosen.fields)
    hidden = tuple(overrides.get("hidden", Config.hidden))
    if chosen.sparse:
        task = env.split("-")[0]
        if env in _LAMBDA_1:
            values |= {"lambda_1": _LAMBDA_1[env], "lambda_2": _LAMBDA_2}
        elif task in _V3_SIZES:
            lam, n_obs, n_act = _V3_SIZES[task]
            for network, n_in in (("actor", n_obs), ("critic", n_obs + n_act)):
                further = (_lambda_density(_LAMBDA_2, 256),) * (len(hidden) - 1)
                values[f"{network}_densities"] = (_lambda_density(lam, n_in), *further, 1.0)
        else:
            densities = (_UNKNOWN_DENSITY,) * len(hidden) + (1.0,)
            values |= {"actor_densities": densities, "critic_densities": densities}
    return replace(Config(method=chosen.name, env=env), **{**values, **overrides})


@dataclass(frozen=True)
class Architecture:
    """Shapes and connections of the networks of a run, before any pattern is drawn.

    Attributes:
        actor: (n_in, n_out) and connections of each layer.
        critic: the same, of each of the critics.
        notes: what the user should be told.
    """

    actor: tuple[tuple[Shape, int], ...]
    critic: tuple[tuple[Shape, int], ...]
    notes: tuple[str, ...]

    critics = 2


def architecture(config: Config, n_obs: int, n_act: int) -> Architecture:
    """Which layers a run's networks have and how many connections each.

    Raises:
        UsageError: a sparsity that cannot be met.
    """
    notes: list[str] = []
    layers = {}
    for name, n_in, n_out in (("actor", n_obs, n_act), ("critic", n_obs + n_act, 1)):
        sizes = (n_in, *config.hidden, n_out)
        shapes = list(itertools.pairwise(sizes))
        counts = _connections(config, name, shapes, notes)
        layers[name] = tuple(zip(shapes, counts, strict=True))
    return Architecture(layers["actor"], layers["critic"], tuple(notes))


def _connections(
    config: Config, network: str, shapes: Sequence[Shape], notes: list[str]
) -> list[int]:
    """Connections of each layer: densities, or lambdas, scaled to a sparsity where one is set."""
    sizes = [n_in * n_out for n_in, n_out in shapes]
    densities = getattr(config, f"{network}_densities")
    sparsity = getattr(config, f"{network}_sparsity")
    if densities is not None:
        counts = [round_half_up(d * size) for d, size in zip(densities, sizes, strict=True)]
    else:
        counts = []
        for index, shape in enumerate(shapes):
            lam = config.lambda_1 if index == 0 else config.lambda_2
            is_output = index == len(shapes) - 1
            counts.append(sizes[index] if lam is None or is_output else erdos_renyi(shape, lam))
            if lam is not None and not is_output and lam * sum(shape) > sizes[index]:
                notes.append(
                    f"{network} layer {index + 1}: lambda {lam:g} asks for "
                    f"{lam * sum(shape):.0f} of {sizes[index]} connections; the layer is dense"
                )
    if sparsity is None:
        return counts
    # The output layer stays as it is; the hidden layers share one factor.
    total = round_half_up((1 - sparsity) * sum(sizes))
    try:
        return [*scaled(shapes[:-1], counts[:-1], total - counts[-1]), counts[-1]]
    except ValueError:
        low, high = counts[-1], sum(sizes[:-1]) + counts[-1]
        raise UsageError(
            f"{network}_sparsity {sparsity} leaves {total} connections; with its output layer of "
            f"{counts[-1]} the {network} can have {low} to {high}, a sparsity of "
            f"{1 - high / sum(sizes):.4f} to {1 - low / sum(sizes):.4f}"
        ) from None
