"""NetworkSpec: the layers of a network, without parameter values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Activation = Literal["linear", "relu", "tanh"]  # "linear": no activation
Output = Literal["linear", "tanh"]  # the activation of a multilayer perceptron's last layer


@dataclass(frozen=True)
class Linear:
    """The layer y = activation(W x + b).

    The parameters of a layer are the block "weight", which has a pattern, and the block "bias".

    Attributes:
        n_in: number of inputs.
        n_out: number of outputs.
        connections: initial number of connections, at most n_in n_out.
        activation: function applied to W x + b.
    """

    n_in: int
    n_out: int
    connections: int
    activation: Activation


@dataclass(frozen=True)
class NetworkSpec:
    """A sequence of layers, each of which reads the outputs of the previous one."""

    layers: tuple[Linear, ...]

    @property
    def n_in(self) -> int:
        """Number of inputs."""
        return self.layers[0].n_in

    @property
    def n_out(self) -> int:
        """Number of outputs."""
        return self.layers[-1].n_out

    @property
    def connections(self) -> int:
        """Initial number of connections of all layers."""
        return sum(layer.connections for layer in self.layers)


def mlp(layers: Sequence[tuple[int, int, int]], output: Output) -> NetworkSpec:
    """Return the spec of a multilayer perceptron with ReLU between its layers.

    Args:
        layers: numbers of inputs, outputs and connections of each layer.
        output: activation of the last layer.
    """
    last = len(layers) - 1
    return NetworkSpec(
        tuple(
            Linear(*sizes, activation="relu" if index < last else output)
            for index, sizes in enumerate(layers)
        )
    )
