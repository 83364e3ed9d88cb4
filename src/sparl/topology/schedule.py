"""Schedule topology updates: when they happen and which fraction of the connections moves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from sparl.sparse.pattern import Pattern
from sparl.topology.density_schedule import LayerProgress

Clock = Literal["agent", "network"]  # which updates are counted


@dataclass(frozen=True)
class Schedule:
    """Schedules topology updates at the updates first, first + every, and so on up to last.

    In sparl's own agents, a density schedule chooses each layer's number of connections at these
    updates, and the fraction of connections to move, which is usually the fraction of this
    schedule.

    Attributes:
        first: number of the update with the first topology update; updates are counted from 1.
        every: number of updates from one topology update to the next; 0 means no topology updates.
        last: number of the update after which there is no topology update.
        fraction: the fraction of a layer's connections that moves; if annealed, the initial one,
            zeta_0.
        clock: whether the updates of the agent or those of the network are counted; they differ if
            the network is not updated in every update of the agent (policy delay).
        annealed: whether the fraction decays to 0 at `last` along a cosine.
    """

    first: int
    every: int
    last: int
    fraction: float
    clock: Clock = "agent"
    annealed: bool = False

    def fraction_at(self, update: int) -> float:
        """Return the fraction at an update t.

        If annealed, this is zeta_0 / 2 * (1 + cos(pi t / last)) (Evci et al. 2020), and 0 after
        `last`.
        """
        if not self.annealed:
            return self.fraction
        return self.fraction / 2 * (1 + math.cos(math.pi * min(update / self.last, 1.0)))

    def progress_at(self, update: int) -> float:
        """Return an update's number divided by that of the last topology update, at most 1.

        The result is 1 if there are no topology updates.
        """
        return min(update / self.last_due, 1.0) if self.last_due else 1.0

    def of_layer(self, update: int, initial: int, pattern: Pattern) -> LayerProgress:
        """Return the state of a layer at an update, as a density schedule receives it.

        Args:
            update: number of the update.
            initial: number of connections of the layer at the start of the run.
            pattern: the layer's connections before the update.
        """
        return LayerProgress(
            initial, pattern.connections, pattern.n_in, pattern.n_out,
            self.progress_at(update), self.fraction_at(update),
        )  # fmt: skip

    def due_until(self, update: int) -> int:
        """Count the topology updates that are due at or before this update."""
        end = min(update, self.last)
        if self.every == 0 or end < self.first:
            return 0
        return (end - self.first) // self.every + 1

    @property
    def total(self) -> int:
        """Number of topology updates."""
        return self.due_until(self.last)

    @property
    def last_due(self) -> int | None:
        """Number of the update with the last topology update; None if there is none."""
        return self.first + (self.total - 1) * self.every if self.total else None


NEVER = Schedule(first=1, every=0, last=0, fraction=0.0)
