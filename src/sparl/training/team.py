"""Team: how many of the allowed threads the engine uses."""

from __future__ import annotations

import time
from collections.abc import Callable

from sparl import _native

BLOCK, ROUNDS = 8, 3  # timed steps in a row, and how often each side has its turn
EVERY = 4_000  # steps, of which the first are the comparison


class Team:
    """All threads that are allowed, or one where that is faster at the moment.

    Which is faster depends on the networks' size, on whether the cores share a cache and on what
    else the machine does, so it is tried again and again. Results do not depend on it.

    Args:
        most: threads that are allowed.
        clock: seconds, from any start.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self.most = most
        self._clock = clock
        self._steps = 0
        self._took: dict[int, list[float]] = {}
        self._timed: list[float] | None = None  # where the seconds of this step are added
        self._start = 0.0
        _native.set_threads(most)

    def __enter__(self) -> None:
        """A step of the environment and its updates begin."""
        if self.most == 1:
            return
        turn, within = divmod(self._steps % EVERY, BLOCK + 1)
        self._steps += 1
        self._timed = None
        if turn >= 2 * ROUNDS:
            if self._took:
                best = min(self._took, key=lambda count: min(self._took[count]))
                _native.set_threads(best)
                self._took = {}
            return
        count = 1 if turn % 2 else self.most
        took = self._took.setdefault(count, [])
        if within == 0:  # not timed: what another number of threads had in its caches moves
            _native.set_threads(count)
            took.append(0.0)
        else:
            self._timed = took
            self._start = self._clock()

    def __exit__(self, *raised: object) -> None:
        """It is done."""
        if self._timed is not None:
            self._timed[-1] += self._clock() - self._start
