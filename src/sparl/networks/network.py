"""Network: the parameters, forward pass and backward pass of a sparse network or ensemble."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sparl import _native
from sparl.networks.layout import Layout
from sparl.networks.pending import PendingArray
from sparl.networks.spec import Place
from sparl.sparse.rewiring import Rewiring
from sparl.types import Array, State

Pool = _native.Pool
PackedInput = _native.PackedInput  # a batch in the kernels' memory layout, for use in many passes
Input = Array | PackedInput


@dataclass(eq=False, slots=True)
class Trace:
    """The activations of a forward pass, which backward passes need.

    A trace is valid until the parameters or the topology of the network change; using it later
    raises ValueError.

    Attributes:
        network: the network that executed the pass.
        parameters: the parameters that the pass used.
        changes: number of times that they had changed before the pass.
        native: the activations.
    """

    network: Network
    parameters: PendingArray
    changes: int
    native: _native.Trace


class Network:
    """A network, or an ensemble of networks of equal shape, that stores only its connections.

    Args:
        layout: the order of the parameters.
        parameters: float32 [layout.parameters].
        pool: the thread pool; None means the calling thread only.

    Attributes:
        pending: the parameters, together with the pending work that may still access them.
    """

    def __init__(self, layout: Layout, parameters: Array, pool: Pool | None = None) -> None:
        self.layout = layout
        self.pool = pool
        self.parameters = parameters

    @property
    def parameters(self) -> Array:
        """Parameters, float32 [layout.parameters]; access blocks until pending work is done."""
        return self.pending.to_read()

    @parameters.setter
    def parameters(self, parameters: Array) -> None:
        self.pending = PendingArray(parameters)

    def forward(self, *inputs: Input) -> tuple[Array, Trace]:
        """Compute outputs, and a trace for backward passes.

        Args:
            inputs: float32 [B, n_i] each, concatenated along features.

        Returns:
            The outputs, float32 [E, B, n_out] for an ensemble, else [B, n_out]; and the trace.

        Raises:
            ValueError, TypeError: if a shape, dtype or memory order does not match.
        """
        pending = self.pending
        output, native = self.layout.stack.forward(pending.to_read(), inputs, self.pool)
        return self._shaped(output), Trace(self, pending, pending.changes, native)

    def __call__(self, *inputs: Input) -> Array:
        """Compute the outputs without a trace; they are bitwise equal to those of `forward`."""
        return self._shaped(self.layout.stack.outputs(self.parameters, inputs, self.pool))

    def _shaped(self, output: Array) -> Array:
        return output if self.layout.spec.ensemble else output[0]

    def value_and_input_gradient(
        self, *inputs: Input, weight: float, member: int | None = None
    ) -> tuple[Array, Array]:
        """Compute the smallest output of an ensemble or the output of one member, and its gradient.

        The gradient is with respect to the inputs. If several members have the smallest output,
        they share the gradient equally. Both results are computed in one pass, without a trace.

        Args:
            inputs: float32 [B, n_i] each, concatenated along features.
            weight: factor by which the gradient is multiplied.
            member: use the output of this member of an ensemble; None means the smallest output.

        Returns:
            value, float32 [B, 1], which is NaN where a member's output is NaN; and the gradient of
            weight * sum(value) with respect to the inputs, starting at the spec's
            first_gradient_input, float32 [B, n_in - first_gradient_input].

        Raises:
            ValueError: if the network has several outputs, or if its output is not linear.
            IndexError: if the member does not exist.
            ValueError, TypeError: if `forward` would not accept the inputs.
        """
        stack = self.layout.stack
        return stack.value_and_input_gradient(self.parameters, inputs, weight, member, self.pool)

    def gradient_factors(
        self, trace: Trace, output_gradient: Array, place: Place
    ) -> tuple[Array, Array]:
        """Compute the factors dY, float32 [n_out, B], and X, float32 [n_in, B], of a layer.

        The dense weight gradient of the layer is their product, dL/dW = dY X^T.

        Raises:
            ValueError: if the trace does not belong to the current network.
        """
        native, d = self.checked(trace, output_gradient)
        return self.layout.stack.gradient_factors(self.parameters, native, d, *place, self.pool)

    def checked(self, trace: Trace, output_gradient: Array) -> tuple[_native.Trace, Array]:
        """Check a trace; return its native trace, and the gradient with a leading axis of members.

        Raises:
            ValueError: if the trace does not belong to the current network.
        """
        if trace.network is not self:
            raise ValueError(
                "the trace comes from a different network; call forward on this network"
            )
        if trace.parameters is not self.pending or trace.changes != self.pending.changes:
            raise ValueError(
                "the trace is older than a topology update, an optimiser step or a soft update; "
                "call forward again"
            )
        ensemble = output_gradient.ndim == 3
        return trace.native, output_gradient if ensemble else output_gradient[np.newaxis]

    def rewire(self, to: Layout, rewirings: Mapping[Place, Rewiring]) -> None:
        """Move the parameters to another layout; grown connections are 0."""
        self.parameters = self.layout.carry(self.parameters, to, rewirings)
        self.layout = to

    def copy(self) -> Network:
        """Return a network with the same layout and a copy of the parameters."""
        return Network(self.layout, self.parameters.copy(), self.pool)

    def state(self) -> State:
        """Return the patterns, weights and biases, by name; weights are in canonical order."""
        return self.layout.to_state(self.parameters)

    def restore(self, state: State) -> None:
        """Restore a state; `Layout.from_state` describes the errors that can occur."""
        self.layout, self.parameters = self.layout.from_state(state)
