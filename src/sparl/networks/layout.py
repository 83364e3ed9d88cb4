"""Layout: the order of the parameters of a network or of an ensemble in one flat array."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sparl import _native
from sparl.networks.spec import NetworkSpec, Output, mlp
from sparl.sparse.pattern import Pattern
from sparl.sparse.rewiring import Rewiring
from sparl.types import Array, State

Place = tuple[int, int]  # (member of the ensemble, layer)


@dataclass(frozen=True, eq=False)
class Block:
    """Parameters of one kind in one layer, contiguous in the flat array.

    Attributes:
        place: member and layer.
        name: "weight" or "bias".
        where: slice of the flat array.
        pattern: the connections to which the parameters belong; None for biases.
    """

    place: Place
    name: str
    where: slice
    pattern: Pattern | None

    @property
    def layer_key(self) -> str:
        """The name of the layer in states and files."""
        return "member{}.layer{}".format(*self.place)

    @property
    def key(self) -> str:
        """The name of the block in states and files."""
        return f"{self.layer_key}.{self.name}"

    @property
    def size(self) -> int:
        """Number of parameters."""
        return int(self.where.stop - self.where.start)


class Layout:
    """The order, in one flat array, of all parameters of an ensemble of networks with one spec.

    The flat array contains the blocks of each layer, ordered by member and layer. Blocks with a
    pattern are in kernel order. A layout is immutable: a rewiring creates a new layout, which
    shares the unchanged layers with the old one.

    Args:
        spec: spec of each member.
        patterns: pattern of each layer of every member.
        first_gradient_input: index of the first input whose gradient is computed.
        share: a layout whose native layers are reused if the pattern is the same object.

    Attributes:
        blocks: all parameters, by key, in the order of the flat array.

    Raises:
        ValueError: if a pattern is missing or does not have the shape of its layer.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        patterns: Mapping[Place, Pattern],
        first_gradient_input: int = 0,
        share: Layout | None = None,
    ) -> None:
        self.spec = spec
        self.patterns = {place: patterns[place] for place in sorted(patterns)}
        self.first_gradient_input = first_gradient_input
        self.members = 1 + max((member for member, _ in patterns), default=-1)
        shared = share._layer_of if share else {}
        # A native layer depends only on the pattern and on the first input with a gradient.
        self._layer_of: dict[tuple[Pattern, int], _native.Layer] = {}
        for place, pattern in self:
            first = self._first_gradient_input(place)
            self._layer_of[pattern, first] = shared.get((pattern, first)) or _native.Layer(
                pattern.n_in, pattern.n_out, pattern.positions, first
            )
        self.stack = _native.Stack(self._native_layers(), [s.activation for s in spec.layers])
        self.blocks = {block.key: block for block in self._blocks()}

    @classmethod
    def mlp(
        cls,
        members: Sequence[Sequence[Pattern]],
        output: Output,
        first_gradient_input: int = 0,
        share: Layout | None = None,
    ) -> Layout:
        """Return the layout of multilayer perceptrons from the patterns of each member's layers."""
        return cls(
            mlp([(p.n_in, p.n_out, p.connections) for p in members[0]], output),
            {
                (member, layer): pattern
                for member, layers in enumerate(members)
                for layer, pattern in enumerate(layers)
            },
            first_gradient_input,
            share,
        )

    def with_patterns(self, patterns: Mapping[Place, Pattern], share: Layout) -> Layout:
        """Return the layout of the same networks with new patterns."""
        return Layout(self.spec, patterns, self.first_gradient_input, share)

    def _native_layers(self) -> list[list[_native.Layer]]:
        """Return the native layers of each member."""
        layers: list[list[_native.Layer]] = []
        for member in range(self.members):
            layers.append([])
            for index, layer in enumerate(self.spec.layers):
                pattern = self.patterns.get((member, index))
                if pattern is None or (pattern.n_in, pattern.n_out) != (layer.n_in, layer.n_out):
                    found = f"one with {pattern.n_in} and {pattern.n_out}" if pattern else "none"
                    raise ValueError(
                        f"layout: layer {index} of member {member} needs a pattern with "
                        f"{layer.n_in} inputs and {layer.n_out} outputs but has {found}"
                    )
                layers[member].append(self.native((member, index)))
        return layers

    def _blocks(self) -> Iterator[Block]:
        for member in range(self.members):
            for layer in range(len(self.spec.layers)):
                for name, start, stop in self.stack.blocks(member, layer):
                    pattern = self.patterns[member, layer] if name == "weight" else None
                    yield Block((member, layer), name, slice(start, stop), pattern)

    @property
    def n_in(self) -> int:
        """Number of inputs of each member."""
        return self.spec.n_in

    @property
    def n_out(self) -> int:
        """Number of outputs of each member."""
        return self.spec.n_out

    @property
    def connections(self) -> int:
        """Number of existing connections of all members."""
        return sum(pattern.connections for _, pattern in self)

    @property
    def parameters(self) -> int:
        """Length of the flat array."""
        return int(self.stack.parameters)

    def __iter__(self) -> Iterator[tuple[Place, Pattern]]:
        """Iterate over the places and patterns of all layers."""
        return iter(self.patterns.items())

    def pattern(self, place: Place) -> Pattern:
        """Return the pattern at a place."""
        return self.patterns[place]

    def native(self, place: Place) -> _native.Layer:
        """Return the native layer at a place."""
        return self._layer_of[self.pattern(place), self._first_gradient_input(place)]

    def _first_gradient_input(self, place: Place) -> int:
        return 0 if place[1] else self.first_gradient_input

    def block(self, place: Place, name: str = "weight") -> Block:
        """Return a block of the layer at a place."""
        return self.blocks["member{}.layer{}.{}".format(*place, name)]

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
        return self.with_patterns({**self.patterns, **new}, share=self)

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
                connections.

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
        layout = Layout(self.spec, patterns, self.first_gradient_input)
        flat = np.empty(layout.parameters, np.float32)
        for key, block in layout.blocks.items():
            layout.write_block(flat, block, np.asarray(state[key], np.float32))
        return layout, flat
