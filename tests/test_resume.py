"""A run that was stopped, any way at all, goes on as if it had not been."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

import sparl
from resuming import results, stopped_at
from sparl.cli import main
from sparl.errors import DataError, RunInUse, UsageError
from sparl.methods import METHODS
from sparl.replay.capacity import DynamicCapacity
from sparl.training.loop import Training
from sparl.training.run_folder import RunFolder

TASKS = ["HalfCheetah", "Hopper", "Walker2d", "Ant", "Humanoid"]
SMALL: dict[str, Any] = {
    "steps": 90, "warmup_env_steps": 20, "hidden": (8, 8), "batch_size": 4, "threads": 1,
    "evaluate_every_env_steps": 40, "evaluation_episodes": 1, "checkpoint_every_env_steps": 30,
    "max_episode_steps": 25, "quiet": True,
}  # fmt: skip


def evolving(method: str) -> dict[str, Any]:
    """Evolutions every 7 updates, where the method has any."""
    evolves = method.startswith(("DS", "RLx2", "RigL", "SET"))
    return {"rewire_every_updates": 7, "rewire_first_update": 2} if evolves else {}


def fields_of(method: str, task: str) -> dict[str, Any]:
    fields = {**SMALL, **evolving(method)}
    if method.startswith("RLx2"):
        fields |= {"n_step_delay_updates": 15, "replay_minimum": 30, "replay_capacity": 64}
    if METHODS[method].family.settings == "rlx2" and method not in ("TD3", "SAC"):
        fields |= {"actor_sparsity": 0.5, "critic_sparsity": 0.5}
    return fields


@pytest.fixture(autouse=True)
def _replay_is_checked_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DynamicCapacity.__init__, "__defaults__", (10, 0.0, 0.1, 2048))


# Every method once, and two methods on every task; all pairs pass too, in two minutes.
PAIRS = [(method, TASKS[index % 5]) for index, method in enumerate(METHODS)]
PAIRS += [(method, task) for method in ("DS-TD3", "RLx2-SAC") for task in TASKS]


@pytest.mark.parametrize(("method", "task"), sorted(set(PAIRS)))
def test_every_method_goes_on_bit_for_bit_on_every_task(
    method: str, task: str, tmp_path: Path
) -> None:
    """Stops in the warm-up, inside episodes, beside evolutions, after shrinks, between windows."""
    fields = fields_of(method, task)
    env = f"{task}-v5"
    whole = sparl.train(method, env, run_dir=tmp_path / "whole", **fields)
    stops = (7, 22, 23, 41, 60)  # update 2 is at step 22; a checkpoint is due at 60 anyway
    with stopped_at(*stops):
        run = sparl.train(method, env, run_dir=tmp_path / "parts", **fields)
        for _ in stops[1:]:
            assert run.stopped_by is signal.SIGTERM
            run = sparl.resume(run)
    run = sparl.resume(run)
    assert run.stopped_by is None
    if method.startswith("RLx2"):
        last = results(run.path)["metrics.csv"][-1]
        assert int(last["replay_size"]) < 60  # it was shrunk
    assert run.evaluations == whole.evaluations
    assert results(run.path) == results(whole.path)
    about = json.loads((run.path / "run.json").read_text())
    assert [each["env_step"] for each in about["continued"]] == list(stops)
    assert about["bit_exact"]
    assert not list(run.path.glob("checkpoint-*"))  # nothing is left to do


@pytest.mark.parametrize(
    ("by", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"]
)
def test_a_signal_saves_and_says_how_to_go_on(
    by: signal.Signals, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    flags = [
        f"--{name.replace('_', '-')}={value}"
        for name, value in SMALL.items()
        if name not in ("quiet", "hidden")
    ]
    train = ["train", "--method", "DS-TD3", "--env", "Hopper-v5", "--hidden", "8", "8", *flags,
             "--run-dir", str(run), "--resume", "auto"]  # fmt: skip
    with stopped_at(33, by=by):
        assert main(train) == code
    assert f"to go on: sparl resume {run}" in capsys.readouterr().out
    assert main(["resume", str(run)]) == 0
    assert "going on at step 33, bit for bit" in capsys.readouterr().out
    for again in (train, ["resume", str(run)]):
        assert main(again) == 0
        assert capsys.readouterr().out == f"{run}: already finished, 90 steps\n"
    assert main([*train, "--seed", "1", "--tau=0.5"]) == 2
    error = capsys.readouterr().err
    assert "seed is 0 there and 1 here" in error
    assert "tau is 0.005 there and 0.5 here" in error


def test_a_run_that_stopped_early_goes_on_to_a_later_stop(tmp_path: Path) -> None:
    whole = sparl.train("DS-TD3", "Hopper-v5", run_dir=tmp_path / "whole", **SMALL)
    for stop_at in (33, 70, None):
        run = sparl.train(
            "DS-TD3", "Hopper-v5", run_dir=tmp_path / "parts", resume="auto",
            **SMALL, **({"stop_at": stop_at} if stop_at else {}),
        )  # fmt: skip
        assert run.evaluations[-1][0] == (stop_at or 90)
    assert results(run.path) == results(whole.path)


def test_where_the_environment_has_no_state_it_says_so_and_the_run_is_marked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with stopped_at(33):
        run = sparl.train("TD3", "Pendulum-v1", run_dir=tmp_path / "run", **SMALL)
    assert sparl.resume(run).evaluations[-1][0] == 90
    capsys.readouterr()
    with stopped_at(33):
        run = sparl.train("TD3", "Pendulum-v1", run_dir=tmp_path / "other", **SMALL)
    assert main(["resume", str(run.path)]) == 0
    assert "Pendulum-v1 cannot save its state, so a new episode begins" in capsys.readouterr().out
    about = json.loads((run.path / "run.json").read_text())
    assert about["bit_exact"] is False
    assert about["state"] == "finished"


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_anew(tmp_path: Path) -> None:
    whole = sparl.train("TD3", "Hopper-v5", run_dir=tmp_path / "whole", **SMALL)
    with stopped_at(33):
        run = sparl.train("TD3", "Hopper-v5", run_dir=tmp_path / "run", **SMALL)
    for path in run.path.glob("checkpoint-*"):
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    assert results(sparl.resume(run).path) == results(whole.path)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with stopped_at(33):
        run = sparl.train("TD3", "Hopper-v5", run_dir=tmp_path / "run", **SMALL)
    folder = RunFolder.open(run.path)
    assert not folder.in_use()
    folder.lock()
    assert RunFolder.open(run.path).in_use()
    with pytest.raises(RunInUse, match="in use by another process"):
        sparl.resume(run)
    folder.close()
    assert sparl.resume(run).stopped_by is None


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no run here"):
        sparl.resume(tmp_path)
    with pytest.raises(UsageError, match="resume auto needs a run_dir"):
        sparl.train("TD3", "Hopper-v5", resume="auto", **SMALL)


def test_a_checkpoint_holds_only_what_came_since_the_one_before(tmp_path: Path) -> None:
    """Segments are shared, old ones go with the ring, and the folder stays near its size."""
    made: list[Training] = []
    original = Training.__init__

    def remember(self: Training, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        made.append(self)

    fields = {**SMALL, "steps": 2100, "stop_at": 2000, "warmup_env_steps": 3000,
              "replay_capacity": 500, "evaluate_every_env_steps": 5000}  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "__init__", remember)
        run = sparl.train("TD3", "HalfCheetah-v5", run_dir=tmp_path / "run", **fields)
    segments = sorted((run.path / "replay").iterdir())
    assert 2 <= len(segments) <= 2 + 2 * 9  # short ones were joined
    size = sum(file.stat().st_size for file in segments)
    rows = 4 * (17 + 6 + 1) + 3
    assert 500 * rows < size < 1.5 * 500 * rows + 1000 * len(segments)
    (training,) = made
    again = sparl.resume(run)
    assert again.evaluations == run.evaluations
    assert training.replay.first == 1500
