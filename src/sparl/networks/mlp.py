"""Network: multilayer perceptrons over existing connections, one or an ensemble of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sparl import _native
from sparl.sparse.pattern import Pattern
from sparl.sparse.rewiring import Rewiring

Array = NDArray[np.float32]
Place = tuple[int, int]  # (member of the ensemble, layer)
State = dict[str, NDArray[np.generic] | int | float]
Output = Literal["linear", "tanh"]
Trace = _native.Trace  # what a forward pass leaves for the backward passes of the same layout


class Layout:
    """Where every parameter of an ensemble of equally shaped MLPs lies in one flat array.

    The flat array holds, member by member and layer by layer, the weights in kernel order and
    then the biases. Immutable: a rewiring makes another layout that shares unchanged layers.

    Args:
        patterns: for each member, its layers' patterns.
        output: activation of the last layer; hidden layers are ReLU.
        first_gradient_input: inputs before it are never differentiated.
        share: a layout whose native layers are used again where the pattern is the same object.
    """

    def __init__(
        self,
        patterns: Sequence[Sequence[Pattern]],
        output: Output,
        first_gradient_input: int = 0,
        share: Layout | None = None,
    ) -> None:
        self.patterns = [list(member) for member in patterns]
        self.output: Output = output
        self.first_gradient_input = first_gradient_input
        shared = share.layer_of if share else {}
        # By pattern and first differentiated input: everything that a native layer depends on.
        self.layer_of: dict[tuple[Pattern, int], _native.Layer] = {}
        for (_, index), pattern in self:
            first = self._first_gradient_input(index)
            self.layer_of[pattern, first] = shared.get((pattern, first)) or _native.Layer(
                pattern.n_in, pattern.n_out, pattern.positions, first
            )
        self.stack = _native.Stack(
            [[self.native((m, k)) for k in range(len(row))] for m, row in enumerate(self.patterns)],
            output,
        )

    @property
    def n_in(self) -> int:
        """Inputs of each member."""
        return self.patterns[0][0].n_in

    @property
    def n_out(self) -> int:
        """Outputs of each member."""
        return self.patterns[0][-1].n_out

    @property
    def connections(self) -> int:
        """Weights of all members, biases not counted."""
        return sum(pattern.connections for _, pattern in self)

    @property
    def parameters(self) -> int:
        """Length of the flat array: weights and biases."""
        return int(self.stack.parameters)

    def __iter__(self) -> Iterator[tuple[Place, Pattern]]:
        for member, layers in enumerate(self.patterns):
            for layer, pattern in enumerate(layers):
                yield (member, layer), pattern

    def pattern(self, place: Place) -> Pattern:
        """The pattern at a place."""
        return self.patterns[place[0]][place[1]]

    def native(self, place: Place) -> _native.Layer:
        """The native layer at a place."""
        return self.layer_of[self.pattern(place), self._first_gradient_input(place[1])]

    def _first_gradient_input(self, layer: int) -> int:
        return 0 if layer else self.first_gradient_input

    def weights_slice(self, place: Place) -> slice:
        """Where a layer's weights lie in the flat array."""
        start = self.stack.weights_at(*place)
        return slice(start, start + self.pattern(place).connections)

    def biases_slice(self, place: Place) -> slice:
        """Where a layer's biases lie in the flat array."""
        start = self.stack.biases_at(*place)
        return slice(start, start + self.pattern(place).n_out)

    def read(self, flat: Array, place: Place) -> Array:
        """A layer's values, float32 [N], in canonical order."""
        values = np.empty(self.pattern(place).connections, np.float32)
        values[self.native(place).canonical_index] = flat[self.weights_slice(place)]
        return values

    def write(self, flat: Array, place: Place, values: Array) -> None:
        """Put a layer's values, given in canonical order, where they belong."""
        flat[self.weights_slice(place)] = values[self.native(place).canonical_index]

    def rewired(self, rewirings: Mapping[Place, Rewiring]) -> Layout:
        """The layout with some layers' patterns replaced."""
        patterns = [list(member) for member in self.patterns]
        for (member, layer), rewiring in rewirings.items():
            patterns[member][layer] = rewiring.new
        return Layout(patterns, self.output, self.first_gradient_input, share=self)

    def carry(
        self,
        flat: Array,
        to: Layout,
        rewirings: Mapping[Place, Rewiring],
        grown: Callable[[Rewiring, Array], float | Array] = lambda rewiring, old: 0.0,
    ) -> Array:
        """A flat array of this layout in the order of another that came from these rewirings.

        Args:
            flat: float32 [parameters].
            to: the layout after the rewirings.
            rewirings: what changed between the two layouts.
            grown: from a layer's rewiring and old values, what its grown connections get.
        """
        out = np.empty(to.parameters, np.float32)
        for place, _ in self:
            out[to.biases_slice(place)] = flat[self.biases_slice(place)]
            if place in rewirings:
                old = self.read(flat, place)
                to.write(out, place, rewirings[place].carry(old, grown(rewirings[place], old)))
            else:
                out[to.weights_slice(place)] = flat[self.weights_slice(place)]
        return out

    def difference(self, to: Layout) -> dict[Place, Rewiring]:
        """The rewirings that lead from this layout to another of the same shape."""
        return {
            place: Rewiring(pattern, to.pattern(place))
            for place, pattern in self
            if not pattern.same_as(to.pattern(place))
        }

    def to_state(self, flat: Array) -> State:
        """Patterns, weights and biases by name, in canonical order."""
        state: State = {}
        for place, pattern in self:
            name = "member{}.layer{}".format(*place)
            state[f"{name}.positions"] = pattern.positions
            state[f"{name}.weight"] = self.read(flat, place)
            state[f"{name}.bias"] = flat[self.biases_slice(place)].copy()
        return state

    def from_state(self, state: State) -> tuple[Layout, Array]:
        """The inverse of to_state, for networks of this shape; patterns may differ.

        Raises:
            KeyError: something is missing.
            ValueError: sizes or a pattern are wrong.
        """
        patterns: list[list[Pattern]] = [[] for _ in self.patterns]
        for (member, layer), pattern in self:
            positions = np.asarray(state[f"member{member}.layer{layer}.positions"], np.int64)
            patterns[member].append(Pattern(pattern.n_in, pattern.n_out, positions.copy()))
        layout = Layout(patterns, self.output, self.first_gradient_input)
        flat = np.empty(layout.parameters, np.float32)
        for place, pattern in layout:
            name = "member{}.layer{}".format(*place)
            weight = np.asarray(state[f"{name}.weight"], np.float32)
            bias = np.asarray(state[f"{name}.bias"], np.float32)
            if weight.shape != (pattern.connections,) or bias.shape != (pattern.n_out,):
                raise ValueError(
                    f"{name}: {weight.shape} weights for {pattern.connections} connections, "
                    f"{bias.shape} biases for {pattern.n_out} outputs"
                )
            layout.write(flat, place, weight)
            flat[layout.biases_slice(place)] = bias
        return layout, flat


class Network:
    """An MLP or an ensemble of equally shaped ones: stores and computes its connections.

    Args:
        layout: where its parameters lie.
        parameters: float32 [layout.parameters].
        ensemble: outputs have a leading axis of members, [E, B, n_out]; else [B, n_out].

    Attributes:
        changed_by: what may still change the parameters beside what the caller does, a step of the
            environment; whoever asks for them waits.
        read_by: what may still read them; adam_step waits.
    """

    def __init__(self, layout: Layout, parameters: Array, *, ensemble: bool = False) -> None:
        self.layout = layout
        self._parameters = parameters
        self.ensemble = ensemble
        self.changed_by: _native.Unfinished | None = None
        self.read_by: _native.Unfinished | None = None

    @property
    def parameters(self) -> Array:
        """Float32 [layout.parameters]; waits until nothing changes them any more."""
        self.finish()
        return self._parameters

    @parameters.setter
    def parameters(self, parameters: Array) -> None:
        self._parameters = parameters

    def finish(self) -> None:
        """Wait until nothing changes the parameters any more."""
        if begun := self.changed_by:  # another thread may wait for it too
            begun.finish()
            self.changed_by = None

    def finish_reading(self) -> None:
        """Wait until nothing else reads the parameters any more."""
        if begun := self.read_by:
            begun.finish()
            self.read_by = None

    def forward(self, *inputs: Array) -> tuple[Array, Trace]:
        """Compute outputs and keep what backward passes need.

        Args:
            inputs: float32 [B, n_i] each, joined along features.

        Returns:
            float32 [E, B, n_out] for an ensemble, else [B, n_out].

        Raises:
            ValueError, TypeError: shapes, dtypes or memory order do not fit.
        """
        output, trace = self.layout.stack.forward(self.parameters, inputs)
        return output if self.ensemble else output[0], trace

    def __call__(self, *inputs: Array) -> Array:
        """The outputs alone, bit for bit those of forward."""
        output: Array = self.layout.stack.outputs(self.parameters, inputs)
        return output if self.ensemble else output[0]

    def value_and_input_gradient(
        self, *inputs: Array, weight: float, member: int | None = None
    ) -> tuple[Array, Array]:
        """The smallest output of an ensemble, or that of a member, and how it changes with inputs.

        Of members that are equal each has its share of the gradient. Both in one pass that leaves
        no trace.

        Args:
            inputs: float32 [B, n_i] each, joined along features.
            weight: of the sum that is differentiated.
            member: of an ensemble, this one alone.

        Returns:
            value, float32 [B, 1], NaN where a member is, and d weight sum(value) / d inputs from
            layout.first_gradient_input on, float32 [B, inputs].

        Raises:
            ValueError: the network has not one linear output.
            IndexError: there is no such member.
            ValueError, TypeError: inputs do not fit, as of forward.
        """
        stack = self.layout.stack
        return stack.value_and_input_gradient(self.parameters, inputs, weight, member)

    def gradient(self, trace: Trace, output_gradient: Array, out: Array) -> Array:
        """Write dL/d parameters into out, float32 [parameters], in the order of parameters.

        Args:
            trace: of a forward pass with these parameters.
            output_gradient: dL/d output, float32, of the output's shape.
            out: where the result goes; also returned.

        Raises:
            ValueError: the trace comes from another network or from before a topology update.
        """
        self.layout.stack.gradient(self.parameters, trace, _members(output_gradient), out)
        return out

    def adam_step(
        self, trace: Trace, output_gradient: Array, m: Array, v: Array, step: int, *numbers: float
    ) -> None:
        """One step of Adam down what gradient gives, in place; it may go on when this returns.

        Args:
            trace: of a forward pass with these parameters.
            output_gradient: dL/d output, float32, of the output's shape.
            m: first moments, float32 [parameters]; changed as long as the parameters are.
            v: second moments, likewise.
            step: counts from 1.
            numbers: learning rate, beta1, beta2, epsilon, L2 weight decay.

        Raises:
            ValueError: as of gradient.
        """
        self.finish_reading()
        self.changed_by = self.layout.stack.adam_step(
            self.parameters, trace, _members(output_gradient), m, v, step, *numbers
        )

    def gradient_factors(
        self, trace: Trace, output_gradient: Array, place: Place
    ) -> tuple[Array, Array]:
        """DY float32 [n_out, B] and X float32 [n_in, B] of a layer; dL/dW = dY X^T, dense.

        Raises:
            ValueError: as of gradient.
        """
        d = _members(output_gradient)
        return self.layout.stack.gradient_factors(self.parameters, trace, d, *place)

    def copy(self) -> Network:
        """Another network with the same layout and its own parameters."""
        return Network(self.layout, self.parameters.copy(), ensemble=self.ensemble)

    def state(self) -> State:
        """Patterns, weights and biases in canonical order, by name."""
        return self.layout.to_state(self.parameters)

    def restore(self, state: State) -> None:
        """Take over a state; see Layout.from_state for errors."""
        self.layout, self.parameters = self.layout.from_state(state)


def _members(array: Array) -> Array:
    return array if array.ndim == 3 else array[np.newaxis]
