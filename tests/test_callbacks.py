"""Test that callbacks can observe and stop a run, and never change its results."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bad_environments  # noqa: F401  (registers the environments)
import sparl
from resuming import results
from sparl.cli import main
from sparl.errors import EnvironmentFault, UsageError
from sparl.training.evaluate import Evaluation

FIELDS: dict[str, Any] = {
    "steps": 90, "hidden": (8,), "warmup_env_steps": 30, "evaluate_every_env_steps": 20,
    "evaluation_episodes": 2, "checkpoint_every_env_steps": 40, "quiet": True,
}  # fmt: skip


def train(path: Path, callback: Any = (), **fields: Any) -> sparl.training.run.Run:
    return sparl.train(
        "DS-TD3", "Walks-v0", run_dir=path, callback=callback, **{**FIELDS, **fields}
    )


def state_of(run: Path) -> str:
    return str(json.loads((run / "run.json").read_text())["state"])


class Notes(sparl.Callback):
    """Notes every call; runs `act` in the named method at a step."""

    def __init__(
        self, name: str = "", at: int = -1, act: Callable[[sparl.ActiveRun], Any] | None = None
    ) -> None:
        self.calls: list[tuple[str, int]] = []
        self.evaluations: list[Evaluation] = []
        self.metrics: list[dict[str, float]] = []
        self.checkpoints: list[Path] = []
        self.name, self.at, self.act = name, at, act

    def note(self, name: str, run: sparl.ActiveRun) -> None:
        self.calls.append((name, run.env_step))
        if (name, run.env_step) == (self.name, self.at) and self.act is not None:
            self.act(run)

    def on_step(self, run: sparl.ActiveRun) -> None:
        self.note("on_step", run)

    def on_evaluation(self, run: sparl.ActiveRun, evaluation: Evaluation) -> None:
        assert run.evaluations[-1] == (run.env_step, evaluation.mean)
        self.evaluations.append(evaluation)
        self.metrics.append(dict(run.metrics))
        self.note("on_evaluation", run)

    def on_checkpoint(self, run: sparl.ActiveRun, path: Path) -> None:
        assert (path / "manifest.json").exists()
        assert path.parent == run.path
        self.checkpoints.append(path)
        self.note("on_checkpoint", run)


def test_the_methods_run_after_each_step_evaluation_and_checkpoint(tmp_path: Path) -> None:
    notes = Notes()
    run = train(tmp_path / "run", [sparl.Callback(), notes])
    called = {name: [step for n, step in notes.calls if n == name] for name, _ in notes.calls}
    assert called["on_step"] == list(range(1, 91))
    assert called["on_evaluation"] == [0, 20, 40, 60, 80, 90]
    assert called["on_checkpoint"] == [40, 80]
    at_40 = [name for name, step in notes.calls if step == 40]
    assert at_40 == ["on_step", "on_evaluation", "on_checkpoint"]
    means = [evaluation.mean for evaluation in notes.evaluations]
    assert means == [mean for _, mean in run.evaluations]
    assert "critic_loss" in notes.metrics[-1]
    assert "critic_loss" not in notes.metrics[0]  # nothing has been learned at step 0
    assert run.stopped_by is None


def test_callbacks_do_not_change_results(tmp_path: Path) -> None:
    train(tmp_path / "one")
    train(tmp_path / "other", Notes())
    assert results(tmp_path / "one") == results(tmp_path / "other")


def test_callbacks_read_the_agent_without_changing_the_results(tmp_path: Path) -> None:
    found: dict[str, Any] = {}

    class Reads(sparl.Callback):
        def on_step(self, run: sparl.ActiveRun) -> None:
            observations = np.zeros((2, 3), np.float32)
            actions = run.agent.policy(observations)
            q = run.agent.critics(observations, actions)  # type: ignore[attr-defined]
            assert (actions.shape, q.shape) == ((2, 2), (2, 2, 1))
            found.update(run.agent.networks()["actor"], updates=run.agent.updates)

    train(tmp_path / "one")
    run = train(tmp_path / "other", Reads())
    assert results(tmp_path / "one") == results(tmp_path / "other")
    assert found["updates"] == 60
    layer = sparl.load(run).networks["actor"].layers[0]
    np.testing.assert_array_equal(found["member0.layer0.weight"], layer.weights)
    np.testing.assert_array_equal(found["member0.layer0.positions"], layer.pattern.positions)


@pytest.mark.parametrize(
    ("name", "at"),
    [("on_evaluation", 0), ("on_step", 1), ("on_step", 33), ("on_evaluation", 40),
     ("on_checkpoint", 40), ("on_step", 89)],
)  # fmt: skip
def test_a_stopped_run_is_saved_and_resumed_bit_for_bit(name: str, at: int, tmp_path: Path) -> None:
    train(tmp_path / "whole")
    notes = Notes(name, at, sparl.ActiveRun.stop)
    run = train(tmp_path / "run", notes)
    assert run.stopped_by == "callback"
    assert state_of(run.path) == "stopped by a callback"
    assert notes.calls[-1] == ("on_checkpoint", at)
    assert sparl.load(run).env_step == at
    rest = Notes()
    assert sparl.resume(run, callback=rest, quiet=True).stopped_by is None
    assert rest.calls[0] == ("on_step", at + 1)
    assert state_of(run.path) == "finished"
    assert results(tmp_path / "whole") == results(run.path)


def test_a_request_in_the_last_step_does_not_stop_the_run(tmp_path: Path) -> None:
    for name in ("on_step", "on_evaluation"):
        run = train(tmp_path / name, Notes(name, 90, sparl.ActiveRun.stop))
        assert (run.stopped_by, state_of(run.path)) == (None, "finished")


def test_the_command_line_resumes_a_run_that_a_callback_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = Notes("on_step", 50, sparl.ActiveRun.stop)
    run = train(tmp_path / "run", notes, quiet=False)
    assert "stopped by a callback at step 50" in capsys.readouterr().out
    assert main(["info", str(run.path)]) == 0
    assert "state: stopped by a callback" in capsys.readouterr().out
    assert main(["resume", str(run.path)]) == 0
    assert state_of(run.path) == "finished"


def raised(error: BaseException) -> Callable[[sparl.ActiveRun], None]:
    def act(_run: sparl.ActiveRun) -> None:
        raise error

    return act


@pytest.mark.parametrize(
    "error", [ValueError("no"), SystemExit(3), EnvironmentFault("of another environment")], ids=repr
)
@pytest.mark.parametrize("name", ["on_step", "on_evaluation", "on_checkpoint"])
def test_an_exception_is_raised_after_the_run_has_been_saved(
    name: str, error: BaseException, tmp_path: Path
) -> None:
    train(tmp_path / "whole")
    notes, path = Notes(name, 40, raised(error)), tmp_path / "run"
    with pytest.raises(type(error)) as caught:
        train(path, notes)
    assert caught.value is error
    (note,) = error.__notes__
    assert note == (
        f"raised by Notes.{name} at step 40; the run was stopped and saved in {path}"
    )  # fmt: skip
    del error.__notes__
    assert notes.calls[-1] == (name, 40)  # not called again
    assert state_of(path) == "stopped by a callback"
    sparl.resume(path, quiet=True)
    assert results(tmp_path / "whole") == results(path)


def test_an_exception_in_the_last_step_is_raised_although_the_run_finished(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"):
        train(tmp_path / "run", Notes("on_evaluation", 90, raised(ValueError("no"))))
    assert state_of(tmp_path / "run") == "finished"


def test_a_misspelt_method_is_rejected_before_the_run(tmp_path: Path) -> None:
    class Misspelt(sparl.Callback):
        def on_evalution(self, run: sparl.ActiveRun, evaluation: Any) -> None:
            raise AssertionError

    class Helper(sparl.Callback):
        on_steps = 3  # not a method

        def on_improvement(self) -> None:
            raise AssertionError

    message = r"Misspelt has a method on_evalution, .*; did you mean on_evaluation\?"
    with pytest.raises(UsageError, match=message):
        train(tmp_path / "run", Misspelt())
    assert not (tmp_path / "run").exists()
    train(tmp_path / "run", Helper())


def test_an_object_that_is_not_a_callback_is_rejected_before_the_run(tmp_path: Path) -> None:
    for wrong in (print, Notes, [Notes(), print]):
        with pytest.raises(
            UsageError, match=r"must be an instance of a subclass of sparl\.Callback"
        ):
            train(tmp_path / "run", wrong)
    assert not (tmp_path / "run").exists()
