"""Test that locks protect folders, and that several processes can share a folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sparl
from resuming import stopped_at
from run_folders import write_run
from sparl.archive.archive import Archive
from sparl.cli import main
from sparl.errors import RunInUse
from sparl.studies.study import read_study
from sparl.training import start
from sparl.training.durable import temporary_name
from sparl.training.folder import Folder
from sparl.training.loop import Training
from sparl.training.run_folder import RunFolder

pytestmark = pytest.mark.slow

FIELDS: dict[str, Any] = {
    "steps": 60, "hidden": (4,), "batch_size": 4, "warmup_env_steps": 10, "evaluation_episodes": 1,
    "threads": 1, "quiet": True,
}  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# ------------------------------------------------------------------ the folder's name


def deleted(run: Path) -> None:
    shutil.rmtree(run)


def recreated(run: Path) -> None:
    shutil.rmtree(run)
    sparl.train("TD3", "Pendulum-v1", run_dir=run, seed=7, **FIELDS)


def moved_and_recreated(run: Path) -> None:
    run.rename(run.with_name("moved"))
    sparl.train("TD3", "Pendulum-v1", run_dir=run, seed=7, **FIELDS)


def replaced_by_a_link(run: Path) -> None:
    run.rename(run.with_name("moved"))
    sparl.train("TD3", "Pendulum-v1", run_dir=run.with_name("other"), seed=7, **FIELDS)
    run.symlink_to(run.with_name("other"))


def lock_deleted(run: Path) -> None:
    (run / ".lock").unlink()


def lock_replaced(run: Path) -> None:
    (run / ".lock").unlink()
    sparl.train("TD3", "Pendulum-v1", run_dir=run, seed=7, overwrite=True, **FIELDS)


def lock_replaced_by_a_link(run: Path) -> None:
    (run / ".lock").rename(run.with_name("lock"))
    (run / ".lock").symlink_to(run.with_name("lock"))


LOSSES = [
    deleted, recreated, moved_and_recreated, replaced_by_a_link, lock_deleted, lock_replaced,
    lock_replaced_by_a_link,
]  # fmt: skip


def disturbed(loss: Callable[[Path], None], run: Path) -> tuple[Any, Callable[[], Any]]:
    """Return a training step that loses the run's folder, and a getter of the content then."""
    original, there = Training.step, []

    def step(self: Training) -> None:
        original(self)
        if self.env_step == 25 and self.config.seed == 0:
            loss(run)
            there.append(contents(run.parent))

    return step, lambda: there[0]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
@pytest.mark.parametrize(
    "next_write", ["--evaluate-every-env-steps=30", "--checkpoint-every-env-steps=30", "the end"]
)
def test_a_writer_whose_folder_was_replaced_stops_and_writes_nothing(
    next_write: str, loss: Callable[[Path], None], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run = tmp_path / "run"
    step, then = disturbed(loss, run)
    monkeypatch.setattr(Training, "step", step)
    words = ["train", "--method", "TD3", "--env", "Pendulum-v1", "--steps", "60", "--hidden", "4",
             "--batch-size", "4", "--warmup-env-steps", "10", "--evaluation-episodes", "1",
             "--threads", "1", "--run-dir", str(run)]  # fmt: skip
    assert main([*words, next_write] if next_write.startswith("--") else words) == 7
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert (
        f"{run}: the folder or its .lock was deleted, moved, replaced or closed by other code while"
    ) in said
    assert contents(tmp_path) == then()


def test_a_change_of_the_working_directory_does_not_affect_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    original = Training.step

    def step(self: Training) -> None:
        original(self)
        os.chdir("/")

    monkeypatch.setattr(Training, "step", step)
    sparl.train("TD3", "Pendulum-v1", run_dir="run", **FIELDS)
    assert '"finished"' in (tmp_path / "run" / "run.json").read_text()


def test_a_lock_file_that_is_replaced_while_it_is_opened_locks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    original, replaced = fcntl.flock, []

    def flock(descriptor: int, how: int) -> None:
        if not replaced:
            replaced.append(lock_deleted(tmp_path))
        original(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    first, second = RunFolder(tmp_path), RunFolder(tmp_path)
    first.lock()
    with pytest.raises(RunInUse, match="in use by another process"):
        second.lock()
    first.close()


# ------------------------------------------------------------------ temporary files


def test_processes_and_threads_that_write_one_file_do_not_collide(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom sparl.training.folder import Folder\n"
        "for k in range(200): Folder(sys.argv[1]).write('plan.json', b'x' * (k + 1))\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    others = [subprocess.Popen(words) for _ in range(2)]
    errors: list[Exception] = []

    def write() -> None:
        try:
            for k in range(200):
                Folder(tmp_path).write("plan.json", b"y" * (k + 1))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [other.wait(120) for other in others] == [0, 0]
    assert errors == []
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
    assert (tmp_path / "plan.json").read_bytes() in (b"x" * 200, b"y" * 200)


def test_half_written_files_of_a_killed_process_are_deleted(tmp_path: Path) -> None:
    with stopped_at(33):
        run = sparl.train("TD3", "Pendulum-v1", run_dir=tmp_path / "run", **FIELDS).path
    mine = run / "notes.tmp-1-ab"
    for name in (temporary_name("run.json"), "config.toml.tmp", mine.name):
        (run / name).write_bytes(b"half")
    sparl.resume(run, quiet=True)
    assert [path.name for path in run.glob("*.tmp*")] == [mine.name]


def test_half_written_files_that_another_process_may_be_writing_are_kept_for_an_hour(
    tmp_path: Path,
) -> None:
    old, new = (tmp_path / temporary_name("plan.json") for _ in range(2))
    for path in (old, new):
        path.write_bytes(b"half")
    about = old.stat()
    os.utime(old, (about.st_atime, about.st_mtime - 4000))
    Folder(tmp_path).write("plan.json", b"{}")
    assert {path.name for path in tmp_path.iterdir()} == {"plan.json", new.name}


# ------------------------------------------------------------------ studies

STUDY = """
environments = ["Pendulum-v1"]
methods = ["TD3"]
seeds = 4
[fields]
steps = 150
hidden = [4]
batch_size = 4
warmup_env_steps = 10
evaluation_episodes = 1
evaluate_every_env_steps = 50
"""


def test_two_studies_on_one_folder_train_every_run_once(tmp_path: Path) -> None:
    file, folder = tmp_path / "small.toml", tmp_path / "runs"
    file.write_text(STUDY)
    words = [sys.executable, "-m", "sparl", "study", "run", str(file), "--folder", str(folder),
             "--processes", "2"]  # fmt: skip
    both = [
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    printed = [study.communicate(timeout=300)[0] for study in both]
    assert [study.returncode for study in both] == [0, 0], printed
    for text in printed:
        assert "4 runs: 4 finished" in text
        assert "warning" not in text
    for unit in read_study(file).units:
        run = folder / unit.id
        assert not (run / "failure.json").exists()
        assert (run / "output.txt").read_text().count("to evaluate the agent again:") == 1
        steps = [int(row["env_step"]) for row in RunFolder(run).rows("evaluations.csv")]
        assert steps == [0, 50, 100, 150]
    assert [path.name for path in folder.rglob("*.tmp*")] == []


def test_a_run_that_another_process_finishes_in_between_is_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process trains the run after this process has checked that it does not exist."""
    run, original = tmp_path / "run", start.holds_run

    def holds_run(path: Path) -> bool:
        monkeypatch.setattr(start, "holds_run", original)
        sparl.train("TD3", "Pendulum-v1", run_dir=run, **FIELDS)
        there.update(contents(run))
        return False

    there: dict[str, bytes] = {}
    monkeypatch.setattr(start, "holds_run", holds_run)
    done = sparl.train("TD3", "Pendulum-v1", run_dir=run, resume="auto", **FIELDS)
    assert [step for step, _ in done.evaluations] == [0, 60]
    assert contents(run) == there


def test_two_studies_archive_a_common_run_once(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "TD3", "Pendulum-v1", [1.0] * 3, commit="0123456789")
    archives = [Archive.read(tmp_path / "archive") for _ in range(2)]
    places = [archive.add(run, with_actor=False) for archive in archives]
    assert places == [tmp_path / "archive" / "Pendulum-v1" / "TD3_seed0"] * 2
    assert len(Archive.read(tmp_path / "archive").runs) == 1
    assert [path.name for path in places[0].parent.iterdir()] == ["TD3_seed0"]


def test_archiving_blocks_until_another_process_has_released_the_archive(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "TD3", "Pendulum-v1", [1.0] * 3, commit="0123456789")
    archive = Folder(tmp_path / "archive")
    archive.make()
    assert archive.lock(".lock")
    done = threading.Event()

    def add() -> None:
        Archive.read(archive.path).add(run, with_actor=False)
        done.set()

    thread = threading.Thread(target=add)
    thread.start()
    assert not done.wait(0.5)
    archive.unlock()
    thread.join(60)
    assert done.is_set()
