"""Test `sparl train --seeds 0 1`, which trains several seeds of a configuration as a study."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sparl.cli import main
from sparl.training.run_folder import RunFolder

TRAIN = [
    "train", "--method", "TD3", "--env", "Pendulum-v1", "--steps", "60", "--hidden", "8",
    "--warmup-env-steps", "20", "--evaluation-episodes", "1", "--batch-size", "4",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def runs(folder: str | Path) -> dict[int, Path]:
    """Return the folders of the finished runs by seed."""
    found = {}
    for path in Path(folder).glob("*/run.json"):
        assert json.loads(path.read_text())["state"] == "finished"
        found[RunFolder.open(path.parent).config().seed] = path.parent
    return found


def test_seeds_are_trained_resumed_and_reported_like_a_study(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*TRAIN, "--seeds", "0", "2"]) == 0
    (folder,) = Path("runs").iterdir()
    assert folder.name.startswith("TD3_Pendulum-v1_")
    assert sorted(runs(folder)) == [0, 2]
    assert f"sparl report {folder}\n" in capsys.readouterr().out

    assert main([*TRAIN, "--seed", "2", "--run-dir", "single"]) == 0  # the same run
    agents = [path / "agent.safetensors" for path in (runs(folder)[2], Path("single"))]
    assert agents[0].read_bytes() == agents[1].read_bytes()

    before = (runs(folder)[0] / "run.json").read_bytes()
    assert main([*TRAIN, "--seeds", "0", "1", "2"]) == 0  # adds a seed
    assert sorted(runs(folder)) == [0, 1, 2]
    assert (runs(folder)[0] / "run.json").read_bytes() == before

    shutil.rmtree(runs(folder)[1])
    capsys.readouterr()
    study = ["study", "run", str(folder / "study.toml"), "--folder", str(folder)]
    assert main(study) == 0
    assert "3 runs" in capsys.readouterr().out
    assert sorted(runs(folder)) == [0, 1, 2]
    assert main(["study", "status", *study[2:]]) == 0
    assert "3 finished" in capsys.readouterr().out
    assert main(["report", "--tables-only", str(folder)]) == 0
    assert "3 runs" in capsys.readouterr().out


def test_a_folder_for_the_seeds_can_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TRAIN, "--seeds=3", "--run-dir", "own", "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert sorted(runs("own")) == [3]
    assert main([*TRAIN, "--seeds", "3", "--run-dir", "own", "--gamma", "0.9"]) == 2
    assert "own contains a study with other settings" in capsys.readouterr().err
    assert main([*TRAIN, "--seeds", "3", "--run-dir", str(runs("own")[3])]) == 2
    assert "contains a run; choose another --run-dir" in capsys.readouterr().err


def test_a_configuration_file_may_be_used_with_seeds() -> None:
    assert main([*TRAIN, "--seed", "5", "--run-dir", "single"]) == 0
    words = ["train", "--config", "single/config.toml", "--seeds", "5", "--run-dir", "several"]
    assert main(words) == 0
    agents = [path / "agent.safetensors" for path in (runs("several")[5], Path("single"))]
    assert agents[0].read_bytes() == agents[1].read_bytes()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--seeds 0 1 --seed 2", "--seed cannot be used with --seeds"),
        ("--seeds 0 1 --threads 1", "--threads cannot be used with --seeds"),
        ("--seeds 0 1 --overwrite", "--overwrite cannot be used with --seeds"),
        ("--seeds -1", "--seeds contains -1, but a seed must be at least 0"),
        ("--seeds a", "--seeds is 'a'"),
        ("--seeds", "--seeds needs a value"),
        ("--seeds 0 --gamma 2", "gamma is 2.0"),
        ("--seeds 0 --progress none", "--progress cannot be used with --seeds"),
    ],
)
def test_options_that_contradict_seeds_are_errors(
    words: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*TRAIN, *words.split()]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not list(Path().iterdir())


def test_a_field_cannot_be_unset_with_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    """TOML has no value for an unset field."""
    words = ["train", "--method", "DS-TD3", "--env", "Walker2d-v3", "--seeds", "0"]
    assert main([*words, "--lambda-1", "None"]) == 2
    assert "lambda_1 cannot be unset with --seeds" in capsys.readouterr().err
    assert not list(Path().iterdir())


def test_the_module_of_a_custom_environment_is_imported_by_each_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_module.py").write_text(
        "import gymnasium\n"
        "from gymnasium.envs.classic_control.pendulum import PendulumEnv\n"
        "gymnasium.register('Theirs-v0', PendulumEnv, max_episode_steps=20)\n"
    )
    words = ["--env", "their_module:Theirs-v0", "--seeds", "1", "--run-dir", "own"]
    assert main([*TRAIN, *words]) == 0
    assert sorted(runs("own")) == [1]
