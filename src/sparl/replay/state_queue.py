"""StateQueue: the states that a replay buffer stores separately from its rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparl.types import Array


class StateQueue:
    """A queue of states, float32 [n_obs] each, with ascending numbers.

    If a state is added when the end of the arrays has been reached, the states in the queue are
    moved to the beginning. The arrays are doubled in length if the queue occupies more than half.
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
        """The numbers and the states in the queue, int64 [k] and float32 [k, n_obs]."""
        live = slice(self._begin, self._end)
        return self._numbers[live], self._states[live]

    def add(self, number: int, state: Array) -> None:
        """Add a state at the end."""
        if self._end == len(self._numbers):
            numbers, states = self.live
            if 2 * len(numbers) > self._end:
                self._numbers = np.empty(2 * self._end, np.int64)
                self._states = np.empty((2 * self._end, states.shape[1]), np.float32)
            self._begin, self._end = 0, len(numbers)
            self._numbers[: self._end], self._states[: self._end] = numbers, states
        self._numbers[self._end], self._states[self._end] = number, state
        self._end += 1

    def remove_newest(self) -> None:
        """Remove the state that was added last."""
        self._end -= 1

    def remove_before(self, number: int) -> None:
        """Remove all states whose numbers are less than `number`."""
        live = self._numbers[self._begin : self._end]
        if live.size and live[0] < number:
            self._begin += int(np.searchsorted(live, number))

    def of(self, numbers: NDArray[np.int64]) -> Array:
        """Return a copy of the states with these numbers, all of which must be in the queue."""
        places = self._begin + np.searchsorted(self._numbers[self._begin : self._end], numbers)
        return self._states[places]
