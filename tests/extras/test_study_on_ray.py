"""A study on a real local Ray cluster of two workers, one of which is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from resuming import results
from sparl.studies.plan import read_study
from sparl.studies.progress import progress
from sparl.training.checkpoint import Checkpoints
from sparl.training.loop import train
from sparl.training.run_folder import LOCK

STUDY = """
methods = ["DS-TD3"]
environments = ["Hopper-v3"]
seeds = 3
[fields]
steps = 8000
warmup_env_steps = 100
evaluate_every_env_steps = 500
checkpoint_every_env_steps = 500
evaluation_episodes = 1
hidden = [32, 32]
batch_size = 16
"""


def _holder(lock: Path) -> int | None:
    """The process that has a file open."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if link.readlink() == lock:
                return int(link.parts[2])
        except OSError:  # it has ended, or is not ours
            continue
    return None


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _started(path: Path, folder: Path, **how: Any) -> subprocess.Popen[bytes]:
    """The study as a process, on a cluster of its own with two workers."""
    command = [sys.executable, "-m", "sparl.cli", "study", "run", str(path),
               "--folder", str(folder), "--processes", "2", "--ray"]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **how)


def _wait_for_checkpoints(runs: Iterable[Path]) -> None:
    deadline = time.monotonic() + 120
    for run in runs:
        while not Checkpoints(run).newest_first():
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_killed_workers_run_goes_on_bit_for_bit_in_another(tmp_path: Path) -> None:
    path, folder = tmp_path / "study.toml", tmp_path / "runs"
    path.write_text(STUDY)
    units = read_study(path).units
    study = _started(path, folder)
    try:
        _wait_for_checkpoints(folder / unit.id for unit in units[:2])
        trainings = [_holder((folder / unit.id / LOCK).resolve()) for unit in units[:2]]
        assert None not in trainings
        workers = [_parent(pid) for pid in trainings if pid is not None]
        assert len(set(workers)) == 2
        # As if its machine were lost: the worker, and then the run that it had started.
        assert trainings[0] is not None
        os.kill(workers[0], signal.SIGKILL)
        os.kill(trainings[0], signal.SIGKILL)
        printed, _ = study.communicate(timeout=240)
    finally:
        study.kill()
    assert study.returncode == 0, printed.decode()
    assert "3 runs: 3 finished" in printed.decode()
    went_on = [(folder / u.id / "output.txt").read_text().count(", bit for bit") for u in units]
    assert went_on == [1, 0, 0]
    config = replace(units[0].config, run_dir=str(tmp_path / "undisturbed"), threads=1)
    assert results(folder / units[0].id) == results(train(config, quiet=True).path)


def test_a_stopped_study_stops_its_runs(tmp_path: Path) -> None:
    """Also where its workers are born deaf to SIGINT, as jobs of a script are."""
    path, folder = tmp_path / "study.toml", tmp_path / "runs"
    path.write_text(STUDY.replace("steps = 8000", "steps = 1_000_000"))
    units = read_study(path).units

    def deaf() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    study = _started(path, folder, preexec_fn=deaf)
    try:
        _wait_for_checkpoints(folder / unit.id for unit in units[:2])
        study.send_signal(signal.SIGINT)
        printed, _ = study.communicate(timeout=120)
    finally:
        study.kill()
    assert study.returncode == 130, printed.decode()
    assert [progress(folder, u).state for u in units] == ["stopped", "stopped", "waiting"]


def test_no_cluster_there_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(STUDY)
    command = [sys.executable, "-m", "sparl.cli", "study", "run", str(path),
               "--folder", str(tmp_path / "runs"), "--ray", "127.0.0.1:1"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("sparl: study: no Ray cluster at")
