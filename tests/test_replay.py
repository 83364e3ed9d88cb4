"""Test the replay buffer: stored transitions, the ends of windows, and forgetting."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import Generator

from replays import restore, saved
from sparl.build import capacity_rule
from sparl.methods import preset
from sparl.replay.batch import Batch
from sparl.replay.capacity import DynamicCapacity
from sparl.replay.ring_buffer import RingBuffer, replay_bytes
from sparl.types import Array

RULE = DynamicCapacity(minimum=1, probe=2048, threshold=0.2, until_below=False)
many = settings(derandomize=True, max_examples=150)
GAMMA = 0.9


class Event(NamedTuple):
    """The t-th step, with state t and action -t / 1e4.

    The step reaches state t + 1, the state of the next step, or t + 0.5 at the end of an episode.
    """

    t: int
    reward: float = 1.0
    terminated: bool = False
    truncated: bool = False

    @property
    def reached(self) -> float:
        return self.t + (0.5 if self.terminated or self.truncated else 1)


def rng(seed: int = 0) -> Generator:
    return np.random.default_rng(seed)


def ring(capacity: int, **options: Any) -> RingBuffer:
    return RingBuffer(capacity, n_obs=2, n_act=1, gamma=GAMMA, **options)


def put(replay: RingBuffer, event: Event) -> None:
    """Store a step; begin a new episode unless the previous step reached this step's state."""
    t, reached = np.float32(event.t), np.float32(event.reached)
    newest = replay.windows(np.array([replay.size - 1]), 1) if replay.size else None
    if replay.episode_over or (newest and newest.next_observation[0, 0] != t):
        replay.begin(np.array([t, -t]))
    replay.add(
        np.array([-t / 10_000]), np.array([t / 10_000]), event.reward,
        np.array([reached, -reached]), event.terminated, event.truncated,
    )  # fmt: skip


def filled(capacity: int, count: int, **options: Any) -> RingBuffer:
    replay = ring(capacity, **options)
    for t in range(count):
        put(replay, Event(t))
    return replay


def everything(replay: RingBuffer, n_step: int = 1) -> Batch:
    return replay.windows(np.arange(replay.size), n_step)


def same(a: Batch, b: Batch) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in vars(a))


# --- The ring --------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 6, 7, 8, 13, 14, 15, 30])
def test_a_ring_of_seven_contains_the_last_seven_in_order(count: int) -> None:
    replay = filled(7, count)
    t = np.arange(max(count - 7, 0), count, dtype=np.float32)
    assert replay.size == len(t)
    batch = everything(replay)
    np.testing.assert_array_equal(batch.observation, np.stack([t, -t], 1))
    np.testing.assert_array_equal(batch.next_observation, np.stack([t + 1, -t - 1], 1))
    np.testing.assert_array_equal(batch.action, -t[:, np.newaxis] / np.float32(10_000))


@pytest.mark.parametrize("n_step", [1, 3])
def test_batches_are_float32_of_the_documented_shapes(n_step: int) -> None:
    batch = filled(5, 9).sample(4, n_step, rng())
    arrays = {name: array for name, array in vars(batch).items() if array is not None}
    path = {"path_observation": (4, 3, 2), "path_discount": (4, 3)} if n_step == 3 else {}
    assert {name: array.shape for name, array in arrays.items()} == {
        "observation": (4, 2), "action": (4, 1), "reward": (4, 1), "discount": (4, 1),
        "next_observation": (4, 2), **path,
    }  # fmt: skip
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}
    observation, discount = batch.path()
    assert (observation.shape, discount.shape) == ((4, n_step, 2), (4, n_step))
    np.testing.assert_array_equal(observation[:, -1], batch.next_observation)
    np.testing.assert_allclose(discount[:, -1:], batch.discount, rtol=1e-6)


def test_a_batch_does_not_change_when_the_ring_is_overwritten() -> None:
    replay = filled(4, 4)
    batch, again = everything(replay, 2), everything(replay, 2)
    for t in range(100, 104):
        put(replay, Event(t, reward=9.0, terminated=True))
    assert same(batch, again)


def test_sampling_is_uniform_over_the_stored_transitions() -> None:
    replay = filled(10, 27)  # the oldest is in the middle of the arrays
    replay.forget(2)
    drawn = replay.sample(16_000, 1, rng(1)).observation[:, 0]
    values, counts = np.unique(drawn, return_counts=True)
    np.testing.assert_array_equal(values, np.arange(19, 27))
    assert ((counts - 2000) ** 2 / 2000).sum() < 30  # 7 degrees of freedom


def test_sampling_is_reproducible() -> None:
    replay = filled(50, 80)
    one, same_seed, other = (replay.sample(32, 3, rng(seed)) for seed in (5, 5, 6))
    assert same(one, same_seed)
    assert not same(one, other)


def test_a_step_before_the_beginning_of_its_episode_raises_an_error() -> None:
    replay, nothing, states = ring(5), np.zeros(1), np.eye(2)

    def add(terminated: bool) -> None:
        replay.add(nothing, nothing, 0.0, states[1], terminated, False)

    for _ in range(2):  # at first, and after the end of an episode
        assert replay.episode_over
        with pytest.raises(ValueError, match="call begin"):
            add(False)
        replay.begin(states[0])
        assert not replay.episode_over
        add(False)
        add(True)
    assert replay.size == 4


def test_an_episode_that_another_one_interrupts_is_truncated() -> None:
    replay = filled(5, 3)
    replay.begin(np.array([9.0, -9.0]))
    put(replay, Event(9, 100.0))
    batch = everything(replay, 3)
    np.testing.assert_array_equal(batch.next_observation[:, 0], [3, 3, 3, 10])
    np.testing.assert_allclose(batch.reward[:, 0], [1 + GAMMA + GAMMA**2, 1 + GAMMA, 1, 100])
    assert batch.discount.min() > 0


@pytest.mark.parametrize("stored", ["apart", "in the next row"])
def test_a_reset_to_the_very_state_that_was_reached_begins_an_episode(stored: str) -> None:
    """Files of earlier versions, which stored that state once, are read correctly."""
    replay, nothing = ring(6), np.zeros(1)
    for t in range(4):
        if replay.episode_over:
            replay.begin(np.array([t, t]))
        replay.add(nothing, nothing, 1.0, np.array([t + 1, t + 1]), False, truncated=t == 1)
    state = saved(replay)
    assert state["reached_apart"].tolist() == [[2, 2], [4, 4]]  # type: ignore[union-attr]
    if stored == "in the next row":
        state["apart"][1] = False  # type: ignore[index]
        state["reached_apart"] = state["reached_apart"][1:]  # type: ignore[index]
    restored = ring(6)
    restore(restored, state)
    for each in (replay, restored):
        each.add(nothing, nothing, 1.0, np.array([5, 5]), True, False)
    batch = everything(replay, 3)
    np.testing.assert_array_equal(batch.next_observation[:, 0], [2, 2, 5, 5, 5])
    assert same(batch, everything(restored, 3))


@pytest.mark.parametrize("forgotten", [None, 3, 99])
def test_an_empty_replay_has_nothing_to_sample(forgotten: int | None) -> None:
    replay = ring(5) if forgotten is None else filled(5, 3)
    replay.forget(forgotten or 0)
    assert replay.size == 0
    with pytest.raises(ValueError, match="no batch can be sampled"):
        replay.sample(1, 1, rng())


@pytest.mark.parametrize("n_step", [0, -1])
def test_a_window_has_at_least_one_step(n_step: int) -> None:
    with pytest.raises(ValueError, match=f"n_step is {n_step} but must be at least 1"):
        filled(5, 3).sample(1, n_step, rng())


def test_observations_and_actions_of_wrong_shapes_are_rejected() -> None:
    """A scalar action, for example, must not be broadcast."""
    replay = RingBuffer(5, n_obs=3, n_act=2, gamma=GAMMA)
    state, action = np.zeros(3), np.zeros(2)
    with pytest.raises(ValueError, match=r"observation has shape \(1,\) but must .* \(3,\)"):
        replay.begin(np.zeros(1))
    replay.begin(state)
    wrong: dict[str, tuple[Any, Any, Any]] = {
        "action": (0.5, action, state),
        "noise_free_action": (action, np.zeros(1), state),
        "reached": (action, action, np.zeros((1, 3))),
    }
    for name, (taken, noise_free, reached) in wrong.items():
        with pytest.raises(ValueError, match=f"replay buffer: {name} has shape"):
            replay.add(taken, noise_free, 0.0, reached, False, False)
    assert replay.size == 0
    replay.add([0, 1], action, 0.0, [1, 2, 3], False, False)
    np.testing.assert_array_equal(everything(replay).next_observation, [[1, 2, 3]])


def zeros(*shape: int) -> Array:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"observation": np.zeros((4, 3))}, "observation is float64 but must be float32"),
        ({"observation": zeros(4, 6)[:, ::2]}, "observation is non-contiguous float32"),
        ({"observation": zeros(3)}, r"observation has shape \(3,\)"),
        ({"action": zeros(3, 2)}, r"action has shape \(3, 2\) but must have shape \(4, 2\)"),
        ({"reward": zeros(4)}, r"reward has shape \(4,\) but must have shape \(4, 1\)"),
        ({"discount": np.zeros((4, 1))}, "discount is float64"),
        ({"next_observation": zeros(4, 2)}, "next_observation has shape"),
        ({"path_discount": zeros(4, 3)}, r"path_observation .* must have shape \(4, 3, 3\)"),
        ({"path_discount": zeros(4)}, r"path_discount has shape \(4,\)"),
        ({"path_discount": None}, "only one of path_observation and path_discount is given"),
    ],
)
def test_a_batch_of_wrong_arrays_is_rejected(changed: dict[str, Array], message: str) -> None:
    arrays = {
        "observation": zeros(4, 3), "action": zeros(4, 2), "reward": zeros(4, 1),
        "discount": zeros(4, 1), "next_observation": zeros(4, 3),
        "path_observation": zeros(4, 2, 3), "path_discount": zeros(4, 2),
    }  # fmt: skip
    Batch(**arrays)
    with pytest.raises(ValueError, match=f"batch: {message}"):
        Batch(**{**arrays, **changed})


@pytest.mark.parametrize("keep", [False, True])
def test_replay_bytes_equal_the_size_of_the_arrays(keep: bool) -> None:
    replay = RingBuffer(1000, n_obs=17, n_act=6, gamma=0.99, keep_noise_free=keep)
    arrays = [value for value in vars(replay).values() if isinstance(value, np.ndarray)]
    whole = [array for array in arrays if len(array) == 1000 and array.flags.c_contiguous]
    assert replay_bytes(1000, 17, 6, keep) == sum(array.nbytes for array in whole)


@many
@given(
    st.integers(1, 9),
    st.lists(
        st.sampled_from(["step", "step", "step", "end", "begin", "forget", "restore"]), max_size=60
    ),
)
def test_each_observation_is_stored_once_and_no_state_is_lost(
    capacity: int, events: list[str]
) -> None:
    """Compare with a list of transitions of consecutive episodes."""
    replay, alive = ring(capacity), deque[tuple[float, float]](maxlen=capacity)
    now, ends = 0.0, 0
    for number, event in enumerate(events, 1):
        if event == "forget":
            replay.forget(2)
            for _ in range(min(2, len(alive))):
                alive.popleft()
        elif event == "restore":
            state, replay = saved(replay), ring(capacity)
            restore(replay, state)
        elif event == "begin":
            now, ends = number + 0.25, ends + 1
            replay.begin(np.full(2, now))
        elif event in ("step", "end"):
            if replay.episode_over:
                replay.begin(np.full(2, now))
            nothing = np.zeros(1)
            replay.add(nothing, nothing, 0.0, np.full(2, number), False, event == "end")
            alive.append((now, number))
            now, ends = (number + 0.5, ends + 1) if event == "end" else (number, ends)
        batch = everything(replay)
        got = list(zip(batch.observation[:, 0], batch.next_observation[:, 0], strict=True))
        assert got == list(alive)
        assert len(saved(replay)["reached_apart"]) <= ends + 1  # plus one for the newest transition


# --- Windows ---------------------------------------------------------------------------------


def closed_form(events: list[Event], n: int) -> tuple[float, float, float]:
    """Return reward, discount and reached state of the window that starts with events[0]."""
    total = 0.0
    for k, event in enumerate(events[:n]):
        total += GAMMA**k * event.reward
        m, last = k + 1, event
        if event.terminated or event.truncated:
            break
    return total, 0.0 if last.terminated else GAMMA**m, last.reached


def check_windows(replay: RingBuffer, alive: list[Event], n: int) -> None:
    batch = everything(replay, n)
    assert replay.size == len(alive)
    np.testing.assert_array_equal(batch.observation[:, 0], [event.t for event in alive])
    expected = [closed_form(alive[i:], n) for i in range(len(alive))]
    reward, discount, reached = np.array(expected).reshape(-1, 3).T
    np.testing.assert_allclose(batch.reward[:, 0], reward, rtol=1e-5)
    np.testing.assert_allclose(batch.discount[:, 0], discount, rtol=1e-6)
    np.testing.assert_array_equal(batch.next_observation[:, 0], reached)


@pytest.mark.parametrize("k", [0, 1, 2])
@pytest.mark.parametrize("ending", ["terminal", "time limit", "newest"])
@pytest.mark.parametrize("forget", [False, True])
def test_three_step_targets_equal_their_closed_forms(ending: str, k: int, forget: bool) -> None:
    """Rewards 2, 3, 5, then the event at step k; neighbouring steps must have no effect.

    Up to 13 transitions precede the window, so that it begins at every position of a ring of 8.
    """
    m = k + 1
    reward = [2, 2 + GAMMA * 3, 2 + GAMMA * 3 + GAMMA**2 * 5][k]
    discount = 0.0 if ending == "terminal" else GAMMA**m
    for before in range(14):
        replay = ring(8)
        for t in range(before):
            put(replay, Event(t, reward=1e6))
        for step, r in enumerate([2, 3, 5][:m]):
            last = step == k
            put(
                replay,
                Event(
                    100 + step, r, last and ending == "terminal", last and ending == "time limit"
                ),
            )
        after = 0 if ending == "newest" else 3
        for t in range(after):
            put(replay, Event(200 + t, reward=1e6, terminated=t == 2))
        start = replay.size - after - m
        if forget:
            replay.forget(start)
            start = 0
        batch = replay.windows(np.array([start]), 3)
        assert batch.observation[0, 0] == 100
        assert batch.reward[0, 0] == pytest.approx(reward)
        assert batch.discount[0, 0] == pytest.approx(discount)
        assert batch.next_observation[0, 0] == 100 + k + (1 if ending == "newest" else 0.5)


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize(
    ("terminated", "truncated", "discount"),
    [(True, False, 0.0), (False, True, GAMMA), (True, True, 0.0)],
)
def test_a_terminal_state_has_no_value_and_a_truncated_one_has(
    terminated: bool, truncated: bool, discount: float, n_step: int
) -> None:
    replay = ring(4)
    put(replay, Event(0, 7.0, terminated, truncated))
    put(replay, Event(1, 1e6))
    batch = replay.windows(np.array([0]), n_step)
    assert batch.discount[0, 0] == np.float32(discount)
    assert (batch.reward[0, 0], batch.next_observation[0, 0]) == (7.0, 0.5)


operations = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([-2.0, 0.5, 3.0]), st.sampled_from(["", "", "", "end", "cut"])),
        st.integers(0, 4),
    ),
    max_size=40,
)


@many
@given(st.integers(1, 9), operations, st.integers(1, 5))
def test_adding_and_forgetting_work_as_in_a_queue(
    capacity: int, done: list[tuple[float, str] | int], n_step: int
) -> None:
    """After every operation, no window contains forgotten or overwritten transitions."""
    replay, alive = ring(capacity), deque[Event](maxlen=capacity)
    t = 0
    for operation in done:
        if isinstance(operation, int):
            replay.forget(operation)
            for _ in range(min(operation, len(alive))):
                alive.popleft()
        else:
            reward, ending = operation
            event, t = Event(t, reward, ending == "end", ending == "cut"), t + 1
            put(replay, event)
            alive.append(event)
        check_windows(replay, list(alive), n_step)


# --- State -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "forgotten"), [(0, 0), (5, 0), (8, 0), (21, 0), (21, 5)])
def test_a_restored_replay_continues_like_the_original(count: int, forgotten: int) -> None:
    one, other = filled(8, count, keep_noise_free=True), filled(8, 11, keep_noise_free=True)
    one.forget(forgotten)
    state = saved(one)
    put(one, Event(500, terminated=True))  # the saved state is a copy, which this must not change
    restore(other, state)
    assert other.size == min(count, 8) - forgotten
    put(other, Event(500, terminated=True))
    for t in range(501, 506):  # the same rows are overwritten next
        for replay in (one, other):
            put(replay, Event(t, reward=t))
        assert same(everything(one, 3), everything(other, 3))
        assert same(one.sample(16, 3, rng(t)), other.sample(16, 3, rng(t)))
        rows = one.rows(np.arange(one.size))
        np.testing.assert_array_equal(one.noise_free_action[rows], other.noise_free_action[rows])


# --- Dynamic capacity ------------------------------------------------------------------------


def act(replay: RingBuffer, t: float, noise_free: list[float]) -> None:
    """Store a step in state t whose action is far from the noise-free one."""
    state = np.full(replay.observation.shape[1], t, np.float32)
    wanted = np.array(noise_free, np.float32)
    replay.begin(state)
    replay.add(wanted + 99, wanted, 0.0, state, terminated=False, truncated=False)


def distant(count: int, capacity: int = 4000) -> RingBuffer:
    """Return a replay whose noise-free actions are all 1, at distance 1/2 from a policy of 0."""
    replay = ring(capacity, keep_noise_free=True)
    for t in range(count):
        act(replay, t, [1.0])
    return replay


def still(observation: Array) -> Array:
    return np.zeros((len(observation), 1), np.float32)


def test_the_distance_needs_noise_free_actions() -> None:
    with pytest.raises(ValueError, match="create it with keep_noise_free=True"):
        RULE.apply(filled(5, 3), still)


def test_the_distance_is_half_the_mean_squared_difference_of_noise_free_actions() -> None:
    replay = RingBuffer(10, n_obs=1, n_act=2, gamma=GAMMA, keep_noise_free=True)
    act(replay, 0.0, [0.5, 0.0])  # the policy returns (0, 0)
    act(replay, 1.0, [0.0, 0.0])  # the policy returns (1, -1)

    def policy(observation: Array) -> Array:
        return np.concatenate([observation, -observation], axis=1)

    assert RULE.distance(replay, policy) == (0.25 + 0 + 1 + 1) / 4 / 2


@pytest.mark.parametrize("before", [0, 3500])
def test_the_distance_is_measured_on_the_oldest_2048(before: int) -> None:
    """The oldest transitions may also wrap around the ring's end."""
    replay = distant(before)
    replay.forget(before)
    for t in range(2048 + 900):
        act(replay, t, [float(t >= 2048)])
    seen = []

    def policy(observation: Array) -> Array:
        seen.append(observation[:, 0])
        return still(observation)

    assert RULE.distance(replay, policy) == 0
    np.testing.assert_array_equal(seen[0], np.arange(2048))
    replay.forget(512)  # now a quarter of the oldest 2048 is off by 1
    assert RULE.distance(replay, policy) == pytest.approx(0.25 / 2)


@pytest.mark.parametrize(
    ("size", "minimum", "left"),
    [
        (1000, 100, 900),
        (1005, 100, 905),  # a tenth, rounded down
        (1000, 950, 950),  # never below the minimum
        (1000, 1000, 1000),
        (800, 1000, 800),
    ],
)
def test_a_tenth_is_forgotten_but_never_below_the_minimum(
    size: int, minimum: int, left: int
) -> None:
    replay = distant(size)
    assert replace(RULE, minimum=minimum).apply(replay, still) == 0.5
    assert replay.size == left
    newest = everything(replay).observation[:, 0]
    np.testing.assert_array_equal(newest, np.arange(size - left, size))  # the oldest were forgotten


def test_only_a_distance_above_the_threshold_forgets() -> None:
    for threshold, left in ((0.5, 100), (0.49, 90)):
        replay = distant(100)
        replace(RULE, threshold=threshold).apply(replay, still)
        assert replay.size == left


def test_the_capacity_rule_has_the_numbers_of_the_configuration() -> None:
    config = preset("RLx2-TD3", "Ant-v3")
    assert (config.replay_check_every_env_steps, config.replay_distance_threshold) == (10_000, 0.2)
    rule = capacity_rule(config)
    assert (rule.minimum, rule.probe, rule.threshold) == (100_000, 8 * 256, 0.2)
    assert not rule.until_below
    fields: dict[str, Any] = {
        "replay_probe_transitions": 7, "replay_forget_until_below": True, "replay_minimum": 3,
        "replay_distance_threshold": 0.5,
    }  # fmt: skip
    rule = capacity_rule(preset("RLx2-TD3", "Ant-v3", **fields))
    assert rule == DynamicCapacity(3, probe=7, threshold=0.5, until_below=True)


@pytest.mark.parametrize(
    ("minimum", "left"), [(10, 657), (700, 700)], ids=["until below", "until the minimum"]
)
def test_the_papers_rule_forgets_until_the_distance_is_below_the_threshold(
    minimum: int, left: int
) -> None:
    """The oldest 300 of 1,000 differ by 1; a tenth is removed until none of them remains."""
    replay = RingBuffer(1000, n_obs=1, n_act=1, gamma=GAMMA, keep_noise_free=True)
    for t in range(1000):
        act(replay, t, [float(t < 300)])
    rule = DynamicCapacity(minimum, probe=10, threshold=0.2, until_below=True)
    assert rule.apply(replay, still) == 0.5
    assert replay.size == left  # 1000, 900, 810, 729, 657
    once = replace(rule, until_below=False)
    assert once.apply(replay, still) == rule.distance(replay, still)
