"""Test commands whose standard output or error is closed, full, or a broken pipe."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import children
from resuming import results
from sparl.studies.study import read_study

pytestmark = pytest.mark.slow

ENV = "bad_environments:Prints-v0"
SMALL = [
    "--env", ENV, "--method", "DS-TD3", "--hidden", "8", "--steps", "60", "--batch-size", "8",
    "--warmup-env-steps", "20", "--evaluate-every-env-steps", "20", "--evaluation-episodes", "1",
    "--threads", "1",
]  # fmt: skip
STUDY = """
methods = ["DS-TD3"]
environments = ["bad_environments:Prints-v0"]
seeds = 2
[fields]
steps = 60
warmup_env_steps = 20
evaluate_every_env_steps = 20
evaluation_episodes = 1
hidden = [8]
batch_size = 8
"""
WAYS = {
    "closed output": "exec \"$@\" >&-",
    "closed error": "exec \"$@\" 2>&-",
    "both closed": "exec \"$@\" >&- 2>&-",
    "all closed": "exec \"$@\" <&- >&- 2>&-",
    "full output": "exec \"$@\" >/dev/full",
    "full error": "exec \"$@\" 2>/dev/full",
    "no reader": "{ \"$@\"; echo $? >&3; } 3>code | true; exit $(cat code)",
    "no reader of errors":
        "{ \"$@\" 2>&1 >/dev/null; echo $? >&3; } 3>code | true; exit $(cat code)",
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a run whose output is read completely."""
    folder = tmp_path_factory.mktemp("whole")
    assert code('exec "$@"', folder, "train", *SMALL, "--run-dir", "run") == 0
    return folder / "run"


def code(way: str, folder: Path, *words: str) -> int:
    """Return the exit code of a command that a shell starts with this redirection."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = ["bash", "-c", way, "bash", sys.executable, "-m", "sparl", *words]
    return subprocess.run(
        command, cwd=folder, env=environment, check=False, stdout=subprocess.DEVNULL, timeout=120
    ).returncode


@pytest.mark.parametrize("way", WAYS)
def test_training_gives_the_same_result_and_exit_code(
    way: str, whole: Path, tmp_path: Path
) -> None:
    """The environment prints too, and none of its output may end up in a file of the run."""
    assert code(WAYS[way], tmp_path, "train", *SMALL, "--run-dir", "run") == 0
    assert results(tmp_path / "run") == results(whole)
    for path in (tmp_path / "run").iterdir():
        assert path.is_dir() or b"printed by the environment" not in path.read_bytes()


@pytest.mark.parametrize("way", WAYS)
def test_a_failure_keeps_its_exit_code(way: str, tmp_path: Path) -> None:
    words = ["train", *SMALL, "--run-dir", "run", "--env", "bad_environments:Raises-v0"]
    assert code(WAYS[way], tmp_path, *words) == 4
    assert code(WAYS[way], tmp_path, "train", "--steps", "ten") == 2


@pytest.mark.parametrize("way", ["both closed", "full output", "no reader"])
def test_a_study_gives_the_same_results_and_exit_code(
    way: str, whole: Path, tmp_path: Path
) -> None:
    (tmp_path / "study.toml").write_text(STUDY)
    words = ["--import", "bad_environments", "study", "run", "study.toml"]
    words += ["--folder", "runs", "--processes", "1"]
    assert code(WAYS[way], tmp_path, *words) == 0
    first = read_study(tmp_path / "study.toml").units[0]
    assert results(tmp_path / "runs" / first.id) == results(whole)


@pytest.mark.parametrize("way", ["closed output", "no reader"])
def test_a_command_that_only_prints_ends_with_0(way: str, tmp_path: Path) -> None:
    assert code(WAYS[way], tmp_path, "methods") == 0


def test_a_stop_keeps_its_exit_code_with_a_broken_pipe(waits: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = [*SMALL, "--steps", "300", "--run-dir", str(run), "--env", "bad_environments:Waits-v0"]
    with children.sparl("train", *words, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        children.waiting(waits, 1)
        process.stdout.close()
        process.terminate()
        waits.rename(tmp_path / "waited")
        assert process.wait(60) == 143
    assert list(run.glob("checkpoint-*"))
