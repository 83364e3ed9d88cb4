"""The papers' settings: presets of agents and of families of methods, with their sources.

Sources: TD3, Fujimoto et al. 2018; SAC, Haarnoja et al. 2018; Static- and DS-, Sokar et al.,
Dynamic Sparse Training for Deep Reinforcement Learning (arXiv 2106.04217 and its longer version);
SS-, SET-, RigL-, RLx2- and Tiny-, Tan et al., RLx2 (ICLR 2023). Numbers are from the papers or, if
a paper does not state them, from its released code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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
    "Haarnoja, Zhou, Hartikainen, Tucker, Ha, Tan, Kumar, Zhu, Gupta, Abbeel, Levine", 2018,
    "Soft Actor-Critic Algorithms and Applications", "https://arxiv.org/abs/1812.05905",
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
    """How a method treats the topology; a family and an agent together form a method.

    Attributes:
        prefix: the part of the method's name before the agent's.
        summary: one-line description.
        source: paper and section that define the family.
        settings: name of the base settings.
        fields: values that differ from Config's defaults under all settings, among them all that
            define how the connections are chosen; they take precedence over the settings.
        sparse: whether the networks have the densities of the environment's preset.
        defining: fields that are part of the definition, so that other values contradict it.
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


# How Tan et al. choose connections. Methods whose topology does not change use only
# initial_topology.
_TAN_TOPOLOGY: Fields = {
    "initial_topology": "largest_weights", "drop": "smallest", "grown_moments": "zero",
    "rewire_fraction": 0.5, "rewire_schedule": "cosine", "rewire_clock": "network",
    "rewire_skips_step": True, "freeze_fraction": 0.0,
}  # fmt: skip
_TAN_DYNAMIC: Fields = {**_TAN_TOPOLOGY, "rewire_every_updates": 10_000}
FAMILIES = (  # in the order of reports
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
        "magnitude drop by sign, random growth; targets with own patterns",
        "Sokar et al., algorithms 1-3",
        "ds",
        {"rewire_every_updates": 1000, "rewire_first_update": 2, "target_pattern": "own"},
        papers=(DS_PAPER, SET_PAPER),
    ),
    Family(
        "Tiny-",
        "narrow dense networks with about as many weights as sparse ones",
        "RLx2, baseline",
        "rlx2",
        {**_TAN_TOPOLOGY, "narrow": True},
        papers=(RLX2_PAPER,),
    ),
    Family(
        "SS-",
        "static sparse networks: the initial weights of largest magnitude",
        "RLx2, baseline",
        "rlx2",
        _TAN_TOPOLOGY,
        defining=("initial_topology",),
        papers=(RLX2_PAPER,),
    ),
    Family(
        "SET-",
        "magnitude drop and random growth, annealed",
        "RLx2, baseline",
        "rlx2",
        _TAN_DYNAMIC,
        papers=(RLX2_PAPER, SET_PAPER),
    ),
    Family(
        "RigL-",
        "magnitude drop and gradient growth, annealed",
        "RLx2, baseline",
        "rlx2",
        {**_TAN_DYNAMIC, "grow": "gradient"},
        papers=(RLX2_PAPER, RIGL_PAPER),
    ),
    Family(
        "RLx2-",
        "RigL with delayed n-step targets and a dynamic-capacity replay",
        "Tan et al. 2023, algorithm 1",
        "rlx2",
        {
            **_TAN_DYNAMIC,
            "grow": "gradient",
            "n_step": 3,
            "n_step_delay_updates": 300_000,
            "dynamic_buffer": True,
        },
        papers=(RLX2_PAPER,),
    ),
)


@dataclass(frozen=True)
class AgentPreset:
    """The papers' settings of one agent.

    The base settings, `ds` and `rlx2`, contain the hyperparameters of training and the densities.
    How the connections are chosen is part of the family.

    Attributes:
        source: short citation of the paper that introduced the agent.
        ds: Sokar et al.'s settings that differ from Config's defaults.
        ds_sparse: further settings that differ for sparse methods.
        rlx2: Tan et al.'s settings.
        lambdas: (lambda_1, lambda_2) by task, from Sokar et al., who chose the values for the
            observations of the tasks' version v3.
        sparsities: (actor, critic) sparsity by task, from the main table of Tan et al.
        published_costs: size with targets, training FLOPs and test FLOPs by family and task, each
            relative to the dense agent, from the main table of Tan et al.
        paper: the paper that `source` cites.
        topology: fields of topology updates that differ from Config's defaults under all settings;
            a family's fields take precedence.
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
    topology: Fields = field(default_factory=dict)


_RLX2: Fields = {  # for every agent
    "learning_rate": 3e-4, "batch_size": 256, "weight_decay": 0.0, "steps": 3_000_000,
    "allocation": "erdos_renyi", "sparse_output": True,
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
            "warmup_env_steps": 10_000, "initial_weights": "xavier", "policy_delay": 1,
        },
        ds_sparse={"hard_target_every": 1000},
        topology={"rewire_fraction": 0.1},  # DS-SAC
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
