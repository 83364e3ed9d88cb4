"""Short descriptions of a run's fields, grouped as in `sparl train --help`.

The docstrings of `sparl.configuration.Config` describe the fields in full.
"""

from __future__ import annotations

# Maximum length of a description [characters], so that a field takes one line of 80 characters.
LONGEST = 40

GROUPS: dict[str, dict[str, str]] = {
    "run": {
        "method": "name of the method; see sparl methods",
        "settings": "base settings, by paper: ds or rlx2",
        "seed": "seed of training; see evaluation_seed",
        "steps": "length of the run [environment steps]",
        "horizon_env_steps": "horizon of all schedules; default: steps",
        "stop_at": "stop at this step, keep the horizon",
        "run_dir": "folder; default: a new one in runs/",
        "overwrite": "replace the run in run_dir",
        "resume": "auto: resume the run in run_dir, if any",
        "checkpoint_every_env_steps": "environment steps between checkpoints",
        "keep_checkpoint": "keep the last checkpoint of the run",
        "threads": "compute threads; default: cores, up to 4",
        "tensorboard": "write event files for TensorBoard",
    },
    "environment": {
        "env": "Gymnasium id",
        "max_episode_steps": "time limit of an episode",
        "contact_forces": "zero or live, in Ant-v3 and Humanoid-v3",
        "normalize_observations": "normalise by running mean and variance",
    },
    "network": {
        "hidden": "units of each hidden layer",
        "lambda_1": "connections/neuron, first layer",
        "lambda_2": "connections/neuron, other hidden layers",
        "actor_densities": "density of each layer of the actor",
        "critic_densities": "density of each layer of the critics",
        "actor_sparsity": "fraction of absent actor weights",
        "critic_sparsity": "fraction of absent critic weights",
        "allocation": "how a sparsity is split among layers",
        "sparse_output": "apply sparsities to output layers too",
        "narrow": "use narrow dense networks instead",
        "initial_topology": "random, or largest_weights",
        "initial_weights": "uniform, orthogonal or xavier",
    },
    "topology": {
        "rewire": "networks that change: both, one or none",
        "rewire_every_updates": "updates between changes; 0: never",
        "rewire_first_update": "first change; default: after one period",
        "rewire_fraction": "fraction of connections that move",
        "rewire_schedule": "fraction over time: constant or cosine",
        "rewire_clock": "whose updates count: agent or network",
        "rewire_skips_step": "skip the optimiser step at a change",
        "freeze_fraction": "fraction of the run, at its end, frozen",
        "drop": "rule for the connections to remove",
        "grow": "rule for new ones: random, gradient",
        "density_schedule": "number of connections over time",
        "grown_moments": "Adam's second moment of new connections",
        "target_pattern": "connections of targets: shared or own",
    },
    "agent": {
        "agent": "algorithm; determined by the method",
        "learning_rate": "Adam's step size",
        "weight_decay": "L2 coefficient",
        "batch_size": "transitions per update",
        "warmup_env_steps": "random steps before the first update",
        "warm_start": "run whose policy acts in the warm-up",
        "updates_per_env_step": "updates after each environment step",
        "gamma": "discount per environment step",
        "tau": "coefficient of soft target updates",
        "critics": "number of critics",
        "policy_delay": "TD3: critic updates per actor update",
        "exploration_noise": "TD3: standard deviation",
        "target_noise": "TD3: std of the target smoothing noise",
        "noise_clip": "TD3: bound of the smoothing noise",
        "alpha": "SAC: (initial) temperature",
        "learn_alpha": "SAC: learn the temperature",
        "hard_target_every": "SAC: hard target update period; 0: soft",
        "log_std": "SAC: bounds of the log std: clamp, tanh",
        "collect": "SAC: training actions: sample or mean",
        "n_step": "steps in the return of a target",
        "n_step_delay_updates": "first update with n-step targets",
    },
    "replay": {
        "replay_capacity": "maximum number of transitions",
        "dynamic_buffer": "forget outdated transitions (RLx2)",
        "replay_minimum": "minimum number of transitions to keep",
        "replay_distance_threshold": "policy distance above which to forget",
        "replay_check_every_env_steps": "environment steps between checks",
        "replay_probe_transitions": "oldest transitions that a check reads",
        "replay_forget_until_below": "keep forgetting until below threshold",
    },
    "evaluation": {
        "evaluate_every_env_steps": "environment steps between evaluations",
        "evaluation_episodes": "noise-free episodes per evaluation",
        "evaluation_seed": "seed of the evaluation episodes",
    },
}
