"""When topology changes and how much of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Clock = Literal["agent", "network"]  # the agent's updates, or the network's own


@dataclass(frozen=True)
class Schedule:
    """Evolutions at updates first, first + every, ... up to last; never if every is 0.

    Attributes:
        first: update of the first evolution, counted from 1 on the clock.
        every: updates between evolutions; 0 means never.
        last: no evolution after this update.
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
        """The fraction of an evolution; annealed: zeta_0 / 2 (1 + cos(pi t / T_end))."""
        if not self.annealed:
            return self.fraction
        return self.fraction / 2 * (1 + math.cos(math.pi * min(update / self.last, 1.0)))

    def due_until(self, update: int) -> int:
        """How many evolutions are due at or before this update."""
        end = min(update, self.last)
        if self.every == 0 or end < self.first:
            return 0
        return (end - self.first) // self.every + 1

    @property
    def total(self) -> int:
        """How many evolutions there are."""
        return self.due_until(self.last)

    @property
    def last_due(self) -> int | None:
        """Update of the last evolution; None if there is none."""
        return self.first + (self.total - 1) * self.every if self.total else None


NEVER = Schedule(first=1, every=0, last=0, fraction=0.0)
