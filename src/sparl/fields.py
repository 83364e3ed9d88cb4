"""The fields that `sparl.train` and `sparl.resume` accept, for type checkers and editors."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Literal, TypedDict


class TrainFields(TypedDict, total=False):
    """All fields except method and env; `sparl.configuration.Config` documents them."""

    seed: int
    steps: int
    horizon_env_steps: int | None
    stop_at: int | None
    run_dir: str | PathLike[str] | None
    overwrite: bool
    resume: Literal["no", "auto"]
    checkpoint_every_env_steps: int
    keep_checkpoint: bool
    threads: int | None
    tensorboard: bool
    settings: Literal["ds", "rlx2"]
    agent: str
    max_episode_steps: int | None
    contact_forces: Literal["zero", "live"]
    normalize_observations: bool
    hidden: Sequence[int]
    lambda_1: float | None
    lambda_2: float | None
    actor_densities: Sequence[float] | None
    critic_densities: Sequence[float] | None
    actor_sparsity: float | None
    critic_sparsity: float | None
    allocation: Literal["scaled_lambdas", "erdos_renyi"]
    sparse_output: bool
    narrow: bool
    initial_topology: Literal["random", "largest_weights"]
    initial_weights: Literal["uniform", "orthogonal", "xavier"]
    rewire: Literal["both", "actor", "critics", "none"]
    rewire_every_updates: int
    rewire_first_update: int | None
    rewire_fraction: float
    rewire_schedule: Literal["constant", "cosine"]
    rewire_clock: Literal["agent", "network"]
    rewire_skips_step: bool
    freeze_fraction: float
    drop: str
    grow: str
    density_schedule: str
    grown_moments: Literal["factored", "mean", "zero"]
    target_pattern: Literal["shared", "own"]
    learning_rate: float
    weight_decay: float
    batch_size: int
    replay_capacity: int
    warmup_env_steps: int
    updates_per_env_step: int
    gamma: float
    tau: float
    critics: int
    policy_delay: int
    exploration_noise: float
    target_noise: float
    noise_clip: float
    alpha: float
    learn_alpha: bool
    hard_target_every: int
    log_std: Literal["clamp", "tanh"]
    collect: Literal["sample", "mean"]
    warm_start: str | PathLike[str] | None
    n_step: int
    n_step_delay_updates: int
    dynamic_buffer: bool
    replay_minimum: int
    replay_distance_threshold: float
    replay_check_every_env_steps: int
    replay_probe_transitions: int | None
    replay_forget_until_below: bool
    evaluate_every_env_steps: int
    evaluation_episodes: int
    evaluation_seed: int


class ResumeFields(TypedDict, total=False):
    """The fields that may change when a run is resumed; Config documents them."""

    steps: int
    stop_at: int | None
    checkpoint_every_env_steps: int
    keep_checkpoint: bool
    threads: int | None
    tensorboard: bool
