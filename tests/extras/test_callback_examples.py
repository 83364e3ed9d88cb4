"""Run the examples that log to Weights & Biases (offline) and search with Optuna."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, folder: Path, *arguments: str) -> str:
    """Run an example, and return its output."""
    environment = {"WANDB_MODE": "offline", "WANDB_DIR": str(folder), "HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *arguments],
        cwd=folder, capture_output=True, text=True, check=False, env=os.environ | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def states(folder: Path) -> list[str]:
    """Return the states of the runs in a folder."""
    return [json.loads(path.read_text())["state"] for path in folder.glob("runs/*/run.json")]


def test_callbacks_log_and_stop(tmp_path: Path) -> None:
    printed = run("callbacks.py", tmp_path, "1000")
    found = re.search(r"^(\d+) evaluations; best return", printed, re.M)
    assert found is not None
    (log,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    written = log.read_bytes()
    for name in (b"evaluation/return_mean", b"train/critic_loss", b"rewire_every_updates"):
        assert name in written
    (state,) = states(tmp_path)
    assert state == ("finished" if int(found[1]) == 21 else "stopped by a callback")


def test_optuna_prunes_trials(tmp_path: Path) -> None:
    printed = run("optuna_search.py", tmp_path, "200", "8")
    assert re.search(r"^best return -[\d,.]+ with \{'learning_rate': ", printed, re.M)
    found = states(tmp_path)
    assert len(found) == 8
    assert {"finished", "stopped by a callback"} == set(found)
