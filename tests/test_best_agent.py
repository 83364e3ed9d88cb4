"""Test that a run keeps the agent of its best evaluation, even if it is interrupted."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

import sparl
from resuming import stopped_at
from sparl.cli import main
from sparl.errors import DataError
from sparl.training.evaluate import Evaluation
from sparl.training.record import Record
from sparl.training.run_folder import RunFolder

FIELDS: dict[str, Any] = {
    "steps": 90, "hidden": (8,), "warmup_env_steps": 10, "evaluate_every_env_steps": 20,
    "evaluation_episodes": 2, "checkpoint_every_env_steps": 40, "quiet": True,
}  # fmt: skip


def train(path: Path, **fields: Any) -> sparl.training.run.Run:
    return sparl.train("DS-TD3", "bad_environments:Walks-v0", run_dir=path, **{**FIELDS, **fields})


def files(run: Path) -> tuple[bytes, bytes]:
    return (run / "agent-best.safetensors").read_bytes(), (run / "agent-best.json").read_bytes()


@pytest.fixture
def returns(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """The mean return that each evaluation reports, by its step; -100 at all other steps."""
    means: dict[int, float] = {}
    original = Record.evaluation

    def scripted(self: Record, env_step: int, updates: int, found: Evaluation) -> None:
        mean = means.get(env_step, -100.0)
        result = Evaluation((mean, mean), found.lengths, found.observations)
        original(self, env_step, updates, result)

    monkeypatch.setattr(Record, "evaluation", scripted)
    return means


def best_step(run: Path) -> int:
    return sparl.load(run, best=True).env_step


def test_the_first_of_the_best_evaluations_counts(
    tmp_path: Path, returns: dict[int, float]
) -> None:
    returns |= {0: 1.0, 20: 3.0, 40: 5.0, 60: 5.0, 80: 2.0}
    run = train(tmp_path / "run")
    agent = sparl.load(run, best=True)
    assert agent.env_step == 40
    assert agent.manifest["mean_return"] == 5.0
    assert agent.manifest["file"]["name"] == "agent-best.safetensors"
    assert sparl.load(run).env_step == 90
    stopped = train(tmp_path / "stopped", stop_at=40)
    assert sparl.load(stopped, best=True).predict([1, 2, 3]).tolist() == (
        agent.predict([1, 2, 3]).tolist()
    )


def test_the_last_evaluation_of_a_finished_run_counts(
    tmp_path: Path, returns: dict[int, float]
) -> None:
    returns[90] = 1.0
    assert best_step(train(tmp_path / "run").path) == 90
    # These two runs can be resumed, so their unscheduled evaluation at step 90 does not count.
    assert best_step(train(tmp_path / "kept", keep_checkpoint=True).path) == 0
    assert best_step(train(tmp_path / "longer", steps=120, stop_at=90).path) == 0


@pytest.mark.parametrize("best", [0, 20, 40, 60, 80, 90])
@pytest.mark.parametrize(
    "at", [40, *(pytest.param(at, marks=pytest.mark.slow) for at in (15, 65))]
)  # fmt: skip
def test_a_resumed_run_keeps_the_best_agent(
    at: int, best: int, tmp_path: Path, returns: dict[int, float]
) -> None:
    returns[best] = 1.0
    whole = train(tmp_path / "whole").path
    assert best_step(whole) == best
    with stopped_at(at):
        run = train(tmp_path / "run").path
    assert best_step(run) == (best if best <= at else 0)
    sparl.resume(run, quiet=True)
    assert files(run) == files(whole)


def test_an_agent_that_is_being_replaced_is_read_again(
    tmp_path: Path, returns: dict[int, float]
) -> None:
    run = train(tmp_path / "run").path
    arrays, other = run / "agent.safetensors", train(tmp_path / "other", seed=1).path
    whole = arrays.read_bytes()
    shutil.copy(other / "agent.safetensors", arrays)
    with pytest.raises(DataError, match="damaged"):
        sparl.load(run)
    folder = RunFolder(run)
    folder.lock()  # as by a run in progress
    later = threading.Timer(0.2, lambda: arrays.write_bytes(whole))
    later.start()
    assert sparl.load(run).env_step == 90
    later.join()
    folder.close()


def test_a_killed_run_reverts_to_the_best_agent_of_its_checkpoint(
    tmp_path: Path, returns: dict[int, float]
) -> None:
    returns |= {20: 1.0, 60: 2.0}
    whole = train(tmp_path / "whole").path
    with stopped_at(40):
        run = train(tmp_path / "run").path
    at_40 = tmp_path / "copy"
    shutil.copytree(run, at_40)
    # The run is killed at step 80, after the best agent and before the checkpoint is written.
    for name in ("agent-best.safetensors", "agent-best.json"):
        shutil.copy(whole / name, run / name)
    with stopped_at(50):
        sparl.resume(run, quiet=True)
    assert not (run / "agent-best.json").exists()
    sparl.resume(run, quiet=True)
    assert files(run) == files(whole)
    (at_40 / "agent-best.safetensors").write_bytes(b"damaged")
    sparl.resume(at_40, quiet=True)
    assert files(at_40) == files(whole)


def test_a_new_run_replaces_the_best_agent(tmp_path: Path) -> None:
    run = train(tmp_path / "run").path
    train(run, overwrite=True, seed=1, stop_at=15)
    assert best_step(run) == 0
    before = files(run)
    train(run, overwrite=True, seed=2, stop_at=15)
    assert files(run) != before


def test_evaluate_best_repeats_its_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(tmp_path / "run")
    assert main(["evaluate", str(run.path), "--best", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    step, mean = max(run.evaluations, key=lambda each: each[1])
    assert (found["env_step"], found["mean"]) == (step, mean)


def test_problems_with_a_best_agent_are_reported_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(tmp_path / "run").path
    (run / "agent-best.safetensors").write_bytes(b"damaged")
    sparl.load(run)
    with pytest.raises(DataError, match=r"agent-best\.safetensors: damaged .* agent-best\.json"):
        sparl.load(run, best=True)
    (run / "agent-best.json").unlink()
    assert main(["evaluate", str(run), "--best"]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{run / 'agent-best.json'}: the file is missing; a run saves its best agent" in line
    (run / "agent-best.json").symlink_to(run / "agent.json")
    with pytest.raises(DataError, match="link"):
        sparl.resume(run)


def test_a_damaged_best_agent_is_deleted_with_a_warning(
    tmp_path: Path, returns: dict[int, float], capsys: pytest.CaptureFixture[str]
) -> None:
    returns |= {20: 1.0}
    with stopped_at(50):
        run = train(tmp_path / "run").path
    (run / "agent-best.json").write_text("{")
    assert main(["resume", str(run)]) == 0
    said = capsys.readouterr()
    assert "agent-best.json: cannot be read" in said.err + said.out
    assert "the best agent up to this step was deleted" in said.err + said.out
    assert not list(run.glob("agent-best*"))


def test_degrees_whose_start_is_lost_are_not_recorded(tmp_path: Path) -> None:
    with stopped_at(50):
        run = train(tmp_path / "run").path
    (run / "degrees.json").write_text("{")
    with pytest.raises(DataError, match=r"degrees\.json.*; restore .*, or delete it to resume"):
        sparl.resume(run, quiet=True)
    (run / "degrees.json").unlink()
    assert sparl.resume(run, quiet=True).config.steps == 90
    assert not (run / "degrees.json").exists()
