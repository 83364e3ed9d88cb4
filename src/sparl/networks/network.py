"""Network: stores and computes existing connections, of one network or of an ensemble."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparl import _native
from sparl.networks.layout import Layout, Place
from sparl.networks.pending import PendingArray
from sparl.types import Array, State

Pool = _native.Pool
PackedInput = _native.PackedInput  # a batch in the layout of the kernels, for several passes
Input = Array | PackedInput


@dataclass(eq=False, slots=True)
class Trace:
    """What a forward pass leaves for the backward passes of the network that made it.

    It belongs to the parameters and the topology of that pass. Using it once they have changed is
    an error.

    Attributes:
        network: that made it.
        changes: of the network's parameters until then.
        native: the activations.
    """

    network: Network
    changes: int
    native: _native.Trace


class Network:
    """A network or an ensemble of equally shaped ones: stores and computes its connections.

    Args:
        layout: where its parameters lie.
        parameters: float32 [layout.parameters].
        ensemble: outputs have a leading axis of members, [E, B, n_out]; else [B, n_out].
        pool: the threads that compute; None: the default pool's.

    Attributes:
        pending: the parameters, and the work that may still write or read them.
    """

    def __init__(
        self,
        layout: Layout,
        parameters: Array,
        *,
        ensemble: bool = False,
        pool: Pool | None = None,
    ) -> None:
        self.layout = layout
        self.ensemble = ensemble
        self.pool = pool
        self._changes = 0  # of the parameters
        self.parameters = parameters

    @property
    def parameters(self) -> Array:
        """Float32 [layout.parameters], once nothing changes them any more."""
        return self.pending.to_read()

    @parameters.setter
    def parameters(self, parameters: Array) -> None:
        self.pending = PendingArray(parameters)
        self._changes += 1

    def forward(self, *inputs: Input) -> tuple[Array, Trace]:
        """Compute outputs and keep what backward passes need.

        Args:
            inputs: float32 [B, n_i] each, joined along features.

        Returns:
            float32 [E, B, n_out] for an ensemble, else [B, n_out].

        Raises:
            ValueError, TypeError: shapes, dtypes or memory order do not fit.
        """
        output, trace = self.layout.stack.forward(self.parameters, inputs, self.pool)
        return output if self.ensemble else output[0], Trace(self, self._changes, trace)

    def __call__(self, *inputs: Input) -> Array:
        """The outputs alone, bit for bit those of forward."""
        output: Array = self.layout.stack.outputs(self.parameters, inputs, self.pool)
        return output if self.ensemble else output[0]

    def value_and_input_gradient(
        self, *inputs: Input, weight: float, member: int | None = None
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
        return stack.value_and_input_gradient(self.parameters, inputs, weight, member, self.pool)

    def adam_step(
        self,
        trace: Trace,
        output_gradient: Array,
        moments: tuple[PendingArray, PendingArray],
        step: int,
        learning_rate: float,
        beta1: float,
        beta2: float,
        epsilon: float,
        weight_decay: float,
    ) -> None:
        """One step of Adam, in place, which may be pending when this returns.

        Args:
            trace: of a forward pass with these parameters.
            output_gradient: dL/d output, float32, of the output's shape.
            moments: first and second, float32 [parameters], changed with the parameters.
            step: counts from 1.
            learning_rate: step size.
            beta1: of the first moments.
            beta2: of the second moments.
            epsilon: added to the denominator.
            weight_decay: L2 coefficient.

        Raises:
            ValueError: the trace does not belong to the network as it is.
        """
        native, changed = self._checked(trace), (self.pending, *moments)
        parameters, m, v = (array.to_write() for array in changed)
        work = self.layout.stack.adam_step(
            parameters, native, _members(output_gradient), m, v, step,
            learning_rate, beta1, beta2, epsilon, weight_decay, self.pool,
        )  # fmt: skip
        self._changes += 1
        for array in changed:
            array.written_by(work)

    def gradient_factors(
        self, trace: Trace, output_gradient: Array, place: Place
    ) -> tuple[Array, Array]:
        """DY float32 [n_out, B] and X float32 [n_in, B] of a layer; dL/dW = dY X^T, dense.

        Raises:
            ValueError: as of adam_step.
        """
        d, native = _members(output_gradient), self._checked(trace)
        return self.layout.stack.gradient_factors(self.parameters, native, d, *place, self.pool)

    def _checked(self, trace: Trace) -> _native.Trace:
        """What is in a trace, if it belongs to the network as it is."""
        if trace.network is not self:
            raise ValueError("the trace comes from another network; run forward on this one")
        if trace.changes != self._changes:
            raise ValueError(
                "the trace comes from before a topology update or an optimiser step; "
                "run forward again"
            )
        return trace.native

    def copy(self) -> Network:
        """Another network with the same layout and its own parameters."""
        return Network(self.layout, self.parameters.copy(), ensemble=self.ensemble, pool=self.pool)

    def state(self) -> State:
        """Patterns, weights and biases in canonical order, by name."""
        return self.layout.to_state(self.parameters)

    def restore(self, state: State) -> None:
        """Take over a state; see Layout.from_state for errors."""
        self.layout, self.parameters = self.layout.from_state(state)


def _members(array: Array) -> Array:
    return array if array.ndim == 3 else array[np.newaxis]
