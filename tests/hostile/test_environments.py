"""Test environments that raise any exception, return any value, or start processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import bad_environments as bad
import sparl
from hostile.orphans import check_that_children_hold_no_files
from resuming import results
from sparl.cli import main
from sparl.errors import EnvironmentFault
from sparl.training.environment import Environment
from sparl.training.run_folder import RunFolder

ENV = "Hostile-v0"
FLAGS = [
    "--steps", "60", "--warmup-env-steps", "20", "--evaluate-every-env-steps", "30",
    "--checkpoint-every-env-steps", "50", "--evaluation-episodes", "1", "--hidden", "8",
    "--batch-size", "8", "--threads", "1",
]  # fmt: skip


class CannotBeShown(RuntimeError):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Cancelled(BaseException):
    """An exception like asyncio.CancelledError."""


ERRORS = [
    SystemExit(0), SystemExit(), GeneratorExit(), Cancelled("no more"), CannotBeShown(),
    RecursionError(), StopIteration(), BrokenPipeError(),
]  # fmt: skip


@pytest.fixture
def register() -> Iterator[Callable[[type], None]]:
    def register(environment: type) -> None:
        gymnasium.register(ENV, environment, max_episode_steps=bad.LIMIT)

    yield register
    gymnasium.registry.pop(ENV, None)


def train(run: Path) -> int:
    return main(["train", "--env", ENV, "--run-dir", str(run), *FLAGS])


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("where", ["__init__", "reset", "step", "close", "observation_space"])
def test_any_exception_of_an_environment_exits_with_4_and_names_step_seed_and_action(
    where: str, error: BaseException, tmp_path: Path,
    register: Callable[[type], None], capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def raises(self: Any, *_: Any, **__: Any) -> Any:
        raise error

    failing: Any = property(raises) if where == "observation_space" else raises
    register(type("Hostile", (bad.Good,), {where: failing}))
    run = tmp_path / "run"
    assert train(run) == (0 if where == "close" else 4)
    said = capsys.readouterr().err
    if where == "close":
        assert said == ""
        return
    assert said.count("\n") == 1
    assert said.startswith(f"sparl: environment {ENV}")
    assert type(error).__name__ in said
    if where in ("reset", "step"):
        assert "of episode 1 after reset(seed=" in said
        assert (", action [" in said) == (where == "step")
        assert json.loads((run / "run.json").read_text())["state"] == "failed"


def test_ctrl_c_under_the_users_own_handler_exits_with_130(
    tmp_path: Path, register: Callable[[type], None]
) -> None:
    class Interrupted(bad.Good):
        def __init__(self) -> None:
            super().__init__()
            signal.raise_signal(signal.SIGINT)

    register(Interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert train(tmp_path / "run") == 130
    finally:
        signal.signal(signal.SIGINT, before)


class Floatable:
    def __float__(self) -> float:
        return 0.5


class NoFloat:
    def __float__(self) -> float:
        raise SystemExit(0)

    def __repr__(self) -> str:
        raise RuntimeError("no text")


def step_with(part: int, value: Any) -> Any:
    environment = Environment("bad_environments:Good-v0")
    environment.reset(seed=0)
    bare: Any = environment.gym.unwrapped
    returned = bad.with_part(part, value)(bare.step(np.zeros(2)))
    bare.step = lambda action: returned
    return environment.step(np.zeros(2, np.float32))


@pytest.mark.parametrize(
    "reward",
    [
        0.5, Decimal("0.5"), Fraction(1, 2), np.float16(0.5), np.longdouble(0.5), "0.5",
        np.array(0.5), np.array([0.5]), np.array([[0.5]]), np.array([Decimal("0.5")]),
        pytest.param(Floatable(), id="Floatable()"),
    ],
    ids=repr,
)  # fmt: skip
def test_any_value_that_float_accepts_is_a_valid_reward(reward: Any) -> None:
    assert step_with(1, reward).reward == 0.5


@pytest.mark.parametrize(
    "reward",
    [
        10**400, -(10**400), Decimal("1e400"), Decimal("sNaN"), Decimal("Infinity"), np.ones(2),
        np.array([]), np.array([1j]), np.complex128(1j), "", None, [0.5], np.array([None]),
        NoFloat(), np.array([NoFloat()], object),
    ],
    ids=lambda reward: type(reward).__name__,
)  # fmt: skip
def test_any_other_reward_is_a_fault(reward: Any) -> None:
    with pytest.raises(EnvironmentFault, match=r"step 1 of episode 1 after .*, action \["):
        step_with(1, reward)


@pytest.mark.parametrize("reward", [10**400, -(10**5000)], ids=["large", "unprintable"])
def test_a_reward_that_is_too_large_is_named(reward: int) -> None:
    with pytest.raises(
        EnvironmentFault, match=r"step returned the reward .*, which is not a finite"
    ):
        step_with(1, reward)


@pytest.mark.parametrize("part", [0, 2, 3])
def test_values_that_raise_when_they_are_inspected_are_faults(part: int) -> None:
    class Hostile:
        def __array__(self, *_: Any, **__: Any) -> Any:
            raise GeneratorExit

        def __repr__(self) -> str:
            raise SystemExit(0)

    with pytest.raises(EnvironmentFault, match="step 1 of episode 1"):
        step_with(part, Hostile())


def returned_by_generator() -> Iterator[Any]:
    yield np.zeros(3)
    raise SystemExit(0)


@pytest.mark.parametrize("name", ["reset", "step"])
def test_a_result_that_raises_when_it_is_unpacked_is_a_fault(name: str) -> None:
    environment = Environment("bad_environments:Good-v0")
    environment.reset(seed=0)
    setattr(environment.gym.unwrapped, name, lambda *_, **__: returned_by_generator())
    with pytest.raises(EnvironmentFault):
        environment.reset() if name == "reset" else environment.step(np.zeros(2, np.float32))


# ------------------------------------------------------------------ worker processes


def work(pipe: Any) -> None:
    while True:
        pipe.send(pipe.recv() + 1)


class Workers(bad.Good):
    """Starts a worker process when it is created, and another one in its first step."""

    context = multiprocessing.get_context("fork")

    def __init__(self) -> None:
        super().__init__()
        self.workers: list[Any] = []
        self.begin()

    def begin(self) -> None:
        ours, theirs = self.context.Pipe()
        process = self.context.Process(target=work, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        self.workers.append((process, ours))

    def step(self, action: Any) -> Any:
        if len(self.workers) == 1:
            self.begin()
            Path(os.environ["MARK"]).write_text(str(self.workers[-1][0].pid))
        for _, pipe in self.workers:
            pipe.send(0)
            assert pipe.recv() == 1
        return super().step(action)

    def close(self) -> None:
        for process, _ in self.workers:
            process.terminate()
            process.join(20)
            if process.exitcode != -signal.SIGTERM:
                Path(os.environ["MARK"]).write_text("a worker did not end by SIGTERM")
                process.kill()


class SpawnedWorkers(Workers):
    context: Any = multiprocessing.get_context("spawn")


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("kind", [Workers, pytest.param(SpawnedWorkers, marks=pytest.mark.slow)])
def test_workers_of_an_environment_have_default_handlers(
    kind: type, tmp_path: Path, register: Callable[[type], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM ends them when the environment is closed; results do not change."""
    monkeypatch.setenv("MARK", str(tmp_path / "mark"))
    register(kind)
    assert train(tmp_path / "run") == 0
    assert (tmp_path / "mark").read_text().isdigit()
    fields: dict[str, Any] = {
        "steps": 60, "warmup_env_steps": 20, "evaluate_every_env_steps": 30, "hidden": (8,),
        "evaluation_episodes": 1, "batch_size": 8,
    }  # fmt: skip
    without = sparl.train(
        "DS-TD3", "bad_environments:Good-v0", quiet=True, run_dir=tmp_path / "without", **fields
    )
    assert results(tmp_path / "run") == results(without.path)


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_surviving_child_does_not_keep_the_run_locked(tmp_path: Path) -> None:
    check_that_children_hold_no_files(tmp_path / "run", *FLAGS)


class DiesOfCtrlC(bad.Good):
    """Fails in a step because Ctrl-C has also ended its worker process."""

    def step(self, action: Any) -> Any:
        if self.steps == 45:
            signal.raise_signal(signal.SIGINT)
            raise EOFError("a worker has gone")
        return super().step(action)


def test_a_fault_after_ctrl_c_is_not_attributed_to_the_environment(
    tmp_path: Path, register: Callable[[type], None], capsys: pytest.CaptureFixture[str]
) -> None:
    register(DiesOfCtrlC)
    run = tmp_path / "run"
    assert train(run) == 130
    said = capsys.readouterr().err
    assert "a worker has gone" in said
    assert f"to resume from there: sparl --import {__name__} resume {run}\n" in said


# ------------------------------------------------------------------ before the first checkpoint


@pytest.mark.parametrize("again", ["resume", "train"])
def test_a_run_that_failed_before_its_first_checkpoint_starts_again(
    again: str, tmp_path: Path, register: Callable[[type], None],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    class FailsOnce(bad.Good):
        def step(self, action: Any) -> Any:
            if self.steps == 25 and "MENDED" not in os.environ:
                raise RuntimeError("not yet")
            return super().step(action)

    register(FailsOnce)
    run = tmp_path / "run"
    assert train(run) == 4
    assert json.loads((run / "run.json").read_text())["env_step"] == 25
    capsys.readouterr()
    assert main(["info", str(run)]) == 0
    assert "restarts the run at step 0, because there is no checkpoint" in capsys.readouterr().out
    monkeypatch.setenv("MENDED", "1")
    words = ["train", "--env", ENV, "--run-dir", str(run), *FLAGS, "--resume", "auto"]
    assert main(["resume", str(run)] if again == "resume" else words) == 0
    said = capsys.readouterr()
    line = "the run failed at step 25 before its first checkpoint; it is restarted at step 0\n"
    assert said.out.count(line) == 1
    assert said.err == ""
    assert [int(row["env_step"]) for row in RunFolder.open(run).rows("evaluations.csv")] == [
        0, 30, 60
    ]  # fmt: skip


@pytest.mark.parametrize("harm", ["disk", "deleted"])
def test_a_run_starts_again_only_if_it_never_had_a_checkpoint(
    harm: str, tmp_path: Path, register: Callable[[type], None], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Fail after the step of the first checkpoint, which was either not written or deleted."""
    from sparl.errors import ResourceError
    from sparl.training.checkpoint import Checkpoints

    def full(*_: Any) -> None:
        raise ResourceError("the disk is full")

    class FailsLate(bad.Good):
        def step(self, action: Any) -> Any:
            if self.steps == 55 and "MENDED" not in os.environ:
                raise RuntimeError("not yet")
            return super().step(action)

    register(FailsLate)
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        if harm == "disk":
            patch.setattr(Checkpoints, "save", full)
        assert train(run) == 4
    Checkpoints(run).remove_all()
    monkeypatch.setenv("MENDED", "1")
    assert main(["resume", str(run)]) == (0 if harm == "disk" else 3)
