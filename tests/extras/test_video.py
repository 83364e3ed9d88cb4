"""Test that videos are recorded without a screen; this needs EGL or OSMesa."""

from __future__ import annotations

import gc
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
import pytest

import sparl
from hostile.test_trust import HOSTILE_FIELDS, MODULE, commands, rejected, set_fields
from sparl.cli import main


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    sparl.train(
        "TD3", "Hopper-v5", quiet=True, run_dir=str(path), steps=150, hidden=(8,),
        warmup_env_steps=100, evaluate_every_env_steps=150, evaluation_episodes=3,
    )  # fmt: skip
    return path


# imageio's reader leaves its pipes open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_video_shows_the_best_and_the_worst_episode_side_by_side(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    path = tmp_path / "clip.mp4"
    assert main(["evaluate", str(run)]) == 0
    returns = re.findall(r"return (\S+), (\d+) steps", capsys.readouterr().out)
    assert main(["play", str(run), "--video", str(path)]) == 0
    printed = capsys.readouterr().out
    totals = [float(total) for total, _ in returns]
    for name, episode in (("best", np.argmax(totals)), ("worst", np.argmin(totals))):
        assert f"{name}: episode {episode}, return {totals[episode]:,.3f}" in printed

    with imageio.get_reader(path) as reader:
        frames = np.stack(list(reader.iter_data()))
        assert reader.get_meta_data()["fps"] == pytest.approx(125 / 4)
    gc.collect()
    longest = max(
        int(steps) for _, steps in (returns[np.argmax(totals)], returns[np.argmin(totals)])
    )
    assert len(frames) == -(-longest // 4)  # every fourth of 125 steps in a second
    assert frames.shape[2] == 2 * frames.shape[1]
    purple = (frames[..., 0] > 1.5 * frames[..., 1]) & (frames[..., 2] > 1.3 * frames[..., 1])
    assert purple.sum(axis=(1, 2)).min() > 100  # the foot is in every image
    assert np.abs(np.diff(frames.astype(int), axis=0)).max(axis=(1, 2, 3)).min() > 30
    assert not list(tmp_path.glob("*.tmp*"))


def test_videos_are_written_only_as_mp4(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (tmp_path / "clip.gif", tmp_path / "missing" / "clip.mp4"):
        assert main(["play", str(run), "--video", str(path)]) == 2
        assert "must be an .mp4 file in an existing folder" in capsys.readouterr().err


def test_a_video_is_drawn_without_a_display(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {**os.environ, "DISPLAY": ":99"})
    path = Path(f"{tmp_path}/of any bytes \udcff.mp4")
    assert main(["play", str(run), "--video", str(path), "--episodes", "1"]) == 0
    assert path.stat().st_size > 1_000


@pytest.mark.parametrize("renderer", ["nonsense", "glfw"])
def test_an_unavailable_renderer_is_reported_in_one_line(
    run: Path, tmp_path: Path, renderer: str
) -> None:
    kept = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    words = ["play", str(run), "--video", str(tmp_path / "a.mp4"), "--episodes", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "sparl", *words], capture_output=True, text=True, check=False,
        env={**kept, "MUJOCO_GL": renderer},
    )  # fmt: skip
    assert done.returncode == 4
    assert done.stderr.startswith("sparl: environment Hopper-v5 cannot render images: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("fields", HOSTILE_FIELDS, ids=str)
def test_the_configuration_of_a_played_run_passes_the_check_of_the_command_line(
    fields: dict[str, Any], run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    set_fields(copy, **fields)
    assert "config.toml" in rejected(capsys, commands(copy)["play"])
    assert not (tmp_path / "out.mp4").exists()


def test_a_module_that_a_played_run_names_is_not_imported(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    set_fields(copy, env="evil_module:Evil-v0")
    said = rejected(capsys, commands(copy)["play"])
    assert f"sparl --import evil_module play {copy}" in said
    assert not (tmp_path / "was_imported").exists()
