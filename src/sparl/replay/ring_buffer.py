"""Replay: the latest transitions, in arrays that are written round and round."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from sparl import _native
from sparl.replay.batch import Array, Batch

State = dict[str, NDArray[np.generic] | int | float]


def replay_bytes(capacity: int, n_obs: int, n_act: int, keep_noise_free: bool) -> int:
    """Memory of a full RingBuffer, bytes, without the states at the ends of episodes."""
    actions = 2 if keep_noise_free else 1
    return capacity * (4 * (n_obs + actions * n_act + 1) + 3)


class RingBuffer:
    """The last `capacity` transitions, float32.

    Arrays grow into memory as they fill. Transitions are counted from the first one ever stored;
    those from `first` on, `size` of them, are alive: the oldest can be forgotten before the ring
    overwrites them. Each observation is stored once: the
    state reached by a transition is the next row's observation, but where another state follows
    (the episode ended) or none does (the newest) it is kept apart.

    Args:
        capacity: transitions at most.
        n_obs: length of an observation.
        n_act: length of an action.
        gamma: discount per environment step.
        keep_noise_free: store the noise-free actions too, for DynamicCapacity.
    """

    def __init__(
        self, capacity: int, n_obs: int, n_act: int, gamma: float, *, keep_noise_free: bool = False
    ) -> None:
        self.capacity = capacity
        self.gamma = gamma
        self.observation = np.zeros((capacity, n_obs), np.float32)
        self.action = np.zeros((capacity, n_act), np.float32)
        self.keep_noise_free = keep_noise_free
        self.noise_free_action = np.zeros((capacity if keep_noise_free else 0, n_act), np.float32)
        self.reward = np.zeros(capacity, np.float32)
        self.terminated = np.zeros(capacity, np.bool_)
        self.episode_end = np.zeros(capacity, np.bool_)
        self.apart = np.zeros(capacity, np.bool_)
        self._reached = _Queue(n_obs)  # where `apart` says so, by count
        self.first = 0
        self.size = 0

    @property
    def oldest(self) -> int:
        """Row of the oldest transition."""
        return self.first % self.capacity

    def add(
        self,
        observation: Array,
        action: Array,
        noise_free_action: Array,
        reward: float,
        next_observation: Array,
        terminated: bool,
        truncated: bool,
    ) -> None:
        """Store one step; the oldest goes if the ring is full.

        Args:
            observation: [n_obs].
            action: [n_act], in [-1, 1].
            noise_free_action: [n_act], what the policy would have done without exploration.
            reward: of the step.
            next_observation: [n_obs], the state reached, also at the end of an episode.
            terminated: the state reached is terminal; its value is 0.
            truncated: the episode was cut off; the state reached keeps its value.
        """
        count = self.first + self.size
        row = count % self.capacity
        self.observation[row] = observation
        follows = self.observation[row].tobytes()
        if self.size and self.capacity > 1 and self._reached.newest.tobytes() == follows:
            self.apart[row - 1] = False
            self._reached.drop_newest()
        self.apart[row] = True
        self._reached.add(count, next_observation)
        self.action[row] = action
        if self.keep_noise_free:
            self.noise_free_action[row] = noise_free_action
        self.reward[row] = reward
        self.terminated[row] = terminated
        self.episode_end[row] = terminated or truncated
        if self.size == self.capacity:
            self.forget(1)
        self.size += 1

    def forget(self, count: int) -> None:
        """Forget the `count` oldest transitions, all if there are no more."""
        count = min(count, self.size)
        self.first += count
        self.size -= count
        self._reached.drop_before(self.first)

    def cut(self) -> None:
        """End the episode at the newest transition, if there is one: it was truncated there."""
        if self.size:
            self.episode_end[(self.oldest + self.size - 1) % self.capacity] = True

    def rows(self, ages: NDArray[np.int64]) -> NDArray[np.int64]:
        """Array rows of transitions counted from the oldest."""
        rows: NDArray[np.int64] = (self.oldest + ages) % self.capacity
        return rows

    def sample(self, batch_size: int, n_step: int, rng: Generator, *, paths: bool = True) -> Batch:
        """Uniform with replacement.

        Args:
            batch_size: B.
            n_step: steps per transition at most; see windows.
            rng: the replay's stream.
            paths: whether the states on the way are wanted too.

        Raises:
            ValueError: the replay is empty.
        """
        if self.size == 0:
            raise ValueError("replay: nothing to sample from")
        return self.windows(rng.integers(self.size, size=batch_size), n_step, paths=paths)

    def windows(self, ages: NDArray[np.int64], n_step: int, *, paths: bool = True) -> Batch:
        """The transitions that start at these ages (0 is the oldest), n_step steps long.

        A window ends early, after m < n_step steps, at a terminal state (discount 0), at a time
        limit or at the newest transition (discount gamma^m, from the state reached); it never
        runs on into another episode or across the ring's write position.
        """
        powers = (np.float64(self.gamma) ** np.arange(n_step + 1)).astype(np.float32)
        paths = paths and n_step > 1
        observation, action, reward, discount, reached, path, path_discount, places, rows = (
            _native.windows(
                self.observation, self.action, self.reward, self.terminated, self.episode_end,
                self.apart, self.oldest, self.size, ages, powers, paths,
            )
        )  # fmt: skip
        if places:
            states = self._reached.of(self.first + (np.array(rows) - self.oldest) % self.capacity)
            where = np.array(places)
            if paths:
                path.reshape(-1, path.shape[-1])[where] = states
                last = where % n_step == n_step - 1
                where, states = where[last] // n_step, states[last]
            reached[where] = states
        if not paths:
            return Batch(observation, action, reward, discount, reached)
        return Batch(observation, action, reward, discount, reached, path, path_discount)

    @property
    def _arrays(self) -> list[str]:
        names = ["observation", "action", "reward", "terminated", "episode_end", "apart"]
        return [*names, *(["noise_free_action"] if self.keep_noise_free else [])]

    def transitions(self, begin: int, end: int) -> State:
        """Those from `begin` to before `end`, counted from the first ever stored; all are alive.

        Returns:
            A copy of each array, and reached_apart, float32 [sum(apart), n_obs].
        """
        counts = np.arange(begin, end)
        rows = self.rows(counts - self.first)
        part: State = {name: getattr(self, name)[rows] for name in self._arrays}
        part["reached_apart"] = self._reached.of(counts[self.apart[rows]])
        return part

    def append(self, part: State, skip: int = 0) -> None:
        """Store what `transitions` gave behind the newest one, without its first `skip`.

        Raises:
            ValueError: there are more than have room, or lengths disagree.
        """
        count = len(np.asarray(part["reward"])) - skip
        if not 0 <= count <= self.capacity - self.size:
            raise ValueError(f"replay: {count} transitions for {self.capacity - self.size} rows")
        rows = self.rows(np.arange(self.size, self.size + count))
        for name in self._arrays:
            getattr(self, name)[rows] = np.asarray(part[name])[skip:]
        states = np.asarray(part["reached_apart"], np.float32)
        states = states[np.count_nonzero(np.asarray(part["apart"])[:skip]) :]
        apart = np.flatnonzero(self.apart[rows]) + self.first + self.size
        for each, state in zip(apart.tolist(), states, strict=True):
            self._reached.add(each, state)
        self.size += count

    def clear(self, first: int) -> None:
        """Hold nothing; the next transition is the one with this count."""
        self.first, self.size = first, 0
        self.apart[:] = False
        self._reached = _Queue(self.observation.shape[1])

    def state(self) -> State:
        """Live transitions, oldest first."""
        return {**self.transitions(self.first, self.first + self.size), "first": self.first}

    def restore(self, state: State) -> None:
        """Take over a state of a replay of the same shapes."""
        self.clear(int(state["first"]))
        self.append(state)


class _Queue:
    """States with ascending numbers, float32 [n_obs] each: new ones at the end, old ones go first.

    Its arrays double when they are full of live states; else these move back to the beginning.
    """

    def __init__(self, n_obs: int) -> None:
        self._numbers = np.empty(64, np.int64)
        self._states = np.empty((64, n_obs), np.float32)
        self._begin = self._end = 0

    @property
    def newest(self) -> Array:
        """The state that was added last."""
        newest: Array = self._states[self._end - 1]
        return newest

    def add(self, number: int, state: Array) -> None:
        """Put a state at the end."""
        if self._end == len(self._numbers):
            live = slice(self._begin, self._end)
            numbers, states = self._numbers[live], self._states[live]
            if 2 * len(numbers) > self._end:
                self._numbers = np.empty(2 * self._end, np.int64)
                self._states = np.empty((2 * self._end, states.shape[1]), np.float32)
            self._begin, self._end = 0, len(numbers)
            self._numbers[: self._end], self._states[: self._end] = numbers, states
        self._numbers[self._end], self._states[self._end] = number, state
        self._end += 1

    def drop_newest(self) -> None:
        """Take back what was added last."""
        self._end -= 1

    def drop_before(self, number: int) -> None:
        """Forget what has a smaller number."""
        live = self._numbers[self._begin : self._end]
        if live.size and live[0] < number:
            self._begin += int(np.searchsorted(live, number))

    def of(self, numbers: NDArray[np.int64]) -> Array:
        """The states of these numbers, which are all there; a copy."""
        places = self._begin + np.searchsorted(self._numbers[self._begin : self._end], numbers)
        return self._states[places]
