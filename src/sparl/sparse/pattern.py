"""Pattern: the existing connections of a layer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sparl import _native

Positions = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Pattern:
    """The existing connections of a layer with n_in inputs and n_out outputs.

    Attributes:
        n_in: number of inputs.
        n_out: number of outputs.
        positions: int64 [N], strictly ascending; connection input -> output has the position
            output * n_in + input. Arrays with one value per connection are in this order, the
            canonical (row-major) order. The array becomes read-only.

    Raises:
        ValueError: if positions are out of range, out of order or repeated, or not int64 [N].
    """

    n_in: int
    n_out: int
    positions: Positions

    def __post_init__(self) -> None:
        p = self.positions
        if p.dtype != np.int64 or p.ndim != 1:
            raise ValueError(
                f"pattern: positions must be a one-dimensional int64 array, not {p.dtype} of shape "
                f"{p.shape}"
            )
        if p.size and (p[0] < 0 or p[-1] >= self.size or not (p[1:] > p[:-1]).all()):
            wrong = (p < 0) | (p >= self.size)
            wrong[1:] |= p[1:] <= p[:-1]
            index = int(np.argmax(wrong))
            raise ValueError(
                f"pattern: positions must be strictly ascending and in [0, {self.size}), but "
                f"positions[{index}] is {p[index]}" + (f", after {p[index - 1]}" if index else "")
            )
        p.flags.writeable = False

    @classmethod
    def dense(cls, n_in: int, n_out: int) -> Pattern:
        """Return the pattern with every connection."""
        return cls(n_in, n_out, np.arange(n_in * n_out, dtype=np.int64))

    @property
    def size(self) -> int:
        """Number of positions, whether connected or not."""
        return self.n_in * self.n_out

    @property
    def connections(self) -> int:
        """Number of existing connections, N."""
        return self.positions.size

    @property
    def density(self) -> float:
        """Fraction of the possible connections that exist, N / (n_in n_out)."""
        return self.connections / self.size

    @cached_property
    def inputs(self) -> Positions:
        """The input neuron of each connection, int64 [N]."""
        return self.positions % self.n_in

    @cached_property
    def outputs(self) -> Positions:
        """The output neuron of each connection, int64 [N]."""
        return self.positions // self.n_in

    def same_as(self, other: Pattern) -> bool:
        """Return whether both patterns have the same shape and connections."""
        return self is other or (
            (self.n_in, self.n_out) == (other.n_in, other.n_out)
            and np.array_equal(self.positions, other.positions)
        )

    def find(self, positions: Positions) -> tuple[Positions, NDArray[np.bool_]]:
        """Look up positions in this pattern, and find out which of them are connected.

        Args:
            positions: int64 [n], in any order; ascending positions are found fastest.

        Returns:
            For each position, its index in this pattern's positions, int64 [n], and whether its
            connection exists, bool [n]. The index of a connection that does not exist has no
            meaning.
        """
        return _native.find_sorted(self.positions, positions)

    def overlap(self, other: Pattern) -> float:
        """Return the fraction of this pattern's connections that exist in another pattern.

        The fraction is 1 if this pattern has no connections.
        """
        return float(other.find(self.positions)[1].mean()) if self.connections else 1.0


def union(a: Positions, b: Positions) -> Positions:
    """Return the union of two ascending arrays of positions, ascending and without duplicates.

    A stable sort merges the two ascending runs, which is many times faster than numpy.union1d.
    """
    merged = np.concatenate([a, b])
    merged.sort(kind="stable")
    return merged[np.diff(merged, prepend=-1) > 0]
