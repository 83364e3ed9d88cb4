"""Methods: named presets of all settings, per environment.

Sources: TD3, Fujimoto et al. 2018; SAC, Haarnoja et al. 2018; Static- and DS-, Sokar et al.,
Dynamic Sparse Training for Deep Reinforcement Learning (arXiv 2106.04217 and its longer version);
SS-, SET-, RigL-, RLx2- and Tiny-, Tan et al., RLx2 (ICLR 2023). Numbers are from the papers or, if
a paper does not state them, from its released code.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sparl.configuration import Config
from sparl.configuration_checks import typed_fields, wrong_values
from sparl.errors import UsageError
from sparl.user_modules import WITHOUT_ID

Fields = dict[str, Any]


@dataclass(frozen=True)
class Paper:
    """A publication that a method follows."""

    authors: str
    year: int
    title: str
    link: str


TD3_PAPER = Paper(
    "Fujimoto, van Hoof, Meger", 2018,
    "Addressing Function Approximation Error in Actor-Critic Methods",
    "https://arxiv.org/abs/1802.09477",
)  # fmt: skip
SAC_PAPER = Paper(
    "Haarnoja, Zhou, Abbeel, Levine", 2018,
    "Soft Actor-Critic: Off-Policy Maximum Entropy Deep Reinforcement Learning with a Stochastic "
    "Actor", "https://arxiv.org/abs/1801.01290",
)  # fmt: skip
DS_PAPER = Paper(
    "Sokar, Mocanu, Mocanu, Pechenizkiy, Stone", 2021,
    "Dynamic Sparse Training for Deep Reinforcement Learning", "https://arxiv.org/abs/2106.04217",
)  # fmt: skip
RLX2_PAPER = Paper(
    "Tan, Hu, Pan, Huang, Huang", 2023,
    "RLx2: Training a Sparse Deep Reinforcement Learning Model from Scratch",
    "https://arxiv.org/abs/2205.15043",
)  # fmt: skip
SET_PAPER = Paper(
    "Mocanu, Mocanu, Stone, Nguyen, Gibescu, Liotta", 2018,
    "Scalable training of artificial neural networks with adaptive sparse connectivity inspired by "
    "network science", "https://doi.org/10.1038/s41467-018-04316-3",
)  # fmt: skip
RIGL_PAPER = Paper(
    "Evci, Gale, Menick, Castro, Elsen", 2020,
    "Rigging the Lottery: Making All Tickets Winners", "https://arxiv.org/abs/1911.11134",
)  # fmt: skip


@dataclass(frozen=True)
class Family:
    """The treatment of topology in a method; a family and an agent form a method.

    Attributes:
        prefix: the part of the method's name before the agent's.
        summary: one-line description.
        source: paper and section that define the family.
        settings: name of the base settings.
        fields: values that differ from the base settings.
        sparse: whether the networks have the densities of the environment's preset.
        defining: settings that define this family, so that other values contradict it.
        papers: the papers of the family; the first one defines the preset.
    """

    prefix: str
    summary: str
    source: str
    settings: str
    fields: Fields
    sparse: bool = True
    defining: tuple[str, ...] = ()
    papers: tuple[Paper, ...] = ()


_DYNAMIC = {"rewire_every_updates": 10_000}
FAMILIES = (
    Family("", "dense networks", "", "ds", {}, False),
    Family(
        "Static-",
        "random sparse networks that never change",
        "Sokar et al., baseline",
        "ds",
        {},
        papers=(DS_PAPER,),
    ),
    Family(
        "DS-",
        "connections change as in SET; targets keep their own connections",
        "Sokar et al., algorithms 1-3",
        "ds",
        {"rewire_every_updates": 1000, "rewire_first_update": 2, "target_pattern": "own"},
        papers=(DS_PAPER, SET_PAPER),
    ),
    Family(
        "SS-",
        "static sparse networks with the largest initial weights",
        "RLx2, baseline",
        "rlx2",
        {},
        defining=("initial_topology",),
        papers=(RLX2_PAPER,),
    ),
    Family(
        "SET-",
        "magnitude drop and random growth, annealed",
        "RLx2, baseline",
        "rlx2",
        _DYNAMIC,
        papers=(RLX2_PAPER, SET_PAPER),
    ),
    Family(
        "RigL-",
        "magnitude drop and gradient growth, annealed",
        "RLx2, baseline",
        "rlx2",
        {**_DYNAMIC, "grow": "gradient"},
        papers=(RLX2_PAPER, RIGL_PAPER),
    ),
    Family(
        "RLx2-",
        "RigL with delayed n-step targets and a dynamic-capacity replay",
        "Tan et al. 2023, algorithm 1",
        "rlx2",
        {
            **_DYNAMIC,
            "grow": "gradient",
            "n_step": 3,
            "n_step_delay_updates": 300_000,
            "dynamic_buffer": True,
        },
        papers=(RLX2_PAPER,),
    ),
    Family(
        "Tiny-",
        "narrow dense networks with as many weights as the sparse networks",
        "RLx2, baseline",
        "rlx2",
        {"narrow": True},
        papers=(RLX2_PAPER,),
    ),
)


@dataclass(frozen=True)
class Method:
    """A named preset: an agent and a family."""

    name: str
    agent: str
    family: Family

    @property
    def source(self) -> str:
        """The paper and section that define the method."""
        return self.family.source or AGENT_PRESETS[self.agent].source

    @property
    def papers(self) -> tuple[Paper, ...]:
        """The papers of the family, followed by the paper of the agent."""
        paper = AGENT_PRESETS[self.agent].paper
        return (*self.family.papers, *([paper] if paper else []))

    @property
    def aliases(self) -> list[str]:
        """Other names of the method."""
        return [alias for alias, name in ALIASES.items() if name == self.name]


@dataclass(frozen=True)
class AgentPreset:
    """The papers' settings of one agent.

    Attributes:
        source: paper of the dense agent, in short.
        ds: Sokar et al.'s settings that differ from Config's defaults.
        ds_sparse: further differences of sparse methods.
        rlx2: Tan et al.'s settings.
        lambdas: (lambda_1, lambda_2) by task, from Sokar et al., who chose the values for the
            observations of -v3.
        sparsities: (actor, critic) sparsity by task, from the main table of Tan et al.
        published_costs: size with targets, training FLOPs and test FLOPs by family and task, each
            relative to the dense agent, from the main table of Tan et al.
        paper: the paper of `source`.
    """

    source: str
    ds: Fields
    rlx2: Fields
    lambdas: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    ds_sparse: Fields = field(default_factory=dict)
    sparsities: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    published_costs: Mapping[tuple[str, str], tuple[float, float, float]] = field(
        default_factory=dict
    )
    paper: Paper | None = None


_RLX2: Fields = {  # for every agent
    "learning_rate": 3e-4, "batch_size": 256, "weight_decay": 0.0, "steps": 3_000_000,
    "allocation": "erdos_renyi", "sparse_output": True, "initial_topology": "largest_weights",
    "rewire_fraction": 0.5, "rewire_schedule": "cosine", "rewire_clock": "network",
    "rewire_skips_step": True, "freeze_fraction": 0.0, "drop": "smallest", "grown_moments": "zero",
}  # fmt: skip
AGENT_PRESETS = {
    "TD3": AgentPreset(
        "Fujimoto et al. 2018",
        paper=TD3_PAPER,
        ds={},  # Config's defaults
        rlx2=_RLX2,
        lambdas={
            "HalfCheetah": (7, 64), "Hopper": (7, 64), "Walker2d": (7, 64), "Ant": (40, 64),
            "Humanoid": (61, 64),
        },
        sparsities={
            "HalfCheetah": (0.90, 0.85), "Hopper": (0.98, 0.95), "Walker2d": (0.97, 0.95),
            "Ant": (0.96, 0.88),
        },
        published_costs={
            ("RLx2-", "HalfCheetah"): (0.133, 0.138, 0.100),
            ("RLx2-", "Hopper"): (0.040, 0.043, 0.020),
            ("RLx2-", "Walker2d"): (0.043, 0.045, 0.030),
            ("RLx2-", "Ant"): (0.093, 0.100, 0.040),
        },
    ),
    "SAC": AgentPreset(
        "Haarnoja et al. 2018",
        paper=SAC_PAPER,
        ds={
            "learning_rate": 3e-4, "batch_size": 256, "weight_decay": 0.0,
            "warmup_env_steps": 10_000, "initial_weights": "xavier", "rewire_fraction": 0.1,
            "policy_delay": 1,
        },
        ds_sparse={"hard_target_every": 1000},
        rlx2={
            **_RLX2, "policy_delay": 1, "initial_weights": "orthogonal", "alpha": 1.0,
            "learn_alpha": True, "log_std": "tanh", "replay_capacity": 3_000_000,
            "replay_minimum": 200_000,
        },
        lambdas={
            "HalfCheetah": (12, 80), "Hopper": (7, 20), "Walker2d": (12, 80), "Ant": (30, 64),
            "Humanoid": (61, 64),
        },
        sparsities={
            "HalfCheetah": (0.90, 0.80), "Hopper": (0.98, 0.95), "Walker2d": (0.90, 0.90),
            "Ant": (0.90, 0.75),
        },
        published_costs={
            ("RLx2-", "HalfCheetah"): (0.180, 0.197, 0.100),
            ("RLx2-", "Hopper"): (0.044, 0.048, 0.020),
            ("RLx2-", "Walker2d"): (0.100, 0.113, 0.100),
            ("RLx2-", "Ant"): (0.220, 0.239, 0.100),
        },
    ),
}  # fmt: skip
METHODS = {
    method.name: method
    for agent in AGENT_PRESETS
    for method in (Method(family.prefix + agent, agent, family) for family in FAMILIES)
}
ALIASES = {"StaticSparseTD3": "Static-TD3", "StaticSparseSAC": "Static-SAC"}

# Lengths of observations and actions in -v3 of the tasks whose newer versions have shorter
# observations. The newer versions use the density of -v3, because the same lambda would give them a
# different density.
_V3_SIZES = {"Ant": (111, 8), "Humanoid": (376, 17)}
_UNKNOWN_DENSITY = 0.5  # for ds, in environments that the paper did not use
_UNKNOWN_LAMBDAS = (7, 64)  # an agent that the paper did not use
_UNKNOWN_SPARSITIES = (0.90, 0.85)
TASKS = ("HalfCheetah", "Hopper", "Walker2d", "Ant", "Humanoid")
_MUJOCO_VERSIONS = ("v3", "v4", "v5")


def find_method(name: str) -> Method:
    """Return the method with a name or alias.

    Raises:
        UsageError: if the name is unknown; the message suggests the nearest names.
    """
    name = ALIASES.get(name, name)
    if name not in METHODS:
        lower = {known.lower(): known for known in [*METHODS, *ALIASES]}
        near = [lower[n] for n in difflib.get_close_matches(name.lower(), lower, cutoff=0.4)]
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(METHODS)}"
        raise UsageError(f"unknown method '{name}'; {hint}")
    return METHODS[name]


def preset(method: str, env: str, **overrides: Any) -> Config:
    """Return the configuration of a method in an environment.

    Args:
        method: name or alias of the method.
        env: id of the environment.
        overrides: field values that replace those of the preset.

    Raises:
        UsageError: if the method or the settings are unknown.
    """
    chosen = find_method(method)
    settings = overrides.get("settings", chosen.family.settings)
    if settings not in ("ds", "rlx2"):
        raise UsageError(f"settings is {settings!r} but must be 'ds' or 'rlx2'")
    values = (  # later ones take precedence
        {"method": chosen.name, "env": env, "settings": settings, "agent": chosen.agent}
        | _base_settings(chosen, settings)
        | chosen.family.fields
        | (_density(chosen.agent, settings, env, overrides) if chosen.family.sparse else {})
        | overrides
    )
    return Config(**values)


def _base_settings(method: Method, settings: str) -> Fields:
    """Return the fields of a method's settings that differ from Config's defaults."""
    presets = AGENT_PRESETS[method.agent]
    if settings == "rlx2":
        return presets.rlx2
    return presets.ds | (presets.ds_sparse if method.family.sparse else {})


def _density(agent: str, settings: str, env: str, overrides: Fields) -> Fields:
    """Return the fields that set the number of connections of a sparse method."""
    if settings == "rlx2":
        return _rlx2_sparsities(agent, env)
    if {"lambda_1", "lambda_2"} & overrides.keys():
        return _lambdas(agent, env)
    return _ds_densities(agent, env, len(overrides.get("hidden", Config.hidden)))


def check(config: Config) -> None:
    """Check that the command line would accept a configuration.

    Every configuration is checked before it is used, regardless of its source. This function checks
    only the syntax of rule names; whether the rules are registered is checked when the topology is
    built.

    Raises:
        UsageError: if the configuration has errors; the message lists all of them on one line.
    """
    wrong = wrong_values(config)
    method = METHODS.get(config.method)
    if method is None:
        wrong.append(f"method is {config.method!r} but must be one of {', '.join(METHODS)}")
    elif method.agent != config.agent:
        wrong.append(f"agent is {config.agent!r}, but the agent of {method.name} is {method.agent}")
    if wrong:
        raise UsageError("; ".join(wrong))


def config_of(fields: Mapping[str, Any], where: object) -> Config:
    """Return the configuration that the fields in a file describe; other fields have defaults.

    Raises:
        UsageError: if a field is unknown or the command line would not accept its value.
    """
    config = Config(**typed_fields(dict(fields), str(where)))
    try:
        check(config)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    return config


def _task(env: str) -> tuple[str, str]:
    """Return the name and version of a MuJoCo task, or the id and "" for other environments."""
    env = env.removesuffix(WITHOUT_ID)
    name, _, version = env.rpartition("-")
    return (name, version) if version in _MUJOCO_VERSIONS else (env, "")


def _lambdas(agent: str, env: str) -> Fields:
    """Return the paper's lambdas; for an environment that is not in the paper, HalfCheetah's."""
    lambdas = AGENT_PRESETS[agent].lambdas
    first, further = lambdas.get(_task(env)[0]) or lambdas.get("HalfCheetah", _UNKNOWN_LAMBDAS)
    return {"lambda_1": float(first), "lambda_2": float(further)}


def _ds_densities(agent: str, env: str, hidden_layers: int) -> Fields:
    """Return lambda_1 and lambda_2, or the densities that they imply for version v3."""
    task, version = _task(env)
    lambdas = AGENT_PRESETS[agent].lambdas
    if task not in lambdas:
        densities = (_UNKNOWN_DENSITY,) * hidden_layers + (1.0,)
        return {"actor_densities": densities, "critic_densities": densities}
    first, further = lambdas[task]
    same_observations = version == "v3" or task not in _V3_SIZES
    if same_observations or (task == "Humanoid" and version == "v4"):
        return _lambdas(agent, env)
    n_obs, n_act = _V3_SIZES[task]
    return {
        f"{network}_densities": (
            _density_of_lambda(first, n_in),
            *(_density_of_lambda(further, 256),) * (hidden_layers - 1),
            1.0,
        )
        for network, n_in in (("actor", n_obs), ("critic", n_obs + n_act))
    }


def _density_of_lambda(lam: float, n_in: int, width: int = 256) -> float:
    return lam * (n_in + width) / (n_in * width)


def _rlx2_sparsities(agent: str, env: str) -> Fields:
    """Return the sparsities of actor and critic."""
    sparsities = AGENT_PRESETS[agent].sparsities
    actor, critic = sparsities.get(_task(env)[0], _UNKNOWN_SPARSITIES)
    return {"actor_sparsity": actor, "critic_sparsity": critic}
