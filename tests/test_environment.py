"""Test that tasks with flat Box spaces work in their own units, and that others are rejected."""

from __future__ import annotations

import importlib
import signal
from collections.abc import Iterator
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

from sparl.errors import EnvironmentFault, UsageError
from sparl.training.environment import Environment
from sparl.training.interrupt import stop_on_signal


class Toy(gymnasium.Env[Any, Any]):
    """Returns the given values; records the action that it received."""

    observation_space = Box(-np.inf, np.inf, (3,), np.float64)
    action_space: Any = Box(np.array([-1.0, 0.0]), np.array([3.0, 0.5]), dtype=np.float64)

    def __init__(self, observation: Any = (0.0, 1.0, 2.0), reward: Any = 1.0) -> None:
        self.returned = observation
        self.reward = reward

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(3), {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.action = action
        if isinstance(self.returned, Exception):
            raise self.returned
        return self.returned, self.reward, False, False, {}


@pytest.fixture
def toy() -> Iterator[str]:
    gymnasium.register("Toy-v0", Toy, max_episode_steps=20)
    yield "Toy-v0"
    del gymnasium.registry["Toy-v0"]


def with_spaces(monkeypatch: pytest.MonkeyPatch, **spaces: Any) -> None:
    for name, space in spaces.items():
        monkeypatch.setattr(Toy, name, space)


def test_asymmetric_bounds_reach_both_ends_and_the_middle(toy: str) -> None:
    env = Environment(toy)
    for inside, outside in ((-1, [-1, 0]), (0, [1, 0.25]), (1, [3, 0.5])):
        env.reset(seed=0)
        env.step(np.full(2, inside, np.float32))
        np.testing.assert_allclose(env.gym.unwrapped.action, outside)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("env_id", "bound"), [("Pendulum-v1", 2.0), ("Humanoid-v5", 0.4), ("HalfCheetah-v5", 1.0)]
)
def test_actions_are_scaled_to_the_environments_units(env_id: str, bound: float) -> None:
    env = Environment(env_id)
    np.testing.assert_allclose(env.scale(np.ones(env.n_act, np.float32)), bound)
    np.testing.assert_allclose(env.scale(np.full(env.n_act, -0.5, np.float32)), -bound / 2)
    assert env.reset(seed=1).dtype == np.float32


V3_SIZES = {"HalfCheetah": 17, "Hopper": 11, "Walker2d": 17, "Ant": 111, "Humanoid": 376}


@pytest.mark.parametrize(("task", "n_obs"), V3_SIZES.items())
def test_v3_has_the_observations_and_rewards_of_v4(task: str, n_obs: int) -> None:
    env = Environment(f"{task}-v3")
    assert env.n_obs == n_obs
    assert f"{task}-v4" in env.notes[0]
    with pytest.warns(DeprecationWarning, match="out of date"):
        v4 = gymnasium.make(f"{task}-v4")
    ours, (theirs, _) = env.reset(seed=7), v4.reset(seed=7)
    rng = np.random.default_rng(0)
    for _ in range(5):
        np.testing.assert_allclose(ours[:27], np.float32(theirs[:27]), rtol=1e-6)
        action = rng.uniform(-1, 1, env.n_act).astype(np.float32)
        step = env.step(action)
        theirs, reward, terminated, *_ = v4.step(env.scale(action))
        assert step.reward == pytest.approx(float(reward))
        assert step.terminated == terminated
        ours = step.observation


@pytest.mark.parametrize(
    ("task", "said"),
    [("Hopper", "3.6 %"), ("Walker2d", "4.3 %"), ("Ant", "3.7 %"), ("Humanoid", "6.2 %")],
)
def test_notes_say_how_much_heavier_the_bodies_are_than_in_old_versions(
    task: str, said: str
) -> None:
    env = Environment(f"{task}-v3")
    model = env.gym.unwrapped.model
    radius, half = model.geom_size[:, 0], model.geom_size[:, 1]
    capsule = model.geom_type == mujoco.mjtGeom.mjGEOM_CAPSULE
    ends = 4 / 3 * np.pi * radius**3
    middle = np.where(capsule, 2 * np.pi * radius**2 * half, 0)
    of_bodies = model.geom_bodyid > 0  # without the floor
    exact = (ends + middle)[of_bodies].sum()
    # Old versions extended the cylinder by half the radius on both sides.
    old = (np.where(capsule, np.pi * radius**3, ends) + middle)[of_bodies].sum()
    assert f"{exact / old - 1:.1%}" == said.replace(" ", "")
    assert f"the bodies are {said} heavier" in env.notes[0]


@pytest.mark.parametrize("task", ["Ant", "Humanoid"])
def test_contact_forces_are_zero_unless_live(task: str) -> None:
    rng = np.random.default_rng(0)
    largest = {}
    for setting in ("zero", "live"):
        env = Environment(f"{task}-v3", contact_forces=setting)
        env.reset(seed=0)
        actions = rng.uniform(-1, 1, (30, env.n_act)).astype(np.float32)
        largest[setting] = max(np.abs(env.step(a).observation[-84:]).max() for a in actions)
        assert env.n_obs == V3_SIZES[task]
    assert largest["zero"] == 0 < largest["live"]


@pytest.mark.parametrize(
    ("spaces", "what"),
    [
        ({"action_space": Discrete(3)}, "the action space is Discrete"),
        ({"action_space": Box(-np.inf, np.inf, (2,))}, "the action space is Box"),
        ({"action_space": Box(-1, 1, (2, 2))}, "the action space is Box"),
        ({"observation_space": Box(0, 1, (4, 4))}, "the observation space is Box"),
        ({"observation_space": Dict({"x": Box(0, 1, (4,))})}, "the observation space is Dict"),
    ],
)
def test_unsupported_spaces_are_rejected_with_the_supported_ones(
    toy: str, monkeypatch: pytest.MonkeyPatch, spaces: dict[str, Any], what: str
) -> None:
    with_spaces(monkeypatch, **spaces)
    with pytest.raises(
        UsageError, match=rf"Toy-v0: {what}.*sparl supports a one-dimensional Box observation"
    ):
        Environment(toy)


def test_an_environment_without_a_time_limit_needs_one() -> None:
    gymnasium.register("Endless-v0", Toy)
    try:
        with pytest.raises(UsageError, match="--max-episode-steps"):
            Environment("Endless-v0")
        env = Environment("Endless-v0", max_episode_steps=3)
        env.reset(seed=0)
        ends = [env.step(np.zeros(2, np.float32)).truncated for _ in range(3)]
        assert ends == [False, False, True]
    finally:
        del gymnasium.registry["Endless-v0"]


def test_an_unknown_environment_is_an_error_that_suggests_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="HalfCheetah-v5"):
        Environment("HalfCheeta-v5")


def test_a_module_that_an_environment_lacks_is_named() -> None:
    gymnasium.register("Incomplete-v0", "no_such_module:Env")
    try:
        with pytest.raises(
            UsageError, match="Incomplete-v0 needs the module no_such_module, which is not"
        ):
            Environment("Incomplete-v0")
    finally:
        del gymnasium.registry["Incomplete-v0"]


def test_an_id_without_its_version_is_rejected(toy: str) -> None:
    """Such an id would select another environment in another version of Gymnasium."""
    for env_id, meant in (("Toy", toy), ("HalfCheetah", "HalfCheetah-v5")):
        with pytest.raises(UsageError, match=f"{env_id} has no version; did you mean {meant}"):
            Environment(env_id)


def test_an_unversioned_id_and_an_id_of_an_imported_module_are_accepted() -> None:
    gymnasium.register("Unversioned", Toy, max_episode_steps=20)
    try:
        assert Environment("Unversioned").n_obs == 3
    finally:
        del gymnasium.registry["Unversioned"]
    importlib.import_module("bad_environments")
    assert Environment("bad_environments:Good-v0").n_obs == 3


class Interrupted(Toy):
    """Receives Ctrl-C while it is created, and raises another exception instead."""

    def __init__(self) -> None:
        super().__init__()
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("a part of the simulator is missing") from None


def test_ctrl_c_while_an_environment_is_made_is_not_lost() -> None:
    gymnasium.register("Interrupted-v0", Interrupted, max_episode_steps=20)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            Environment("Interrupted-v0")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        with stop_on_signal() as stop:
            Environment("Interrupted-v0")
        assert stop.signal is signal.SIGINT
    finally:
        signal.signal(signal.SIGINT, before)
        del gymnasium.registry["Interrupted-v0"]


@pytest.mark.parametrize(
    ("returned", "reward", "what"),
    [
        ((0.0, np.nan, 2.0), 1.0, r"observation\[1\] = nan"),
        ((0.0, 1.0), 1.0, r"shape \(2,\).*instead of \(3,\)"),
        ((0.0, 1.0, 2.0), np.inf, "reward inf, which is not a finite float32"),
        ((0.0, 1.0, 2.0), "much", "reward 'much', which is not a finite float32"),
        (RuntimeError("the simulator\nblew up"), 1.0, "raised RuntimeError: the simulator blew up"),
    ],
)
def test_a_bad_step_names_environment_step_and_action(
    toy: str, returned: Any, reward: Any, what: str
) -> None:
    env = Environment(toy)
    env.reset(seed=0)
    env.step(np.zeros(2, np.float32))
    bare: Any = env.gym.unwrapped
    bare.returned, bare.reward = returned, reward
    with pytest.raises(EnvironmentFault, match=rf"Toy-v0.*{what}.*step 2.*action \[1.0, 0.25\]"):
        env.step(np.zeros(2, np.float32))


def test_an_array_that_the_environment_reuses_does_not_change_stored_values(toy: str) -> None:
    env = Environment(toy)
    env.reset(seed=0)
    bare: Any = env.gym.unwrapped
    bare.returned = np.ones(3)
    first = env.step(np.zeros(2, np.float32)).observation
    bare.returned[:] = 5
    np.testing.assert_array_equal(first, np.ones(3, np.float32))


@pytest.mark.parametrize("env_id", ["HalfCheetah-v5", "Ant-v3", "Humanoid-v5", "Walker2d-v3"])
def test_restored_environment_continues_bit_for_bit(env_id: str) -> None:
    env, other = Environment(env_id), Environment(env_id)
    env.reset(seed=3)
    rng = np.random.default_rng(0)

    def play(env: Environment, actions: Any) -> list[Any]:
        steps = [env.step(action) for action in actions]
        return [(s.observation.tobytes(), s.reward, s.terminated) for s in steps]

    play(env, rng.uniform(-1, 1, (7, env.n_act)).astype(np.float32))
    state = env.state()
    assert state is not None
    actions = rng.uniform(-1, 1, (5, env.n_act)).astype(np.float32)
    expected = [*play(env, actions), env.reset().tobytes()]
    other.reset(seed=99)
    other.restore(state)
    assert [*play(other, actions), other.reset().tobytes()] == expected


@pytest.mark.parametrize("env_id", ["HalfCheetah-v5", "Hopper-v3"])
def test_a_restored_episode_ends_at_its_time_limit(env_id: str) -> None:
    env, other = (Environment(env_id, max_episode_steps=9) for _ in range(2))
    env.reset(seed=3)
    action = np.zeros(env.n_act, np.float32)
    for _ in range(4):
        env.step(action)
    other.reset(seed=99)
    other.restore(env.state())
    for each in (env, other):
        assert [each.step(action).truncated for _ in range(5)] == [False] * 4 + [True]
        each.reset()
        assert [each.step(action).truncated for _ in range(9)] == [False] * 8 + [True]


def test_an_episode_ends_at_its_time_limit_even_if_a_wrapper_hides_it() -> None:
    importlib.import_module("bad_environments")
    env = Environment("NeverEnds-v0")
    env.reset(seed=0)
    action = np.zeros(env.n_act, np.float32)
    assert [env.step(action).truncated for _ in range(20)] == [False] * 19 + [True]
