"""Test that a resumed run equals an uninterrupted one, however it was stopped."""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control.pendulum import PendulumEnv
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv
from numpy.typing import NDArray

import sparl
from resuming import results, stopped_at, write_manifest
from sparl.cli import main
from sparl.errors import DataError, ResourceError, RunInUse, UsageError
from sparl.methods import METHODS
from sparl.play import command
from sparl.report.runs import collect
from sparl.topology.rules import GrowRule
from sparl.training import assemble, machine, start
from sparl.training.checkpoint import MANIFEST, Checkpoints
from sparl.training.environment import Environment
from sparl.training.loop import Training
from sparl.training.run_folder import RunFolder

TASKS = ["HalfCheetah", "Hopper", "Walker2d", "Ant", "Humanoid"]
SMALL: dict[str, Any] = {
    "steps": 90, "warmup_env_steps": 20, "hidden": (8, 8), "batch_size": 4, "threads": 1,
    "evaluate_every_env_steps": 40, "evaluation_episodes": 1, "checkpoint_every_env_steps": 30,
    "max_episode_steps": 25, "quiet": True,
}  # fmt: skip


def topology_fields(method: str) -> dict[str, Any]:
    """Return settings for a topology update every 7 updates, if the method has any."""
    dynamic = method.startswith(("DS", "RLx2", "RigL", "SET"))
    return {"rewire_every_updates": 7, "rewire_first_update": 2} if dynamic else {}


def fields_of(method: str) -> dict[str, Any]:
    fields = {**SMALL, **topology_fields(method)}
    if method.startswith("RLx2"):
        fields |= {"n_step_delay_updates": 15, "replay_minimum": 30, "replay_capacity": 64}
        fields |= {"replay_check_every_env_steps": 10, "replay_distance_threshold": 0.0}
    if METHODS[method].family.settings == "rlx2" and method not in ("TD3", "SAC"):
        fields |= {"actor_sparsity": 0.5, "critic_sparsity": 0.5}
    if method.startswith(("DS", "Static")):  # the lambdas would make such small networks dense
        fields |= dict.fromkeys(("actor_densities", "critic_densities"), (0.5, 0.5, 1.0))
    return fields


# Every method is tested once, and two methods on every task. All pairs would take two minutes.
PAIRS = [(method, f"{TASKS[index % 5]}-v5") for index, method in enumerate(METHODS)]
PAIRS += [(method, f"{task}-v5") for method in ("DS-TD3", "RLx2-SAC") for task in TASKS]
PAIRS += [("RLx2-TD3", "Ant-v3")]
FAST = {"DS-TD3", "RLx2-SAC"}  # the tests of these methods on Hopper are fast

# Update n happens at step 20 + n. The topology changes at updates 2, 9, 16, ... The replay buffer
# shrinks every ten steps, and an episode lasts at most 25 steps.
STOPS = {
    7: "in the warm-up",
    21: "right before a topology update",
    22: "right after one",
    29: "after one that the targets, which follow every second update, have not yet seen",
    40: "at an evaluation, and after a shrink; targets are of three steps by now",
    50: "at the end of an episode",
    60: "at a checkpoint that is due anyway",
    90: "in the very last step: too late to stop anything",
}


@pytest.mark.parametrize(
    ("method", "env"),
    [
        pytest.param(
            method, env, marks=() if method in FAST and env == "Hopper-v5" else pytest.mark.slow
        )
        for method, env in sorted(set(PAIRS))
    ],
)
def test_every_method_resumes_bit_for_bit_on_every_task(
    method: str, env: str, tmp_path: Path
) -> None:
    fields = fields_of(method)
    whole = sparl.train(method, env, run_dir=tmp_path / "whole", **fields)
    *early, _ = STOPS
    with stopped_at(*STOPS):
        run = sparl.train(method, env, run_dir=tmp_path / "parts", **fields)
        for _ in early:
            assert run.stopped_by is signal.SIGTERM
            run = sparl.resume(run)
    assert run.stopped_by is None
    left = results(run.path)
    if topology_fields(method):
        updates = {int(row["agent_update"]) for row in left["topology.csv"]}
        assert {2, 9} <= updates or method.startswith("RLx2")  # counts its own updates
    if method.startswith("RLx2"):
        assert left["metrics.csv"][1]["n_step"] == "3"
        assert int(left["metrics.csv"][1]["replay_size"]) < 40  # the replay was shrunk
    assert run.evaluations == whole.evaluations
    assert left == results(whole.path)
    about = json.loads((run.path / "run.json").read_text())
    assert [each["env_step"] for each in about["continued"]] == early
    assert about["bit_exact"]
    assert not list(run.path.glob("checkpoint-*"))  # the run has finished


@pytest.mark.parametrize(
    ("by", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"]
)
def test_a_signal_saves_the_run_and_prints_the_resume_command(
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
    assert f"to resume:\n  sparl resume {run}" in capsys.readouterr().out
    assert main(["info", str(run)]) == 0
    said = capsys.readouterr().out
    assert f"state: stopped by {by.name}\nenv step: 33\nsteps: 90\nlast checkpoint: 33\n" in said
    assert f"continuation: sparl resume {run} resumes the run, bit for bit\n" in said
    assert main(["resume", str(run)]) == 0
    assert "resuming at step 33, bit for bit" in capsys.readouterr().out
    for again in (train, ["resume", str(run)]):
        assert main(again) == 0
        assert f"{run}: already finished after 90 steps; it cannot be" in capsys.readouterr().out
    assert main([*train, "--seed", "1", "--tau=0.5"]) == 2
    error = capsys.readouterr().err
    assert "seed is 0 instead of 1" in error
    assert "tau is 0.005 instead of 0.5" in error


def test_a_run_stopped_early_can_be_resumed_to_a_later_stop(tmp_path: Path) -> None:
    whole = sparl.train("DS-TD3", "Hopper-v5", run_dir=tmp_path / "whole", **SMALL)
    for stop_at in (33, 70, None):
        run = sparl.train(
            "DS-TD3", "Hopper-v5", run_dir=tmp_path / "parts", resume="auto",
            **SMALL, **({"stop_at": stop_at} if stop_at else {}),
        )  # fmt: skip
        assert run.evaluations[-1][0] == (stop_at or 90)
    assert results(run.path) == results(whole.path)


class Tells(PendulumEnv):
    """Pendulum with a custom state, whose parts differ between steps."""

    pushes: Any = None

    def step(self, action: NDArray[Any]) -> Any:
        self.pushes = [
            {"last": np.float32(action[0]), "all": {"signs": np.sign(action), "name": "a"}},
            7,
            np.ones(3, np.uint8),
        ][int(self.np_random.integers(3))]
        return super().step(action)

    def get_state(self) -> dict[str, Any]:
        return {"pendulum": np.array(self.state), "pushes": self.pushes}

    def set_state(self, state: dict[str, Any]) -> None:
        self.state, self.pushes = state["pendulum"], state["pushes"]
        if isinstance(self.pushes, dict):
            assert isinstance(self.pushes["last"], np.float32)


class TellsTooMuch(Tells):
    """Returns a state that contains a value which cannot be saved."""

    def get_state(self) -> dict[str, Any]:
        return {**super().get_state(), "rng": self.np_random}


class OwnCheetah(HalfCheetahEnv):
    """Might have more state than the simulator."""


def made(**fields: Any) -> Any:
    """Has a state, in an unknown wrapper."""
    return gymnasium.wrappers.DelayObservation(Tells(**fields), delay=2)


@pytest.fixture
def _environments() -> Iterator[None]:
    makers = {"Tells-v0": Tells, "TellsTooMuch-v0": TellsTooMuch, "OwnCheetah-v0": OwnCheetah,
              "Wrapped-v0": made}  # fmt: skip
    for name, maker in makers.items():
        gymnasium.register(name, maker)
    yield
    for name in makers:
        del gymnasium.registry[name]


def mujoco_tasks() -> list[str]:
    """Return the MuJoCo tasks of the installed Gymnasium."""
    found = []
    for name, spec in gymnasium.registry.items():
        if str(spec.entry_point).startswith("gymnasium.envs.mujoco.") and name[-2:] in ("v4", "v5"):
            with suppress(UsageError):
                Environment(name).close()
                found.append(name)
    return found


def test_every_mujoco_task_of_gymnasium_resumes_bit_for_bit_from_any_state() -> None:
    """Restore into an environment with another history, in the middle of an episode."""
    tasks = mujoco_tasks()
    assert len(tasks) > 15
    for task in tasks:
        one, other = Environment(task), Environment(task)
        rng = np.random.default_rng(0)
        one.reset(seed=1)
        other.reset(seed=2)
        for step in range(45):
            if step % 15 == 5:
                assert other.restore(one.state())
            action = rng.uniform(-1, 1, one.n_act).astype(np.float32)
            here, there = one.step(action), other.step(action)
            if step >= 5:
                assert here.observation.tobytes() == there.observation.tobytes(), (task, step)
                assert here[1:] == there[1:], (task, step)
            if here.terminated or here.truncated:
                one.reset()
                other.reset()
        one.close()
        other.close()


@pytest.mark.usefixtures("_environments")
def test_an_environment_with_its_own_state_resumes_bit_for_bit(tmp_path: Path) -> None:
    whole = sparl.train("TD3", "Tells-v0", run_dir=tmp_path / "whole", **SMALL)
    stops = range(28, 37)  # these steps cover all parts that a state may have
    with stopped_at(*stops):
        run = sparl.train("TD3", "Tells-v0", run_dir=tmp_path / "parts", **SMALL)
        for _ in stops:
            run = sparl.resume(run)
    assert results(run.path) == results(whole.path)


@pytest.mark.usefixtures("_environments")
@pytest.mark.parametrize("env", ["Pendulum-v1", "TellsTooMuch-v0", "Wrapped-v0", "OwnCheetah-v0"])
def test_a_run_whose_environment_cannot_save_its_state_is_marked_as_inexact(
    env: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with stopped_at(33):
        run = sparl.train("TD3", env, run_dir=tmp_path / "run", **SMALL)
    capsys.readouterr()
    assert main(["info", str(run.path)]) == 0
    command = "sparl resume" if env == "Pendulum-v1" else f"sparl --import {__name__} resume"
    assert (
        f"continuation: {command} {run.path} resumes the run, not exactly"
    ) in capsys.readouterr().out
    assert main(["resume", str(run.path)]) == 0
    said = capsys.readouterr().err
    because = f"the state of {env} cannot be saved, so a new episode begins"
    assert f"warning: resuming at step 33, not exactly: {because}\n" in said
    about = json.loads((run.path / "run.json").read_text())
    assert about["bit_exact"] is False
    assert about["state"] == "finished"
    assert main(["info", str(run.path)]) == 0
    assert f"continued: at step 33, not exactly: {because}" in capsys.readouterr().out
    notes = collect([tmp_path]).notes
    assert [note for note in notes if "run was resumed at step 33, not exactly" in note]


def test_the_new_episode_of_a_resumed_run_does_not_repeat_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    observations: list[bytes] = []
    original = Training.step

    def step(self: Training) -> None:
        observations.append(self.observation.tobytes())
        original(self)

    monkeypatch.setattr(Training, "step", step)
    with stopped_at(33):
        run = sparl.train("TD3", "Pendulum-v1", run_dir=tmp_path / "run", **SMALL)
    sparl.resume(run)
    assert len(observations) == len(set(observations)) == 90


def cut_the_newest(run: Path) -> None:
    state = Checkpoints(run).newest_first()[0] / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-1])


def remove_replay(run: Path) -> None:
    shutil.rmtree(run / "replay")


def remove_checkpoints(run: Path) -> None:
    Checkpoints(run).remove_all()
    about = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**about, "state": "failed"}))


@pytest.mark.parametrize(
    ("harm", "code", "says"),
    [
        (lambda run: None, 0, "sparl resume {run} resumes the run, bit for bit\n"),
        (cut_the_newest, 0, "sparl resume {run} resumes the run, bit for bit; checkpoint-30 is "
                            "used because {run}/checkpoint-33/state.safetensors: "),
        (remove_replay, 3, "no checkpoint can be used: {run}/replay/0-"),
        (remove_checkpoints, 3, "cannot be resumed: {run}: failed at step 33, but its checkpoints "
                                "are missing; "),
    ],
    ids=["whole", "cut", "no-replay", "none"],
)  # fmt: skip
def test_info_states_what_resume_does(
    harm: Callable[[Path], None], code: int, says: str,
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run = tmp_path / "run"
    with stopped_at(33):
        sparl.train("TD3", "Hopper-v5", run_dir=run, **SMALL)
    harm(run)
    assert main(["info", str(run)]) == 0
    assert f"continuation: {says.format(run=run)}" in capsys.readouterr().out
    assert main(["resume", str(run)]) == code


def without_checkpoints(run: Path) -> Path:
    Checkpoints(run).remove_all()
    return run


def test_a_run_killed_before_its_first_checkpoint_starts_again(tmp_path: Path) -> None:
    whole = sparl.train("TD3", "Hopper-v5", run_dir=tmp_path / "whole", **SMALL)
    with stopped_at(23):
        run = sparl.train("TD3", "Hopper-v5", run_dir=tmp_path / "run", **SMALL)
    without_checkpoints(run.path)
    about = json.loads((run.path / "run.json").read_text())
    about |= {"state": "running", "env_step": 0}
    (run.path / "run.json").write_text(json.dumps(about))
    assert results(sparl.resume(run).path) == results(whole.path)


def test_a_run_without_its_checkpoints_is_not_overwritten(tmp_path: Path) -> None:
    with stopped_at(53):
        run = sparl.train("TD3", "Hopper-v5", run_dir=tmp_path / "run", **SMALL)
    before = results(without_checkpoints(run.path))
    with pytest.raises(DataError, match="stopped by SIGTERM at step 53, but its checkpoints are"):
        sparl.resume(run)
    assert results(run.path) == before


@pytest.mark.parametrize(("state", "env_step"), [("running", 0), ("failed", 53)])
def test_a_killed_or_failed_run_without_its_checkpoints_is_unchanged(
    state: str, env_step: int, tmp_path: Path
) -> None:
    with stopped_at(53):
        run = sparl.train("TD3", "Hopper-v5", run_dir=tmp_path / "run", **SMALL)
    before = results(without_checkpoints(run.path))
    about = json.loads((run.path / "run.json").read_text())
    about |= {"state": state, "env_step": env_step}
    (run.path / "run.json").write_text(json.dumps(about))
    with pytest.raises(DataError, match=f"{state} at step {env_step or 40}, but its checkpoints"):
        sparl.resume(run)
    assert results(run.path) == before


def test_a_trained_agent_without_its_run_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Published agents are folders of this kind."""
    run = sparl.train("TD3", "Hopper-v5", run_dir=tmp_path / "run", **SMALL).path
    kept = {"config.toml", "agent.json", "agent.safetensors"}
    for file in run.iterdir():
        if file.name not in kept:
            file.unlink()
    before = (run / "agent.safetensors").read_bytes()
    assert main(["resume", str(run)]) == 3
    assert "a trained agent without the files of its run" in capsys.readouterr().err
    assert (run / "agent.safetensors").read_bytes() == before
    assert main(["info", str(run)]) == 0
    said = capsys.readouterr().out
    assert "state: trained agent without its run\nenv step: 90\nsteps: 90\n" in said
    assert "continuation" not in said
    assert "evaluation" not in said  # their number is unknown


def test_options_that_do_not_affect_results_may_change_when_a_run_is_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = sparl.train("DS-TD3", "Hopper-v5", run_dir=tmp_path / "whole", **SMALL)
    path = str(tmp_path / "run")
    run = sparl.train("DS-TD3", "Hopper-v5", run_dir=path, **{**SMALL, "stop_at": 33})
    said = (
        f"{path}: already stopped at step 33 of 90; to resume: sparl resume {path} --stop-at 90\n"
    )
    assert main(["resume", path]) == 0
    assert capsys.readouterr().out == said
    assert main(["resume", path, "--stop-at", "50", "--checkpoint-every-env-steps", "45"]) == 0
    said = f"to resume until step 90:\n  sparl resume {path} --stop-at 90\nto evaluate"
    assert said in capsys.readouterr().out
    assert [p.name for p in Checkpoints(run.path).newest_first()] == [
        "checkpoint-50",
        "checkpoint-45",
    ]
    assert main(["resume", path, "--stop-at", "40"]) == 0
    assert "already stopped at step 50 of 90" in capsys.readouterr().out
    assert main(["resume", path, "--threads", "0"]) == 2
    only = "tau cannot be changed when a run is resumed; only checkpoint_"
    with pytest.raises(UsageError, match=only):
        sparl.resume(path, tau=0.5)
    assert sparl.resume(path, stop_at=90, threads=2).evaluations == whole.evaluations
    assert results(run.path) == results(whole.path)


@pytest.mark.parametrize(("threads", "at_first", "later"), [(None, 4, 3), (6, 6, 3), (2, 2, 2)])
def test_a_run_has_4_threads_by_default_and_no_more_than_the_cores_when_resumed(
    threads: int | None, at_first: int, later: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recorded() -> int:
        return int(json.loads((tmp_path / "run/run.json").read_text())["machine"]["threads"])

    for module in (assemble, machine):
        monkeypatch.setattr(module, "available_cores", lambda: 8)
    with stopped_at(30):
        sparl.train("TD3", "Pendulum-v1", run_dir=tmp_path / "run", **{**SMALL, "threads": threads})
    assert recorded() == at_first
    monkeypatch.setattr(assemble, "available_cores", lambda: 3)
    sparl.resume(tmp_path / "run")
    assert recorded() == later


def test_event_files_can_be_switched_on_and_off_when_a_run_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stopped_at(33):
        run = sparl.train("TD3", "Hopper-v5", run_dir=tmp_path / "tensorboard", **SMALL)
    asked: list[dict[str, Any]] = []
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(
            start, "resume", lambda _, quiet, progress, **changes: asked.append(changes) or run
        )
        for words in ([], ["--tensorboard"], ["--no_tensorboard", "--stop-at=50"]):
            assert main(["resume", "tensorboard", *words]) == 128 + signal.SIGTERM
    assert asked == [{}, {"tensorboard": True}, {"tensorboard": False, "stop_at": 50}]
    file = run.path / "config.toml"
    file.write_text(file.read_text().replace("tensorboard = false", "tensorboard = true"))
    assert main(["resume", str(run.path), "--no-tensorboard"]) == 0
    assert "tensorboard = false" in file.read_text()
    assert not list(run.path.glob("events*"))


def test_a_stop_step_that_has_already_passed_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with stopped_at(53):
        run = sparl.train("TD3", "Hopper-v5", run_dir=tmp_path / "run", **SMALL)
    assert main(["resume", str(run.path), "--stop-at", "40"]) == 0
    said = "already at step 53, past step 40, at which it should stop"
    assert said in capsys.readouterr().out
    assert sparl.resume(run).evaluations[-1][0] == 90  # nothing was changed by that


def test_the_warm_up_policy_is_not_needed_once_the_warm_up_has_ended(tmp_path: Path) -> None:
    teacher = sparl.train("TD3", "Hopper-v5", run_dir=tmp_path / "teacher", **SMALL)
    fields = {**SMALL, "warm_start": str(teacher.path)}
    whole = sparl.train("TD3", "Hopper-v5", run_dir=tmp_path / "whole", **fields)
    with stopped_at(7, 33):
        run = sparl.train("TD3", "Hopper-v5", run_dir=tmp_path / "run", **fields)
        run = sparl.resume(run)
    for file in teacher.path.iterdir():
        file.unlink()
    assert results(sparl.resume(run).path) == results(whole.path)


def test_unrelated_files_in_a_run_folder_are_unchanged(tmp_path: Path) -> None:
    """Other programs also use folder names such as replay and checkpoint-500."""
    run = tmp_path / "run"
    others = [run / "replay" / "game.bin", run / "checkpoint-500" / "model.bin"]
    for file in others:
        file.parent.mkdir(parents=True)
        file.write_text("mine")
    for overwrite in (False, True):
        sparl.train("TD3", "Hopper-v5", run_dir=run, overwrite=overwrite, **SMALL)
        assert [file.read_text() for file in others] == ["mine", "mine"]
    assert not Checkpoints(run).newest_first()


def test_an_overwritten_run_leaves_no_checkpoint_behind(tmp_path: Path) -> None:
    with stopped_at(53):
        run = sparl.train("TD3", "Hopper-v5", run_dir=tmp_path / "run", **SMALL)
    for file in run.path.iterdir():
        if file.is_file():
            file.unlink()
    with pytest.raises(UsageError, match="already contains a run"):
        sparl.train("TD3", "Hopper-v5", run_dir=run.path, **SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "write_config", _fail)
        with pytest.raises(ResourceError):
            sparl.train("TD3", "Hopper-v5", run_dir=run.path, overwrite=True, **SMALL)
    assert not Checkpoints(run.path).newest_first()


def _fail(*_: object) -> None:
    raise ResourceError("the disk is full")


def test_an_agent_that_is_older_than_the_run_is_used_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = sparl.train("TD3", "Hopper-v5", run_dir=tmp_path / "run", **{**SMALL, "stop_at": 33})
    path = str(run.path)
    monkeypatch.setattr(command, "_show", lambda *_: None)
    uses = [["evaluate", path], ["export", path, "--format", "npz"], ["play", path]]
    for words in uses:
        assert main(words) == 0
        said = capsys.readouterr()
        assert "agent saved at step 33" in said.out
        assert not said.err
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "step", _broken_at_65(Training.step))
        with pytest.raises(RuntimeError):
            sparl.resume(path, stop_at=90)
    for words in uses:
        assert main(words) == 0
        said = capsys.readouterr()
        assert "agent saved at step 33" in said.out
        assert said.err == (
            f"warning: {path}: the agent was saved at step 33, but the newest checkpoint is from "
            f"step 60; to resume the run, which then saves a newer agent: sparl resume {path}\n"
        )
    assert main(["evaluate", path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["env_step"] == 33
    sparl.resume(path)
    assert main(["evaluate", path]) == 0
    said = capsys.readouterr()
    assert "agent saved at step 90: " in said.out
    assert not said.err


def _broken_at_65(step: Any) -> Any:
    def broken(self: Training) -> None:
        step(self)
        if self.env_step == 65:
            raise RuntimeError

    return broken


def test_a_run_is_trained_by_one_process_at_a_time(tmp_path: Path) -> None:
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


def test_training_that_cannot_begin_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stopped_at(33):
        stopped = sparl.train("TD3", "Hopper-v5", run_dir=tmp_path / "stopped", **SMALL)
    made, closed = [], []

    def make(self: Environment, *arguments: Any) -> None:
        made.append(self)
        original(self, *arguments)

    original = Environment.__init__
    monkeypatch.setattr(Environment, "__init__", make)
    monkeypatch.setattr(Environment, "close", lambda self: closed.append(self))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assemble, "Record", _fail)
        for path in (tmp_path / "new", stopped.path):
            with pytest.raises(ResourceError, match="the disk is full"):
                sparl.train("TD3", "Hopper-v5", run_dir=path, resume="auto", **SMALL)
            assert not RunFolder.open(path).in_use()
    monkeypatch.setattr(Checkpoints, "load", _fail)
    with pytest.raises(ResourceError, match="the disk is full"):
        sparl.resume(stopped)
    assert not RunFolder.open(stopped.path).in_use()
    assert len(made) == 6  # two per training: its own, and the copy whose wrappers are tested
    assert closed == made


def test_a_new_run_folder_and_its_parents_are_flushed_to_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed = set()
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.add(os.fstat(descriptor).st_ino))
    path = tmp_path / "runs" / "mine" / "run"
    sparl.train("TD3", "Hopper-v5", run_dir=path, **{**SMALL, "steps": 1})
    assert {folder.stat().st_ino for folder in (tmp_path, *path.parents[:2], path)} <= flushed


def test_checking_whether_a_run_is_in_use_locks_no_process_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other processes can lock the run during and after the call, which finds their locks."""
    folder, asking = RunFolder(tmp_path), (tmp_path / ".lock").open("w")
    fcntl.flock(asking, fcntl.LOCK_SH)  # like `in_use` in another process, for a moment
    monkeypatch.setattr("time.sleep", lambda _: asking.close())
    folder.lock()
    assert asking.closed
    folder.close()
    assert not folder.in_use()
    script = (
        "import sys, pathlib; from sparl.training.run_folder import RunFolder\n"
        "RunFolder(pathlib.Path(sys.argv[1])).lock(); print('locked', flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", script, tmp_path], text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:  # fmt: skip
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        assert folder.in_use()
        other.communicate("\n")
    assert other.returncode == 0
    assert not folder.in_use()


def test_a_folder_without_a_run_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a run folder"):
        sparl.resume(tmp_path)
    with pytest.raises(UsageError, match="resume auto needs a run_dir"):
        sparl.train("TD3", "Hopper-v5", resume="auto", **SMALL)


def test_a_checkpoint_stores_only_the_transitions_since_the_previous_one(tmp_path: Path) -> None:
    """Checkpoints share segments, and segments that the ring has overwritten are deleted."""
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


# --- Files of different runs -----------------------------------------------------------------


def test_a_checkpoint_of_another_configuration_is_rejected_with_both_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with stopped_at(33):
        run = sparl.train("TD3", "Hopper-v5", run_dir=tmp_path / "run", **SMALL)
    file = run.path / "config.toml"
    file.write_text(file.read_text().replace("tau = 0.005", "tau = 0.5"))
    before = results(run.path)
    assert main(["resume", str(run.path)]) == 3
    assert "with a different configuration: tau is 0.005 instead of 0.5" in capsys.readouterr().err
    assert results(run.path) == before


def test_files_that_an_editor_has_changed_are_not_truncated_within_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with stopped_at(33):
        run = sparl.train("TD3", "Hopper-v5", run_dir=tmp_path / "run", **SMALL)
    file = run.path / "evaluations.csv"
    file.write_bytes(changed := file.read_bytes().replace(b"\n", b"\r\n"))
    assert main(["resume", str(run.path)]) == 3
    assert "evaluations.csv: changed since the checkpoint" in capsys.readouterr().err
    assert file.read_bytes() == changed


def test_an_incomplete_configuration_is_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = sparl.train("TD3", "Hopper-v5", run_dir=tmp_path / "run", **SMALL)
    file = run.path / "config.toml"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[: len(lines) // 2]))
    assert main(["evaluate", str(run.path)]) == 3
    assert "config.toml: the file is incomplete" in capsys.readouterr().err


def change_manifest(checkpoint: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads((checkpoint / MANIFEST).read_text())
    change(content["about"])
    write_manifest(checkpoint, content)


def test_a_field_added_later_has_its_default_and_an_unknown_one_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = sparl.train("TD3", "Hopper-v5", run_dir=tmp_path / "whole", **SMALL)
    with stopped_at(33):
        run = sparl.train("TD3", "Hopper-v5", run_dir=tmp_path / "run", **SMALL)
    newest, before = Checkpoints(run.path).newest_first()
    for checkpoint in (newest, before):
        change_manifest(checkpoint, lambda about: about["config"].pop("log_std"))
    change_manifest(newest, lambda about: about["config"].update(later=1))
    assert main(["resume", str(run.path)]) == 0
    said = capsys.readouterr()
    written = f"the checkpoint was written by sparl {version('sparl')}"
    unknown = f"warning: {newest}: unknown field 'later'; {written}; resuming from"
    assert unknown in said.err
    assert "resuming at step 30, bit for bit" in said.out
    assert results(run.path) == results(whole.path)


def test_other_versions_are_allowed_and_the_run_is_marked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with stopped_at(33):
        run = sparl.train("TD3", "Hopper-v5", run_dir=tmp_path / "run", **SMALL)
    with pytest.MonkeyPatch.context() as patch:
        versions = {**machine.versions(), "numpy": "9.9"}
        patch.setattr(machine, "versions", lambda: versions)
        assert main(["info", str(run.path)]) == 0
        because = f"not exactly: numpy is now 9.9 but was {np.__version__}"
        assert f"sparl resume {run.path} resumes the run, {because}\n" in capsys.readouterr().out
        assert main(["resume", str(run.path), "--stop-at", "50"]) == 0
    assert f"warning: resuming at step 33, {because}\n" in capsys.readouterr().err
    assert main(["resume", str(run.path), "--stop-at", "90"]) == 0
    about = json.loads((run.path / "run.json").read_text())
    assert [each["env_step"] for each in about["continued"]] == [33, 50]
    assert about["bit_exact"] is False  # an inexact run is always marked


RULE = """
import numpy as np
from sparl.topology.rules import grow_rule

@grow_rule("edited")
def grow(layer, kept, count, rng):
    # {order} free positions
    return np.setdiff1d(np.arange(kept.size), kept.positions)[{slice}]
"""


def test_a_run_whose_custom_rule_was_edited_is_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(GrowRule, "registry", dict(GrowRule.registry))
    file, fields = tmp_path / "rule_to_edit.py", fields_of("SET-TD3")
    file.write_text(RULE.format(order="the first", slice=":count"))
    module = importlib.import_module("rule_to_edit")
    with stopped_at(33):
        run = sparl.train("SET-TD3", "Hopper-v5", run_dir=tmp_path, grow="edited", **fields)
    file.write_text(RULE.format(order="the last of all", slice="-count:"))
    sparl.resume(run, stop_at=50, quiet=True)  # the imported code has not changed
    about = json.loads((run.path / "run.json").read_text())
    assert (about["bit_exact"], len(about["continued"])) == (True, 1)
    importlib.reload(module)
    because = "not exactly: the code of grow rule 'edited' has changed"
    assert main(["info", str(run.path)]) == 0
    assert f"resumes the run, {because}\n" in capsys.readouterr().out
    sparl.resume(run, stop_at=90)
    assert f"warning: resuming at step 50, {because}\n" in capsys.readouterr().err
    assert json.loads((run.path / "run.json").read_text())["bit_exact"] is False


def test_info_does_not_need_the_module_of_a_custom_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rule without source, like one that is typed into a terminal, counts as unchanged."""
    monkeypatch.setattr(GrowRule, "registry", dict(GrowRule.registry))
    fields = fields_of("SET-TD3")
    exec(RULE.format(order="the first", slice=":count"), {})
    with stopped_at(33):
        run = sparl.train("SET-TD3", "Hopper-v5", run_dir=tmp_path, grow="edited", **fields)
    (manifest,) = run.path.glob("checkpoint-33/manifest.json")
    content = json.loads(manifest.read_text())
    assert content["about"]["rules"] == {}
    content["about"]["rules"] = {"grow rule 'edited'": "0123"}
    write_manifest(manifest.parent, content)
    GrowRule.registry.pop("edited")
    assert main(["info", str(run.path)]) == 0
    assert "resumes the run, bit for bit" in capsys.readouterr().out


def test_a_run_with_lost_table_lines_resumes_from_before_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last line of a table may also be truncated: it is written again."""
    whole = sparl.train("TD3", "Hopper-v5", run_dir=tmp_path / "whole", **SMALL)
    with stopped_at(53):
        run = sparl.train("TD3", "Hopper-v5", run_dir=tmp_path / "run", **SMALL)
    table = run.path / "evaluations.csv"
    lines = table.read_bytes().splitlines(keepends=True)
    assert len(lines) == 3  # the header, and the lines of steps 0 and 40
    table.write_bytes(b"".join(lines[:2]) + lines[2][:9])
    assert main(["resume", str(run.path)]) == 0
    said = capsys.readouterr().err
    assert f"warning: {table}: " in said
    assert "; resuming from checkpoint-30\n" in said
    assert results(run.path) == results(whole.path)
