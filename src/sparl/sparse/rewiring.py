"""Rewiring: a change of one layer's pattern, and the transfer of values to the new pattern."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sparl.sparse.pattern import Pattern, Positions


@dataclass(frozen=True, eq=False)
class Rewiring:
    """The change of a layer from an old pattern to a new one."""

    old: Pattern
    new: Pattern

    @cached_property
    def _stayed(self) -> tuple[Positions, NDArray[np.bool_]]:
        return self.old.find(self.new.positions)

    @property
    def grown(self) -> Positions:
        """Indices into the new pattern of the connections that the old pattern lacks, int64."""
        return np.flatnonzero(~self._stayed[1])

    def carry(
        self, values: NDArray[np.float32], grown: float | NDArray[np.float32] = 0.0
    ) -> NDArray[np.float32]:
        """Move one value per connection, in canonical order, from the old pattern to the new.

        Args:
            values: float32, one value per connection of the old pattern.
            grown: values of the grown connections, either one value for all or float32
                [len(self.grown)].

        Returns:
            float32, one value per connection of the new pattern; connections in both patterns keep
            their values.

        Raises:
            ValueError: if `values` does not have one entry per connection of the old pattern.
        """
        if values.shape != (self.old.connections,):
            raise ValueError(
                f"carry: values has shape {values.shape} but must have shape "
                f"({self.old.connections},), one value per old connection"
            )
        index, stayed = self._stayed
        carried = np.empty(self.new.connections, np.float32)
        carried[stayed] = values[index[stayed]]
        carried[~stayed] = grown
        return carried
