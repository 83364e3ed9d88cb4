"""RingBuffer: a replay buffer of the most recent transitions."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from sparl import _native
from sparl.replay.batch import Batch
from sparl.replay.state_queue import StateQueue
from sparl.types import Array, State


def replay_bytes(capacity: int, n_obs: int, n_act: int, keep_noise_free: bool) -> int:
    """Return the size in bytes of a full RingBuffer, without the separately stored states."""
    return capacity * (_row(n_obs, n_act).itemsize + (4 * n_act if keep_noise_free else 0))


def _row(n_obs: int, n_act: int) -> np.dtype[np.void]:
    """Return the dtype of a transition's row; see RingView in native/n_step_windows.h."""
    return np.dtype(
        [
            ("observation", np.float32, (n_obs,)), ("action", np.float32, (n_act,)),
            ("reward", np.float32), ("terminated", np.bool_), ("episode_end", np.bool_),
            ("apart", np.bool_),
        ],
        align=True,
    )  # fmt: skip


class RingBuffer:
    """A replay buffer of the last `capacity` transitions, in float32.

    Observations and actions of any real dtype are converted to float32. Memory is used only for the
    filled part of the arrays. Transitions are numbered from the first one ever stored; the buffer
    contains those with numbers in [first, first + size). The oldest transitions can be forgotten
    before they are overwritten. Each observation is stored once: the state that a transition
    reaches is the observation of the next row. At the end of an episode and for the newest
    transition, the next row does not contain this state, so the state is stored separately.

    Args:
        capacity: maximum number of transitions.
        n_obs: length of an observation.
        n_act: length of an action.
        gamma: discount per environment step.
        keep_noise_free: whether to store the noise-free actions too, for DynamicCapacity.
        pool: the thread pool that gathers batches; None means the calling thread only.
    """

    def __init__(
        self,
        capacity: int,
        n_obs: int,
        n_act: int,
        gamma: float,
        *,
        keep_noise_free: bool = False,
        pool: _native.Pool | None = None,
    ) -> None:
        self.capacity = capacity
        self._pool = pool
        self.gamma = gamma
        rows = np.zeros(capacity, _row(n_obs, n_act))  # windows are contiguous in memory
        self._bytes = rows.view(np.uint8).reshape(capacity, -1)
        self.observation, self.action = rows["observation"], rows["action"]
        self.reward, self.terminated = rows["reward"], rows["terminated"]
        self.episode_end, self.apart = rows["episode_end"], rows["apart"]
        self.keep_noise_free = keep_noise_free
        self.noise_free_action = np.zeros((capacity if keep_noise_free else 0, n_act), np.float32)
        self._reached = StateQueue(n_obs)  # states of the rows whose `apart` is set, by number
        self.first = 0
        self.size = 0
        self._powers: dict[int, Array] = {}  # powers of gamma, by n_step
        self._current: Array | None = None  # state of the next transition; None if unknown

    @property
    def oldest(self) -> int:
        """Index of the row of the oldest transition."""
        return self.first % self.capacity

    @property
    def episode_over(self) -> bool:
        """Whether the next transition begins an episode, so that `begin` must precede `add`."""
        return self._current is None

    def begin(self, observation: ArrayLike) -> None:
        """Begin an episode in a state; an unfinished episode counts as truncated.

        Args:
            observation: [n_obs], of any real dtype.

        Raises:
            ValueError: if the observation has the wrong shape.
        """
        state = _vector("observation", observation, self.observation.shape[1])
        if self.size:
            self.episode_end[self._newest_row] = True
        self._current = state.copy()

    def add(
        self,
        action: ArrayLike,
        noise_free_action: ArrayLike,
        reward: float,
        reached: ArrayLike,
        terminated: bool,
        truncated: bool,
    ) -> None:
        """Store one step from the current state; a full buffer forgets its oldest transition.

        Args:
            action: [n_act], in [-1, 1], of any real dtype.
            noise_free_action: [n_act], of any real dtype, the action without exploration noise; it
                is stored only with keep_noise_free.
            reward: reward of the step.
            reached: [n_obs], of any real dtype, the state that the step reached, even at the end of
                an episode.
            terminated: whether the reached state is terminal, so that its value is 0.
            truncated: whether the episode was cut off in a state that is not terminal.

        Raises:
            ValueError: if no episode is in progress (see `begin`), or an array has the wrong shape.
        """
        if self._current is None:
            raise ValueError(
                "replay buffer: no episode has begun; call begin(observation) before add(...)"
            )
        n_obs, n_act = self.observation.shape[1], self.action.shape[1]
        action = _vector("action", action, n_act)
        noise_free_action = _vector("noise_free_action", noise_free_action, n_act)
        reached = _vector("reached", reached, n_obs)
        number = self.first + self.size
        row = number % self.capacity
        # Unless an episode ended, this row will contain the state that the previous transition
        # reached.
        if self.size and self.capacity > 1 and not self.episode_end[row - 1]:
            self.apart[row - 1] = False
            self._reached.remove_newest()
        self.observation[row] = self._current
        self.action[row] = action
        if self.keep_noise_free:
            self.noise_free_action[row] = noise_free_action
        self.reward[row] = reward
        self.terminated[row] = terminated
        self.episode_end[row] = terminated or truncated
        self.apart[row] = True
        self._reached.add(number, reached)
        if self.size == self.capacity:
            self.forget(1)
        self.size += 1
        self._current = None if self.episode_end[row] else reached.copy()

    def forget(self, count: int) -> None:
        """Forget the `count` oldest transitions, or all if there are fewer."""
        count = min(count, self.size)
        self.first += count
        self.size -= count
        self._reached.remove_before(self.first)

    @property
    def _newest_row(self) -> int:
        return (self.first + self.size - 1) % self.capacity

    def rows(self, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the row indices of the transitions at these offsets from the oldest one."""
        rows: NDArray[np.int64] = (self.oldest + offsets) % self.capacity
        return rows

    def sample(self, batch_size: int, n_step: int, rng: Generator, paths: bool = True) -> Batch:
        """Sample a batch uniformly with replacement.

        Args:
            batch_size: number of transitions, B.
            n_step: maximum number of steps per transition, at least 1; see `windows`.
            rng: random stream of the replay buffer.
            paths: whether the batch includes the states on the path of each window, which only
                agents with reads_path need.

        Raises:
            ValueError: if the buffer is empty, or n_step is less than 1.
        """
        if self.size == 0:
            raise ValueError("the replay buffer is empty, so no batch can be sampled")
        offsets = _native.integers(rng.bit_generator, self.size, batch_size)
        return self.windows(offsets, n_step, paths)

    def windows(self, offsets: NDArray[np.int64], n_step: int, paths: bool = True) -> Batch:
        """Return the windows of up to n_step steps that start at the given transitions.

        A window ends early, after m < n_step steps, where its episode ends or at the newest
        transition. Its discount is gamma^m (m is n_step for a full window), or 0 if its last state
        is terminal. No window continues into another episode or across the ring's write position.

        Args:
            offsets: [B], the offset of each window's first transition from the oldest transition.
            n_step: maximum number of steps in a window, at least 1.
            paths: whether the batch includes the states on the path of each window.

        Raises:
            ValueError: if n_step is less than 1.
        """
        if n_step < 1:
            raise ValueError(f"replay buffer: n_step is {n_step} but must be at least 1")
        n_obs, n_act = self.observation.shape[1], self.action.shape[1]
        shapes: list[tuple[int, ...]] = [(n_obs,), (n_act,), (1,), (1,), (n_obs,)]
        if paths and n_step > 1:
            shapes += [(n_step, n_obs), (n_step,)]
        arrays = tuple(np.empty((len(offsets), *shape), np.float32) for shape in shapes)
        _native.gather_windows(
            self._bytes, n_obs, n_act, self.first, self.size, *self._reached.live, offsets,
            self._powers_of(n_step), arrays, self._pool,
        )  # fmt: skip
        return Batch(*arrays)

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
        """Return the transitions with numbers in [begin, end), all of which must be stored.

        Returns:
            A dict with a copy of these transitions' rows from each array, under the array's name,
            and "reached_apart": the states that are stored separately, float32 [sum(apart), n_obs].
        """
        numbers = np.arange(begin, end)
        rows = self.rows(numbers - self.first)
        part: State = {name: getattr(self, name)[rows] for name in self._arrays}
        part["reached_apart"] = self._reached.of(numbers[self.apart[rows]])
        return part

    @staticmethod
    def longest(count: int) -> dict[str, int]:
        """Return the maximum length, for `count` transitions, of each array whose length varies."""
        return {"reached_apart": count}

    def append(self, part: State, skip: int = 0) -> None:
        """Append all but the first `skip` of the transitions that `transitions` returned.

        Raises:
            ValueError: if there are more transitions than free rows, or if the lengths of the
                arrays are inconsistent.
        """
        count = len(np.asarray(part["reward"])) - skip
        if not 0 <= count <= self.capacity - self.size:
            raise ValueError(
                f"replay buffer: {count} transitions do not fit into {self.capacity - self.size} "
                "free rows"
            )
        rows = self.rows(np.arange(self.size, self.size + count))
        for name in self._arrays:
            getattr(self, name)[rows] = np.asarray(part[name])[skip:]
        states = np.asarray(part["reached_apart"], np.float32)
        states = states[np.count_nonzero(np.asarray(part["apart"])[:skip]) :]
        apart = np.flatnonzero(self.apart[rows]) + self.first + self.size
        for number, state in zip(apart.tolist(), states, strict=True):
            self._reached.add(number, state)
        self.size += count
        newest = self._newest_row
        unfinished = self.size and self.apart[newest] and not self.episode_end[newest]
        self._current = self._reached.newest.copy() if unfinished else None

    def check(self, size: int) -> None:
        """Check the content of the buffer after all calls of `append`.

        Raises:
            ValueError: if there are not `size` transitions, or the newest one has no next state.
        """
        if self.size and not self.apart[self._newest_row]:
            raise ValueError("the newest transition lacks its next observation")
        if self.size != size:
            raise ValueError(f"the replay buffer has {self.size} transitions but must have {size}")

    def clear(self, first: int) -> None:
        """Forget all transitions; the next transition will have the number `first`."""
        self.first, self.size, self._current = first, 0, None
        self._reached = StateQueue(self.observation.shape[1])


def _vector(name: str, values: ArrayLike, length: int) -> Array:
    """Convert an observation or an action to float32, [length].

    Raises:
        ValueError: if it has another shape.
    """
    vector = np.asarray(values, np.float32)
    if vector.shape != (length,):
        raise ValueError(
            f"replay buffer: {name} has shape {vector.shape} but must have shape ({length},)"
        )
    return vector
