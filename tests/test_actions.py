"""Test that a trained agent's actions have the environment's dtype and stay within its bounds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box

import sparl
from bad_environments import Good
from sparl.errors import DataError
from sparl.export.policy import Policy
from sparl.training.environment import Environment

ENV = "Bounded-v0"
BOXES = {
    "tenth_float64": Box(-0.1, 0.1, (2,), np.float64),
    "tenth_float32": Box(-0.1, 0.1, (2,), np.float32),
    "tenth_float16": Box(-0.1, 0.1, (2,), np.float16),
    "asymmetric": Box(np.array([0.1, -1e-3]), np.array([0.7, 1 / 3]), dtype=np.float64),
    "one_float16": Box(-1.0, 1.0, (2,), np.float16),
}
OBSERVATIONS = np.random.default_rng(0).normal(scale=1e3, size=(500, 3))


@pytest.fixture(params=BOXES)
def box(request: pytest.FixtureRequest) -> Iterator[Box]:
    found = BOXES[request.param]
    made = type("Bounded", (Good,), {"action_space": found})
    gymnasium.register(ENV, made, max_episode_steps=20)
    yield found
    del gymnasium.registry[ENV]


@pytest.fixture
def run(box: Box, tmp_path: Path) -> Path:
    """A run whose actions reach both bounds."""
    return sparl.train(
        "TD3", ENV, run_dir=str(tmp_path / "run"), steps=80, hidden=(32,), warmup_env_steps=60,
        evaluate_every_env_steps=80, evaluation_episodes=1, quiet=True,
    ).path  # fmt: skip


def assert_within(box: Box, actions: Any) -> None:
    wide = np.asarray(actions, np.float64)
    assert (wide >= np.asarray(box.low, np.float64)).all()
    assert (wide <= np.asarray(box.high, np.float64)).all()


def test_predicted_actions_have_the_dtype_and_stay_within_the_bounds(box: Box, run: Path) -> None:
    agent = sparl.load(run)
    actions = agent.predict(OBSERVATIONS)
    assert actions.dtype == box.dtype
    assert agent.predict(OBSERVATIONS[:0]).dtype == box.dtype
    assert_within(box, actions)
    assert all(box.contains(action) for action in actions)
    middle, half = (box.high / 2.0 + box.low / 2.0), (box.high / 2.0 - box.low / 2.0)
    reached = np.abs((actions - middle) / half).max()
    assert reached == pytest.approx(1, abs=1e-3)


def test_training_passes_actions_of_the_dtype_within_the_bounds(box: Box) -> None:
    environment = Environment(ENV)
    for inside in (-1.0, -0.3, 0.0, 0.3, 1.0):
        assert box.contains(environment.scale(np.full(2, inside, np.float32)))


def test_an_agent_file_without_a_dtype_gives_float32_within_the_bounds(box: Box, run: Path) -> None:
    manifest = json.loads((run / "agent.json").read_text())
    del manifest["policy"]["action_dtype"]
    (run / "agent.json").write_text(json.dumps(manifest))
    actions = sparl.load(run).predict(OBSERVATIONS)
    assert actions.dtype == np.float32
    assert_within(box, actions)


def test_exported_bounds_are_within_the_environments(box: Box, run: Path) -> None:
    policy = Policy.of(sparl.load(run))
    for bound in (policy.low, policy.high):
        assert_within(box, bound.astype(np.float32))
    assert_within(box, policy.predict(OBSERVATIONS.astype(np.float32)))


@pytest.mark.parametrize("box", ["one_float16"], indirect=True)
def test_another_dtype_in_an_agent_file_is_an_error(box: Box, run: Path) -> None:
    manifest = json.loads((run / "agent.json").read_text())
    manifest["policy"]["action_dtype"] = "object"
    (run / "agent.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="action_dtype is object"):
        sparl.load(run)
