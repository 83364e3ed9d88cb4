"""Config: all settings of a run, as a frozen dataclass of plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal


@dataclass(frozen=True)
class Config:
    """All settings of a run; `sparl.methods.preset` fills them for a method and an environment."""

    method: str = "DS-TD3"
    """Name of the method; see `sparl methods`."""
    env: str = "HalfCheetah-v5"
    """Gymnasium id with a flat Box observation and a bounded Box action."""
    seed: int = 0
    """Seed of every random stream of the run."""
    steps: int = 1_000_000
    """Length of the run [environment steps]."""
    horizon_env_steps: int | None = None
    """Horizon of all schedules [environment steps]; None means `steps`."""
    stop_at: int | None = None
    """Stop at this step without changing the horizon [environment steps]; None means `steps`."""
    run_dir: str | None = None
    """Folder of the run; None creates a new folder in runs/."""
    overwrite: bool = False
    """Replace an existing run in run_dir."""
    resume: Literal["no", "auto"] = "no"
    """auto: resume the run in run_dir if there is one, and start a new run otherwise."""
    checkpoint_every_env_steps: int = 50_000
    """Steps between checkpoints [environment steps]; a run stopped by a signal also writes one."""
    keep_checkpoint: bool = False
    """Keep the last checkpoint of a finished run, so that the run can be extended."""
    threads: int | None = None
    """Number of compute threads, which does not affect results; None means all cores, at most 4."""
    tensorboard: bool = False
    """Also write event files for TensorBoard to the run's folder (pip install
    'sparl[tensorboard]')."""

    settings: Literal["ds", "rlx2"] = "ds"
    """Base settings of the preset (learning rate, batch size, ...): Sokar et al.'s or RLx2's."""
    agent: str = "TD3"
    """The algorithm, TD3 or SAC; determined by the method."""

    max_episode_steps: int | None = None
    """Time limit of an episode [environment steps]; None means the environment's default."""
    contact_forces: Literal["zero", "live"] = "zero"
    """Contact forces in the observations of Ant-v3 and Humanoid-v3: zero, as they presumably were
    with MuJoCo 2.0, or live."""

    hidden: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers [units]."""
    lambda_1: float | None = None
    """The first layer has lambda_1 (n_in + n_out) connections; None means a dense layer."""
    lambda_2: float | None = None
    """Each further hidden layer has lambda_2 (n_in + n_out) connections; None means dense."""
    actor_densities: tuple[float, ...] | None = None
    """Density of each layer of the actor [0-1], instead of the lambdas."""
    critic_densities: tuple[float, ...] | None = None
    """Density of each layer of the critics [0-1], instead of the lambdas."""
    actor_sparsity: float | None = None
    """Share of the actor's weights that do not exist [0-1]; see allocation."""
    critic_sparsity: float | None = None
    """Share of the critics' weights that do not exist [0-1]; see allocation."""
    allocation: Literal["scaled_lambdas", "erdos_renyi"] = "scaled_lambdas"
    """How a sparsity is distributed over layers: by scaling the hidden layers' lambdas, or by the
    Erdos-Renyi rule."""
    sparse_output: bool = False
    """Whether a sparsity includes the output layers."""
    narrow: bool = False
    """Use narrow dense networks with as many weights as the sparse networks (Tiny)."""
    initial_topology: Literal["random", "largest_weights"] = "random"
    """Initial connections: random connections, or the connections with the largest weights."""
    initial_weights: Literal["uniform", "orthogonal", "xavier"] = "uniform"
    """uniform: weights and biases within +-1/sqrt(n_in); orthogonal or xavier: zero biases."""

    rewire: Literal["both", "actor", "critics", "none"] = "both"
    """The networks whose topology changes."""
    rewire_every_updates: int = 0
    """Updates between topology updates; 0 means that the topology never changes."""
    rewire_first_update: int | None = None
    """Update at which the topology first changes; None means `rewire_every_updates`."""
    rewire_fraction: float = 0.05
    """Share of a layer's connections that a topology update moves [0-1]; the initial share if
    annealed."""
    rewire_schedule: Literal["constant", "cosine"] = "constant"
    """The fraction over time: constant, or annealed to 0 along a cosine."""
    rewire_clock: Literal["agent", "network"] = "agent"
    """Whether the schedule counts the updates of the agent or of the network."""
    rewire_skips_step: bool = False
    """Skip the optimiser step of a network in an update that changes the network's topology."""
    freeze_fraction: float = 0.05
    """Share of the horizon, at the end of a run, without topology updates [0-1]."""
    drop: str = "nearest_zero_of_each_sign"
    """Registered rule for the connections to remove: nearest_zero_of_each_sign (DS: the weakest
    connections of each sign, and all dead links), or smallest (RigL, RLx2)."""
    grow: str = "random"
    """Registered rule for the connections to add: random, or gradient (RigL: where the loss has the
    largest gradient)."""
    density_schedule: str = "constant"
    """Registered schedule of the number of connections of a layer over time."""
    grown_moments: Literal["factored", "mean", "zero"] = "factored"
    """Initial second moment (Adam) of a grown connection: estimated from the means over the
    connections of the input neuron and of the output neuron, the mean of the layer, or zero."""
    target_pattern: Literal["shared", "own"] = "shared"
    """The connections of a target: the same as in the online network, or the target's own largest
    connections (DS algorithm 3)."""

    learning_rate: float = 1e-3
    """Adam's step size."""
    weight_decay: float = 2e-4
    """L2 coefficient in the gradient of weights and biases."""
    batch_size: int = 100
    """Transitions per update."""
    replay_capacity: int = 1_000_000
    """Maximum number of transitions in the replay buffer."""
    warmup_env_steps: int = 25_000
    """Initial steps with random actions and without updates [environment steps]."""
    updates_per_env_step: int = 1
    """Updates after each environment step, after the warm-up."""
    gamma: float = 0.99
    """Discount per environment step."""
    tau: float = 0.005
    """Soft update: target = tau online + (1 - tau) target [0-1]."""
    critics: int = 2
    """Number of critics; a target value uses the smallest of the critics' values."""
    policy_delay: int = 2
    """Updates of the critics per update of the actor and the targets."""
    exploration_noise: float = 0.1
    """Standard deviation of the exploration noise [action scaled to -1..1]."""
    target_noise: float = 0.2
    """Standard deviation of the target policy smoothing noise [action scaled to -1..1]."""
    noise_clip: float = 0.5
    """Bound of the smoothing noise [action scaled to -1..1]."""
    alpha: float = 0.2
    """SAC: temperature; the initial temperature if learn_alpha is set."""
    learn_alpha: bool = False
    """SAC: learn the temperature for a target entropy of -n_act."""
    hard_target_every: int = 0
    """SAC: updates between copies of the critics to the target; 0 means soft updates with tau."""
    log_std: Literal["clamp", "tanh"] = "clamp"
    """SAC: log standard deviation clamped to -20..2, or -5 + 3.5 (tanh(x) + 1)."""
    collect: Literal["sample", "mean"] = "sample"
    """SAC: whether actions during training are sampled or are the mean."""
    warm_start: str | None = None
    """Folder of a finished run whose policy acts during the warm-up instead of random actions."""
    n_step: int = 1
    """Steps of the return in a target [environment steps]."""
    n_step_delay_updates: int = 0
    """First update whose targets have n_step steps; earlier targets have one step."""
    dynamic_buffer: bool = False
    """Drop old transitions if the policy has changed too much since they were stored (RLx2)."""
    replay_minimum: int = 100_000
    """Minimum number of transitions that dynamic_buffer keeps."""
    replay_distance_threshold: float = 0.2
    """Distance of the policy from the oldest transitions above which dynamic_buffer forgets [mean
    squared difference / 2, actions scaled to -1..1]."""
    replay_check_every_env_steps: int = 10_000
    """Steps between the checks of dynamic_buffer [environment steps]."""
    replay_probe_transitions: int | None = None
    """Number of the oldest transitions that a check examines; None means 8 x batch_size."""
    replay_forget_until_below: bool = False
    """Forget until the distance is below the threshold (RLx2's paper) instead of once per check
    (RLx2's code)."""

    evaluate_every_env_steps: int = 5_000
    """Steps between evaluations [environment steps]; the first evaluation is at step 0."""
    evaluation_episodes: int = 10
    """Noise-free episodes per evaluation, which always begin in the same states."""
    evaluation_seed: int = 100
    """Seed of the evaluation; the seed of episode i is derived from (evaluation_seed, i)."""

    @property
    def horizon(self) -> int:
        """Horizon of all schedules [environment steps]."""
        return self.steps if self.horizon_env_steps is None else self.horizon_env_steps

    @property
    def end(self) -> int:
        """Last step of the run [environment steps]."""
        return self.steps if self.stop_at is None else min(self.stop_at, self.steps)

    @property
    def replay_rows(self) -> int:
        """Capacity of the replay buffer, at most the number of transitions of the run."""
        return min(self.replay_capacity, self.end)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields that are not None, as plain values."""
        return {name: value for name, value in asdict(self).items() if value is not None}


FIELDS = {field.name: field for field in fields(Config)}

# Fields that do not influence the results of a run.
WITHOUT_INFLUENCE = frozenset(
    {
        "run_dir", "overwrite", "resume", "checkpoint_every_env_steps", "keep_checkpoint",
        "threads", "tensorboard",
    }
)  # fmt: skip
# Only the command line may choose the folder to write and whether to replace its content.
COMMAND_LINE_ONLY = ("run_dir", "overwrite", "resume")
# Fields that may change when a run is resumed.
CHANGEABLE = frozenset(
    {"checkpoint_every_env_steps", "keep_checkpoint", "stop_at", "tensorboard", "threads"}
)


def why_not_longer(config: Config) -> str:
    """Return the reason that a longer run would not begin with the same steps; "" if it would."""
    if config.rewire_every_updates and config.rewire != "none":
        return f"the topology changes on a schedule over {config.horizon:,} steps"
    if config.n_step > 1 and config.n_step_delay_updates:
        return (
            f"the targets become {config.n_step}-step targets during the run (n_step_delay_updates)"
        )
    return ""


def differences(found: Config, wanted: Config) -> list[str]:
    """Describe the fields, except stop_at, whose values make two configurations different runs."""
    return [
        f"{name} is {getattr(found, name)} instead of {getattr(wanted, name)}"
        for name in FIELDS
        if name not in WITHOUT_INFLUENCE | CHANGEABLE
        and _as_in_a_file(getattr(found, name)) != _as_in_a_file(getattr(wanted, name))
    ]


def _as_in_a_file(value: Any) -> Any:
    """Return a string as read from a UTF-8 file, so that file names compare equal."""
    if not isinstance(value, str):
        return value
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
