"""Test that attacks which succeeded in earlier versions fail."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import bad_environments as bad
import sparl
from hostile.small import CHECKPOINTS, FIELDS, FLAGS, STUDY
from run_folders import write_run
from sparl.archive.archive import archive_run
from sparl.cli import main
from sparl.errors import DataError, RunInUse
from sparl.export.arrays import npz
from sparl.export.policy import Layer, Policy
from sparl.report.escape import in_csv
from sparl.sparse.pattern import Pattern
from sparl.studies.progress import archived_progress
from sparl.studies.study import read_study
from sparl.training.agent_file import load_agent
from sparl.training.folder import Folder
from sparl.training.loop import Training

pytestmark = pytest.mark.slow

ENV = "Attacks-v0"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    sparl.train("TD3", "Pendulum-v1", run_dir=path, keep_checkpoint=True, quiet=True, **FIELDS)
    return path


@pytest.fixture
def register() -> Iterator[Callable[[type], None]]:
    def register(environment: type) -> None:
        gymnasium.register(ENV, environment, max_episode_steps=bad.LIMIT)

    yield register
    gymnasium.registry.pop(ENV, None)


def train(folder: Path) -> int:
    words = ["train", "--method", "TD3", "--env", ENV, *FLAGS, *CHECKPOINTS]
    return main([*words, "--run-dir", str(folder)])


def state_of(run: Path) -> str:
    return str(json.loads((run / "run.json").read_text())["state"])


# ------------------------------------------------------------------ code execution


def test_a_study_imports_nothing_from_the_folder_where_it_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tmp_path / "study.toml"
    study.write_text(STUDY.replace("seeds = 2", "seeds = 1"))
    executed = tmp_path / "executed"
    for name in ("numpy", "rich", "gymnasium", "safetensors", "tomllib"):
        (tmp_path / f"{name}.py").write_text(f"open({str(executed)!r}, 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    assert main(["study", "run", str(study)]) == 0
    assert not executed.exists()


# ------------------------------------------------------------------ writing elsewhere


@pytest.mark.parametrize("name", ["evaluations.csv", "metrics.csv", "topology.csv", ".lock"])
def test_a_hard_link_in_a_run_is_not_written_through(
    name: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = tmp_path / "outside"
    outside.write_text("env_step\n" + "precious\n" * 100)
    (run / name).unlink(missing_ok=True)
    os.link(outside, run / name)
    assert main(["resume", str(run), "--steps", "90"]) == 3
    assert f"{run / name}: this is a hard link" in capsys.readouterr().err
    assert outside.read_text() == "env_step\n" + "precious\n" * 100


def test_a_hard_link_is_replaced_when_a_whole_file_is_written(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("precious")
    os.link(outside, tmp_path / "file")
    Folder(tmp_path).write("file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert outside.read_text() == "precious"


@pytest.mark.parametrize(
    "line", ['run_dir = "run"', "overwrite = true", 'run_dir = "run"\nresume = "auto"']
)
def test_a_configuration_file_does_not_determine_what_is_written_or_replaced(
    line: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run.parent)
    before = sorted(path.stat().st_mtime_ns for path in run.rglob("*"))
    sent = run.parent / "sent.toml"
    sent.write_text(f"{line}\n{(run / 'config.toml').read_text()}")
    assert main(["train", "--config", str(sent)]) == 2
    assert "cannot be set in a file" in capsys.readouterr().err
    assert sorted(path.stat().st_mtime_ns for path in run.rglob("*")) == before
    assert sorted(path.name for path in run.parent.iterdir()) == ["run", "sent.toml"]


def test_an_environment_that_changes_the_directory_does_not_move_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, register: Callable[[type], None]
) -> None:
    class Moves(bad.Good):
        def __init__(self) -> None:
            super().__init__()
            os.chdir(tmp_path / "there")

    register(Moves)
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert train(Path("run")) == 0
    assert not any((tmp_path / "there").iterdir())
    assert state_of(tmp_path / "here" / "run") == "finished"
    monkeypatch.chdir(tmp_path / "here")
    out = ["export", "run", "--format", "npz", "--out", "out"]
    assert main(out) == 0
    assert not any((tmp_path / "there").iterdir())


# ------------------------------------------------------------------ sizes


def wide(width: int) -> Policy:
    """Return a policy of wide layers without connections, which needs a small file only."""
    none = np.zeros(0, np.int64)
    layers = [
        Layer(Pattern(n_in, n_out, none), np.zeros(0, np.float32), np.zeros(n_out, np.float32))
        for n_in, n_out in ((width, width), (width, 1))
    ]
    return Policy(layers, np.array([-1.0]), np.array([1.0]))


def test_absent_connections_take_no_memory_in_the_check_of_arrays() -> None:
    import tracemalloc

    from sparl.export.arrays import actions

    policy = wide(30_000)  # 3.6 GB as a dense matrix
    tracemalloc.start()
    try:
        found = actions(npz(policy), np.ones((2, 30_000), np.float32))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.tolist() == [[0.0], [0.0]]
    assert peak < 50e6


# ------------------------------------------------------------------ one bad run among many


@pytest.mark.parametrize(
    "lines",
    [
        [("9" * 400, "1", "1"), ("9" * 400, "1", "1")],
        [("-" + "9" * 400, "1", "1"), ("-" + "9" * 400, "1", "1")],
        [("0", "0", "1"), ("1", "1e308", "1")],
        [("0", "-inf", "1"), ("1", "inf", "1")],
        [("0", "0", "1"), ("1", "1", "1e400")],
    ],
)  # fmt: skip
def test_no_invalid_number_in_a_run_makes_the_status_of_its_study_fail(
    lines: list[tuple[str, str, str]], tmp_path: Path
) -> None:
    file = tmp_path / "study.toml"
    file.write_text(STUDY)
    units, runs = read_study(file).units, Folder(tmp_path / "runs")
    for unit, rows in zip(units, ([("0", "0", "1"), ("30", "1", "1")], lines), strict=True):
        run = runs.at(unit.id)
        run.make()
        run.write("run.json", b'{"state": "running"}')
        cells = [("env_step", "wall_seconds", "mean"), *rows]
        run.write("evaluations.csv", "".join(f"{','.join(row)}\n" for row in cells).encode())
    for unit in units:  # lock one run at a time, so that its status shows a rate
        running = Folder(runs.path).at(unit.id)
        assert running.lock(".lock")
        assert main(["study", "status", str(file), "--folder", str(runs.path)]) == 0
        running.unlock()


@pytest.mark.parametrize("step", ["10000.0", "1e4"])
def test_a_step_that_is_not_an_integer_does_not_make_the_status_of_an_archive_fail(
    step: str, tmp_path: Path
) -> None:
    run = write_run(tmp_path / "run", "TD3", "Hopper-v3", [1, 2, 3], commit="0123456789")
    kept = archive_run(run, tmp_path / "archive", None)
    file = kept / "evaluations.csv"
    file.write_text(file.read_text().replace("\n10000,", f"\n{step},"))
    study = tmp_path / "study.toml"
    study.write_text(STUDY)
    assert archived_progress(kept, read_study(study).units[0]).env_step == 10_000


def test_an_already_archived_run_is_reported_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", "TD3", "Hopper-v3", [1, 2, 3], commit="0123456789")
    kept = archive_run(run, tmp_path / "archive", None)
    assert main(["archive", str(kept), "--to", str(tmp_path / "archive")]) == 2
    assert capsys.readouterr().err == f"sparl: {kept}: the run is already archived\n"


# ------------------------------------------------------------------ spreadsheets


@pytest.mark.parametrize("text", ["x;=1+1", "x; @SUM(1)", 'x;"=1+1', " =1+1", "x;\uff1d1"])
def test_a_spreadsheet_that_splits_cells_at_semicolons_finds_no_formula(text: str) -> None:
    for cell in str(in_csv(text)).split(";"):
        assert cell.lstrip(" \"'")[:1] not in "=@\uff1d" or cell.lstrip(' "').startswith("'")


# ------------------------------------------------------------------ careless environments


def test_an_environment_that_closes_all_descriptors_loses_the_folder(
    tmp_path: Path, register: Callable[[type], None], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    steps = iter(range(10_000))
    original = Training.step

    def step(self: Training) -> None:
        original(self)
        if next(steps) == 15:
            held = self.folder.files._held
            assert held is not None
            os.close(held.folder)
            os.close(held.lock)

    monkeypatch.setattr(Training, "step", step)
    register(bad.Good)
    assert train(tmp_path / "run") == 7
    assert "closed by other code" in capsys.readouterr().err


def test_a_forked_child_that_returns_writes_nothing(tmp_path: Path) -> None:
    files = Folder(tmp_path)
    assert files.lock(".lock")
    child = os.fork()
    if not child:
        code = 1
        try:
            files.write("file", b"of the child")
        except RunInUse:
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    files.write("file", b"of the parent")
    assert (tmp_path / "file").read_bytes() == b"of the parent"
    files.unlock()


@pytest.mark.parametrize("closes", [True, False])
def test_an_environment_that_closes_or_removes_the_streams_does_not_change_results(
    closes: bool, tmp_path: Path, register: Callable[[type], None]
) -> None:
    program = f"""
import sys, gymnasium, bad_environments as bad
from sparl.cli import main
class Silences(bad.Good):
    def reset(self, **how):
        if {closes}:
            sys.stdout.close(), sys.stderr.close()
        else:
            sys.stdout = sys.stderr = None
        return super().reset(**how)
gymnasium.register("Silences-v0", Silences, max_episode_steps=bad.LIMIT)
words = ["train", "--method", "TD3", "--env", "Silences-v0", "--run-dir", {str(tmp_path / "run")!r}]
code = main([*words, *{FLAGS!r}, *{CHECKPOINTS!r}])
import os
os._exit(code)
"""
    path = os.pathsep.join(sys.path)
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", program], env=environment, check=False)
    assert done.returncode == 0
    assert state_of(tmp_path / "run") == "finished"


def test_a_masked_reward_is_a_fault(
    tmp_path: Path, register: Callable[[type], None], capsys: pytest.CaptureFixture[str]
) -> None:
    class Masks(bad.Good):
        def step(self, action: Any) -> Any:
            observation, _, *rest = super().step(action)
            return observation, np.ma.masked, *rest

    register(Masks)
    assert train(tmp_path / "run") == 4
    said = capsys.readouterr().err
    assert "the reward masked, which is not a finite float32" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL, lambda *_: sys.exit(0)])
def test_an_environment_that_sets_handlers_when_it_is_created_does_not_affect_stops(
    handler: Any, tmp_path: Path, register: Callable[[type], None]
) -> None:
    steps = []

    class Handles(bad.Good):
        def __init__(self) -> None:
            super().__init__()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, handler)

        def step(self, action: Any) -> Any:
            steps.append(0)
            if len(steps) == 30:  # during training: an evaluation precedes it
                os.kill(os.getpid(), signal.SIGTERM)
            return super().step(action)

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    register(Handles)
    assert train(tmp_path / "run") == 143
    assert state_of(tmp_path / "run") == "stopped by SIGTERM"
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_an_exit_outside_the_environments_calls_is_not_a_success(
    tmp_path: Path, register: Callable[[type], None], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def update(*_: object) -> None:
        sys.exit(0)

    register(bad.Good)
    monkeypatch.setattr(Training, "update", update)
    assert train(tmp_path / "run") == 4
    assert "SystemExit: 0, raised outside sparl" in capsys.readouterr().err
    assert state_of(tmp_path / "run") == "failed"


def test_an_exception_whose_class_has_no_name_is_a_fault(
    tmp_path: Path, register: Callable[[type], None], capsys: pytest.CaptureFixture[str]
) -> None:
    class Nameless(type):
        @property
        def __name__(cls) -> str:  # type: ignore[override]
            raise RuntimeError

    class Error(Exception, metaclass=Nameless):
        pass

    class Raises(bad.Good):
        def step(self, action: Any) -> Any:
            raise Error("why")

    register(Raises)
    assert train(tmp_path / "run") == 4
    assert "step raised an exception: why" in capsys.readouterr().err


def test_a_thread_that_never_ends_does_not_block_the_end_of_a_command(tmp_path: Path) -> None:
    (tmp_path / "threads.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()\n"
    )
    words = ["sparl", "--import", "threads", "methods"]
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=tmp_path, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert "DS-TD3" in done.stdout
    assert done.stderr.startswith("sparl: ended although thread")
    assert threading.active_count()


# ------------------------------------------------------------------ the system


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOSPC, errno.ENOMEM])
def test_an_exhausted_system_resource_exits_with_6(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def raise_error() -> dict[str, str]:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("sparl.commands.info.machine", raise_error)
    assert main(["info"]) == 6
    said = capsys.readouterr().err
    assert os.strerror(number) in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("parent", ["abc", "9" * 5000, "-1", "1e3"])
def test_the_id_of_a_parent_that_does_not_exist_is_ignored(parent: str) -> None:
    environment = {**os.environ, "SPARL_PARENT": parent}
    words = [sys.executable, "-m", "sparl", "--version"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_importing_in_a_deleted_folder_is_reported_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert main(["--import", "json", "info"]) == 2
    assert "the current folder no longer exists" in capsys.readouterr().err


# ------------------------------------------------------------------ values


def test_action_bounds_in_the_wrong_order_are_reported_as_damage(run: Path) -> None:
    path = run / "agent.json"
    manifest = json.loads(path.read_text())
    policy = manifest["policy"]
    policy["action_low"], policy["action_high"] = policy["action_high"], policy["action_low"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="action_low must be less than that of action_high"):
        load_agent(run)
