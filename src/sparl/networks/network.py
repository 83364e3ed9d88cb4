"""Network: the parameters, forward pass and backward pass of a sparse network or ensemble."""

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
    """The activations of a forward pass, which backward passes need.

    A trace is valid until the parameters or the topology of the network change; using it later
    raises ValueError. Soft updates of a target network are not counted as changes.

    Attributes:
        network: the network that executed the pass.
        changes: number of changes of the network's parameters before the pass.
        native: the activations.
    """

    network: Network
    changes: int
    native: _native.Trace


class Network:
    """A network, or an ensemble of networks of equal shape, that stores only its connections.

    Args:
        layout: the order of the parameters.
        parameters: float32 [layout.parameters].
        ensemble: whether outputs have a leading axis of members: [E, B, n_out] instead of [B,
            n_out].
        pool: the thread pool; None means the default pool.

    Attributes:
        pending: the parameters, together with the pending work that may still access them.
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
        self._changes = 0  # number of changes of the parameters
        self.parameters = parameters

    @property
    def parameters(self) -> Array:
        """Parameters, float32 [layout.parameters]; access blocks until pending work is done."""
        return self.pending.to_read()

    @parameters.setter
    def parameters(self, parameters: Array) -> None:
        self.pending = PendingArray(parameters)
        self._changes += 1

    def forward(self, *inputs: Input) -> tuple[Array, Trace]:
        """Compute outputs, and a trace for backward passes.

        Args:
            inputs: float32 [B, n_i] each, concatenated along features.

        Returns:
            The outputs, float32 [E, B, n_out] for an ensemble, else [B, n_out]; and the trace.

        Raises:
            ValueError, TypeError: if a shape, dtype or memory order does not match.
        """
        output, trace = self.layout.stack.forward(self.parameters, inputs, self.pool)
        return output if self.ensemble else output[0], Trace(self, self._changes, trace)

    def __call__(self, *inputs: Input) -> Array:
        """Compute the outputs without a trace; they are bitwise equal to those of `forward`."""
        output: Array = self.layout.stack.outputs(self.parameters, inputs, self.pool)
        return output if self.ensemble else output[0]

    def value_and_input_gradient(
        self, *inputs: Input, weight: float, member: int | None = None
    ) -> tuple[Array, Array]:
        """Compute the smallest output of an ensemble or the output of one member, and its gradient.

        The gradient is with respect to the inputs. Members with equal outputs share it equally.
        Both results are computed in one pass, without a trace.

        Args:
            inputs: float32 [B, n_i] each, concatenated along features.
            weight: factor of the gradient.
            member: use the output of this member of an ensemble; None means the smallest output.

        Returns:
            value, float32 [B, 1], which is NaN where a member's output is NaN; and the gradient of
            weight * sum(value) with respect to the inputs from layout.first_gradient_input on,
            float32 [B, inputs].

        Raises:
            ValueError: if the network does not have exactly one output, or if it is not linear.
            IndexError: if the member does not exist.
            ValueError, TypeError: if `forward` would not accept the inputs.
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
        """Apply one step of Adam in place; the step may still be pending when the method returns.

        Args:
            trace: trace of a forward pass with the current parameters.
            output_gradient: gradient of the loss with respect to the output, float32, with the
                output's shape.
            moments: first and second moments, float32 [parameters] each, updated in place.
            step: number of the step, counted from 1.
            learning_rate: step size.
            beta1: decay rate of the first moments.
            beta2: decay rate of the second moments.
            epsilon: constant added to the denominator.
            weight_decay: L2 coefficient, added to the gradient.

        Raises:
            ValueError: if the trace does not belong to the current network.
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
        """Compute the factors dY, float32 [n_out, B], and X, float32 [n_in, B], of a layer.

        The dense weight gradient of the layer is their product, dL/dW = dY X^T.

        Raises:
            ValueError: if the trace does not belong to the current network.
        """
        d, native = _members(output_gradient), self._checked(trace)
        return self.layout.stack.gradient_factors(self.parameters, native, d, *place, self.pool)

    def _checked(self, trace: Trace) -> _native.Trace:
        """Return the native trace; raise ValueError if the trace is foreign or outdated."""
        if trace.network is not self:
            raise ValueError(
                "the trace comes from a different network; call forward on this network"
            )
        if trace.changes != self._changes:
            raise ValueError(
                "the trace is older than a topology update or an optimiser step; call forward again"
            )
        return trace.native

    def copy(self) -> Network:
        """Return a network with the same layout and a copy of the parameters."""
        return Network(self.layout, self.parameters.copy(), ensemble=self.ensemble, pool=self.pool)

    def state(self) -> State:
        """Return the patterns, weights and biases, by name; weights are in canonical order."""
        return self.layout.to_state(self.parameters)

    def restore(self, state: State) -> None:
        """Restore a state; `Layout.from_state` describes the errors that can occur."""
        self.layout, self.parameters = self.layout.from_state(state)


def _members(array: Array) -> Array:
    return array if array.ndim == 3 else array[np.newaxis]
