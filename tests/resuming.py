"""Stop runs, change their checkpoints, and read their results."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sparl.training.checkpoint import MANIFEST
from sparl.training.loop import Training

CLOCKS = ("wall_seconds", "cpu_seconds")


@contextmanager
def stopped_at(*env_steps: int, by: signal.Signals = signal.SIGTERM) -> Iterator[None]:
    """Send a signal to every training run right after each of these steps."""
    original = Training.step
    waiting = set(env_steps)

    def step(self: Training) -> None:
        original(self)
        if self.env_step in waiting:
            waiting.discard(self.env_step)
            os.kill(os.getpid(), by)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "step", step)
        yield


def write_manifest(checkpoint: Path, content: dict[str, Any]) -> None:
    """Write the manifest of a checkpoint, with the right digest of its content."""
    content = {name: value for name, value in content.items() if name != "sha256"}
    text = json.dumps(content, sort_keys=True).encode()
    content["sha256"] = hashlib.sha256(text).hexdigest()
    (checkpoint / MANIFEST).write_text(json.dumps(content))


def results(run: Path) -> dict[str, Any]:
    """Return all results of a run, except recorded times."""
    left: dict[str, Any] = {
        name: (run / name).read_bytes() for name in ("agent.safetensors", "degrees.json")
    }
    for name in ("evaluations.csv", "metrics.csv", "topology.csv"):
        path = run / name
        with path.open() if path.exists() else open(os.devnull) as file:  # noqa: PTH123
            rows = list(csv.DictReader(file))
        left[name] = [{k: v for k, v in row.items() if k not in CLOCKS} for row in rows]
    return left
