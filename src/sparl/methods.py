"""Methods: named presets of all choices, per environment.

Sources: TD3, Fujimoto et al. 2018; SAC, Haarnoja et al. 2018; Static- and DS-, Sokar et al.,
Dynamic Sparse Training for Deep Reinforcement Learning (arXiv 2106.04217 and its longer version);
SS-, SET-, RigL-, RLx2- and Tiny-, Tan et al., RLx2 (ICLR 2023). Numbers are those of the papers'
tables and texts; where a text is silent, of what its released code was built from.
"""

from __future__ import annotations

import bisect
import difflib
import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sparl.configuration import (
    FIELDS,
    WITHOUT_INFLUENCE,
    Config,
    typed_fields,
    why_not_longer,
    wrong_values,
)
from sparl.errors import UsageError
from sparl.topology.density import Shape, erdos_renyi_total, round_half_up, scaled

Fields = dict[str, Any]


@dataclass(frozen=True)
class Family:
    """How a method treats topology; with an agent it makes a method.

    Attributes:
        prefix: before the agent's name.
        summary: one line.
        source: paper and section.
        settings: base settings.
        fields: choices that differ from the settings.
        sparse: takes the environment's densities.
    """

    prefix: str
    summary: str
    source: str
    settings: str
    fields: Mapping[str, Any]
    sparse: bool = True


_EVOLVING = {"rewire_every_updates": 10_000}
FAMILIES = (
    Family("", "dense networks", "", "ds", {}, False),
    Family(
        "Static-", "random sparse networks that never change", "Sokar et al., baseline", "ds", {}
    ),
    Family(
        "DS-",
        "sparse networks that evolve by SET, targets at the budget by magnitude",
        "Sokar et al., algorithms 1-3",
        "ds",
        {"rewire_every_updates": 1000, "rewire_first_update": 2, "target_pattern": "own"},
    ),
    Family(
        "SS-", "static sparse networks of the largest initial weights", "RLx2, baseline", "rlx2", {}
    ),
    Family(
        "SET-",
        "magnitude drop and random growth, annealed",
        "RLx2, baseline",
        "rlx2",
        _EVOLVING,
    ),
    Family(
        "RigL-",
        "magnitude drop and gradient growth, annealed",
        "RLx2, baseline",
        "rlx2",
        {**_EVOLVING, "grow": "gradient"},
    ),
    Family(
        "RLx2-",
        "RigL with delayed n-step targets and a dynamic-capacity replay",
        "Tan et al. 2023, algorithm 1",
        "rlx2",
        {
            **_EVOLVING,
            "grow": "gradient",
            "n_step": 3,
            "n_step_delay_updates": 300_000,
            "dynamic_buffer": True,
        },
    ),
    Family(
        "Tiny-",
        "dense networks with as many weights as the sparse ones",
        "RLx2, baseline",
        "rlx2",
        {"narrow": True},
    ),
)


@dataclass(frozen=True)
class Method:
    """A preset: what it is, where it comes from, what it is made of."""

    name: str
    agent: str
    family: Family

    @property
    def source(self) -> str:
        """Paper and section."""
        return self.family.source or _AGENT_SOURCES[self.agent]

    @property
    def aliases(self) -> list[str]:
        """Other names of it."""
        return [alias for alias, name in ALIASES.items() if name == self.name]


_AGENT_SOURCES = {"TD3": "Fujimoto et al. 2018", "SAC": "Haarnoja et al. 2018"}
METHODS = {
    method.name: method
    for agent in ("TD3", "SAC")
    for method in (Method(family.prefix + agent, agent, family) for family in FAMILIES)
}
ALIASES = {"StaticSparseTD3": "Static-TD3", "StaticSparseSAC": "Static-SAC"}

# Config's defaults are the ds settings of TD3.
_SETTINGS: dict[tuple[str, str], Fields] = {
    ("ds", "TD3"): {},
    ("ds", "SAC"): {
        "learning_rate": 3e-4, "batch_size": 256, "weight_decay": 0.0, "warmup_env_steps": 10_000,
        "initial_weights": "xavier", "rewire_fraction": 0.1, "policy_delay": 1,
    },
    ("rlx2", "TD3"): {
        "learning_rate": 3e-4, "batch_size": 256, "weight_decay": 0.0, "steps": 3_000_000,
        "allocation": "erdos_renyi", "sparse_output": True, "initial_topology": "largest_weights",
        "rewire_fraction": 0.5, "rewire_schedule": "cosine", "rewire_clock": "network",
        "rewire_skips_step": True, "freeze_fraction": 0.0, "drop": "smallest",
        "grown_moments": "zero",
    },
    ("rlx2", "SAC"): {
        "policy_delay": 1, "initial_weights": "orthogonal", "alpha": 1.0, "learn_alpha": True,
        "log_std": "tanh", "replay_capacity": 3_000_000, "replay_minimum": 200_000,
    },
}  # fmt: skip
_SETTINGS["rlx2", "SAC"] = {**_SETTINGS["rlx2", "TD3"], **_SETTINGS["rlx2", "SAC"]}

# Sokar et al.: (lambda_1, lambda_2), chosen for the observations of the -v3 tasks.
_LAMBDAS = {
    "TD3": {
        "HalfCheetah": (7, 64), "Hopper": (7, 64), "Walker2d": (7, 64), "Ant": (40, 64),
        "Humanoid": (61, 64),
    },
    "SAC": {
        "HalfCheetah": (12, 80), "Hopper": (7, 20), "Walker2d": (12, 80), "Ant": (30, 64),
        "Humanoid": (61, 64),
    },
}  # fmt: skip
# Observations and actions of the tasks whose newer versions have fewer observations: there the
# density stays, since lambda would not mean it.
_V3_SIZES = {"Ant": (111, 8), "Humanoid": (376, 17)}
_UNKNOWN_DENSITY = 0.5  # ds: hidden layers, for an environment that the paper did not use

# Tan et al., main table: actor and critic sparsity.
_SPARSITIES = {
    "TD3": {
        "HalfCheetah": (0.90, 0.85), "Hopper": (0.98, 0.95), "Walker2d": (0.97, 0.95),
        "Ant": (0.96, 0.88),
    },
    "SAC": {
        "HalfCheetah": (0.90, 0.80), "Hopper": (0.98, 0.95), "Walker2d": (0.90, 0.90),
        "Ant": (0.90, 0.75),
    },
}  # fmt: skip
_UNKNOWN_SPARSITIES = (0.90, 0.85)
TASKS = ("HalfCheetah", "Hopper", "Walker2d", "Ant", "Humanoid")
_MUJOCO_VERSIONS = ("v3", "v4", "v5")


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
        UsageError: unknown method or settings.
    """
    chosen = find_method(method)
    family, agent = chosen.family, chosen.agent
    settings = overrides.get("settings", family.settings)
    if (settings, agent) not in _SETTINGS:
        raise UsageError(f"settings is {settings!r}, must be 'ds' or 'rlx2'")
    values = {**_SETTINGS[settings, agent], **family.fields, "settings": settings, "agent": agent}
    if overrides.get("agent", agent) != agent:
        raise UsageError(f"agent is {overrides['agent']!r}, but {chosen.name} is a {agent}")
    if agent == "SAC" and settings == "ds" and family.sparse:
        values["hard_target_every"] = 1000
    hidden = tuple(overrides.get("hidden", Config.hidden))
    if family.sparse:
        if settings == "rlx2":
            values |= _rlx2_sparsities(agent, env)
        elif {"lambda_1", "lambda_2"} & overrides.keys():
            values |= _lambdas(agent, env)
        else:
            values |= _ds_densities(agent, env, len(hidden))
    return replace(Config(method=chosen.name, env=env), **{**values, **overrides})


def check(config: Config) -> None:
    """Raise UsageError unless a configuration could have been given on the command line.

    Every configuration passes it before anything else uses it, wherever it comes from. Rules are
    names by their grammar alone; that they are registered is checked where topology is built.

    Raises:
        UsageError: with all that is wrong, in one line.
    """
    wrong = wrong_values(config)
    method = METHODS.get(config.method)
    if method is None:
        wrong.append(f"method is {config.method!r}, must be one of {', '.join(METHODS)}")
    elif method.agent != config.agent:
        wrong.append(f"agent is {config.agent!r}, but {method.name} is a {method.agent}")
    if wrong:
        raise UsageError("; ".join(wrong))


def config_of(fields: Mapping[str, Any], where: object) -> Config:
    """Return the configuration that the fields in a file describe; others have their defaults.

    Raises:
        UsageError: unknown fields, or values that the command line would not accept.
    """
    config = Config(**typed_fields(dict(fields), str(where)))
    try:
        check(config)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    return config


def _task(env: str) -> tuple[str, str]:
    """Name and version of one of the papers' MuJoCo tasks, else the id and nothing."""
    name, _, version = env.rpartition("-")
    return (name, version) if version in _MUJOCO_VERSIONS else (env, "")


def _lambdas(agent: str, env: str) -> Fields:
    """The paper's lambdas; for an environment it did not use, those of HalfCheetah."""
    lambdas = _LAMBDAS[agent]
    first, further = lambdas.get(_task(env)[0], lambdas["HalfCheetah"])
    return {"lambda_1": float(first), "lambda_2": float(further)}


def _ds_densities(agent: str, env: str, hidden_layers: int) -> Fields:
    """lambda_1 and lambda_2, or the densities that they meant."""
    task, version = _task(env)
    if task not in _LAMBDAS[agent]:
        densities = (_UNKNOWN_DENSITY,) * hidden_layers + (1.0,)
        return {"actor_densities": densities, "critic_densities": densities}
    first, further = _LAMBDAS[agent][task]
    same_observations = version == "v3" or task not in _V3_SIZES
    if same_observations or (task == "Humanoid" and version == "v4"):
        return _lambdas(agent, env)
    n_obs, n_act = _V3_SIZES[task]
    return {
        f"{network}_densities": (
            _density(first, n_in),
            *(_density(further, 256),) * (hidden_layers - 1),
            1.0,
        )
        for network, n_in in (("actor", n_obs), ("critic", n_obs + n_act))
    }


def _density(lam: float, n_in: int, width: int = 256) -> float:
    return lam * (n_in + width) / (n_in * width)


def _rlx2_sparsities(agent: str, env: str) -> Fields:
    """Actor and critic sparsity."""
    actor, critic = _SPARSITIES[agent].get(_task(env)[0], _UNKNOWN_SPARSITIES)
    return {"actor_sparsity": actor, "critic_sparsity": critic}


Layers = tuple[tuple[Shape, int], ...]  # (n_in, n_out) and connections of each layer


@dataclass(frozen=True)
class Architecture:
    """Shapes and connections of the networks of a run, before any pattern is drawn.

    Attributes:
        actor: its layers.
        critic: the layers of each of the critics.
        notes: what the user should be told.
    """

    actor: Layers
    critic: Layers
    notes: tuple[str, ...]

    critics = 2


def connections(layers: Layers) -> int:
    """Weights of one network."""
    return sum(count for _, count in layers)


def densified(layers: Layers) -> Layers:
    """The same layers with every connection."""
    return tuple((shape, shape[0] * shape[1]) for shape, _ in layers)


def architecture(config: Config, n_obs: int, n_act: int) -> Architecture:
    """Which layers a run's networks have and how many connections each.

    Raises:
        UsageError: a sparsity that cannot be met.
    """
    notes: list[str] = []
    actor_out = 2 * n_act if config.agent == "SAC" else n_act
    layers = {}
    for name, n_in, n_out in (("actor", n_obs, actor_out), ("critic", n_obs + n_act, 1)):
        shapes = list(itertools.pairwise((n_in, *config.hidden, n_out)))
        counts = _connections(config, name, shapes, notes)
        notes += [
            f"{name} layer {index} has no connections, so the {name} cannot learn from its input; "
            "use a smaller sparsity, or a larger density or lambda"
            for index, count in enumerate(counts, 1)
            if not count
        ]
        layers[name] = tuple(zip(shapes, counts, strict=True))
        if config.narrow:
            layers[name] = _narrow(layers[name], name, notes)
    return Architecture(layers["actor"], layers["critic"], tuple(notes))


def _connections(
    config: Config, network: str, shapes: Sequence[Shape], notes: list[str]
) -> list[int]:
    """Connections of each layer: densities, or lambdas, or a sparsity's share."""
    sizes = [n_in * n_out for n_in, n_out in shapes]
    densities = getattr(config, f"{network}_densities")
    sparsity = getattr(config, f"{network}_sparsity")
    if densities is not None:
        wanted = [d * size for d, size in zip(densities, sizes, strict=True)]
    else:
        lambdas = [config.lambda_1, *(config.lambda_2 for _ in shapes[2:]), None]
        wanted = [
            float(size) if lam is None else lam * sum(shape)
            for shape, size, lam in zip(shapes, sizes, lambdas, strict=True)
        ]
    counts = [min(round_half_up(w), size) for w, size in zip(wanted, sizes, strict=True)]
    if sparsity is None:
        for index, (w, size) in enumerate(zip(wanted, sizes, strict=True)):
            if w > size:
                notes.append(
                    f"{network} layer {index + 1}: its lambda asks for {w:.0f} of {size} "
                    "connections; the layer is dense"
                )
        return counts
    # Unless the output is to be sparse too, it stays as it is and the hidden layers share the rest.
    thinned = len(shapes) if config.sparse_output else len(shapes) - 1
    fixed = counts[thinned:]
    room = sum(sizes[:thinned])
    total = round_half_up((1 - sparsity) * sum(sizes)) - sum(fixed)
    if not 0 <= total <= room:
        low, high = sum(fixed), room + sum(fixed)
        raise UsageError(
            f"{network}_sparsity {sparsity} leaves {total + low} connections; with its output "
            f"layer of {low} the {network} can have {low} to {high}, a sparsity of "
            f"{1 - high / sum(sizes):.4f} to {1 - low / sum(sizes):.4f}"
        )
    if config.allocation == "erdos_renyi":
        return [
            *erdos_renyi_total(shapes[:thinned], 1 - total / room if fixed else sparsity),
            *fixed,
        ]
    return [*scaled(shapes[:thinned], wanted[:thinned], total), *fixed]


def _narrow(layers: Layers, network: str, notes: list[str]) -> Layers:
    """Dense layers of one width, with as many weights as nearly possible; biases not counted."""
    n_in, n_out, hidden = layers[0][0][0], layers[-1][0][1], len(layers) - 1
    wanted = connections(layers)

    def of_width(width: int) -> Layers:
        shapes = itertools.pairwise((n_in, *(width,) * hidden, n_out))
        return tuple((shape, shape[0] * shape[1]) for shape in shapes)

    def weights(width: int) -> int:
        return connections(of_width(width))

    widths = range(1, max(shape[1] for shape, _ in layers) + 1)
    above = bisect.bisect_left(widths, wanted, key=weights)
    nearest = widths[max(above - 1, 0) : above + 1]
    width = min(nearest, key=lambda width: abs(weights(width) - wanted))
    notes.append(
        f"{network}: {hidden} hidden layers of {width} units, {connections(of_width(width)):,} "
        f"weights for the {wanted:,} of the sparse network"
    )
    return of_width(width)


# Fields that define a method where its preset sets them, and what of their value does.
_DENSITY_FIELDS = (
    "lambda_1", "lambda_2", "actor_densities", "critic_densities", "actor_sparsity",
    "critic_sparsity",
)  # fmt: skip


def contradictions(config: Config) -> list[str]:
    """Fields that contradict the definition of the configuration's method.

    A dense method with missing connections, a static one whose topology changes, a dynamic one
    whose topology never does, one with other rules, targets, returns or replay than the method
    is defined by. Numbers such as periods, fractions and densities of a sparse method are its
    settings, not its definition.
    """
    base = preset(config.method, config.env, settings=config.settings)
    family = find_method(config.method).family

    def differ(*names: str) -> list[str]:
        return [name for name in names if getattr(config, name) != getattr(base, name)]

    found = differ("target_pattern", "narrow", "dynamic_buffer")
    if (config.n_step > 1) != (base.n_step > 1):
        found.append("n_step")
    if family.prefix == "SS-":  # the largest weights are what makes it another one than Static-
        found += differ("initial_topology")
    missing = [] if family.sparse else differ(*_DENSITY_FIELDS)
    if missing or not (_is_dense(base) and _is_dense(config)):  # else nothing can change
        if topology_changes(config) != topology_changes(base):
            found += differ("rewire_every_updates", "rewire", "rewire_fraction", "freeze_fraction")
        elif topology_changes(config):
            found += differ("rewire", "drop", "grow", "rewire_schedule")
    return found + missing


def topology_changes(config: Config) -> bool:
    """Whether the schedule has a topology update that moves anything."""
    scheduled = config.rewire_every_updates > 0 and config.rewire != "none"
    return scheduled and config.rewire_fraction > 0 and config.freeze_fraction < 1


def _is_dense(config: Config) -> bool:
    """Whether every connection exists, as far as the fields say."""
    return config.narrow or all(getattr(config, name) is None for name in _DENSITY_FIELDS)


def method_label(config: Config) -> str:
    """The method, with the fields that contradict its definition, if there are any."""
    fields = contradictions(config)
    return f"{config.method} ({fields_text(config, fields)})" if fields else config.method


def fields_text(config: Config, names: Iterable[str]) -> str:
    """Fields and their values in words: "n_step 1, grow random"."""
    return ", ".join(f"{name} {_text(getattr(config, name))}" for name in names)


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return "-".join(_text(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def run_name(config: Config) -> str:
    """METHOD_ENV_seedN, one path component; of a contradicted method with those fields."""
    method = config.method
    for name in contradictions(config):
        method += f"-{name}-{_text(getattr(config, name))}"
    return f"{method}_{config.env.replace('/', '-')}_seed{config.seed}"


def results_version(config: Config) -> int:
    """Version of what a resolved configuration computes; two runs of different ones differ.

    1 in sparl 0.1, whose runs do not record it. Raised to 2 in 0.2 for every configuration whose
    results changed then: topology updates, narrow networks, the learned temperature, and the delay
    of n-step targets.
    """
    delayed = config.n_step > 1 and config.n_step_delay_updates > 0
    learned = config.agent == "SAC" and config.learn_alpha
    scheduled = config.rewire_every_updates > 0 and config.rewire != "none"
    return 2 if scheduled or config.narrow or learned or delayed else 1


def identity(config: Config, version: int | None = None) -> dict[str, Any]:
    """What two configurations must have in common for their runs to be the same run.

    The resolved fields that differ from Config's defaults, and the version of what they compute:
    so a field that is unknown to an old file takes its default. Where a run stops and the horizon
    of its schedules count, however they were given; fields without influence on results do not.

    Args:
        config: resolved, as `preset` or a run's file gives it.
        version: of the run, see `results_version`; None: today's.
    """
    varying = {"steps", "horizon_env_steps", "stop_at"}
    fields = {
        name: _of_type(value, str(FIELDS[name].type))
        for name, value in config.as_dict().items()
        if name not in WITHOUT_INFLUENCE | varying and value != getattr(Config, name)
    }
    return {
        **fields,
        "method": config.method,
        "env": config.env,
        "seed": config.seed,
        "end": config.end,
        "horizon": config.horizon,
        "preset": results_version(config) if version is None else version,
    }


def _of_type(value: Any, kind: str) -> Any:
    """The value with its numbers as floats where the field's type is one of floats."""
    if "float" not in kind:
        return value
    return tuple(map(float, value)) if isinstance(value, tuple) else float(value)


def run_id(config: Config, version: int | None = None) -> str:
    """METHOD_ENV_seedN and eight digits of a digest of the run's identity; see `identity`.

    Whoever asks for the same run, with whatever fields they say it, gets the same id.
    """
    known = json.dumps(identity(config, version), sort_keys=True)
    return f"{run_name(config)}_{hashlib.sha256(known.encode()).hexdigest()[:8]}"


def without_effect(config: Config) -> list[str]:
    """Fields that were set otherwise than the preset has them, and that change nothing."""
    base = preset(config.method, config.env, settings=config.settings)
    sac, td3 = config.agent == "SAC", config.agent == "TD3"
    sparsity = config.actor_sparsity is not None or config.critic_sparsity is not None
    densities = config.actor_densities is not None and config.critic_densities is not None
    matters = {
        **dict.fromkeys(("alpha", "learn_alpha", "hard_target_every", "log_std", "collect"), sac),
        **dict.fromkeys(("exploration_noise", "target_noise", "noise_clip", "policy_delay"), td3),
        "contact_forces": config.env in ("Ant-v3", "Humanoid-v3"),
        **dict.fromkeys(
            (
                "replay_minimum",
                "replay_distance_threshold",
                "replay_check_every_env_steps",
                "replay_probe_transitions",
                "replay_forget_until_below",
            ),
            config.dynamic_buffer,
        ),
        "n_step_delay_updates": config.n_step > 1,
        **dict.fromkeys(("allocation", "sparse_output"), sparsity),
        **dict.fromkeys(("lambda_1", "lambda_2"), not densities),
        "stop_at": config.stop_at is None or config.stop_at <= config.steps,
        "overwrite": config.run_dir is not None,
        "checkpoint_every_env_steps": config.checkpoint_every_env_steps < config.end,
        "keep_checkpoint": not why_not_longer(config),
    }
    return [
        f"--{name.replace('_', '-')} {getattr(config, name)} changes nothing here"
        for name, effect in matters.items()
        if not effect and getattr(config, name) != getattr(base, name)
    ]
