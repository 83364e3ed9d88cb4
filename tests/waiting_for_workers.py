"""Trainings that use their evaluation workers as soon as possible, however short they are."""

from __future__ import annotations

import time
from typing import Any

import sparl
from resuming import results
from sparl.training import evaluation_workers
from sparl.training.evaluate import Evaluation, Policy
from sparl.training.evaluation_workers import ParallelEvaluator

SMALL: dict[str, Any] = {
    "steps": 200, "warmup_env_steps": 150, "hidden": (8, 8), "batch_size": 4, "quiet": True,
    "evaluate_every_env_steps": 50, "evaluation_episodes": 3, "max_episode_steps": 30,
}  # fmt: skip
used: list[int] = []  # the number of proven workers at each evaluation


def wait_for_workers() -> None:
    """From now on each evaluation of this process waits until its workers have answered."""
    original = ParallelEvaluator.evaluate

    def evaluate(self: ParallelEvaluator, policy: Policy) -> Evaluation:
        result = original(self, policy)
        end = time.monotonic() + 120
        while any(worker.is_busy() for worker in self._workers):
            assert time.monotonic() < end
            time.sleep(0.01)
        used.append(sum(worker.is_proven for worker in self._workers))
        return result

    evaluation_workers.WORTH_STARTING_SECONDS = 0.0
    ParallelEvaluator.evaluate = evaluate  # type: ignore[method-assign]


def train(run_dir: Any, threads: int) -> dict[str, Any]:
    """Train a small agent, and return what its run left and how many workers played in the end."""
    wait_for_workers()
    run = sparl.train("DS-TD3", "Hopper-v5", run_dir=run_dir, threads=threads, **SMALL)
    return {**results(run.path), "workers": used[-1]}
