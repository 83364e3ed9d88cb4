"""Replay: the latest transitions, in arrays that are written round and round."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from sparl import _native
from sparl.replay.batch import Batch
from sparl.types import Array, State


def replay_bytes(capacity: int, n_obs: int, n_act: int, keep_noise_free: bool) -> int:
    """Memory of a full RingBuffer, bytes, without the states at the ends of episodes."""
    return capacity * (_row(n_obs, n_act).itemsize + (4 * n_act if keep_noise_free else 0))


def _row(n_obs: int, n_act: int) -> np.dtype[np.void]:
    """What a transition's row holds, in the order of native/n_step_windows.h: RingView."""
    return np.dtype(
        [
            ("observation", np.float32, (n_obs,)), ("action", np.float32, (n_act,)),
            ("reward", np.float32), ("terminated", np.bool_), ("episode_end", np.bool_),
            ("apart", np.bool_),
        ],
        align=True,
    )  # fmt: skip


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
        rows = np.zeros(capacity, _row(n_obs, n_act))  # so a window is one stretch of memory
        self._bytes = rows.view(np.uint8).reshape(capacity, -1)
        self.observation, self.action = rows["observation"], rows["action"]
        self.reward, self.terminated = rows["reward"], rows["terminated"]
        self.episode_end, self.apart = rows["episode_end"], rows["apart"]
        self.keep_noise_free = keep_noise_free
        self.noise_free_action = np.zeros((capacity if keep_noise_free else 0, n_act), np.float32)
        self._reached = _Queue(n_obs)  # where `apart` says so, by count
        self.first = 0
        self.size = 0
        self._powers: dict[int, Array] = {}  # of gamma, by n_step
        self._gathering: _native.Windows | None = None

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
        self._settle()
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

    def sample(self, batch_size: int, n_step: int, rng: Generator, paths: bool = True) -> Batch:
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
        ages = _native.integers(rng.bit_generator, self.size, batch_size)
        return self.windows(ages, n_step, paths)

    def windows(self, ages: NDArray[np.int64], n_step: int, paths: bool = True) -> Batch:
        """The transitions that start at these ages (0 is the oldest), n_step steps long.

        A window ends early, after m < n_step steps, at a terminal state (discount 0), at a time
        limit or at the newest transition (discount gamma^m, from the state reached); it never
        runs on into another episode or across the ring's write position.
        """
        return Sampling(self, self.first, self.size, self.size, ages, n_step, paths).batch()

    def sample_ahead(
        self, batch_size: int, n_step: int, rng: Generator, paths: bool = True
    ) -> Sampling:
        """Begin what `sample` will do when one more transition is there.

        It goes on beside what the caller does until that is added.
        """
        self._settle()
        full = self.size == self.capacity
        size = self.size + (not full)
        ages = _native.integers(rng.bit_generator, size, batch_size)
        sampling = Sampling(self, self.first + full, size, size - 1, ages, n_step, paths)
        self._gathering = sampling.windows
        return sampling

    def _settle(self) -> None:
        """Return when nobody reads the ring, which may change then."""
        if self._gathering:
            self._gathering.wait()
            self._gathering = None

    def _powers_of(self, n_step: int) -> Array:
        if n_step not in self._powers:
            powers = np.float64(self.gamma) ** np.arange(n_step + 1)
            self._powers[n_step] = powers.astype(np.float32)
        return self._powers[n_step]

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
        self._settle()
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
        self._settle()
        self.first, self.size = first, 0
        self._reached = _Queue(self.observation.shape[1])

    def state(self) -> State:
        """Live transitions, oldest first."""
        return {**self.transitions(self.first, self.first + self.size), "first": self.first}

    def restore(self, state: State) -> None:
        """Take over a state of a replay of the same shapes."""
        self.clear(int(state["first"]))
        self.append(state)


class Sampling:
    """Windows that are gathered from a ring beside what the caller does.

    Args:
        replay: the ring.
        first: count of its oldest transition, when they have been gathered.
        size: its size by then.
        known: transitions that are there already, the oldest ones.
        ages: int64 [B], where they start.
        n_step: steps per window at most.
        paths: whether the states on the way are wanted too.

    Attributes:
        windows: what gathers them.
    """

    def __init__(
        self,
        replay: RingBuffer,
        first: int,
        size: int,
        known: int,
        ages: NDArray[np.int64],
        n_step: int,
        paths: bool,
    ) -> None:
        batch, n_obs, n_act = len(ages), replay.observation.shape[1], replay.action.shape[1]
        shapes: list[tuple[int, ...]] = [
            (batch, n_obs), (batch, n_act), (batch, 1), (batch, 1), (batch, n_obs),
        ]  # fmt: skip
        if paths and n_step > 1:
            shapes += [(batch, n_step, n_obs), (batch, n_step)]
        arrays = tuple(np.empty(shape, np.float32) for shape in shapes)
        self._replay = replay
        self._when = (first, size)
        self.windows = _native.Windows(
            replay._bytes, n_obs, n_act, first, size, known, *replay._reached.live, ages,
            replay._powers_of(n_step), arrays,
        )  # fmt: skip
        self._batch = Batch(*arrays)

    def batch(self) -> Batch:
        """What was gathered; where that is complete, at any time.

        Raises:
            RuntimeError: the ring does not hold what was announced.
        """
        replay = self._replay
        if not self.windows.complete and (replay.first, replay.size) != self._when:
            raise RuntimeError(
                f"replay: {replay.size} transitions from {replay.first} on, sampled were "
                "{1} from {0} on".format(*self._when)
            )
        self.windows.finish(*replay._reached.live)
        return self._batch


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

    @property
    def live(self) -> tuple[NDArray[np.int64], Array]:
        """All numbers and their states."""
        live = slice(self._begin, self._end)
        return self._numbers[live], self._states[live]

    def add(self, number: int, state: Array) -> None:
        """Put a state at the end."""
        if self._end == len(self._numbers):
            numbers, states = self.live
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
