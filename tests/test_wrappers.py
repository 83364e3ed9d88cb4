"""Test that wrappers which remember earlier episodes are rejected, and that others work."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import wrappers
from gymnasium.envs.registration import WrapperSpec

import sparl
from bad_environments import Good
from sparl.cli import main
from sparl.errors import UsageError
from sparl.training.environment import Environment
from sparl.training.run import Run
from sparl.training.wrappers import reject_lasting_state

Env = gymnasium.Env[Any, Any]
Wrap = Callable[[Env], Env]
REMEDY = "normalise with constants inside the environment, or train without the wrapper"
ENV = "Wrapped-v0"


class RunningMean(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Subtracts the mean of all observations since its creation."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.total, self.count = np.zeros(3), 0

    def observation(self, observation: Any) -> Any:
        self.total, self.count = self.total + observation, self.count + 1
        return observation - self.total / self.count


class RewardsOfLastEpisode(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Divides rewards by the largest reward of the previous episode."""

    divisor, largest = 1.0, 0.0

    def reset(self, **how: Any) -> Any:
        self.divisor, self.largest = self.largest or 1.0, 0.0
        return self.env.reset(**how)

    def step(self, action: Any) -> Any:
        observation, reward, *rest = self.env.step(action)
        self.largest = max(self.largest, abs(float(reward)))
        return observation, float(reward) / self.divisor, *rest


class Curriculum(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Weakens the actions more in each episode."""

    strength = 1.0

    def reset(self, **how: Any) -> Any:
        self.strength *= 0.9
        return self.env.reset(**how)

    def step(self, action: Any) -> Any:
        return self.env.step(self.strength * action)


class Noise(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Adds noise that no seed can reproduce."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.rng = np.random.default_rng()

    def observation(self, observation: Any) -> Any:
        return observation + self.rng.normal(size=3)


class NoiseSeededOnce(Noise):
    """Adds the same noise in each copy, but different noise in each episode."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.rng = np.random.default_rng(0)


class SeededNoise(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Adds noise of the environment's generator, which reset(seed) seeds."""

    def observation(self, observation: Any) -> Any:
        return observation + self.np_random.normal(size=3)


class RewardOfPlace(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Computes the reward from the inner environment's attributes."""

    def step(self, action: Any) -> Any:
        observation, _, *rest = self.env.step(action)
        inner: Any = self.unwrapped
        return observation, float(inner.place[1]), *rest


class Unrepeatable(Good):
    """Ignores seeds."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=None)


class Drifting(Good):
    """An environment whose own dynamics change from episode to episode."""

    def step(self, action: Any) -> Any:
        observation, *rest = super().step(action)
        return observation + np.float32(self.steps), *rest


@pytest.fixture
def register() -> Iterator[Callable[..., None]]:
    """Return a function that registers ENV with these wrappers."""

    def register(*wraps: Wrap, inner: type[Env] = Good) -> None:
        def make(**how: Any) -> Env:
            env: Env = inner(**how)
            for wrap in wraps:
                env = wrap(env)
            return env

        gymnasium.register(ENV, make, max_episode_steps=20)

    yield register
    gymnasium.registry.pop(ENV, None)


LASTING: list[Wrap] = [
    wrappers.NormalizeObservation,
    wrappers.NormalizeReward,
    RunningMean,
    RewardsOfLastEpisode,
    Curriculum,
    NoiseSeededOnce,
]


@pytest.mark.parametrize("wrap", LASTING)
def test_a_wrapper_that_remembers_earlier_episodes_is_rejected_before_training(
    register: Callable[..., None], wrap: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    register(wrap)
    assert main(["train", "--env", ENV, "--steps", "9", "--run-dir", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert wrap.__name__ in error
    assert REMEDY in error
    assert not (tmp_path / "run").exists()


def test_a_wrapper_registered_with_the_environment_is_detected_too() -> None:
    entry = "gymnasium.wrappers:NormalizeObservation"
    spec = WrapperSpec("NormalizeObservation", entry, {"epsilon": 1e-8})
    gymnasium.register(ENV, Good, max_episode_steps=20, additional_wrappers=(spec,))
    try:
        with pytest.raises(UsageError, match=REMEDY):
            Environment(ENV)
    finally:
        del gymnasium.registry[ENV]


def frozen(env: Env) -> Env:
    """Freeze the statistics of the wrapper."""
    wrapped: Any = wrappers.NormalizeObservation(env)
    wrapped.update_running_mean = False
    return wrapped  # type: ignore[no-any-return]


def clipped_reward(env: Env) -> Env:
    return wrappers.ClipReward(env, -0.5, 0.5)


ACCEPTED: list[tuple[list[Any], type[Env]]] = [
    ([lambda env: wrappers.FrameStackObservation(env, 3), wrappers.FlattenObservation], Good),
    ([lambda env: wrappers.TimeAwareObservation(wrappers.TimeLimit(env, 20))], Good),
    ([lambda env: wrappers.DelayObservation(env, 2)], Good),
    ([lambda env: wrappers.StickyAction(env, 0.5)], Good),
    ([lambda env: wrappers.RescaleAction(env, -3.0, 3.0), clipped_reward], Good),
    ([wrappers.RecordEpisodeStatistics], Good),
    ([frozen], Good),
    ([Noise], Good),
    ([SeededNoise], Good),
    ([RewardOfPlace], Good),
    ([RewardOfPlace], Unrepeatable),
    ([RewardOfPlace], Drifting),
    ([], Unrepeatable),
]


@pytest.mark.parametrize(("wraps", "inner"), ACCEPTED)
def test_other_wrappers_and_environments_that_do_not_repeat_are_accepted(
    register: Callable[..., None], wraps: Any, inner: Any
) -> None:
    register(*wraps, inner=inner)
    reject_lasting_state(lambda: Environment(ENV))


def train(folder: Path, **fields: Any) -> Run:
    return sparl.train(
        "TD3", ENV, run_dir=str(folder), steps=150, hidden=(8,), warmup_env_steps=60, quiet=True,
        evaluate_every_env_steps=50, evaluation_episodes=2, **fields,
    )  # fmt: skip


def test_a_run_with_stacked_frames_resumes_with_a_new_episode_and_states_it(
    register: Callable[..., None], tmp_path: Path
) -> None:
    register(lambda env: wrappers.FrameStackObservation(env, 3), wrappers.FlattenObservation)
    train(tmp_path / "run", stop_at=75)
    run = sparl.resume(tmp_path / "run", stop_at=150, quiet=True)
    assert [step for step, _ in run.evaluations][-1] == 150
    about = json.loads((run.path / "run.json").read_text())
    (continued,) = about["continued"]
    assert continued["env_step"] == 75
    assert continued["not_exact_because"] == [
        f"the state of {ENV} cannot be saved, so a new episode begins"
    ]


def test_a_run_with_memoryless_wrappers_resumes_exactly(
    register: Callable[..., None], tmp_path: Path
) -> None:
    from gymnasium.envs.mujoco.hopper_v5 import HopperEnv

    register(lambda env: wrappers.RescaleAction(env, -2.0, 2.0), clipped_reward, inner=HopperEnv)
    whole = train(tmp_path / "whole")
    train(tmp_path / "run", stop_at=75)
    assert sparl.resume(tmp_path / "run", stop_at=150, quiet=True).evaluations == whole.evaluations
    assert json.loads((tmp_path / "run" / "run.json").read_text())["bit_exact"]
