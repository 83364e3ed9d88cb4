"""Test `sparl play` without a screen, and its errors."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sparl
from sparl.cli import main
from sparl.training.environment import make_environment


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    sparl.train(
        "TD3", "Pendulum-v1", quiet=True, run_dir=str(path), steps=150, hidden=(8,),
        warmup_env_steps=100, evaluate_every_env_steps=150, evaluation_episodes=1,
    )  # fmt: skip
    return path


def test_a_missing_screen_is_reported_in_one_line(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert main(["play", str(run)]) == 2
    error = capsys.readouterr().err
    assert "there is no screen" in error
    assert error.count("\n") == 1


def test_the_episodes_are_those_of_the_evaluation(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(
        "sparl.play.command.make_environment", lambda config, _: make_environment(config)
    )
    options = [str(run), "--episodes", "3", "--seed", "5"]
    assert main(["play", *options]) == 0
    played = re.findall(r"return (.+)", capsys.readouterr().out)
    assert main(["evaluate", *options, "--json"]) == 0
    evaluated = json.loads(capsys.readouterr().out)["returns"]
    assert [float(each.replace(",", "")) for each in played] == pytest.approx(evaluated, abs=1e-2)


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("--episodes", "0", "--episodes is 0 but must be from 1 to 1,000,000\n"),
        ("--seed", "-3", "--seed is -3 but must be at least 0\n"),
    ],
)
def test_an_invalid_number_of_episodes_or_seed_is_rejected(
    option: str, value: str, problem: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["play", str(run), option, value]) == 2
    assert capsys.readouterr().err == f"sparl: {problem}"


def test_a_missing_extra_is_reported_in_one_line(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.delitem(sys.modules, "sparl.play.video", raising=False)
    assert main(["play", str(run), "--video", "a.mp4"]) == 2
    assert "pip install 'sparl[video]'" in capsys.readouterr().err


@pytest.fixture(scope="module")
def hopper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "hopper"
    sparl.train(
        "TD3", "Hopper-v5", quiet=True, run_dir=str(path), steps=80, hidden=(8,),
        warmup_env_steps=70, evaluate_every_env_steps=80, evaluation_episodes=1,
    )  # fmt: skip
    return path


def test_a_missing_display_is_reported_in_one_line(hopper: Path) -> None:
    """Run in a separate process, which GLFW would abort."""
    done = run_with({"DISPLAY": ":99"}, "play", str(hopper))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "the screen cannot be opened (DISPLAY=:99); record with --video" in done.stderr


@pytest.mark.parametrize("env", ["Hopper-v5", "Pendulum-v1"])
@pytest.mark.parametrize("renderer", ["nonsense", "osmesa", "egl"])
@pytest.mark.slow
def test_a_missing_renderer_does_not_prevent_training(
    env: str, renderer: str, tmp_path: Path
) -> None:
    run = str(tmp_path / "run")
    words = ["--env", env, "--steps", "21", "--warmup-env-steps", "20", "--run-dir", run]
    for command in (["train", *words, "--evaluation-episodes", "1"], ["evaluate", run]):
        done = run_with({"MUJOCO_GL": renderer}, *command)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""


def run_with(more: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command with these environment variables and no other display."""
    kept = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    return subprocess.run(
        [sys.executable, "-m", "sparl", *words], capture_output=True, text=True, check=False,
        env={**kept, **more},
    )  # fmt: skip
