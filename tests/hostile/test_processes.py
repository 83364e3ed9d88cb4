"""Test that no results are lost and no process survives, however a run or study is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import children
from children import has_handler, release, wait_until, waiting
from sparl.studies.progress import progress
from sparl.studies.study import read_study

pytestmark = pytest.mark.slow

FIELDS = {
    "steps": 300, "warmup-env-steps": 50, "evaluate-every-env-steps": 100,
    "evaluation-episodes": 1, "hidden": 8, "batch-size": 8, "threads": 1,
}  # fmt: skip
FLAGS = [word for name, value in FIELDS.items() for word in (f"--{name}", str(value))]
STUDY = """
methods = ["DS-TD3"]
environments = ["bad_environments:Waits-v0"]
seeds = 3
[fields]
steps = 300
warmup_env_steps = 50
evaluate_every_env_steps = 100
evaluation_episodes = 1
hidden = [8]
batch_size = 8
"""


def train_words(run: Path) -> list[str]:
    return ["train", "--env", "bad_environments:Waits-v0", "--run-dir", str(run), *FLAGS]


def alive(process: int) -> bool:
    """Return whether a process is running and is not a zombie."""
    try:
        return "(zombie)" not in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False


# ------------------------------------------------------------------ signals


@pytest.mark.parametrize(
    "signals",
    [
        (signal.SIGHUP,), (signal.SIGHUP, signal.SIGHUP), (signal.SIGINT, signal.SIGTERM),
        (signal.SIGTERM, signal.SIGINT), (signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
    ],
    ids=lambda signals: "+".join(each.name for each in signals),
)  # fmt: skip
@pytest.mark.parametrize("at_once", [True, False])
def test_signals_that_arrive_together_save_and_end_with_a_documented_code(
    at_once: bool, signals: tuple[signal.Signals, ...], tmp_path: Path, waits: Path
) -> None:
    run = tmp_path / "run"
    with children.sparl(*train_words(run), stderr=subprocess.PIPE) as process:
        waiting(waits, 1)
        if at_once:
            process.send_signal(signal.SIGSTOP)
        for each in signals:
            process.send_signal(each)
        process.send_signal(signal.SIGCONT)
        time.sleep(0.2)
        release(waits)
        printed, error = process.communicate(timeout=60)
    assert process.returncode in [128 + each for each in signals]
    assert error == ""
    by = signal.Signals(process.returncode - 128).name
    assert f"stopped by {by} at step " in printed
    assert list(run.glob("checkpoint-*"))


def test_a_hang_up_is_ignored_under_nohup(tmp_path: Path, waits: Path) -> None:
    words = ["nohup", sys.executable, "-m", "sparl", *train_words(tmp_path / "run")]
    with children.command(*words, stdin=subprocess.DEVNULL) as process:
        (run,) = waiting(waits, 1)
        assert not has_handler(run, signal.SIGHUP)
        process.send_signal(signal.SIGHUP)
        release(waits)
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0, printed


def test_closing_the_terminal_saves_the_run(tmp_path: Path, waits: Path) -> None:
    """Closing a terminal sends SIGHUP, after which all output fails."""
    run = tmp_path / "run"
    ours, theirs = os.openpty()
    with children.sparl(
        *train_words(run), stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        waiting(waits, 1)
        os.close(ours)
        process.send_signal(signal.SIGHUP)
        release(waits)
        assert process.wait(60) == 129
    assert list(run.glob("checkpoint-*"))


# ------------------------------------------------------------------ studies


@pytest.fixture
def study_file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "study.toml"
    path.write_text(STUDY)
    return path


@pytest.mark.parametrize(
    "signals",
    [
        (signal.SIGKILL,), (signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGHUP,),
    ],
    ids=lambda signals: "+".join(each.name for each in signals),
)  # fmt: skip
def test_no_run_outlives_its_study(
    signals: tuple[signal.Signals, ...], tmp_path: Path, waits: Path, study_file: Path
) -> None:
    """The runs save their state and end, and the study can be resumed."""
    folder = tmp_path / "runs"
    words = ["--import", "bad_environments", "study", "run", str(study_file)]
    words += ["--folder", str(folder), "--processes", "2"]
    with children.sparl(*words) as study:
        runs = waiting(waits, 2)
        for each in signals:
            study.send_signal(each)
            time.sleep(0.5)
        # End the waiting only after each run has received the request to stop.
        wait_until(lambda: not any(has_handler(run, signal.SIGTERM) for run in runs if alive(run)))
        release(waits)
        study.wait(60)
        wait_until(lambda: not any(alive(run) for run in runs))
        ended_by = -signals[-1] if signals[-1] is not signal.SIGHUP else 129
        assert study.returncode == ended_by
    states = [progress(folder, unit) for unit in read_study(study_file).units]
    assert [each.state for each in states] == ["stopped", "stopped", "waiting"]
    assert len(list(folder.glob("*/checkpoint-*/manifest.json"))) == 2
    assert subprocess.run([sys.executable, "-m", "sparl", *words], check=False).returncode == 0


def test_a_run_that_does_not_stop_is_killed(
    tmp_path: Path, waits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run's environment hangs."""
    (tmp_path / "impatient.py").write_text(
        "import sparl.training.interrupt as interrupt\ninterrupt._SAVE_SECONDS = 1\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    program = (
        "import os, subprocess, sys, time\n"
        "os.environ['SPARL_PARENT'] = str(os.getpid())\n"
        "words = [sys.executable, '-m', 'sparl', '--import', 'impatient', *sys.argv[1:]]\n"
        "subprocess.Popen(words)\n"
        "time.sleep(120)\n"
    )
    words = [sys.executable, "-c", program, *train_words(tmp_path / "run")]
    with children.command(*words) as parent:
        (run,) = waiting(waits, 1)
        parent.kill()
        wait_until(lambda: not alive(run))


def test_the_hint_after_a_stop_repeats_every_option(
    tmp_path: Path, waits: Path, study_file: Path
) -> None:
    folder = tmp_path / "two words"
    options = ["--folder", str(folder), "--processes", "1"]
    words = ["--import", "bad_environments", "study", "run", str(study_file), *options]
    with children.sparl(*words) as study:
        waiting(waits, 1)
        study.send_signal(signal.SIGINT)
        time.sleep(0.5)
        release(waits)
        printed, _ = study.communicate(timeout=60)
    assert study.returncode == 130
    assert (
        f"stopped; to resume:\n  sparl --import bad_environments study run {study_file} "
        f"--folder '{folder}' --processes 1\n"
    ) in printed


def test_a_study_restarts_a_run_that_failed_before_its_first_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "fails_once.py").write_text(
        "import os, gymnasium, bad_environments\n"
        "class FailsOnce(bad_environments.Good):\n"
        "    def step(self, action):\n"
        "        if self.steps == 120 and 'MENDED' not in os.environ:\n"
        "            raise RuntimeError('not yet')\n"
        "        return super().step(action)\n"
        "gymnasium.register('FailsOnce-v0', FailsOnce, max_episode_steps=20)\n"
    )
    (project / "study.toml").write_text(
        STUDY.replace("bad_environments:Waits-v0", "fails_once:FailsOnce-v0")
        .replace("seeds = 3", "seeds = 1")
    )  # fmt: skip
    search = os.pathsep.join([str(project), str(Path(__file__).parents[1])])
    monkeypatch.setenv("PYTHONPATH", search)
    words = ["--import", "fails_once", "study", "run", "study.toml", "--folder", "runs"]
    for mended, code in (({}, 1), ({"MENDED": "1"}, 0)):
        with children.sparl(*words, cwd=project, env=mended) as study:
            printed, _ = study.communicate(timeout=60)
        assert study.returncode == code, printed
    (output,) = project.glob("runs/*/output.txt")
    assert "the run failed at step 120 before its first checkpoint; it is restarted" in (
        output.read_text()
    )
