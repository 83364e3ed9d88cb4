"""Test that links, special files and names in untrusted folders are harmless and never hang."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import sparl
from hostile.small import FIELDS, FLAGS, STUDY
from resuming import stopped_at
from run_folders import write_run
from sparl.cli import main
from sparl.errors import DataError
from sparl.studies.progress import progress
from sparl.studies.study import read_study
from sparl.training.durable import why_invalid_name
from sparl.training.folder import Folder

TRAIN = ["train", "--method", "TD3", "--env", "Pendulum-v1", *FLAGS]
PENDULUM = ["Pendulum-v1", "TD3_seed0"]
COMMIT = ["--commit", "0123456789"]


class _Hangs(BaseException):
    """An exception that no command catches."""


@pytest.fixture(autouse=True)
def _limit_time() -> Iterator[None]:
    """Fail instead of waiting for another process to open the other end of a named pipe."""

    def late(*_: object) -> None:
        raise _Hangs

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stopped run with checkpoints, a replay, an agent and an export."""
    path = tmp_path_factory.mktemp("runs") / "run"
    with stopped_at(47):
        sparl.train("TD3", "Pendulum-v1", run_dir=path, quiet=True, **FIELDS)
    assert main(["export", str(path), "--format", "npz"]) == 0
    return path


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder that no command names."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


def contents(folder: Path) -> dict[str, bytes | None]:
    """List every file and folder, except the lock of a run, which is empty."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if not path.is_fifo() and not path.is_socket()
    }


def to_link(place: Path, elsewhere: Path) -> None:
    """Move a file out of its folder, and leave a link."""
    if place.exists():
        shutil.move(place, elsewhere / place.name)
    place.symlink_to(elsewhere / place.name)


def to_dangling_link(place: Path, elsewhere: Path) -> None:
    removed(place)
    place.symlink_to(elsewhere / "new")


def to_pipe(place: Path, elsewhere: Path) -> None:
    removed(place)
    os.mkfifo(place)


def to_socket(place: Path, elsewhere: Path) -> None:
    removed(place)
    here = Path.cwd()
    os.chdir(place.parent)  # the address of a socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(place.name)
    os.chdir(here)


def to_the_other_kind(place: Path, elsewhere: Path) -> None:
    """Replace a file by a folder, or a folder by a file."""
    was_folder = place.is_dir()
    removed(place)
    if was_folder:
        place.write_text("mine")
    else:
        place.mkdir()
        (place / "mine").write_text("mine")


def removed(place: Path) -> None:
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


Change = Callable[[Path, Path], None]
CHANGES: list[Change] = [to_link, to_dangling_link, to_pipe, to_socket, to_the_other_kind]
changes = pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)


def said_by(capsys: pytest.CaptureFixture[str], code: int, *words: str) -> str:
    """Run a command that must exit with this code, and return the line that it prints."""
    capsys.readouterr()
    assert main(words) == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    return said


# ------------------------------------------------------------------ run folders


RUN_FILES = [
    "config.toml", "agent.safetensors", ".lock", "replay", "checkpoint-47",
    *(pytest.param(name, marks=pytest.mark.slow) for name in (
        "run.json", "evaluations.csv", "metrics.csv", "topology.csv", "degrees.json", "agent.json",
        "checkpoint-40",
    )),
]  # fmt: skip


@changes
@pytest.mark.parametrize("name", RUN_FILES)
def test_links_and_special_files_are_named_before_anything_is_written(
    name: str, change: Change, run: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(run / name, elsewhere)
    before, outside = contents(run), contents(elsewhere)
    for words in (["resume", str(run)], [*TRAIN, "--run-dir", str(run), "--overwrite"]):
        assert str(run / name) in said_by(capsys, 3, *words)
        assert contents(elsewhere) == outside
        assert {**contents(run), ".lock": b""} == {**before, ".lock": b""} or name == ".lock"
    for words in (["info", str(run)], ["evaluate", str(run)]):
        assert main(words) in (0, 3)
    assert contents(elsewhere) == outside


@changes
@pytest.mark.parametrize("name", ["evaluations.csv", "metrics.csv", "run.json", "config.toml"])
def test_finished_runs_with_special_files_are_not_reported_or_archived(
    name: str, change: Change, tmp_path: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "runs" / "run", "TD3", "Pendulum-v1", [1.0] * 3)
    change(run / name, elsewhere)
    outside = contents(elsewhere)
    out = ["--out", str(tmp_path / "report")]
    said_by(capsys, 3, "report", "--tables-only", str(run.parent), *out)
    assert str(run) in said_by(
        capsys, 3, "archive", str(run), "--to", str(tmp_path / "to"), *COMMIT
    )
    assert contents(elsewhere) == outside


@changes
@pytest.mark.parametrize("name", ["export", "export/policy.npz"])
def test_an_export_is_written_only_inside_the_run(
    name: str, change: Change, run: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(run / name, elsewhere)
    outside = contents(elsewhere)
    assert str(run / name) in said_by(capsys, 3, "export", str(run), "--format", "npz")
    assert contents(elsewhere) == outside


def test_a_link_in_a_checkpoint_is_a_damaged_checkpoint(
    run: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = run / "checkpoint-47" / "state.safetensors"
    to_link(place, elsewhere)
    outside = contents(elsewhere)
    assert main(["resume", str(run)]) == 0
    said = capsys.readouterr().err
    assert (
        f"{place}: found a link but expected a regular file; remove it or move it away; resuming"
    ) in said
    assert contents(elsewhere) == outside  # although the run deleted its checkpoints at the end


def test_segments_that_are_links_are_neither_read_nor_deleted(
    run: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in list((run / "replay").iterdir()):
        to_link(place, elsewhere)
    outside = contents(elsewhere)
    assert "found a link but expected a regular file" in said_by(capsys, 3, "resume", str(run))
    assert main([*TRAIN, "--run-dir", str(run), "--overwrite"]) == 0
    assert contents(elsewhere) == outside


def test_the_folder_that_the_user_names_may_be_a_link(run: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(run)
    assert main(["resume", str(tmp_path / "link")]) == 0
    assert main(["export", str(tmp_path / "link"), "--format", "npz"]) == 0


# ------------------------------------------------------------------ studies


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(STUDY)
    return path


@changes
@pytest.mark.parametrize("name", ["", "output.txt", "asked.toml", "failure.json", "run.json"])
@pytest.mark.slow
def test_only_the_run_with_links_or_special_files_fails(
    name: str, change: Change, study: Path, tmp_path: Path, elsewhere: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = tmp_path / "runs"
    bad, good = read_study(study).units
    place = folder / bad.id / name
    (folder / bad.id).mkdir(parents=True)
    if name:
        place.write_text("{}")
    else:
        (place / "run.json").write_text("{}")
    change(place, elsewhere)
    outside = contents(elsewhere)
    words = [str(study), "--folder", str(folder)]
    code = main(["study", "run", *words, "--processes", "1"])
    printed = capsys.readouterr()
    if name == "failure.json":  # the run itself is valid
        assert code == 0
    else:
        assert code == 1
        assert f"{bad.id}: {place}: " in printed.out or f"{place}: " in printed.out
    assert progress(folder, good).state == "finished"
    assert main(["study", "status", *words]) == 0
    assert contents(elsewhere) == outside


@changes
def test_a_study_plan_that_is_not_a_regular_file_is_rejected(
    change: Change, study: Path, tmp_path: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "runs" / "plan.json"
    place.parent.mkdir()
    place.write_text("{}")
    change(place, elsewhere)
    outside = contents(elsewhere)
    words = ["study", "run", str(study), "--folder", str(place.parent)]
    assert str(place) in said_by(capsys, 3, *words)
    assert contents(elsewhere) == outside


# ------------------------------------------------------------------ archives and reports


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    return write_run(tmp_path / "finished", "TD3", "Pendulum-v1", [1.0] * 3)


@changes
@pytest.mark.parametrize(
    "inside", [PENDULUM[:1], PENDULUM, [*PENDULUM, "evaluations.csv"], [*PENDULUM, "run.json"],
               [".lock"]],
    ids="/".join,
)  # fmt: skip
def test_archiving_writes_only_into_the_archive(
    inside: list[str], change: Change, finished: Path, tmp_path: Path, elsewhere: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    archive = tmp_path / "archive"
    place = archive.joinpath(*inside)
    place.parent.mkdir(parents=True)
    if place.name in PENDULUM:
        place.mkdir()
    else:
        place.write_text("an interrupted copy")
    change(place, elsewhere)
    outside = contents(elsewhere)
    said = said_by(capsys, 3, "archive", str(finished), "--to", str(archive), *COMMIT)
    assert str(place) in said
    assert contents(elsewhere) == outside


@changes
@pytest.mark.usefixtures("empty_drawings")
@pytest.mark.parametrize("name", ["report.html", "README.md", "figures", "tables"])
def test_a_report_writes_only_into_its_own_folder(
    name: str, change: Change, finished: Path, tmp_path: Path, elsewhere: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "report"
    words = ["report", str(finished), "--out", str(out)]
    assert main(words) == 0
    change(out / name, elsewhere)
    outside = contents(elsewhere)
    assert str(out / name) in said_by(capsys, 3, *words)
    assert contents(elsewhere) == outside


# ------------------------------------------------------------------ names


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/a", "a\0", "a\nb", "a\x1b[2J", "a\x7f", "a\x85", "é" * 128],
    ids=ascii,
)  # fmt: skip
def test_invalid_file_names_are_rejected(name: str, tmp_path: Path) -> None:
    assert why_invalid_name(name)
    folder = Folder(tmp_path)
    with pytest.raises(DataError, match="is not a valid folder name: it "):
        folder.at(name)
    if name:
        with pytest.raises(DataError, match="is not a valid file name: it "):
            folder.write(name, b"")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a", "...", "ALE:Pong-v5", "a b", "r\udcff", "é" * 127])
def test_valid_file_names_are_accepted(name: str) -> None:
    assert why_invalid_name(name) == ""


@pytest.mark.parametrize("env", ["..", ".", "a\x1b[2Jb-v0", "x" * 300])
def test_the_name_of_an_environment_cannot_leave_an_archive(
    env: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = finished / "config.toml"
    config.write_text(config.read_text().replace('"Pendulum-v1"', json.dumps(env)))
    archive = tmp_path / "here" / "archive"
    said_by(capsys, 3, "archive", str(finished), "--to", str(archive), *COMMIT)
    assert [path.name for path in (tmp_path / "here").rglob("*") if path.name != ".lock"] in (
        [], ["archive"]
    )  # fmt: skip


@pytest.mark.parametrize("stem", ["..", "a\nb", "x" * 200 + "+" + "y" * 49])
def test_the_name_of_a_study_file_cannot_leave_the_runs_folder(
    stem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    files = [f"{stem}.toml"]
    if len(stem) > 200:
        files.append("other.toml")
    for file in files:
        (here / file).write_text(STUDY)
    said = said_by(capsys, 2, "study", "run", *files)
    assert "choose a folder with --folder" in said
    assert sorted(path.name for path in here.iterdir()) == sorted(files)


@pytest.mark.parametrize("env", ["a\nb", "x" * 300])
def test_an_environment_whose_name_is_not_a_folder_name_is_rejected_in_a_study(
    env: str, study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study.write_text(STUDY.replace('"Pendulum-v1"', json.dumps(env)))
    said_by(capsys, 2, "study", "status", str(study), "--folder", str(tmp_path / "runs"))
