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
        n_in: number of input neurons.
        n_out: number of output neurons.
        progress: number of the update divided by that of the last topology update, in (0, 1]. It is
            1 at the last topology update.
        fraction: configured fraction of the connections to drop and regrow, after any annealing.
    """

    initial: int
    connections: int
    n_in: int
    n_out: int
    progress: float
    fraction: float

    @property
    def size(self) -> int:
        """Number of positions, n_in n_out, which is the maximum number of connections."""
        return self.n_in * self.n_out


class ChooseDensity(Protocol):
    """The signature of a density schedule, a function of one layer."""

    def __call__(self, layer: LayerProgress) -> tuple[int, float]:
        """Choose how many connections a layer has after this topology update.

        Connections are dropped, and others are grown up to the number of connections that the
        schedule returns. If the layer would still have too many after the drop, more are dropped.

        Args:
            layer: the state of the layer before the update.

        Returns:
            The number of connections after the update, in [0, layer.size]; and the fraction of the
            connections before the update to drop, in [0, 1]. If the drop rule removes dead links,
            whose weight is exactly 0, they are dropped in addition, and the fraction refers to the
            other connections only.
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
