"""Test that a checkpoint is complete or absent, even if the disk fails, or is rejected."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sparl
from replays import saved
from resuming import results, stopped_at, write_manifest
from sparl.cli import main
from sparl.errors import DataError, ResourceError
from sparl.replay.ring_buffer import RingBuffer
from sparl.training import checkpoint
from sparl.training.checkpoint import MANIFEST, REPLAY, STATE, Checkpoints
from sparl.training.loop import Training
from sparl.training.saving import CheckpointSaver
from sparl.training.tensors import ANY_NAME

OPERATIONS = ("write", "fsync", "rename", "replace", "mkdir")


class Disk:
    """Count the file operations that change a run's folder, and make some of them fail.

    Args:
        fails: a function from the number of an operation, counted from 1, to whether it fails.
        half: whether a failing write writes half of its bytes.
    """

    def __init__(self, fails: Callable[[int], bool], *, half: bool = False) -> None:
        self.count = 0
        self.fails = fails
        self.half = half

    @contextmanager
    def used(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for name in OPERATIONS:
                patch.setattr(os, name, self._counted(name, getattr(os, name)))
            yield

    def _counted(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*arguments: Any, **folders: int) -> Any:
            self.count += 1
            if self.fails(self.count):
                if name == "write" and self.half:
                    descriptor, data = arguments
                    original(descriptor, data[: len(data) // 2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return None if name == "fsync" else original(*arguments, **folders)

        return operation


# --- A checkpoint of a few bytes ---------------------------------------------------------------

CAPACITY = 6


def tree(step: int) -> dict[str, Any]:
    return {
        "counters": {"env_step": step},
        "agent": {"weight": np.arange(step, step + 2, dtype=np.float32), "on": np.array([True])},
        "note": None,
    }


def replay_of(step: int) -> RingBuffer:
    """Return a replay buffer after this many steps, in episodes of three steps."""
    replay = RingBuffer(CAPACITY, 2, 1, 0.99)
    for k in range(step):
        state = np.full(2, k, np.float32)
        if replay.episode_over:
            replay.begin(state)
        replay.add(state[:1], state[:1], float(k), state + 1, k % 3 == 2, False)
    return replay


def same(loaded: tuple[dict[str, Any], RingBuffer], step: int) -> bool:
    state, replay = loaded

    def bits(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: bits(each) for name, each in value.items()}
        return value.tobytes() if isinstance(value, np.ndarray) else value

    wanted = bits(tree(step)), bits(saved(replay_of(step)))
    return (bits(state), bits(saved(replay))) == wanted


def load(folder: Path, step: int) -> tuple[dict[str, Any], RingBuffer]:
    """Load the checkpoint of this step.

    Raises:
        DataError: if the checkpoint is damaged.
    """
    replay = RingBuffer(CAPACITY, 2, 1, 0.99)
    state, about = Checkpoints(folder).load(folder / f"checkpoint-{step}", tree(0), {}, replay)
    assert about == {"by": "test"}
    return state, replay


def save(checkpoints: Checkpoints, *steps: int) -> None:
    for step in steps:
        checkpoints.save(step, tree(step), replay_of(step), {"by": "test"})


def test_an_array_longer_than_its_part_allows_is_rejected(tmp_path: Path) -> None:
    checkpoints, replay = Checkpoints(tmp_path), RingBuffer(CAPACITY, 2, 1, 0.99)
    save(checkpoints, 1)
    path, like = tmp_path / "checkpoint-1", tree(0)
    like["agent"]["weight"] = like["agent"]["weight"][:1]
    state, _ = checkpoints.load(path, like, {"agent/weight": 2}, replay)
    assert state["agent"]["weight"].tolist() == [1, 2]
    longest: dict[str, int]
    for longest, shape in (({}, "1"), ({"agent/weight": 1}, "at most 1")):
        wanted = rf"agent/weight is F32 \[2\] but must be float32 \[{shape}\]"
        with pytest.raises(DataError, match=wanted):
            checkpoints.load(path, like, longest, replay)


def test_a_part_with_arbitrary_names_is_checked_by_the_types_of_its_values(tmp_path: Path) -> None:
    checkpoints, replay = Checkpoints(tmp_path), RingBuffer(CAPACITY, 2, 1, 0.99)
    like = {"sums": {ANY_NAME: (0.0, 0)}}
    for step, sums in enumerate([{}, {"q": (1.5, 2), "loss": (0.5, 1)}], 1):
        checkpoints.save(step, {"sums": sums}, replay_of(step), {})
        state, _ = checkpoints.load(tmp_path / f"checkpoint-{step}", like, {}, replay)
        assert state["sums"] == {name: list(value) for name, value in sums.items()}
    checkpoints.save(3, {"sums": {"q": (1.5, "two")}}, replay_of(3), {})
    with pytest.raises(DataError, match=r"state\.sums\.q\[1\] is two but must be of type int"):
        checkpoints.load(tmp_path / "checkpoint-3", like, {}, replay)


def found(folder: Path) -> list[str]:
    return [path.name for path in Checkpoints(folder).newest_first()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run's folder with checkpoints of steps 4 and 9; the ring has wrapped around."""
    with Disk(lambda n: False).used():
        save(Checkpoints(tmp_path), 2, 4, 9)
    assert found(tmp_path) == ["checkpoint-9", "checkpoint-4"]
    assert same(load(tmp_path, 4), 4)
    assert same(load(tmp_path, 9), 9)
    return tmp_path


def files_of(folder: Path, step: int) -> list[Path]:
    manifest = json.loads((folder / f"checkpoint-{step}" / MANIFEST).read_text())
    segments = [checkpoint.Segment(**each).name for each in manifest["replay"]["segments"]]
    return [
        *(folder / f"checkpoint-{step}" / name for name in (STATE, MANIFEST)),
        *(folder / REPLAY / name for name in segments),
    ]


@pytest.mark.parametrize("half", [False, True])
def test_a_failed_file_operation_leaves_the_previous_checkpoint_unchanged(
    half: bool, tmp_path: Path
) -> None:
    """Make each operation fail once, then save again."""
    for n in range(1, 100):
        folder = tmp_path / str(n)
        folder.mkdir()
        checkpoints = Checkpoints(folder)
        disk = Disk(lambda count, n=n: count == n, half=half)
        quiet = Disk(lambda count: False)
        with quiet.used():
            save(checkpoints, 4)
        said = ""
        with disk.used():
            try:
                save(checkpoints, 9)
            except ResourceError as error:
                said = str(error)
        if disk.count < n:
            break
        assert "cannot write a checkpoint at step 9" in said
        assert "No space left on device" in said
        assert found(folder) == ["checkpoint-4"]
        assert same(load(folder, 4), 4)
        left = {path.name for path in folder.rglob("*")}
        assert not [name for name in left if ".tmp" in name]  # temporary files were deleted
        with quiet.used():
            save(checkpoints, 9)
        assert found(folder) == ["checkpoint-9", "checkpoint-4"]
        assert same(load(folder, 9), 9)
    # The segment needs a write, an fsync, a replace and an fsync of its folder; state and manifest
    # each need a write and an fsync; the folder needs a mkdir, an fsync, a rename and an fsync.
    assert (n, disk.count) == (13, 12)


@pytest.mark.slow
def test_a_checkpoint_truncated_at_any_byte_is_rejected(folder: Path) -> None:
    for file in files_of(folder, 9):
        whole = file.read_bytes()
        for length in range(len(whole)):
            file.write_bytes(whole[:length])
            with pytest.raises(DataError, match=rf"{file.name}: "):
                load(folder, 9)
        file.write_bytes(whole + b" ")
        if file.name != MANIFEST:  # a space after JSON changes nothing
            with pytest.raises(DataError, match=rf"{file.name}: damaged"):
                load(folder, 9)
        file.unlink()
        with pytest.raises(DataError, match=rf"{file.name}: the file is missing"):
            load(folder, 9)
        file.write_bytes(whole)
    assert same(load(folder, 9), 9)


@pytest.mark.slow
def test_a_checkpoint_with_any_flipped_bit_is_rejected(folder: Path) -> None:
    harmless = 0
    for file in files_of(folder, 9):
        whole = file.read_bytes()
        changed = bytearray(whole)
        for at in range(len(whole)):
            for bit in range(8):
                changed[at] ^= 1 << bit
                file.write_bytes(changed)
                with suppress(DataError):
                    # The content may be unchanged, for example if 1e-05 has become 1E-05.
                    assert same(load(folder, 9), 9)
                    assert file.name == MANIFEST
                    harmless += 1
                changed[at] ^= 1 << bit
        file.write_bytes(whole)
    assert harmless < 10


def test_files_of_another_checkpoint_are_rejected(folder: Path) -> None:
    """Each file is valid, but they belong to different checkpoints."""
    for name, reason in (
        (STATE, "damaged"),
        (MANIFEST, "env_step is 4, but the folder is named checkpoint-9"),
    ):
        here, there = (folder / f"checkpoint-{step}" / name for step in (9, 4))
        whole = here.read_bytes()
        here.write_bytes(there.read_bytes())
        with pytest.raises(DataError, match=reason):
            load(folder, 9)
        here.write_bytes(whole)
    files_of(folder, 9)[-1].write_bytes(files_of(folder, 4)[-1].read_bytes())
    with pytest.raises(DataError, match="damaged"):
        load(folder, 9)


def test_another_format_is_rejected_with_both_versions(folder: Path) -> None:
    content = json.loads((folder / "checkpoint-9" / MANIFEST).read_text())
    write_manifest(folder / "checkpoint-9", {**content, "format": checkpoint.FORMAT + 1})
    with pytest.raises(
        DataError,
        match=r"manifest.json: format 4 is not supported; this version of sparl reads",
    ):
        load(folder, 9)


def test_links_are_not_followed(folder: Path) -> None:
    segment = files_of(folder, 9)[-1]
    for file in (folder / "checkpoint-9" / STATE, segment):
        file.rename(folder / "elsewhere")
        file.symlink_to(folder / "elsewhere")
        with pytest.raises(
            DataError, match=rf"{file.name}: found a link but expected a regular file"
        ):
            load(folder, 9)
        file.unlink()
        (folder / "elsewhere").rename(file)
    (folder / REPLAY).rename(folder / "elsewhere")
    (folder / REPLAY).symlink_to(folder / "elsewhere")
    with pytest.raises(DataError, match="replay: found a link"):
        load(folder, 9)
    with pytest.raises(DataError, match=r"replay: found a link but expected a folder"):
        save(Checkpoints(folder), 12)
    assert len(list((folder / "elsewhere").iterdir())) >= 2  # no file was deleted there


# --- Runs --------------------------------------------------------------------------------------

SMALL: dict[str, Any] = {
    "steps": 50, "warmup_env_steps": 10, "hidden": (8, 8), "batch_size": 4, "threads": 1,
    "evaluate_every_env_steps": 20, "evaluation_episodes": 1, "checkpoint_every_env_steps": 10,
    "max_episode_steps": 15, "quiet": True, "actor_densities": (0.5, 0.5, 1.0),
    "critic_densities": (0.5, 0.5, 1.0), "rewire_every_updates": 7,
}  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    run = sparl.train("DS-TD3", "Hopper-v5", run_dir=tmp_path_factory.mktemp("run"), **SMALL)
    return results(run.path)


@pytest.mark.slow
def test_training_continues_after_any_file_operation_of_a_save_fails(
    tmp_path: Path, undisturbed: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Make each file operation of the checkpoint at step 20 fail once, appended lines included."""
    original = CheckpointSaver.save
    fields = {**SMALL, "quiet": False}
    for n in range(1, 100):
        disk = Disk(lambda count, n=n: count == n, half=True)

        def disturbed(
            self: CheckpointSaver, env_step: int, *given: Any, last: bool, disk: Disk = disk
        ) -> Path | None:
            if env_step != 20:
                return original(self, env_step, *given, last=last)
            with disk.used():
                return original(self, env_step, *given, last=last)

        with pytest.MonkeyPatch.context() as patch, Disk(lambda count: False).used():
            patch.setattr(CheckpointSaver, "save", disturbed)
            run = sparl.train("DS-TD3", "Hopper-v5", run_dir=tmp_path / str(n), **fields)
        assert results(run.path) == undisturbed
        said = capsys.readouterr().err
        if disk.count < n:
            break
        assert "warning: cannot write " in said
        assert (
            "No space left on device; training continues, and will try again at the next checkpoint"
        ) in said
    assert n > 12


def test_a_full_disk_ends_the_run_and_keeps_its_last_valid_checkpoint(
    tmp_path: Path, undisturbed: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Evaluations are kept in memory while the disk is full, and written once there is space."""
    original = Training.step
    disk = Disk(lambda count: full)
    full = False

    def step(self: Training) -> None:
        nonlocal full
        original(self)
        full = full or self.env_step == 13

    run = tmp_path / "run"
    flags = [
        f"--{name.replace('_', '-')}={value}"
        for name, value in SMALL.items()
        if not isinstance(value, tuple | bool)
    ]
    densities = ["0.5", "0.5", "1.0"]
    words = ["train", "--method", "DS-TD3", "--env", "Hopper-v5", *flags, "--hidden", "8", "8",
             "--actor-densities", *densities, "--critic-densities", *densities,
             "--run-dir", str(run), "--resume", "auto"]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch, disk.used():
        patch.setattr(Training, "step", step)
        assert main(words) == 6
    said = capsys.readouterr()
    assert (
        said.err.count("training continues, and will try again at the next checkpoint") == 2
    )  # steps 20 and 30
    line = said.err.splitlines()[-1]
    assert line.startswith("sparl: cannot write ")
    assert line.endswith(
        f"No space left on device; correct this, then resume the run: sparl resume {run}"
    )
    assert found(run) == ["checkpoint-10"]
    assert main(words) == 0
    assert "resuming at step 10, bit for bit" in capsys.readouterr().out
    assert results(run) == undisturbed


def test_a_failed_checkpoint_of_the_last_step_does_not_fail_the_run(
    tmp_path: Path, undisturbed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run would delete this checkpoint immediately afterwards."""
    original = Checkpoints.save

    def save(self: Checkpoints, env_step: int, *arguments: Any) -> None:
        if env_step >= 30:
            raise ResourceError("the disk is full")
        original(self, env_step, *arguments)

    monkeypatch.setattr(Checkpoints, "save", save)
    run = sparl.train("DS-TD3", "Hopper-v5", run_dir=tmp_path / "run", **SMALL)
    assert results(run.path) == undisturbed


def flipped(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


DAMAGES: list[Callable[[Path], None]] = [flipped, cut, Path.unlink]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [STATE, MANIFEST, REPLAY])
def test_resume_falls_back_to_the_previous_checkpoint_and_states_it(
    name: str,
    damage: Callable[[Path], None],
    tmp_path: Path,
    undisturbed: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with stopped_at(33):
        run = sparl.train("DS-TD3", "Hopper-v5", run_dir=tmp_path / "run", **SMALL)
    older = {file.name for file in files_of(run.path, 30)}
    newest, *_ = (f for f in reversed(files_of(run.path, 33)) if f.name not in older)
    file = newest if name == REPLAY else run.path / "checkpoint-33" / name
    damage(file)
    assert main(["resume", str(run.path)]) == 0
    said = capsys.readouterr().err
    assert f"warning: {file}: " in said
    assert "; resuming from checkpoint-30" in said
    assert results(run.path) == undisturbed


def test_a_run_without_a_valid_checkpoint_reports_why_and_is_unchanged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with stopped_at(33):
        run = sparl.train("DS-TD3", "Hopper-v5", run_dir=tmp_path / "run", **SMALL)
    for path in Checkpoints(run.path).newest_first():
        flipped(path / STATE)
    before = {f: f.read_bytes() for f in run.path.rglob("*") if f.is_file()}
    assert main(["resume", str(run.path)]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("sparl: ")
    assert "checkpoint-33/state.safetensors: damaged" in line
    assert "checkpoint-30/state.safetensors: damaged" in line
    assert line.endswith(
        "there is no other checkpoint; to start over, use sparl train with --overwrite"
    )
    assert {f: f.read_bytes() for f in run.path.rglob("*") if f.is_file()} == before
    shutil.rmtree(run.path / REPLAY)
    assert main(["resume", str(run.path)]) == 3
