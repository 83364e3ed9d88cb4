"""Test that agents, and runs in the middle of an episode, continue from their state exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control import PendulumEnv
from numpy.typing import NDArray

import replays
from sparl.agents.td3 import TD3
from sparl.architecture import architecture
from sparl.build import build_agent
from sparl.learner import SparseLearner
from sparl.methods import preset
from sparl.random_streams import integer_seed
from sparl.replay.batch import Batch
from sparl.training.assemble import assemble
from sparl.training.loop import Training
from sparl.training.restore import restore_state

METHODS = ["TD3", "Static-TD3", "DS-TD3"]
N_OBS, N_ACT, BATCH = 4, 2, 8
TINY: dict[str, Any] = {
    "hidden": (12, 10),
    "batch_size": BATCH,
    "rewire_fraction": 0.2,
    "tau": 0.05,
    "freeze_fraction": 0.0,
}


def assert_same(got: Any, wanted: Any, where: str = "state") -> None:
    """Check that nested states are equal to the last bit."""
    if isinstance(wanted, dict):
        assert got.keys() == wanted.keys(), where
        for key in wanted:
            assert_same(got[key], wanted[key], f"{where}.{key}")
    else:
        np.testing.assert_array_equal(got, wanted, err_msg=where)
        got, wanted = np.asarray(got), np.asarray(wanted)
        assert got.dtype == wanted.dtype, where
        assert got.dtype == object or got.tobytes() == wanted.tobytes(), where


# --- Agents ------------------------------------------------------------------------------------


def new_agent(method: str, seed: int, **fields: Any) -> TD3:
    # A topology update every three updates, for the methods whose topology changes.
    dynamic = {"rewire_every_updates": 3} if method == "DS-TD3" else {}
    config = preset(method, "Pendulum-v1", seed=seed, **TINY, **dynamic, **fields)
    agent = build_agent(config, architecture(config, N_OBS, N_ACT))
    assert isinstance(agent, TD3)
    return agent


def new_batch(rng: np.random.Generator) -> Batch:
    def normal(*shape: int) -> NDArray[np.float32]:
        return rng.standard_normal(shape, dtype=np.float32)

    action = np.tanh(normal(BATCH, N_ACT))
    discount = np.full((BATCH, 1), 0.9, np.float32)
    return Batch(normal(BATCH, N_OBS), action, normal(BATCH, 1), discount, normal(BATCH, N_OBS))


@pytest.mark.parametrize("fields", [{}, {"target_pattern": "shared"}, {"policy_delay": 3}])
@pytest.mark.parametrize("stop", [0, 1, 2, 3, 7])
@pytest.mark.parametrize("method", METHODS)
def test_an_agent_continues_bit_for_bit(method: str, stop: int, fields: dict[str, Any]) -> None:
    """Stop before, at and after topology updates, with targets that are up to date or not."""
    agent = new_agent(method, 0, **fields)
    rng = np.random.default_rng(1)
    for _ in range(stop):
        agent.update(new_batch(rng))
    other = new_agent(method, 5, **fields)
    for _ in range(4):  # give the agent another history
        other.update(new_batch(np.random.default_rng(2)))
    state = agent.state()
    other.restore(state)
    assert_same(other.state(), state)
    patterns = [pattern_bytes(agent)]
    for _ in range(10):
        batch = new_batch(rng)
        assert other.update(batch) == agent.update(batch)
        assert_same(other.networks(), agent.networks(), f"update {agent.updates}")
        assert_same(other.state(), agent.state(), f"update {agent.updates}")
        observation = batch.observation[0]
        assert_same(other.act(observation), agent.act(observation))
        patterns.append(pattern_bytes(agent))
    topology_updates = sum(stop < update <= stop + 10 for update in range(2, 18, 3))
    assert len(set(patterns)) == (1 + topology_updates if method == "DS-TD3" else 1)


def pattern_bytes(agent: TD3) -> bytes:
    """Return one of the critics' patterns; the critics change before the actor."""
    return np.asarray(agent.networks()["critics"]["member0.layer1.positions"]).tobytes()


def test_topology_updates_that_are_not_yet_recorded_are_part_of_the_state() -> None:
    """Otherwise a resumed run would record none of them, or those of another run."""
    agent, other = new_agent("DS-TD3", 0), new_agent("DS-TD3", 5)
    rng = np.random.default_rng(1)
    for _ in range(6):
        agent.update(new_batch(rng))
    for _ in range(3):
        other.update(new_batch(rng))
    other.restore(agent.state())
    for got, wanted in (
        (other.actor_learner, agent.actor_learner),
        (other.critics_learner, agent.critics_learner),
    ):
        assert isinstance(got, SparseLearner)
        assert isinstance(wanted, SparseLearner)
        assert wanted.topology_updates
        assert got.topology_updates == wanted.topology_updates


def test_a_state_does_not_change_with_its_agent() -> None:
    agent = new_agent("DS-TD3", 0)
    state, again = agent.state(), agent.state()
    rng = np.random.default_rng(1)
    for _ in range(5):
        agent.update(new_batch(rng))
    assert_same(state, again)


# --- Runs --------------------------------------------------------------------------------------


class ResumablePendulum(PendulumEnv):
    """Pendulum with its own state."""

    def get_state(self) -> NDArray[np.float64]:
        return np.array(self.state)

    def set_state(self, state: NDArray[np.float64]) -> None:
        self.state = np.array(state)


@pytest.fixture(autouse=True, scope="module")
def _resumable_pendulum() -> Iterator[None]:
    gymnasium.register(
        "ResumablePendulum-v0", lambda **kwargs: ResumablePendulum(**kwargs), max_episode_steps=30
    )
    yield
    del gymnasium.registry["ResumablePendulum-v0"]


NewRun = Callable[..., Training]


@pytest.fixture
def new_run(tmp_path: Path) -> Iterator[NewRun]:
    """Return a function that creates runs that have not begun."""
    made: list[Training] = []

    def make(method: str, env: str, seed: int = 0, **fields: Any) -> Training:
        dynamic = {"rewire_every_updates": 7} if method == "DS-TD3" else {}
        config = preset(
            method, env, seed=seed, run_dir=str(tmp_path / str(len(made))), steps=400,
            warmup_env_steps=20, **{**TINY, **dynamic, **fields},
        )  # fmt: skip
        made.append(assemble(config, quiet=True))
        return made[-1]

    yield make
    for run in made:
        run.folder.close()
        run.environment.close()
        run.evaluator.close()


def begin(run: Training) -> None:
    run.begin_episode(integer_seed(run.config.seed))


def state_of(run: Training) -> dict[str, Any]:
    return {**run.state(), "replay": replays.saved(run.replay)}


def restore(run: Training, state: dict[str, Any]) -> None:
    replays.restore(run.replay, state["replay"])
    restore_state(run, state)


def advance(run: Training, steps: int) -> None:
    for _ in range(steps):
        run.step()


@pytest.mark.parametrize(
    ("env", "fields"),
    [
        ("ResumablePendulum-v0", {}),
        ("HalfCheetah-v5", {"max_episode_steps": 30}),
        ("Hopper-v5", {}),  # the robot falls, so episodes terminate
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_a_run_continues_bit_for_bit(
    method: str, env: str, fields: dict[str, Any], new_run: NewRun
) -> None:
    """Resume in the warm-up and in the middle of a later episode, across ends of episodes."""
    run, early, late = (new_run(method, env, **fields) for _ in range(3))
    begin(run)
    advance(run, 13)
    in_warmup = state_of(run)
    advance(run, 37)
    in_learning = state_of(run)
    advance(run, 40)
    restore(early, in_warmup)
    assert_same(state_of(early), in_warmup)
    advance(early, 77)
    restore(late, in_learning)
    assert_same(state_of(late), in_learning)
    advance(late, 40)
    assert run.env_step == early.env_step == late.env_step == 90
    assert run.agent.updates == 70
    assert run.episodes >= 2
    assert_same(state_of(early), state_of(run))
    assert_same(state_of(late), state_of(run))


def test_threads_do_not_change_results(new_run: NewRun) -> None:
    """Use networks that are large enough to be divided among threads."""
    states = []
    for threads in (1, 2):
        run = new_run(
            "DS-TD3", "HalfCheetah-v5", threads=threads, hidden=(128, 128), batch_size=100
        )
        begin(run)
        advance(run, 50)
        states.append(state_of(run))
        pool = run.agent.actor.pool
        assert pool is not None
        assert pool.threads == run.threads == threads
    assert_same(states[1], states[0])


def test_no_transition_is_invented_when_the_state_of_an_environment_is_unknown(
    new_run: NewRun,
) -> None:
    """Pendulum-v1 cannot save its state, but the agent continues exactly, with a correct replay."""
    run, other = (new_run("DS-TD3", "Pendulum-v1") for _ in range(2))
    begin(run)
    advance(run, 50)
    state = state_of(run)
    restore(other, state)
    assert_same(other.agent.state(), state["agent"])
    advance(other, 40)
    replay = other.replay
    assert replay.size == 90
    reached = replay.windows(np.arange(90), 1).next_observation
    for row in range(90):
        # A step of Gymnasium's Pendulum (g = 10, m = l = 1, 0.05 s) from its state and torque.
        cos, sin, speed = replay.observation[row].astype(np.float64)
        torque = 2 * float(replay.action[row, 0])
        speed = np.clip(speed + (15 * sin + 3 * torque) * 0.05, -8, 8)
        angle = np.arctan2(sin, cos) + 0.05 * speed
        expected = [np.cos(angle), np.sin(angle), speed]
        np.testing.assert_allclose(reached[row], expected, atol=1e-4)
    begins = int(np.flatnonzero(replay.episode_end[:90])[-1] + 1) if replay.episode_end.any() else 0
    assert other.episode_return == pytest.approx(replay.reward[begins:90].sum(), rel=1e-5)
    continues = ~replay.episode_end[:89]
    np.testing.assert_array_equal(replay.observation[1:90][continues], reached[:89][continues])
