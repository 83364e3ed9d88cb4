"""When topology changes, and which fraction of a layer moves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Clock = Literal["agent", "network"]  # the agent's updates, or the network's own


@dataclass(frozen=True)
class Schedule:
    """Topology updates at updates first, first + every, ... up to last; never if every is 0.

    Attributes:
        first: update of the first topology update, counted from 1 on the clock.
        every: updates between topology updates; 0 means never.
        last: no topology update after this update.
        fraction: share of a layer's connections moved, zeta_0 where it is annealed.
        clock: whose updates count.
        annealed: the fraction goes to 0 at `last` by a cosine.
    """

    first: int
    every: int
    last: int
    fraction: float
    clock: Clock = "agent"
    annealed: bool = False

    def fraction_at(self, update: int) -> float:
        """The fraction of a topology update; annealed: zeta_0 / 2 (1 + cos(pi t / T_end))."""
        if not self.annealed:
            return self.fraction
        return self.fraction / 2 * (1 + math.cos(math.pi * self.progress_at(update)))

    def progress_at(self, update: int) -> float:
        """How much of the schedule is over at this update, in [0, 1]."""
        return min(update / self.last, 1.0)

    def due_until(self, update: int) -> int:
        """How many topology updates are due at or before this update."""
        end = min(update, self.last)
        if self.every == 0 or end < self.first:
            return 0
        return (end - self.first) // self.every + 1

    @property
    def total(self) -> int:
        """How many topology updates there are."""
        return self.due_until(self.last)

    @property
    def last_due(self) -> int | None:
        """Update of the last topology update; None if there is none."""
        return self.first + (self.total - 1) * self.every if self.total else None


NEVER = Schedule(first=1, every=0, last=0, fraction=0.0)
