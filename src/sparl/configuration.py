"""Config: every choice of a run. Frozen, plain values, one line each."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal


@dataclass(frozen=True)
class Config:
    """Every choice of a run; `sparl.methods.preset` fills it for a method and an environment."""

    method: str = "DS-TD3"
    """Name of the method; see `sparl methods`."""
    env: str = "HalfCheetah-v5"
    """Gymnasium id with a flat Box observation and a bounded Box action."""
    seed: int = 0
    """Seed of every random stream of the run."""
    steps: int = 1_000_000
    """Length of the run [environment steps]."""
    horizon_env_steps: int | None = None
    """Horizon of all schedules [environment steps]; None: steps."""
    stop_at: int | None = None
    """Stop early, the horizon unchanged [environment steps]; None: at steps."""
    run_dir: str | None = None
    """Folder of the run; None: a new one under runs/."""
    overwrite: bool = False
    """Replace the run that run_dir holds."""
    resume: Literal["no", "auto"] = "no"
    """auto: go on with the run that run_dir holds, if it holds one; may be called again."""
    checkpoint_every_env_steps: int = 50_000
    """Steps between checkpoints [environment steps]; there is one when a signal stops it too."""
    keep_checkpoint: bool = False
    """Keep the last checkpoint of a finished run, so that it can be trained longer."""
    threads: int | None = None
    """Threads at most, one where that is faster, and processes that play an evaluation; results do
    not depend on it. None: all cores, at most 4."""
    tensorboard: bool = False
    """Also write event files for TensorBoard into the run's folder (pip install
    'sparl[tensorboard]')."""

    settings: Literal["ds", "rlx2"] = "ds"
    """Base settings of the preset: Sokar et al.'s, or RLx2's (learning rate, batch, ...)."""
    agent: str = "TD3"
    """The algorithm underneath, TD3 or SAC; it follows from the method."""

    max_episode_steps: int | None = None
    """Time limit [environment steps]; None: the environment's own."""
    contact_forces: Literal["zero", "live"] = "zero"
    """Ant-v3, Humanoid-v3: contact forces in the observation, zero as presumably they were under
    MuJoCo 2.0."""

    hidden: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers [units]."""
    lambda_1: float | None = None
    """First layer: lambda_1 (n_in + n_out) connections; None: density 1."""
    lambda_2: float | None = None
    """Further hidden layers: lambda_2 (n_in + n_out) connections; None: density 1."""
    actor_densities: tuple[float, ...] | None = None
    """Density of each layer of the actor [0-1], instead of the lambdas."""
    critic_densities: tuple[float, ...] | None = None
    """Density of each layer of the critics [0-1], instead of the lambdas."""
    actor_sparsity: float | None = None
    """Share of the actor's weights left out [0-1], shared out by the allocation."""
    critic_sparsity: float | None = None
    """Share of the critics' weights left out [0-1], shared out by the allocation."""
    allocation: Literal["scaled_lambdas", "erdos_renyi"] = "scaled_lambdas"
    """How a sparsity is met: one factor on the hidden layers' lambdas, or ER over all matrices."""
    sparse_output: bool = False
    """Whether a sparsity also thins the output layers."""
    narrow: bool = False
    """Dense networks, as narrow as the sparse ones have parameters (Tiny)."""
    initial_topology: Literal["random", "largest_weights"] = "random"
    """Which connections exist at first: random ones, or the largest initial weights."""
    initial_weights: Literal["uniform", "orthogonal", "xavier"] = "uniform"
    """uniform: within 1/sqrt(n_in), biases too; orthogonal, Xavier-uniform: biases 0."""

    rewire: Literal["both", "actor", "critics", "none"] = "both"
    """Whose topology changes."""
    rewire_every_updates: int = 0
    """Updates between topology updates; 0: the topology never changes."""
    rewire_first_update: int | None = None
    """Update of the first topology update; None: after rewire_every_updates."""
    rewire_fraction: float = 0.05
    """Share of a layer's connections that a topology update moves; the first one's if annealed
    [0-1]."""
    rewire_schedule: Literal["constant", "cosine"] = "constant"
    """The fraction over time: as it is, or annealed to 0 by a cosine."""
    rewire_clock: Literal["agent", "network"] = "agent"
    """Whose updates count: the agent's, or the network's own."""
    rewire_skips_step: bool = False
    """The network takes no optimiser step on an update where its topology changes."""
    freeze_fraction: float = 0.05
    """Share of the horizon, at its end, without topology updates [0-1]."""
    drop: str = "nearest_zero_of_each_sign"
    """Registered rule for the connections to remove: nearest_zero_of_each_sign (DS: the weakest of
    each sign, and all dead links), or smallest (RigL, RLx2)."""
    grow: str = "random"
    """Registered rule for the connections to add: random, or gradient (RigL: where the loss has the
    largest gradient)."""
    density_schedule: str = "constant"
    """Registered schedule of how many connections a layer has over time; constant: as many as at
    the start."""
    grown_moments: Literal["factored", "mean", "zero"] = "factored"
    """Second Adam moment of a grown connection: from the means of its input's and its output's
    connections, the mean of its layer, or zero."""
    target_pattern: Literal["shared", "own"] = "shared"
    """The targets' connections: the online network's, or their own by magnitude (DS alg. 3)."""

    learning_rate: float = 1e-3
    """Adam's step size."""
    weight_decay: float = 2e-4
    """L2 coefficient in the gradient of weights and biases."""
    batch_size: int = 100
    """Transitions per update."""
    replay_capacity: int = 1_000_000
    """Transitions kept."""
    warmup_env_steps: int = 25_000
    """Steps with random actions and without updates [environment steps]."""
    updates_per_env_step: int = 1
    """Updates after each step once the warm-up is over."""
    gamma: float = 0.99
    """Discount per environment step."""
    tau: float = 0.005
    """Share of the online network that a target takes over at each target update."""
    critics: int = 2
    """Critics; a target takes the smallest of their values."""
    policy_delay: int = 2
    """Updates of the critics per update of actor and targets."""
    exploration_noise: float = 0.1
    """Standard deviation [action scaled to -1..1]."""
    target_noise: float = 0.2
    """Standard deviation of the target's smoothing noise [action scaled to -1..1]."""
    noise_clip: float = 0.5
    """Bound of the smoothing noise [action scaled to -1..1]."""
    alpha: float = 0.2
    """SAC: temperature, the first one where it is learned."""
    learn_alpha: bool = False
    """SAC: learn the temperature, towards an entropy of -n_act."""
    hard_target_every: int = 0
    """SAC: updates between copies of the critics to their target; 0: follow with tau."""
    log_std: Literal["clamp", "tanh"] = "clamp"
    """SAC: log standard deviation clamped to -20..2, or -5 + 3.5 (tanh(x) + 1)."""
    collect: Literal["sample", "mean"] = "sample"
    """SAC: what is done while collecting data, a sampled action or the mean."""
    warm_start: str | None = None
    """Folder of a finished run whose policy acts during the warm-up, instead of random actions."""
    n_step: int = 1
    """Steps of the return in a target [environment steps]."""
    n_step_delay_updates: int = 0
    """The first update whose target has n_step steps; those before have one."""
    dynamic_buffer: bool = False
    """Forget old transitions that the policy no longer resembles (RLx2)."""
    replay_minimum: int = 100_000
    """Transitions that dynamic_buffer never goes below."""
    replay_distance_threshold: float = 0.2
    """Distance between policy and oldest transitions above which dynamic_buffer forgets [mean of
    squared differences / 2, actions scaled to -1..1]."""
    replay_check_every_env_steps: int = 10_000
    """Steps between the checks of dynamic_buffer [environment steps]."""
    replay_probe_transitions: int | None = None
    """Oldest transitions that a check compares with the policy; None: 8 x batch_size."""
    replay_forget_until_below: bool = False
    """Forget until the distance is below the threshold (RLx2's text), not once per check (its
    code)."""

    evaluate_every_env_steps: int = 5_000
    """Steps between evaluations [environment steps]; there is one at step 0 too."""
    evaluation_episodes: int = 10
    """Episodes per evaluation, without noise, always from the same starts."""
    evaluation_seed: int = 100
    """Episode i starts from (evaluation_seed, i)."""

    @property
    def horizon(self) -> int:
        """Horizon of all schedules [environment steps]."""
        return self.steps if self.horizon_env_steps is None else self.horizon_env_steps

    @property
    def end(self) -> int:
        """Where the run stops [environment steps]."""
        return self.steps if self.stop_at is None else min(self.stop_at, self.steps)

    @property
    def replay_rows(self) -> int:
        """Transitions that there is room for; no more than the run makes."""
        return min(self.replay_capacity, self.end)

    def as_dict(self) -> dict[str, Any]:
        """The fields that are set, as plain values."""
        return {name: value for name, value in asdict(self).items() if value is not None}


FIELDS = {field.name: field for field in fields(Config)}

# A run gives the same whatever they are.
WITHOUT_INFLUENCE = frozenset(
    {
        "run_dir", "overwrite", "resume", "checkpoint_every_env_steps", "keep_checkpoint",
        "threads", "tensorboard",
    }
)  # fmt: skip
# Which folder is written, and whether what it holds is replaced: no file that is read may say so.
COMMAND_LINE_ONLY = ("run_dir", "overwrite", "resume")
# What may be another one when a run goes on.
CHANGEABLE = frozenset(
    {"checkpoint_every_env_steps", "keep_checkpoint", "stop_at", "tensorboard", "threads"}
)


def why_not_longer(config: Config) -> str:
    """Why a run of more steps would not begin as this one, in words; "" if it would."""
    if config.rewire_every_updates and config.rewire != "none":
        return f"its topology changes on a schedule over {config.horizon:,} steps"
    if config.n_step > 1 and config.n_step_delay_updates:
        return f"its targets become {config.n_step}-step ones with time (n_step_delay_updates)"
    return ""


def differences(there: Config, here: Config) -> list[str]:
    """What makes `here` another run than `there`, in words; where it stops does not."""
    return [
        f"{name} is {getattr(there, name)} there and {getattr(here, name)} here"
        for name in FIELDS
        if name not in WITHOUT_INFLUENCE | CHANGEABLE
        and _as_in_a_file(getattr(there, name)) != _as_in_a_file(getattr(here, name))
    ]


def _as_in_a_file(value: Any) -> Any:
    """A text as a UTF-8 file holds it; elsewhere the same file name may be other characters."""
    if not isinstance(value, str):
        return value
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
