"""Density schedules choose how many connections a layer has, and the fraction to drop and regrow.

A schedule is a function. A decorator registers it, so that a configuration can name it:

    @density_schedule("halve")
    def halve(layer):
        return round(layer.initial * (1 - layer.progress / 2)), layer.fraction

As for a rule, every run records the name of its schedule, and the user imports the schedule's
module; see `sparl.topology.rules`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from sparl.topology.registry import Rule
from sparl.wording import shown


@dataclass(frozen=True)
class LayerProgress:
    """The state of a layer at a topology update.

    Attributes:
        initial: number of connections at the start of the run.
        connections: number of connections before the update.
        size: number of positions, the maximum number of connections.
        progress: completed fraction of the schedule of topology updates, in [0, 1].
        fraction: configured fraction of the connections to drop and regrow, after any annealing.
    """

    initial: int
    connections: int
    size: int
    progress: float
    fraction: float


class ChooseDensity(Protocol):
    """Chooses the number of connections of a layer."""

    def __call__(self, layer: LayerProgress) -> tuple[int, float]:
        """Return the number of connections after this update, and the fraction of them to drop.

        The fraction refers to the connections before the update. After the drop, connections are
        grown or further ones are dropped until the layer has the returned number.
        """


class DensitySchedule(Rule):
    """A density schedule: a function with the signature of ChooseDensity, and its name."""

    kind: ClassVar[str] = "density schedule"

    def __call__(self, layer: LayerProgress) -> tuple[int, float]:
        """Return what the function returns, checked; see ChooseDensity.

        Raises:
            UsageError: if the function fails or returns invalid values.
        """
        result = super().__call__(layer)
        match result:
            case (int() | np.integer(), float() | int() | np.floating()) if (
                0 <= result[0] <= layer.size and 0 <= result[1] <= 1
            ):
                return int(result[0]), float(result[1])
        raise self.fault(
            f"returned {shown(result)} but must return a pair: the number of connections, an "
            f"integer in [0, {layer.size}], and the fraction to drop, a number in [0, 1]"
        )


def density_schedule(name: str) -> Callable[[ChooseDensity], DensitySchedule]:
    """Register a function as the density schedule with this name.

    Raises:
        UsageError: if the name is in use or is not an identifier.
    """
    return lambda choose: DensitySchedule(choose, name).registered()


@density_schedule("constant")
def constant(layer: LayerProgress) -> tuple[int, float]:
    """Keep the number of connections of every layer (SET, DS, RigL, RLx2)."""
    return layer.connections, layer.fraction
