"""Adam over a flat array of parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sparl.networks.layout import Layout
from sparl.networks.network import Network, Trace
from sparl.networks.pending import PendingArray
from sparl.networks.spec import Place
from sparl.sparse.rewiring import Rewiring
from sparl.types import Array, State

GrownMoments = Literal["factored", "mean", "zero"]


class Adam:
    """Adam (Kingma & Ba 2015) with L2 weight decay added to the gradient.

    Bias correction uses the step count of the network, also for grown connections.

    Args:
        layout: layout of the parameters.
        learning_rate: step size.
        weight_decay: L2 coefficient; weight_decay times the parameter is added to the gradient of
            weights and biases.
        grown_moments: initial second moment of a grown connection; the first moment is 0.
            "factored": the rank-one estimate of Adafactor (Shazeer & Stern 2018): the mean over
            the connections of the output neuron times the mean over the connections of the input
            neuron, divided by the layer's mean. A neuron without connections counts with the
            layer's mean. The estimate is 0 if one of the three means is 0.
            "mean": the layer's mean.
            "zero": 0.
    """

    beta1, beta2, epsilon = 0.9, 0.999, 1e-8

    def __init__(
        self, layout: Layout, learning_rate: float, weight_decay: float, grown_moments: GrownMoments
    ) -> None:
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.grown_moments: GrownMoments = grown_moments
        self.layout = layout
        self.m = np.zeros(layout.parameters, np.float32)
        self.v = np.zeros(layout.parameters, np.float32)
        self.steps = 0

    @property
    def m(self) -> Array:
        """First moments, float32 [layout.parameters]; access blocks until pending work is done."""
        return self._m.to_read()

    @m.setter
    def m(self, moments: Array) -> None:
        self._m = PendingArray(moments)

    @property
    def v(self) -> Array:
        """Second moments, float32 [layout.parameters]; access blocks until pending work is done."""
        return self._v.to_read()

    @v.setter
    def v(self, moments: Array) -> None:
        self._v = PendingArray(moments)

    def step(self, network: Network, trace: Trace, output_gradient: Array) -> None:
        """Update the network's parameters in place by one step.

        Args:
            network: a network with the layout of this optimiser.
            trace: trace of a forward pass with the network's current parameters.
            output_gradient: gradient of the loss with respect to the output, float32, with the
                output's shape.

        Raises:
            ValueError: if the trace comes from another network, or if the network has changed since
                the forward pass.
        """
        native, d = network.checked(trace, output_gradient)
        changed = (network.pending, self._m, self._v)
        parameters, m, v = (array.to_write() for array in changed)
        work = network.layout.stack.adam_step(
            parameters, native, d, m, v, self.steps + 1, self.learning_rate,
            self.beta1, self.beta2, self.epsilon, self.weight_decay, network.pool,
        )  # fmt: skip
        for array in changed:
            array.written(work)
        self.steps += 1

    def rewire(self, to: Layout, rewirings: Mapping[Place, Rewiring]) -> None:
        """Move the moments to another layout; surviving connections keep their moments."""
        old, self.layout = self.layout, to
        self.m = old.carry(self.m, to, rewirings)
        self.v = old.carry(self.v, to, rewirings, grown=self._grown_v)

    def _grown_v(self, rewiring: Rewiring, v: Array) -> float | Array:
        """Return the second moments of grown connections, float32 [grown].

        Args:
            rewiring: change of the layer's pattern.
            v: second moments of the layer before the change, in canonical order.
        """
        mean = float(v.mean(dtype=np.float64)) if v.size else 0.0
        if self.grown_moments == "zero" or mean == 0.0:
            return 0.0
        if self.grown_moments == "mean":
            return mean
        old, new, grown = rewiring.old, rewiring.new, rewiring.grown
        by_output = _means(v, old.outputs, old.n_out, mean)[new.outputs[grown]]
        by_input = _means(v, old.inputs, old.n_in, mean)[new.inputs[grown]]
        return (by_output * by_input / mean).astype(np.float32)

    def state(self) -> State:
        """Return the moments in canonical order and the number of steps."""
        state: State = {"steps": self.steps}
        for name, moments in (("m", self.m), ("v", self.v)):
            for key, value in self.layout.to_state(moments).items():
                if not key.endswith("positions"):
                    state[f"{name}.{key}"] = value
        return state

    def restore(self, state: State, layout: Layout) -> None:
        """Restore a state whose moments belong to this layout.

        Raises:
            KeyError: if an entry is missing.
            ValueError: if an array has the wrong size or a second moment is negative.
        """
        self.layout = layout
        self.steps = int(state["steps"])
        for name in ("m", "v"):
            moments = np.empty(layout.parameters, np.float32)
            for key, block in layout.blocks.items():
                layout.write_block(moments, block, np.asarray(state[f"{name}.{key}"], np.float32))
            setattr(self, name, moments)
        if not (self.v >= 0).all():
            raise ValueError("adam: a second moment is negative, but all must be at least 0")


def _means(
    values: Array, group: NDArray[np.int64], groups: int, empty: float
) -> NDArray[np.float64]:
    """Return the mean of each group, float64 [groups], which is `empty` for an empty group."""
    count = np.bincount(group, minlength=groups)
    total = np.bincount(group, weights=values, minlength=groups)
    return np.where(count > 0, total / np.maximum(count, 1), empty)
