"""Test runs that are trained longer than originally configured."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import sparl
from resuming import results, stopped_at
from sparl.cli import main
from sparl.errors import DataError, UsageError
from sparl.training.checkpoint import MANIFEST
from sparl.training.run_folder import RunFolder

SMALL: dict[str, Any] = {
    "steps": 90, "warmup_env_steps": 20, "hidden": (8, 8), "batch_size": 4, "threads": 1,
    "evaluate_every_env_steps": 40, "evaluation_episodes": 1, "max_episode_steps": 25,
    "quiet": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("TD3", {}),
        ("Static-TD3", {}),
        ("DS-TD3", {"rewire": "none"}),
        # This replay buffer is full before the run ends for the first time.
        ("SAC", {"n_step": 3, "replay_capacity": 70}),
        ("TD3", {"replay_capacity": 120, "dynamic_buffer": True, "replay_minimum": 30}),
        ("Tiny-SAC", {}),
        ("Static-TD3", {"horizon_env_steps": 500, "freeze_fraction": 0.5}),
    ],
)
@pytest.mark.slow
def test_a_run_trained_longer_equals_a_run_of_that_length(
    method: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    fields = {**SMALL, **fields}
    whole = sparl.train(method, "Hopper-v5", run_dir=tmp_path / "whole", **fields | {"steps": 201})
    run = sparl.train(method, "Hopper-v5", run_dir=tmp_path / "run", keep_checkpoint=True, **fields)
    assert run.evaluations[-1][0] == 90  # an unscheduled evaluation
    for steps in (91, 140):
        run = sparl.resume(run, steps=steps, quiet=True)
        assert run.evaluations[-1][0] == steps
    with stopped_at(150):  # resume from a checkpoint of the shorter run
        sparl.resume(run, steps=201, quiet=True)
    run = sparl.resume(run, quiet=True)
    assert run.config.steps == 201
    assert run.evaluations == whole.evaluations
    assert results(run.path) == results(whole.path)
    assert json.loads((run.path / "run.json").read_text())["bit_exact"]


def test_a_longer_run_killed_before_its_first_checkpoint_is_resumed(tmp_path: Path) -> None:
    whole = sparl.train("TD3", "Hopper-v5", run_dir=tmp_path / "w", **SMALL | {"steps": 150})
    run = sparl.train("TD3", "Hopper-v5", run_dir=tmp_path / "run", keep_checkpoint=True, **SMALL)
    killed_at_120 = (
        "import os, signal, sys, sparl\n"
        "from sparl.training.loop import Training\n"
        "step = Training.step\n"
        "def killed(self):\n"
        "    step(self)\n"
        "    if self.env_step == 120: os.kill(os.getpid(), signal.SIGKILL)\n"
        "Training.step = killed\n"
        "sparl.resume(sys.argv[1], steps=150, quiet=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", killed_at_120, str(run.path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert results(sparl.resume(run, quiet=True).path) == results(whole.path)


def flags(**fields: Any) -> list[str]:
    words: list[str] = []
    for name, value in {**SMALL, **fields}.items():
        if name != "quiet":
            values = value if isinstance(value, tuple) else (value,)
            words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return words


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Return the output of a command, which must succeed."""
    capsys.readouterr()
    assert main(words) == 0
    return capsys.readouterr().out


def test_the_printed_command_extends_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(tmp_path / "run")
    train = ["train", "--method", "TD3", "--env", "Hopper-v5", "--run-dir", run, *flags()]
    assert main([*train, "--keep-checkpoint"]) == 0
    capsys.readouterr()
    again = (
        f"{run}: already finished after 90 steps; to train longer: sparl resume {run} --steps N\n"
    )
    # Repeating the command without the flag does not shorten the run.
    for words in (["resume", run], [*train, "--resume", "auto"], ["resume", run, "--steps", "90"]):
        assert main(words) == 0
        assert capsys.readouterr().out == again
    assert main(["info", run]) == 0
    assert f"sparl resume {run} --steps N resumes the run, bit for bit" in capsys.readouterr().out
    assert main(["resume", run, "--steps", "0.1k", "--stop-at", "95"]) == 0
    assert "already stopped at step 95 of 100" in said(capsys, "resume", run)
    assert main(["resume", run, "--steps", "110", "--no-keep-checkpoint"]) == 0
    assert "finished after 110 steps; it cannot be" in said(capsys, "resume", run)
    assert not list((tmp_path / "run").glob("checkpoint-*"))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (["--method", "TD3"], "its last checkpoint was deleted when it finished"),
        (["--method", "DS-TD3", "--keep-checkpoint"], "the topology changes on a schedule over 90"),
        (["--method", "RigL-SAC", "--keep-checkpoint"], "the topology changes on a schedule"),
        (["--method", "TD3", "--n-step", "3", "--n-step-delay-updates", "5", "--keep-checkpoint"],
         "the targets become 3-step targets during the run"),
    ],
)  # fmt: skip
def test_a_run_that_cannot_be_trained_longer_names_the_flag_or_the_schedule(
    fields: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["train", "--env", "Hopper-v5", "--run-dir", str(run), *flags(), *fields]) == 0
    out = capsys.readouterr().out
    if fields[1] != "TD3" or "--n-step" in fields:
        assert "note: --keep-checkpoint does not allow this run to be extended: the t" in out
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    assert main(["resume", str(run), "--steps", "200"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"sparl: {run} cannot be trained longer: {says}")
    assert error.count("\n") == 1
    told = said(capsys, "resume", str(run))
    assert f"already finished after 90 steps; it cannot be trained longer: {says}" in told
    assert "--steps N" not in said(capsys, "info", str(run))
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before


def test_fewer_steps_are_rejected_and_a_damaged_checkpoint_changes_nothing(tmp_path: Path) -> None:
    run = sparl.train("TD3", "Hopper-v5", run_dir=tmp_path, keep_checkpoint=True, **SMALL).path
    with pytest.raises(
        UsageError, match="is a run of 90 steps, but --steps is 50; to stop earlier"
    ):
        sparl.resume(run, steps=50)
    manifest = run / "checkpoint-90" / MANIFEST
    manifest.write_bytes(manifest.read_bytes()[:-9])
    before = results(run), RunFolder(run).run(), RunFolder(run).config()
    with pytest.raises(DataError, match=r"manifest\.json: cannot be read"):
        sparl.resume(run, steps=200, quiet=True)
    assert (results(run), RunFolder(run).run(), RunFolder(run).config()) == before
