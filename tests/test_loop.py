"""Test the training loop: warm-up, updates, replay buffer, metrics, and the printed plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparl.architecture import architecture
from sparl.configuration import Config
from sparl.errors import Diverged
from sparl.labels import without_effect
from sparl.methods import METHODS, preset
from sparl.replay.capacity import DynamicCapacity
from sparl.training.assemble import assemble
from sparl.training.loop import Training
from sparl.training.plan_text import plan_text

NewRun = Callable[..., Training]
SMALL = {
    "hidden": (8, 8), "batch_size": 4, "warmup_env_steps": 20, "steps": 200, "threads": 1,
    "evaluation_episodes": 2, "max_episode_steps": 15,
}  # fmt: skip


@pytest.fixture
def new_run(tmp_path: Path) -> Iterator[NewRun]:
    made: list[Training] = []

    def make(method: str = "TD3", **fields: Any) -> Training:
        folder = str(tmp_path / str(len(made)))
        config = preset(method, "Pendulum-v1", **{**SMALL, "run_dir": folder, **fields})
        made.append(assemble(config, quiet=True))
        made[-1].begin_episode(seed=0)
        return made[-1]

    yield make
    for run in made:
        run.folder.close()


def advance(run: Training, steps: int) -> None:
    for _ in range(steps):
        run.step()


def spied(
    monkeypatch: pytest.MonkeyPatch, thing: Any, name: str
) -> list[tuple[tuple[Any, ...], Any]]:
    """Record the arguments and the result of every later call."""
    calls: list[tuple[tuple[Any, ...], Any]] = []
    original = getattr(thing, name)

    def spy(*args: Any, **kwargs: Any) -> Any:
        calls.append((args, original(*args, **kwargs)))
        return calls[-1][1]

    monkeypatch.setattr(thing, name, spy)
    return calls


@pytest.mark.parametrize("per_step", [1, 3])
def test_updates_begin_after_the_warm_up(
    new_run: NewRun, monkeypatch: pytest.MonkeyPatch, per_step: int
) -> None:
    run = new_run(updates_per_env_step=per_step)
    calls = spied(monkeypatch, run.agent, "update")
    advance(run, 20)
    assert calls == []
    advance(run, 5)
    assert len(calls) == run.agent.updates == 5 * per_step


def test_n_step_targets_begin_after_their_delay(
    new_run: NewRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run(n_step=3, n_step_delay_updates=4)
    calls = spied(monkeypatch, run.replay, "sample")
    advance(run, 30)
    assert [args[1] for args, _ in calls] == [1] * 3 + [3] * 7  # update 4 is the first with n


@pytest.mark.parametrize("method", ["RLx2-TD3", "RLx2-SAC"])
def test_a_row_of_metrics_contains_the_means_since_the_previous_row(
    method: str, new_run: NewRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run(
        method, steps=120, warmup_env_steps=50, evaluate_every_env_steps=40,
        n_step_delay_updates=31, replay_check_every_env_steps=20,
    )  # fmt: skip
    steps = spied(monkeypatch, run.environment, "step")
    updates = spied(monkeypatch, run.agent, "update")
    checks = spied(monkeypatch, DynamicCapacity, "apply")
    run.run()
    episodes = np.array([step.reward for _, step in steps]).reshape(8, 15).sum(axis=1)
    intervals = ((0, 0), (0, 40), (40, 80), (80, 120))
    for row, (before, env_step) in zip(run.folder.rows("metrics.csv"), intervals, strict=True):
        new = [values for _, values in updates[max(before - 50, 0) : max(env_step - 50, 0)]]
        values = {name: [each[name] for each in new if name in each] for name in run.agent.metrics}
        values["episode_return"] = list(episodes[before // 15 : env_step // 15])
        values["policy_distance"] = [d for _, d in checks[before // 20 : env_step // 20]]
        expected = {name: np.mean(each) for name, each in values.items() if each}
        expected |= {
            "env_step": env_step, "updates": max(env_step - 50, 0), "replay_size": env_step,
            "episodes": env_step // 15, "n_step": 1 if env_step < 80 else 3,
        }  # fmt: skip
        found = {name: float(text) for name, text in row.items() if text}
        assert found.pop("wall_seconds") >= 0
        assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("metric", ["critic_loss", "actor_loss"])
def test_an_update_that_diverges_does_so_at_the_step_that_it_belongs_to(
    metric: str, new_run: NewRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run(warmup_env_steps=150)
    advance(run, 160)
    monkeypatch.setattr(run.agent, "update", lambda _batch: {metric: float("nan")})
    with pytest.raises(Diverged, match=rf"at step 161 \(update 10\): {metric} is nan"):
        advance(run, 1)


def test_warm_up_actions_are_uniform_and_stored_as_noise_free_actions(
    new_run: NewRun,
) -> None:
    run = new_run(warmup_env_steps=150, dynamic_buffer=True)
    advance(run, 150)
    actions = run.replay.action[:150, 0]
    np.testing.assert_array_equal(run.replay.noise_free_action[:150, 0], actions)
    assert actions.min() < -0.9
    assert actions.max() > 0.9
    assert abs(actions.mean()) < 0.15
    assert np.abs(actions).mean() == pytest.approx(0.5, abs=0.1)
    advance(run, 30)
    taken, noise_free = run.replay.action[150:180], run.replay.noise_free_action[150:180]
    assert (taken[0] != noise_free[0]).all()  # the first action of the agent
    observations = run.replay.observation[179:180]
    # The policy has changed by one update since the last action.
    np.testing.assert_allclose(run.agent.policy(observations), noise_free[29:], atol=0.02)


def test_the_dynamic_replay_is_checked_on_time_and_recorded(
    new_run: NewRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = {"replay_check_every_env_steps": 25, "replay_distance_threshold": 0.0}
    run = new_run(dynamic_buffer=True, replay_minimum=30, **rule)
    advance(run, 49)
    assert run.replay.size == 49  # the check at 25 found no more than the minimum
    advance(run, 1)
    assert run.replay.size == 45  # the check at 50 deleted a tenth
    assert "policy_distance" in run.record.averages.take()
    unchecked = new_run(dynamic_buffer=False, replay_minimum=30, **rule)
    advance(unchecked, 50)
    assert unchecked.replay.size == 50


def test_warm_start_takes_the_actions_of_another_run(new_run: NewRun) -> None:
    first = new_run()
    first.run()
    second = new_run(warm_start=str(first.folder.path))
    advance(second, 10)
    replay = second.replay
    expected = first.agent.policy(replay.observation[:10].copy())
    np.testing.assert_array_equal(replay.action[:10], expected)


def test_runs_of_different_seeds_and_evaluation_episodes_start_differently(
    new_run: NewRun,
) -> None:
    runs = [new_run(seed=seed, steps=20, warmup_env_steps=30) for seed in (0, 1, 0)]
    ends = [run.run() for run in runs]
    starts = [run.replay.observation[0].tobytes() for run in runs]
    assert starts[0] == starts[2] != starts[1]
    first = (ends[0].path / "evaluations.csv").read_text().splitlines()[1].split(",")
    assert first[5] != first[6]  # the returns of two episodes


def test_evaluating_does_not_affect_training(new_run: NewRun) -> None:
    seldom, often = new_run(steps=60), new_run(steps=60, evaluate_every_env_steps=7)
    for run in (seldom, often):
        run.run()
    np.testing.assert_array_equal(seldom.replay.observation, often.replay.observation)
    np.testing.assert_array_equal(seldom.agent.actor.parameters, often.agent.actor.parameters)


# ------------------------------------------------------------------ the printed plan


def lines(method: str, **fields: Any) -> str:
    config = preset(method, "HalfCheetah-v5", **fields)
    return "\n".join(plan_text(config, architecture(config, 17, 6)))


def test_the_printed_plan_describes_the_run() -> None:
    text = lines("DS-TD3")
    assert "25,000 steps of warm-up" in text
    assert "925 topology updates of 5.0%" in text
    assert "the last at update 924,002 (step 949,002)" in text
    assert "never change" in lines("TD3", rewire_every_updates=50)  # as in any dense network
    assert "never change" in lines("DS-TD3", narrow=True)
    assert "never used, because they would begin at" in lines("RLx2-TD3", steps=100_000)
    assert "from update 300,000 (step 325,000)" in lines("RLx2-TD3")
    twice = lines("RLx2-TD3", updates_per_env_step=2, n_step_delay_updates=100)
    assert "from update 100 (step 25,050)" in twice
    assert "no update" in lines("TD3", steps=200)
    actor = next(line for line in lines("RLx2-TD3").splitlines() if line.startswith("actor"))
    assert "update 10,000 (step 45,000)" in actor  # the network's own clock, every second update


def test_sac_has_no_policy_delay() -> None:
    assert lines("RLx2-SAC", policy_delay=4) == lines("RLx2-SAC")


def test_fields_without_an_effect_are_noted() -> None:
    def of(method: str, **fields: Any) -> str:
        return "; ".join(without_effect(preset(method, "HalfCheetah-v5", **fields)))

    assert "--alpha 3.0" in of("TD3", alpha=3.0)
    assert "--target-noise 0.5" in of("SAC", target_noise=0.5)
    assert "--contact-forces live" in of("DS-TD3", contact_forces="live")
    assert "--stop-at 9" in of("TD3", stop_at=9, steps=5)
    assert "--learn-alpha has" in of("TD3", learn_alpha=True)
    assert "the topology changes" in of("DS-TD3", keep_checkpoint=True)
    assert of("TD3", keep_checkpoint=True) == ""
    for method in METHODS:
        assert of(method) == ""
    assert of("SAC", alpha=3.0) == ""


def test_a_field_that_was_unset_stays_unset_when_the_file_repeats_the_run(
    new_run: NewRun,
) -> None:
    from sparl.training.run_folder import RunFolder

    run = new_run("DS-TD3", rewire_first_update=None, lambda_1=3.0, lambda_2=None)
    again: Config = RunFolder.open(run.folder.path).config()
    assert (again.rewire_first_update, again.lambda_1, again.lambda_2) == (None, 3.0, None)
