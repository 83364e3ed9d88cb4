"""Target networks: how they follow the online network, whose pattern changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sparl import _native
from sparl.networks.layout import Layout, Place
from sparl.networks.network import Input, Network
from sparl.sparse.pattern import Pattern, union
from sparl.types import Array, State


class Target(Protocol):
    """A network that follows another."""

    network: Network

    def __call__(self, *inputs: Input) -> Array:
        """Outputs, as Network gives them."""

    def follow(self, tau: float) -> None:
        """Theta' = tau theta + (1 - tau) theta'; tau = 1 copies."""

    def existing(self) -> State:
        """The connections that exist, and their values."""

    def state(self) -> State:
        """Everything that later results depend on."""

    def restore(self, state: State) -> None:
        """Take over a state; the online network has taken over its own before."""


class SharedPatternTarget:
    """Takes the online network's pattern at each target update.

    A connection that the online network dropped does not exist in the target; one that it grew
    enters at tau times its weight.
    """

    def __init__(self, online: Network) -> None:
        self.online = online
        self.network = online.copy()

    def __call__(self, *inputs: Input) -> Array:
        """Outputs, as Network gives them."""
        return self.network(*inputs)

    def follow(self, tau: float) -> None:
        """Theta' = tau theta + (1 - tau) theta', over the online network's pattern."""
        mine, layout = self.network, self.online.layout
        if mine.layout is not layout:
            rewirings = mine.layout.difference(layout)
            mine.parameters = mine.layout.carry(mine.parameters, layout, rewirings)
            mine.layout = layout
        _native.follow(mine.pending.to_write(), self.online.parameters, tau, mine.pool)

    def existing(self) -> State:
        """The connections that exist, and their values."""
        return self.network.state()

    def state(self) -> State:
        """Everything that later results depend on."""
        return self.network.state()

    def restore(self, state: State) -> None:
        """Take over a state."""
        self.network.restore(state)


# A stretch of the target's parameters and what it follows: start and end in the target, start and
# end in the online array; of a layer over a union also the slots to follow, the canonical index of
# each entry, and the budget.
_Indices = NDArray[np.uint32] | None
_Piece = tuple[tuple[int, int], tuple[int, int], _Indices, _Indices, int]


class OwnPatternTarget:
    """Keeps its own pattern, at the budget of the online network, by magnitude.

    Sokar et al. 2021, algorithm 3: after theta' = tau theta + (1 - tau) theta', each layer with
    more connections than the online layer loses those of smallest magnitude (ties: the lower
    position goes). Leftovers of connections that the online network dropped fade out while new
    ones grow in.

    Stored over the union of the online pattern and the leftovers, rebuilt when the online
    pattern changes; an entry of the union that was removed has the value 0.
    """

    def __init__(self, online: Network) -> None:
        self.online = online
        self.network = online.copy()
        self._united_with: Layout | None = online.layout
        self._follower = self._plan()

    def __call__(self, *inputs: Input) -> Array:
        """Outputs, as Network gives them."""
        return self.network(*inputs)

    def follow(self, tau: float) -> None:
        """Move towards the online network, then keep the largest magnitudes of each layer."""
        if self._united_with is not self.online.layout:
            self._unite()
        mine, online = self.network.pending, self.online.pending
        work = self._follower.follow(mine.to_write(), online.to_read(), tau, self.network.pool)
        mine.written_by(work)
        online.read_by(work)

    def _unite(self) -> None:
        """Rebuild the union of the online pattern and what exists here."""
        mine, online = self.network, self.online.layout
        patterns: dict[Place, Pattern] = {}
        for place, existing in self._existing_patterns():
            wanted = online.pattern(place)
            positions = union(existing.positions, wanted.positions)
            # The online pattern itself where nothing is left over: then its layer is shared.
            patterns[place] = (
                wanted
                if positions.size == wanted.connections
                else Pattern(wanted.n_in, wanted.n_out, positions)
            )
        layout = online.with_patterns(patterns, share=online)
        rewirings = mine.layout.difference(layout)
        mine.parameters = mine.layout.carry(mine.parameters, layout, rewirings)
        mine.layout = layout
        self._united_with = online
        self._follower = self._plan()

    def _existing_patterns(self) -> Iterator[tuple[Place, Pattern]]:
        """Each layer's connections: what a dense target would hold as non-zero."""
        for place, pattern in self.network.layout:
            values = self.network.layout.read(self.network.parameters, place)
            positions = pattern.positions[values != 0]
            yield place, Pattern(pattern.n_in, pattern.n_out, positions)

    def _plan(self) -> _native.Follower:
        """What follows what; neighbouring stretches that follow one to one become one."""
        mine, theirs = self.network.layout, self.online.layout
        pieces: list[_Piece] = []
        for key, block in mine.blocks.items():
            target, online = block.where, theirs.blocks[key].where
            pattern, wanted = block.pattern, theirs.blocks[key].pattern
            if pattern is None or wanted is None or pattern.same_as(wanted):
                _add_stretch(pieces, target, online)
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
        return _native.Follower(pieces)

    def existing(self) -> State:
        """The connections that exist, never more than the budget, and their values."""
        mine = self.network
        layout = mine.layout.with_patterns(dict(self._existing_patterns()), share=mine.layout)
        rewirings = mine.layout.difference(layout)
        return layout.to_state(mine.layout.carry(mine.parameters, layout, rewirings))

    def state(self) -> State:
        """Everything that later results depend on, the union with its zeros included."""
        return {**self.network.state(), "behind": int(self._united_with is not self.online.layout)}

    def restore(self, state: State) -> None:
        """Take over a state."""
        self.network.restore(state)
        self._united_with = None if state["behind"] else self.online.layout
        self._follower = _native.Follower([]) if state["behind"] else self._plan()


def _add_stretch(pieces: list[_Piece], target: slice, online: slice) -> None:
    """Follow one to one, as part of the piece before if that does the same."""
    starts = target.start, online.start
    if pieces and pieces[-1][2] is None:
        last = pieces.pop()
        starts = last[0][0], last[1][0]
    pieces.append(((starts[0], target.stop), (starts[1], online.stop), None, None, 0))


def _sources(mine: Layout, theirs: Layout, place: Place) -> NDArray[np.uint32]:
    """For each kernel slot of mine, that of the same connection in theirs, or their number."""
    slot = np.empty(theirs.pattern(place).connections, np.uint32)
    canonical = theirs.native(place).canonical_index
    slot[canonical] = np.arange(canonical.size, dtype=np.uint32)
    positions = mine.pattern(place).positions[mine.native(place).canonical_index]
    index, found = theirs.pattern(place).find(positions)
    source = np.full(positions.size, slot.size, np.uint32)
    source[found] = slot[index[found]]
    return source
