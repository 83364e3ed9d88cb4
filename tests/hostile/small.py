"""The fields, the flags and a study file of training runs that take about a second."""

from __future__ import annotations

from typing import Any

FIELDS: dict[str, Any] = {
    "steps": 60, "hidden": (4,), "batch_size": 4, "warmup_env_steps": 10, "evaluation_episodes": 1,
    "evaluate_every_env_steps": 30, "checkpoint_every_env_steps": 20, "threads": 1,
}  # fmt: skip
FLAGS = [
    "--steps", "60", "--hidden", "4", "--batch-size", "4", "--warmup-env-steps", "10",
    "--evaluation-episodes", "1", "--evaluate-every-env-steps", "30", "--threads", "1",
]  # fmt: skip
CHECKPOINTS = ["--checkpoint-every-env-steps", "20"]
STUDY = """
environments = ["Pendulum-v1"]
methods = ["TD3"]
seeds = 2
[fields]
steps = 60
hidden = [4]
batch_size = 4
warmup_env_steps = 10
evaluation_episodes = 1
evaluate_every_env_steps = 30
"""
