"""Layout: the order in which one flat array stores the parameters of a network or an ensemble."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from sparl import _native
from sparl.networks.spec import NetworkSpec, Place, layer_key
from sparl.sparse.pattern import Pattern
from sparl.sparse.rewiring import Rewiring
from sparl.types import Array, State


@dataclass(frozen=True, eq=False)
class Block:
    """A contiguous part of the flat array: the parameters of one kind in one layer.

    Attributes:
        place: member and layer.
        name: name of the block in the layer, such as "weight" or "bias".
        where: slice of the flat array.
        pattern: the connections to which the parameters belong; None except for weights.
    """

    place: Place
    name: str
    where: slice
    pattern: Pattern | None

    @property
    def layer_key(self) -> str:
        """The name of the layer in states and files."""
        return layer_key(self.place)

    @property
    def key(self) -> str:
        """The name of the block in states and files."""
        return f"{self.layer_key}.{self.name}"

    @property
    def size(self) -> int:
        """Number of parameters."""
        return int(self.where.stop - self.where.start)


class Layout:
    """The order in which one flat array stores all parameters of a network.

    The flat array contains the blocks of each layer, ordered by member and layer. Blocks with a
    pattern are in kernel order (see native/kernels.h); states have the canonical order (see
    `sparl.sparse.pattern.Pattern`). A layout is immutable: a rewiring creates a new layout, which
    shares the unchanged layers with the old one.

    Args:
        spec: spec of the network.
        patterns: the pattern of each layer that has one, for every member, by place.
        share: a layout of the same spec, whose native layers are reused where the pattern is the
            same object.

    Attributes:
        blocks: all parameters, by key, in the order of the flat array.

    Raises:
        ValueError: if a pattern is missing or does not have the shape of its layer.
    """

    def __init__(
        self, spec: NetworkSpec, patterns: Mapping[Place, Pattern], share: Layout | None = None
    ) -> None:
        self.spec = spec
        self.patterns = {place: patterns[place] for place in sorted(patterns)}
        self._natives: dict[Place, _native.Layer] = {}
        for place, layer in spec.places():
            pattern = patterns.get(place)
            if share is not None and pattern is share.patterns.get(place):
                self._natives[place] = share.native(place)
            else:
                first = 0 if place[1] else spec.first_gradient_input
                self._natives[place] = layer.native(pattern, first)
        depth, natives = len(spec.layers), list(self._natives.values())
        self.stack = _native.Stack(
            [natives[at : at + depth] for at in range(0, len(natives), depth)],
            [layer.activation for layer in spec.layers],
        )
        self.blocks = {block.key: block for block in self._blocks()}

    def with_patterns(self, patterns: Mapping[Place, Pattern]) -> Layout:
        """Return a layout with new patterns, which shares the layers whose pattern is unchanged."""
        return Layout(self.spec, patterns, share=self)

    def _blocks(self) -> Iterator[Block]:
        for place, layer in self.spec.places():
            start, pattern = self.stack.offset(*place), self.patterns.get(place)
            sized = layer.with_connections(pattern.connections) if pattern else layer
            for name, size in sized.blocks.items():
                where = slice(start, start + size)
                yield Block(place, name, where, pattern if name == "weight" else None)
                start += size

    @property
    def parameters(self) -> int:
        """Length of the flat array."""
        return int(self.stack.parameters)

    def __iter__(self) -> Iterator[tuple[Place, Pattern]]:
        """Iterate over the layers that have a pattern, as pairs of place and pattern."""
        return iter(self.patterns.items())

    def pattern(self, place: Place) -> Pattern:
        """Return the pattern at a place."""
        return self.patterns[place]

    def native(self, place: Place) -> _native.Layer:
        """Return the native layer at a place."""
        return self._natives[place]

    def block(self, place: Place, name: str = "weight") -> Block:
        """Return a block of the layer at a place."""
        return self.blocks[f"{layer_key(place)}.{name}"]

    def read(self, flat: Array, place: Place, name: str = "weight") -> Array:
        """Return a copy of a block's values, in canonical order if the block has a pattern."""
        return self.read_block(flat, self.block(place, name))

    def write(self, flat: Array, place: Place, values: Array, name: str = "weight") -> None:
        """Write a block's values, given in canonical order if the block has a pattern."""
        self.write_block(flat, self.block(place, name), values)

    def read_block(self, flat: Array, block: Block) -> Array:
        """Return a copy of a block's values; see read."""
        values = flat[block.where].copy()
        if block.pattern is not None:
            values[self.native(block.place).canonical_index] = flat[block.where]
        return values

    def write_block(self, flat: Array, block: Block, values: Array) -> None:
        """Write a block's values; see write.

        Raises:
            ValueError: if the number of values differs from the number of parameters.
        """
        if np.shape(values) != (block.size,):
            raise ValueError(
                f"{block.key} has shape {np.shape(values)} but must have shape ({block.size},)"
            )
        if block.pattern is not None:
            values = values[self.native(block.place).canonical_index]
        flat[block.where] = values

    def rewired(self, rewirings: Mapping[Place, Rewiring]) -> Layout:
        """Return a layout in which the rewirings have replaced the patterns of some layers."""
        new = {place: rewiring.new for place, rewiring in rewirings.items()}
        return self.with_patterns({**self.patterns, **new})

    def carry(
        self,
        flat: Array,
        to: Layout,
        rewirings: Mapping[Place, Rewiring],
        grown: Callable[[Rewiring, Array], float | Array] = lambda rewiring, old: 0.0,
    ) -> Array:
        """Move the values of a flat array of this layout to another layout.

        Args:
            flat: float32 [parameters].
            to: the layout after the rewirings.
            rewirings: the differences between the two layouts.
            grown: function that maps a layer's rewiring and old values to the values of the grown
                connections; by default 0.

        Returns:
            float32 [to.parameters]; surviving connections keep their values.
        """
        out = np.empty(to.parameters, np.float32)
        for key, block in self.blocks.items():
            new = to.blocks[key]
            if block.pattern is not None and block.place in rewirings:
                rewiring, old = rewirings[block.place], self.read_block(flat, block)
                to.write_block(out, new, rewiring.carry(old, grown(rewiring, old)))
            else:
                out[new.where] = flat[block.where]
        return out

    def difference(self, to: Layout) -> dict[Place, Rewiring]:
        """Return the rewirings that turn this layout into `to`, which has the same spec."""
        return {
            place: Rewiring(pattern, to.pattern(place))
            for place, pattern in self
            if not pattern.same_as(to.pattern(place))
        }

    @staticmethod
    def longest(most: Mapping[Place, int]) -> dict[str, int]:
        """Return the maximum length of each state array whose length may change.

        Args:
            most: the maximum number of connections of each layer in which this number may change.
        """
        return {
            f"{layer_key(place)}.{array}": count
            for place, count in most.items()
            for array in ("positions", "weight")
        }

    def to_state(self, flat: Array) -> State:
        """Return the patterns and parameters by name; weights are in canonical order."""
        state: State = {}
        for key, block in self.blocks.items():
            if block.pattern is not None:
                state[f"{block.layer_key}.positions"] = block.pattern.positions
            state[key] = self.read_block(flat, block)
        return state

    def from_state(self, state: State) -> tuple[Layout, Array]:
        """Return the layout and the flat array that a state from `to_state` describes.

        The patterns of the state may differ from those of this layout.

        Raises:
            KeyError: if an entry is missing.
            ValueError: if an array has the wrong size, or a pattern is invalid.
        """
        patterns = {}
        for block in self.blocks.values():
            if old := block.pattern:
                positions = np.asarray(state[f"{block.layer_key}.positions"], np.int64)
                patterns[block.place] = Pattern(old.n_in, old.n_out, positions.copy())
        layout = Layout(self.spec, patterns)
        flat = np.empty(layout.parameters, np.float32)
        for key, block in layout.blocks.items():
            layout.write_block(flat, block, np.asarray(state[key], np.float32))
        return layout, flat
