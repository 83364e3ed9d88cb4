"""Test what CPU time includes, and that a resumed run continues it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import sparl
from resuming import stopped_at
from sparl.training import record
from sparl.training.machine import cpu_seconds
from sparl.training.run_folder import RunFolder

SMALL: dict[str, Any] = {
    "steps": 90, "warmup_env_steps": 20, "hidden": (8, 8), "batch_size": 4, "threads": 1,
    "evaluate_every_env_steps": 30, "evaluation_episodes": 1, "max_episode_steps": 25,
    "quiet": True, "rewire_every_updates": 7, "actor_densities": (0.5, 0.5, 1.0),
    "critic_densities": (0.5, 0.5, 1.0),
}  # fmt: skip


def compute(seconds: float) -> None:
    """Use this much CPU time on this thread."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def evaluations(run: Path) -> list[dict[str, str]]:
    return RunFolder(run).rows("evaluations.csv")


def test_cpu_time_includes_threads_and_worker_processes_but_not_waiting() -> None:
    before = cpu_seconds()
    thread = threading.Thread(target=compute, args=(0.2,))
    thread.start()
    thread.join()
    spin = "import time\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-c", spin], check=True)
    used = cpu_seconds() - before
    time.sleep(0.2)
    assert cpu_seconds() - before - used < 0.1
    assert 0.5 <= used < 1.0


def test_evaluations_and_run_record_cpu_time(tmp_path: Path) -> None:
    run = sparl.train("DS-TD3", "Hopper-v5", run_dir=tmp_path, **SMALL).path
    cpu = [float(row["cpu_seconds"]) for row in evaluations(run)]
    assert 0 < cpu[0] < cpu[-1] <= json.loads((run / "run.json").read_text())["cpu_seconds"]


def test_cpu_time_continues_from_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = {"now": 500.0}

    def ticking() -> float:
        clock["now"] += 1.0
        return clock["now"]

    monkeypatch.setattr(record, "cpu_seconds", ticking)
    with stopped_at(60):
        sparl.train("DS-TD3", "Hopper-v5", run_dir=tmp_path, **SMALL)
    clock["now"] = 0.0  # as in a new process
    sparl.resume(tmp_path, quiet=True)
    cpu = [float(row["cpu_seconds"]) for row in evaluations(tmp_path)]
    assert cpu == sorted(set(cpu))
    assert cpu[-1] < 20
