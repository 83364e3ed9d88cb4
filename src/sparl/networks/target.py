"""Target networks: soft updates towards an online network whose pattern may change."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from sparl import _native
from sparl.networks.layout import Layout
from sparl.networks.network import Input, Network
from sparl.networks.spec import Place
from sparl.sparse.pattern import Pattern, union
from sparl.types import Array, State


class Target(ABC):
    """A target network, a slowly changing copy of an online network."""

    def __init__(self, online: Network) -> None:
        self.online = online
        self.network = online.copy()

    def __call__(self, *inputs: Input) -> Array:
        """Compute the outputs; see Network."""
        return self.network(*inputs)

    @abstractmethod
    def soft_update(self, tau: float) -> None:
        """Compute theta' = tau theta + (1 - tau) theta'; tau = 1 copies the online network."""

    def existing(self) -> State:
        """Return the existing connections and their values."""
        return self.network.state()

    def state(self) -> State:
        """Return all values that change during training and affect later results."""
        return self.network.state()

    def restore(self, state: State) -> None:
        """Restore a state; the online network must already have been restored."""
        self.network.restore(state)

    def longest(self, most: Mapping[Place, int]) -> dict[str, int]:
        """Return the maximum length of each state array whose length may change.

        A target may keep as many dropped connections as the online network has connections.

        Args:
            most: see `Layout.longest`.
        """
        layout = self.online.layout
        return layout.longest(
            {place: 2 * most.get(place, pattern.connections) for place, pattern in layout}
        )

    def _move_to(self, layout: Layout) -> None:
        """Store the target in another layout; grown connections are 0."""
        self.network.rewire(layout, self.network.layout.difference(layout))


class SharedPatternTarget(Target):
    """A target that adopts the online network's pattern at each soft update.

    A connection that the online network has dropped is removed from the target. A connection that
    the online network has grown starts with tau times its online weight.
    """

    def soft_update(self, tau: float) -> None:
        """Compute theta' = tau theta + (1 - tau) theta' over the online network's pattern."""
        if self.network.layout is not self.online.layout:
            self._move_to(self.online.layout)
        mine = self.network.pending
        _native.soft_update(mine.to_write(), self.online.parameters, tau, self.network.pool)
        mine.written()


# A contiguous part of the parameters, for _native.TargetUpdater: the start and end in the target's
# array and in the online array. For a layer stored over a union, the value of `_sources`, the
# canonical index of each of the target's connections, and the number of connections to keep follow;
# otherwise None, None and 0.
_Indices = NDArray[np.uint32] | None
_Piece = tuple[tuple[int, int], tuple[int, int], _Indices, _Indices, int]


class OwnPatternTarget(Target):
    """A target with its own pattern, which keeps each layer's connections of largest magnitude.

    This is algorithm 3 of Sokar et al. 2021. After theta' = tau theta + (1 - tau) theta', each
    layer with more connections than the online layer loses the connections of smallest magnitude;
    among equal magnitudes, those at lower positions are removed first. The leftovers are the
    target's connections that the online network has dropped: their weights decay, while those of
    the grown connections approach the online weights.

    The target is stored over the union of the online pattern and the leftovers. The union is
    rebuilt when the online pattern changes. In the union, removed connections have the value 0.
    """

    def __init__(self, online: Network) -> None:
        super().__init__(online)
        self._union_of: Layout | None = online.layout  # the online layout that the union includes
        self._updater = self._plan()

    def soft_update(self, tau: float) -> None:
        """Compute the soft update, then keep each layer's connections of largest magnitude."""
        if self._union_of is not self.online.layout:
            self._rebuild_union()
        mine, online = self.network.pending, self.online.pending
        work = self._updater.update(mine.to_write(), online.to_read(), tau, self.network.pool)
        mine.written(work, reads=online)

    def _rebuild_union(self) -> None:
        """Store the target over the union of the online pattern and the target's connections."""
        online = self.online.layout
        patterns: dict[Place, Pattern] = {}
        for place, existing in self._existing_patterns():
            wanted = online.pattern(place)
            positions = union(existing.positions, wanted.positions)
            # Without leftovers, use the online pattern itself, so that its native layer is shared.
            patterns[place] = (
                wanted
                if positions.size == wanted.connections
                else Pattern(wanted.n_in, wanted.n_out, positions)
            )
        self._move_to(online.with_patterns(patterns))
        self._union_of = online
        self._updater = self._plan()

    def _existing_patterns(self) -> Iterator[tuple[Place, Pattern]]:
        """Yield each layer's existing connections, which are those with a non-zero value."""
        for place, pattern in self.network.layout:
            values = self.network.layout.read(self.network.parameters, place)
            positions = pattern.positions[values != 0]
            yield place, Pattern(pattern.n_in, pattern.n_out, positions)

    def _plan(self) -> _native.TargetUpdater:
        """Plan the soft update; adjacent blocks that need no reordering are merged."""
        mine, theirs = self.network.layout, self.online.layout
        pieces: list[_Piece] = []
        for key, block in mine.blocks.items():
            target, online = block.where, theirs.blocks[key].where
            pattern, wanted = block.pattern, theirs.blocks[key].pattern
            if pattern is None or wanted is None or pattern.same_as(wanted):
                _add_block(pieces, target, online)
            else:
                pieces.append(
                    (
                        (target.start, target.stop),
                        (online.start, online.stop),
                        _sources(mine, theirs, block.place),
                        mine.native(block.place).canonical_index,
                        wanted.connections,
                    )
                )
        return _native.TargetUpdater(pieces)

    def existing(self) -> State:
        """Return the existing connections and their values.

        No layer has more connections than the online layer had at the last soft update.
        """
        old = self.network.layout
        new = old.with_patterns(dict(self._existing_patterns()))
        return new.to_state(old.carry(self.network.parameters, new, old.difference(new)))

    def state(self) -> State:
        """Return all values that affect later results, including the zeros of the union."""
        return {**super().state(), "behind": int(self._union_of is not self.online.layout)}

    def restore(self, state: State) -> None:
        """Restore a state; the online network must already have been restored."""
        super().restore(state)
        self._union_of = None if state["behind"] else self.online.layout
        self._updater = _native.TargetUpdater([]) if state["behind"] else self._plan()


def _add_block(pieces: list[_Piece], target: slice, online: slice) -> None:
    """Append a block that both arrays store in the same order, or extend the last such piece."""
    starts = target.start, online.start
    if pieces and pieces[-1][2] is None:
        last = pieces.pop()
        starts = last[0][0], last[1][0]
    pieces.append(((starts[0], target.stop), (starts[1], online.stop), None, None, 0))


def _sources(mine: Layout, theirs: Layout, place: Place) -> NDArray[np.uint32]:
    """Return, for each connection of `mine` at `place`, its index in that layer of `theirs`.

    Both are in kernel order. For a connection that `theirs` lacks, the index is the layer's number
    of connections in `theirs`.
    """
    slot = np.empty(theirs.pattern(place).connections, np.uint32)
    canonical = theirs.native(place).canonical_index
    slot[canonical] = np.arange(canonical.size, dtype=np.uint32)
    positions = mine.pattern(place).positions[mine.native(place).canonical_index]
    index, found = theirs.pattern(place).find(positions)
    source = np.full(positions.size, slot.size, np.uint32)
    source[found] = slot[index[found]]
    return source
