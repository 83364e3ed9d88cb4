"""Test that complete runs learn: a point finds the origin, and values converge."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box
from numpy.typing import NDArray

import sparl
from sparl.methods import preset
from sparl.networks.network import Network
from sparl.replay.ring_buffer import RingBuffer
from sparl.training.assemble import assemble
from sparl.types import Array

EPISODE = 5  # steps of an endless episode before it is cut
GAMMA = 0.9

Observation = NDArray[np.float32]
StepResult = tuple[Observation, float, bool, bool, dict[str, Any]]


class Point(gymnasium.Env[Observation, NDArray[np.float32]]):
    """The action moves a point in the plane; the reward is minus its squared distance from 0."""

    observation_space = Box(-2, 2, (2,), np.float32)
    action_space = Box(-1, 1, (2,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        self.at = self.np_random.uniform(-1, 1, 2)
        return self.at.astype(np.float32), {}

    def step(self, action: NDArray[np.float32]) -> StepResult:
        self.at = np.clip(self.at + 0.2 * action, -2, 2)
        return self.at.astype(np.float32), -float(self.at @ self.at), False, False, {}


class Endless(gymnasium.Env[Observation, NDArray[np.float32]]):
    """Returns a reward of 1 at every step; observations are noise.

    Args:
        terminates_at: the step of an episode that is terminal; 0 means none.
    """

    observation_space = Box(-1, 1, (2,), np.float32)
    action_space = Box(-1, 1, (1,), np.float32)

    def __init__(self, terminates_at: int = 0) -> None:
        self.terminates_at = terminates_at

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self._noise(), {}

    def step(self, action: NDArray[np.float32]) -> StepResult:
        self.steps += 1
        return self._noise(), 1.0, self.steps == self.terminates_at, False, {}

    def _noise(self) -> Observation:
        return self.np_random.uniform(-1, 1, 2).astype(np.float32)


@pytest.fixture(autouse=True, scope="module")
def _environments() -> Iterator[None]:
    """Register this file's environments while its tests run."""
    ids = {
        "Point-v0": (lambda **_: Point(), 50),
        "Endless-v0": (lambda **_: Endless(), EPISODE),
        "Ending-v0": (lambda **_: Endless(terminates_at=EPISODE), EPISODE),
    }
    for name, (make, limit) in ids.items():
        gymnasium.register(name, make, max_episode_steps=limit)
    yield
    for name in ids:
        del gymnasium.registry[name]


# --- A point that must find the origin ---------------------------------------------------------

METHODS: dict[str, dict[str, Any]] = {
    "TD3": {},
    "Static-TD3": {},
    "DS-TD3": {"rewire_every_updates": 100},
}


def train_point(method: str, path: Path) -> tuple[float, float]:
    """Return the mean returns before and after training.

    The best possible return is about -2; standing still returns -33, and fleeing to a corner -350.
    """
    run = sparl.train(
        method, "Point-v0", quiet=True, run_dir=str(path), steps=2000, warmup_env_steps=300,
        hidden=(32, 32), batch_size=32, gamma=0.9, tau=0.02,
        evaluate_every_env_steps=2000, evaluation_episodes=20, **METHODS[method],
    )  # fmt: skip
    return run.evaluations[0][1], run.final_return


@pytest.mark.parametrize("method", METHODS)
def test_a_point_finds_the_origin(method: str, tmp_path: Path) -> None:
    before, after = train_point(method, tmp_path)
    assert before < -40
    assert after > -15


def test_a_point_flees_the_origin_if_the_policy_gradient_is_reversed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Show that the test above can fail: a reversed gradient leads the point away."""
    right = Network.value_and_input_gradient

    def wrong(self: Network, *inputs: Array, weight: float, member: int) -> tuple[Array, Array]:
        return right(self, *inputs, weight=-weight, member=member)

    monkeypatch.setattr(Network, "value_and_input_gradient", wrong)
    _, after = train_point("DS-TD3", tmp_path)
    assert after < -200


# --- Values of an endless reward ---------------------------------------------------------------


def learned_value(env: str, path: Path) -> NDArray[np.float32]:
    """Return Q of both critics at 100 random states and actions, [2, 100, 1]."""
    config = preset(
        "DS-TD3", env, run_dir=str(path), steps=3000, warmup_env_steps=200, hidden=(16, 16),
        batch_size=64, gamma=GAMMA, tau=0.05, learning_rate=2e-3, weight_decay=0.0,
        evaluate_every_env_steps=3000, evaluation_episodes=1, rewire_every_updates=100,
    )  # fmt: skip
    training = assemble(config, quiet=True)
    training.run()
    rng = np.random.default_rng(0)
    observation, action = (
        rng.uniform(-1, 1, (100, n)).astype(np.float32)
        for n in (training.environment.n_obs, training.environment.n_act)
    )
    return training.agent.critics(observation, action)


def test_values_of_an_endless_reward_equal_the_sum_over_all_time(tmp_path: Path) -> None:
    """1 + gamma + gamma^2 + ... = 1 / (1 - gamma), though each episode is cut after a few steps."""
    values = learned_value("Endless-v0", tmp_path)
    np.testing.assert_allclose(values, 1 / (1 - GAMMA), rtol=0.03)


# Observations do not show how far the end is, so with every EPISODE-th step terminal,
# Q = 1 + gamma (1 - 1 / EPISODE) Q.
WITH_ENDS = 1 / (1 - GAMMA * (1 - 1 / EPISODE))


def test_a_terminal_step_ends_the_sum(tmp_path: Path) -> None:
    values = learned_value("Ending-v0", tmp_path)
    assert values.mean() == pytest.approx(WITH_ENDS, rel=0.1)


def test_a_time_limit_stored_as_a_terminal_state_gives_values_that_are_too_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Show that the first of these tests detects this error."""
    right = RingBuffer.add

    def wrong(
        self: RingBuffer, action: Array, noise_free_action: Array, reward: float, reached: Array,
        terminated: bool, truncated: bool,
    ) -> None:  # fmt: skip
        end = terminated or truncated
        right(self, action, noise_free_action, reward, reached, end, False)

    monkeypatch.setattr(RingBuffer, "add", wrong)
    values = learned_value("Endless-v0", tmp_path)
    assert values.mean() == pytest.approx(WITH_ENDS, rel=0.1)
