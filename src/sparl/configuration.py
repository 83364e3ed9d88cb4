"""Config: all settings of a run, as a frozen dataclass of plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, NamedTuple

MOST_EPISODES = 1_000_000  # maximum number of episodes of an evaluation


def _within(default: float | None, low: float, high: float, unit: str) -> Any:
    """Declare a field whose values must be in [low, high]; error messages state the unit."""
    return field(default=default, metadata={"range": (low, high, unit)})


class Budget(NamedTuple):
    """The settings of the actor's connections, or of the connections of all other networks.

    Attributes:
        prefix: prefix of the names of the fields: "actor" or "critic".
        densities: density of each layer; None if not set.
        sparsity: fraction of the weights that do not exist; None if not set.
        rewired: whether `rewire` selects these networks.
    """

    prefix: str
    densities: tuple[float, ...] | None
    sparsity: float | None
    rewired: bool


@dataclass(frozen=True)
class Config:
    """All settings of a run; `sparl.methods.preset` fills them for a method and an environment."""

    method: str = "DS-TD3"
    """Name of the method; see `sparl methods`."""
    env: str = "HalfCheetah-v5"
    """Gymnasium id; the observation space must be a flat Box, the action space a bounded Box."""
    seed: int = _within(0, 0, 2**63 - 1, "an integer")
    """Seed of every random stream of training; evaluations use evaluation_seed."""
    steps: int = _within(1_000_000, 1, 1e12, "environment steps")
    """Length of the run [environment steps]."""
    horizon_env_steps: int | None = _within(None, 1, 1e12, "environment steps")
    """Horizon of all schedules [environment steps]; None means `steps`."""
    stop_at: int | None = _within(None, 1, 1e12, "environment steps")
    """Stop at this step without changing the horizon [environment steps]; None means `steps`."""
    run_dir: str | None = None
    """Folder of the run; None creates a new folder in runs/."""
    overwrite: bool = False
    """Replace an existing run in run_dir."""
    resume: Literal["no", "auto"] = "no"
    """no: start a new run; auto: resume the run in run_dir if there is one, and start a new run
    otherwise."""
    checkpoint_every_env_steps: int = _within(50_000, 1, 1e12, "environment steps")
    """Steps between checkpoints [environment steps]; a run that stops early also writes one."""
    keep_checkpoint: bool = False
    """Keep the last checkpoint of a finished run, so that the run can be extended."""
    threads: int | None = _within(None, 1, 1024, "threads")
    """Number of compute threads, which does not affect results; None means all cores, at most 4."""
    tensorboard: bool = False
    """Also write event files for TensorBoard to the run's folder (pip install
    'sparl[tensorboard]')."""

    settings: Literal["ds", "rlx2"] = "ds"
    """Base settings of the preset (learning rate, batch size, ...): Sokar et al.'s or RLx2's."""
    agent: str = "TD3"
    """The algorithm, TD3 or SAC; determined by the method."""

    max_episode_steps: int | None = _within(None, 1, 1e9, "environment steps")
    """Time limit of an episode [environment steps]; None means the environment's default."""
    contact_forces: Literal["zero", "live"] = "zero"
    """Contact forces in the observations of Ant-v3 and Humanoid-v3: zero, as they presumably were
    with MuJoCo 2.0, or live."""

    normalize_observations: bool = False
    """Normalise observations with their running mean and variance. The statistics include every
    observation for which an action is chosen, and are stored with the agent."""

    hidden: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers [units]."""
    lambda_1: float | None = _within(None, 0, 1e9, "connections per neuron")
    """The first layer has lambda_1 (n_in + n_out) connections; None means a dense layer."""
    lambda_2: float | None = _within(None, 0, 1e9, "connections per neuron")
    """Each further hidden layer has lambda_2 (n_in + n_out) connections; None means dense."""
    actor_densities: tuple[float, ...] | None = None
    """Density of each layer of the actor, the output layer included [0-1]; None means the densities
    that lambda_1 and lambda_2 determine."""
    critic_densities: tuple[float, ...] | None = None
    """Density of each layer of the critics, the output layer included [0-1]; None means the
    densities that lambda_1 and lambda_2 determine."""
    actor_sparsity: float | None = _within(None, 0, 1, "a fraction of the weights")
    """Fraction of the actor's weights that do not exist [0-1]; see allocation."""
    critic_sparsity: float | None = _within(None, 0, 1, "a fraction of the weights")
    """Fraction of the critics' weights that do not exist [0-1]; see allocation."""
    allocation: Literal["scaled_lambdas", "erdos_renyi"] = "scaled_lambdas"
    """How a sparsity is distributed over layers: by scaling the hidden layers' lambdas, or by the
    Erdos-Renyi rule."""
    sparse_output: bool = False
    """Whether actor_sparsity and critic_sparsity also apply to the output layers."""
    narrow: bool = False
    """Use narrow dense networks with about as many weights as the sparse networks (Tiny)."""
    initial_topology: Literal["random", "largest_weights"] = "random"
    """Initial connections: random, or those whose weights in a dense initialisation are largest in
    magnitude."""
    initial_weights: Literal["uniform", "orthogonal", "xavier"] = "uniform"
    """uniform: weights and biases within +-1/sqrt(n_in); orthogonal or xavier: zero biases."""

    rewire: Literal["both", "actor", "critics", "none"] = "both"
    """The networks whose topology changes."""
    rewire_every_updates: int = _within(0, 0, 1e12, "updates")
    """Updates between topology updates; 0 means that the topology never changes."""
    rewire_first_update: int | None = _within(None, 1, 1e12, "updates")
    """Update at which the topology first changes; None means `rewire_every_updates`."""
    rewire_fraction: float = _within(0.05, 0, 1, "a fraction of the connections")
    """Fraction of a layer's connections that a topology update moves [0-1]; the initial fraction if
    annealed."""
    rewire_schedule: Literal["constant", "cosine"] = "constant"
    """How rewire_fraction changes over time: constant, or annealed to 0 along a cosine."""
    rewire_clock: Literal["agent", "network"] = "agent"
    """Whether the schedule counts the updates of the agent or of the network."""
    rewire_skips_step: bool = False
    """Skip the optimiser step of a network in an update that changes the network's topology."""
    freeze_fraction: float = _within(0.05, 0, 1, "a fraction of the horizon")
    """Fraction of the horizon, at the end of a run, without topology updates [0-1]."""
    drop: str = "nearest_zero_of_each_sign"
    """Registered rule for the connections to remove: nearest_zero_of_each_sign (DS: the weakest
    connections of each sign, and all dead links), or smallest (RigL, RLx2)."""
    grow: str = "random"
    """Registered rule for the connections to add: random, or gradient (RigL: where the loss has the
    largest gradient)."""
    density_schedule: str = "constant"
    """Registered schedule of a layer's number of connections over time."""
    grown_moments: Literal["factored", "mean", "zero"] = "factored"
    """Initial second moment (Adam) of a grown connection. factored: estimated from the mean second
    moments of the connections that share its input neuron or its output neuron; mean: the mean
    second moment of the layer; zero: 0."""
    target_pattern: Literal["shared", "own"] = "shared"
    """Which connections a target network has. shared: those of the online network; own: the
    target's own connections of largest magnitude (DS algorithm 3)."""

    learning_rate: float = _within(1e-3, 0, 1e3, "step size")
    """Adam's step size."""
    weight_decay: float = _within(2e-4, 0, 1e3, "L2 coefficient")
    """L2 coefficient in the gradient of weights and biases."""
    batch_size: int = _within(100, 1, 1e6, "transitions")
    """Transitions per update."""
    replay_capacity: int = _within(1_000_000, 1, 1e10, "transitions")
    """Maximum number of transitions in the replay buffer."""
    warmup_env_steps: int = _within(25_000, 1, 1e12, "environment steps")
    """Initial steps with random actions and without updates [environment steps]."""
    updates_per_env_step: int = _within(1, 1, 1e4, "updates")
    """Updates per environment step; there are none during the warm-up."""
    gamma: float = _within(0.99, 0, 1, "per environment step")
    """Discount per environment step."""
    tau: float = _within(0.005, 0, 1, "a fraction")
    """Soft update: target = tau online + (1 - tau) target [0-1]."""
    critics: int = _within(2, 1, 100, "critics")
    """Number of critics; a target value uses the smallest of the critics' values."""
    policy_delay: int = _within(2, 1, 1e9, "updates")
    """TD3: updates of the critics per update of the actor and the targets."""
    exploration_noise: float = _within(0.1, 0, 1e3, "scaled action")
    """TD3: standard deviation of the exploration noise [action scaled to -1..1]."""
    target_noise: float = _within(0.2, 0, 1e3, "scaled action")
    """TD3: standard deviation of the target policy smoothing noise [action scaled to -1..1]."""
    noise_clip: float = _within(0.5, 0, 1e3, "scaled action")
    """TD3: bound of the smoothing noise [action scaled to -1..1]."""
    alpha: float = _within(0.2, 1e-9, 1e9, "temperature")
    """SAC: temperature; the initial temperature if learn_alpha is set."""
    learn_alpha: bool = False
    """SAC: learn the temperature for a target entropy of -n_act."""
    hard_target_every: int = _within(0, 0, 1e12, "updates")
    """SAC: updates between copies of the critics to the target; 0 means soft updates with tau."""
    log_std: Literal["clamp", "tanh"] = "clamp"
    """SAC: how the log standard deviation is bounded. clamp: to -20..2; tanh: to -5..2, as
    -5 + 3.5 (tanh(x) + 1)."""
    collect: Literal["sample", "mean"] = "sample"
    """SAC: whether training actions are sampled from the policy or are its mean."""
    warm_start: str | None = None
    """Folder of a run whose saved agent acts during the warm-up; None means random actions."""
    n_step: int = _within(1, 1, 1000, "environment steps")
    """Number of steps in the n-step return of a target value [environment steps]."""
    n_step_delay_updates: int = _within(0, 0, 1e12, "updates")
    """First update that uses n-step returns; earlier updates use one-step returns."""
    dynamic_buffer: bool = False
    """Forget old transitions if the policy has changed too much since they were stored (RLx2)."""
    replay_minimum: int = _within(100_000, 1, 1e10, "transitions")
    """Minimum number of transitions that dynamic_buffer keeps."""
    replay_distance_threshold: float = _within(0.2, 0, 1e9, "squared distance")
    """dynamic_buffer forgets transitions if the distance between the policy's actions and those in
    the oldest transitions exceeds this [mean squared difference / 2, actions scaled to -1..1]."""
    replay_check_every_env_steps: int = _within(10_000, 1, 1e12, "environment steps")
    """Steps between two checks of the distance by dynamic_buffer [environment steps]."""
    replay_probe_transitions: int | None = _within(None, 1, 1e10, "transitions")
    """Number of the oldest transitions that a check examines; None means 8 x batch_size."""
    replay_forget_until_below: bool = False
    """Forget transitions until the distance is below the threshold (RLx2's paper) instead of once
    per check (RLx2's code)."""

    evaluate_every_env_steps: int = _within(5_000, 1, 1e12, "environment steps")
    """Steps between evaluations [environment steps]; the first evaluation is at step 0."""
    evaluation_episodes: int = _within(10, 1, MOST_EPISODES, "episodes")
    """Noise-free episodes per evaluation; their initial states are the same in every evaluation."""
    evaluation_seed: int = _within(100, 0, 2**63 - 1, "an integer")
    """Seed of all evaluations; the seed of episode i is derived from (evaluation_seed, i)."""

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
        """Capacity of the replay buffer, limited to the run's number of transitions."""
        return min(self.replay_capacity, self.end)

    @property
    def topology_scheduled(self) -> bool:
        """Whether topology updates of any network are scheduled."""
        return self.rewire_every_updates > 0 and self.rewire != "none"

    def budget(self, label: str) -> Budget:
        """Return the settings of a network's connections.

        Args:
            label: the label of the network's spec.
        """
        if label == "actor":
            rewired = self.rewire in ("both", "actor")
            return Budget("actor", self.actor_densities, self.actor_sparsity, rewired)
        rewired = self.rewire in ("both", "critics")
        return Budget("critic", self.critic_densities, self.critic_sparsity, rewired)

    def n_step_at(self, update: int) -> int:
        """Return the number of steps in the returns of an update; the first update is number 1."""
        return 1 if update < self.n_step_delay_updates else self.n_step

    def as_dict(self) -> dict[str, Any]:
        """Return the fields that are not None, as plain values."""
        return {name: value for name, value in asdict(self).items() if value is not None}


FIELDS = {field.name: field for field in fields(Config)}

# Fields that set the number of connections.
DENSITY_FIELDS = (
    "lambda_1", "lambda_2", "actor_densities", "critic_densities", "actor_sparsity",
    "critic_sparsity",
)  # fmt: skip
# Fields that configuration files must not set: where to write a run, and whether to replace or
# resume an existing one.
COMMAND_LINE_ONLY = ("run_dir", "overwrite", "resume")
_OPERATION = frozenset({"checkpoint_every_env_steps", "keep_checkpoint", "threads", "tensorboard"})
# Fields that do not affect the results of a run.
WITHOUT_INFLUENCE = _OPERATION.union(COMMAND_LINE_ONLY)
# Fields that may change when a run is resumed. `steps` may change too, if the run can be extended.
CHANGEABLE = _OPERATION | {"stop_at"}


def why_not_longer(config: Config) -> str:
    """Return why a longer run would not begin with the same steps, or "" if it would."""
    if config.topology_scheduled:
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
    """Return a string as it would be read from a UTF-8 file, so that file names compare equal."""
    if not isinstance(value, str):
        return value
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
