"""Test that runs whose checkpoints have format 2 can be resumed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import sparl
from resuming import results, stopped_at, write_manifest
from sparl.cli import main
from sparl.old_names import TOPOLOGY_ROWS
from sparl.training.checkpoint import MANIFEST, STATE
from sparl.training.tensors import digest, pack

FIELDS = {
    "env": "Hopper-v5", "steps": 240, "warmup_env_steps": 100, "hidden": (20, 12),
    "batch_size": 16, "evaluate_every_env_steps": 120, "evaluation_episodes": 1, "threads": 1,
    "rewire_every_updates": 20, "quiet": True,
}  # fmt: skip
COLUMNS = (
    "agent_update", "member", "layer", "connections", "fraction", "moved", "dropped_live",
    "dropped_dead", "returned", "initial_overlap",
)  # fmt: skip


def rewrite(checkpoint: Path, *, first: float | None = None) -> int:
    """Rewrite a checkpoint in format 2, and return its number of recorded topology updates.

    Args:
        checkpoint: the checkpoint's folder.
        first: a number that replaces the first number of these records.
    """
    state, rows = {}, 0
    by_owner: dict[str, list[np.ndarray]] = {}
    loaded = safetensors.numpy.load_file(checkpoint / STATE)
    for path, array in loaded.items():
        owner, separator, _ = path.partition("topology_updates.")
        if not separator:
            state[path] = array
        elif owner not in by_owner:
            columns = [loaded[f"{owner}{separator}{name}"] for name in COLUMNS]
            by_owner[owner] = columns
            table = np.array(columns, np.float64).T.reshape(-1, len(COLUMNS)).copy()
            if first is not None:
                table.reshape(-1)[0] = first
            state[f"{owner}{TOPOLOGY_ROWS}"] = table
            rows += len(table)
    data = pack(state)
    (checkpoint / STATE).write_bytes(data)
    content = json.loads((checkpoint / MANIFEST).read_text())
    content |= {"format": 2, "file": {"bytes": len(data), "sha256": digest(data)}}
    environment = content["state"]["environment"]
    environment["elapsed"] = environment["episode_steps"]
    write_manifest(checkpoint, content)
    return rows


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    path = tmp_path / "stopped"
    with stopped_at(190):
        sparl.train("DS-TD3", run_dir=str(path), **FIELDS)
    return path


def test_a_run_with_a_checkpoint_of_format_2_resumes_bit_for_bit(
    stopped: Path, tmp_path: Path
) -> None:
    sparl.train("DS-TD3", run_dir=str(tmp_path / "whole"), **FIELDS)
    assert rewrite(stopped / "checkpoint-190") > 0
    sparl.resume(stopped, quiet=True)
    assert results(stopped) == results(tmp_path / "whole")


@pytest.mark.parametrize("value", [-1.0, 1e300])
def test_an_invalid_number_is_rejected(
    stopped: Path, value: float, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(stopped / "checkpoint-190", first=value)
    assert main(["resume", str(stopped)]) != 0
    said = capsys.readouterr().err
    assert "checkpoint-190/manifest.json: cannot be used" in said
    assert f"(ValueError: {TOPOLOGY_ROWS} contains" in said
