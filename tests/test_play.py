"""`sparl play` where there is no screen, and what it refuses."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import sparl
from sparl.cli import main


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    sparl.train(
        "TD3", "Pendulum-v1", quiet=True, run_dir=str(path), steps=150, hidden=(8,),
        warmup_env_steps=100, evaluate_every_env_steps=150, evaluation_episodes=1,
    )  # fmt: skip
    return path


def test_no_screen_is_one_line(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert main(["play", str(run)]) == 2
    error = capsys.readouterr().err
    assert "no screen here" in error
    assert error.count("\n") == 1


def test_bad_numbers_are_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["play", str(run), "--episodes", "0"]) == 2
    assert "at least 1 episode" in capsys.readouterr().err


def test_a_missing_extra_is_one_line(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.delitem(sys.modules, "sparl.play.video", raising=False)
    assert main(["play", str(run), "--video", "a.mp4"]) == 2
    assert "pip install 'sparl[video]'" in capsys.readouterr().err
