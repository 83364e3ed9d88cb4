"""TensorBoard's own reader can read a run's event files, even while the run is training."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hostile.orphans import check_that_children_hold_no_files
from hostile.small import FLAGS
from sparl.methods import preset
from sparl.training.assemble import assemble


def test_a_reader_sees_values_during_the_run(tmp_path: Path) -> None:
    config = preset(
        "DS-TD3", "Pendulum-v1", steps=600, warmup_env_steps=100, hidden=(16, 16), batch_size=16,
        rewire_every_updates=100, evaluate_every_env_steps=200, evaluation_episodes=1,
        run_dir=str(tmp_path / "run"), tensorboard=True,
    )  # fmt: skip
    training = assemble(config, quiet=True)
    reader = EventAccumulator(str(tmp_path / "run"))
    seen: list[tuple[int, int]] = []  # (environment step, evaluations read)
    step = training.step

    def watched_step() -> None:
        if training.env_step % 200 == 100:
            reader.Reload()
            seen.append((training.env_step, len(reader.Scalars("evaluation/return_mean"))))
        step()

    training.step = watched_step  # type: ignore[method-assign]
    training.run()
    assert seen == [(100, 1), (300, 2), (500, 3)]

    reader.Reload()
    with (tmp_path / "run" / "evaluations.csv").open() as file:
        rows = list(csv.DictReader(file))
    scalars = reader.Scalars("evaluation/return_mean")
    assert [s.step for s in scalars] == [0, 200, 400, 600]
    written = [float(row["mean"]) for row in rows]
    assert [s.value for s in scalars] == pytest.approx(written)
    assert {
        "train/critic_loss", "train/actor_loss", "train/q", "train/n_step", "rollout/episodes",
        "rollout/episode_return", "replay/replay_size", "time/env_steps_per_second",
        "topology/actor.member0.layer1.initial_overlap",
    } <= set(reader.Tags()["scalars"])  # fmt: skip


def test_neither_pytorch_nor_tensorflow_is_loaded(tmp_path: Path) -> None:
    code = """
import sys
from sparl.cli import main
assert main(["train", "--env", "Pendulum-v1", "--steps", "60", "--warmup-env-steps", "30",
             "--hidden", "8", "8", "--tensorboard", "--run-dir", sys.argv[1]]) == 0
assert "tensorboard" in sys.modules
assert not {"torch", "tensorflow"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], check=True)


def test_a_run_resumed_from_an_earlier_checkpoint_has_no_duplicate_points(tmp_path: Path) -> None:
    from sparl.training.tensorboard import EventFile

    first = EventFile(tmp_path)
    for env_step in (0, 100, 200, 300):
        first.scalars(env_step, {"a/b": 1.0})
    first.close()
    second = EventFile(tmp_path)
    second.scalars(200, {"a/b": 2.0})
    second.close()
    reader = EventAccumulator(str(tmp_path))
    reader.Reload()
    assert [(s.step, s.value) for s in reader.Scalars("a/b")] == [(0, 1), (100, 1), (200, 2)]


def test_the_name_of_a_run_folder_may_contain_any_bytes(tmp_path: Path) -> None:
    from sparl.training.tensorboard import EventFile

    folder = tmp_path / "run \udcff"
    folder.mkdir()
    file = EventFile(folder)
    file.scalars(100, {"a/b": 1.0})
    file.close()
    (written,) = folder.iterdir()
    written.rename(tmp_path / written.name)  # TensorBoard's reader accepts only UTF-8
    reader = EventAccumulator(str(tmp_path))
    reader.Reload()
    assert [(s.step, s.value) for s in reader.Scalars("a/b")] == [(100, 1)]


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_surviving_child_does_not_keep_the_event_file_open(tmp_path: Path) -> None:
    check_that_children_hold_no_files(tmp_path / "run", *FLAGS, "--tensorboard")
