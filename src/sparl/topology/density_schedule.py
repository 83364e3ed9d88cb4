"""Density schedules: how many connections a layer has after an update, and which fraction moves.

A schedule is a function; a decorator registers it, so that a configuration can name it:

    @density_schedule("halve")
    def halve(layer):
        return round(layer.initial * (1 - layer.progress / 2)), layer.fraction

Names are recorded and modules imported as those of rules; see `sparl.topology.rules`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from sparl.topology.rules import check_registration


@dataclass(frozen=True)
class LayerProgress:
    """What a density schedule is told of a layer at a topology update.

    Attributes:
        initial: connections at the start of the run.
        connections: connections now.
        size: positions, which is the most connections that it can have.
        progress: the update's number over that of the last one that may change topology, in [0, 1].
        fraction: share of the connections to move by the configuration, annealed or not.
    """

    initial: int
    connections: int
    size: int
    progress: float
    fraction: float


class ChooseDensity(Protocol):
    """Says how many connections a layer gets."""

    def __call__(self, layer: LayerProgress) -> tuple[int, float]:
        """Return the connections of the layer after this update, and the fraction that moves."""


@dataclass(frozen=True)
class DensitySchedule:
    """A density schedule: the function, and the name it is registered by."""

    choose: ChooseDensity
    name: str = ""

    def __call__(self, layer: LayerProgress) -> tuple[int, float]:
        """Return the connections of the layer after this update, and the fraction that moves."""
        return self.choose(layer)

    def __reduce__(self) -> tuple[object, ...]:
        """Copy a registered schedule by its name, as rules are."""
        if DENSITY_SCHEDULES.get(self.name) is self:
            return registered_density_schedule, (self.name,)
        return DensitySchedule, (self.choose, self.name)


DENSITY_SCHEDULES: dict[str, DensitySchedule] = {}


def registered_density_schedule(name: str) -> DensitySchedule:
    """Return the density schedule of a name.

    Raises:
        KeyError: it is not registered.
    """
    return DENSITY_SCHEDULES[name]


def density_schedule(name: str) -> Callable[[ChooseDensity], DensitySchedule]:
    """Register a function as the density schedule of this name.

    Raises:
        UsageError: the name is taken or not an identifier.
    """

    def register(choose: ChooseDensity) -> DensitySchedule:
        check_registration(name, (), DENSITY_SCHEDULES, choose)
        schedule = DensitySchedule(choose, name)
        DENSITY_SCHEDULES[name] = schedule
        return schedule

    return register


@density_schedule("constant")
def constant(layer: LayerProgress) -> tuple[int, float]:
    """Every layer keeps its number of connections (SET, DS, RigL, RLx2)."""
    return layer.connections, layer.fraction
