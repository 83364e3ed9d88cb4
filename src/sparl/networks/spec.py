"""NetworkSpec: the layers of a network, without parameter values."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np

from sparl import _native
from sparl.sparse.pattern import Pattern
from sparl.types import Array

Place = tuple[int, int]  # (member of the ensemble, layer)
Activation = Literal["linear", "relu", "tanh"]  # "linear": no activation

ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "linear": lambda values: values,
    "relu": lambda values: np.maximum(values, 0),
    "tanh": np.tanh,
}


def layer_key(place: Place) -> str:
    """Return the name of a layer in states and files."""
    return "member{}.layer{}".format(*place)


@dataclass(frozen=True)
class Layer(ABC):
    """A layer of a network: a function of its inputs, followed by an activation.

    To add a type of layer, write a subclass, a native layer, initial values for its blocks in
    `sparl.networks.initialize`, and a case in `layer_of` and in each export.

    Attributes:
        n_in: number of inputs.
        n_out: number of outputs.
        activation: name of the function that is applied last.
        connections: number of connections; 0 for a layer without a pattern.
    """

    n_in: int
    n_out: int
    activation: Activation
    connections: int = 0

    @property
    def size(self) -> int:
        """Number of possible connections; 0 for a layer without a pattern."""
        return 0

    def with_connections(self, connections: int) -> Self:
        """Return this layer with another number of connections."""
        return replace(self, connections=connections)

    @property
    @abstractmethod
    def blocks(self) -> dict[str, int]:
        """The number of parameters in each block, in the order of the native layer.

        The parameters of the block "weight" belong to connections. No other block has a pattern.
        """

    @abstractmethod
    def native(self, pattern: Pattern | None, first_gradient_input: int) -> _native.Layer:
        """Return the native layer, which computes no gradient for inputs before the given one."""

    @abstractmethod
    def entry(self) -> dict[str, Any]:
        """Return the layer's entry in an agent's file, from which `layer_of` restores the layer."""


@dataclass(frozen=True)
class Linear(Layer):
    """The layer y = activation(W x + b), with the blocks "weight" and "bias"."""

    @property
    def size(self) -> int:
        """Number of possible connections."""
        return self.n_in * self.n_out

    @property
    def blocks(self) -> dict[str, int]:
        """Numbers of weights and biases."""
        return {"weight": self.connections, "bias": self.n_out}

    def native(self, pattern: Pattern | None, first_gradient_input: int) -> _native.Layer:
        """Return the native layer with a pattern.

        Raises:
            ValueError: if the pattern is missing or has another shape.
        """
        if pattern is None or (pattern.n_in, pattern.n_out) != (self.n_in, self.n_out):
            raise ValueError(
                f"layout: a linear layer needs a pattern with {self.n_in} inputs and {self.n_out} "
                "outputs but has " + (f"{pattern.n_in} and {pattern.n_out}" if pattern else "none")
            )
        return _native.Linear(self.n_in, self.n_out, pattern.positions, first_gradient_input)

    def entry(self) -> dict[str, Any]:
        """Return the numbers of connections and outputs."""
        return {"connections": self.connections, "outputs": self.n_out}


def layer_of(entry: Mapping[str, Any], n_in: int, activation: Activation) -> Layer:
    """Return the layer that an entry in an agent's file describes.

    Args:
        entry: the entry.
        n_in: number of inputs of the layer.
        activation: activation of the layer if the entry does not name one.

    Raises:
        KeyError, TypeError: if the entry is malformed.
        ValueError: if a number is out of range, or the activation is unknown.
    """
    for name in ("connections", "outputs"):
        if type(entry[name]) is not int or not 0 <= entry[name] < 1 << 32:
            raise ValueError(
                f"the number of {name} is {entry[name]} but must be an integer in [0, 2^32)"
            )
    activation = entry.get("activation", activation)
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"the activation is {activation} but must be one of {', '.join(ACTIVATIONS)}"
        )
    return Linear(n_in, entry["outputs"], activation, entry["connections"])


@dataclass(frozen=True)
class NetworkSpec:
    """The specification of a network that an agent declares: a sequence of layers.

    Each layer reads the outputs of the previous one.

    Attributes:
        layers: the layers of each member.
        members: number of networks of this kind, for example two critics.
        ensemble: whether outputs have a leading axis of members, even for a single member.
        label: name of one member in messages and tables; "actor" for the policy.
        target: whether the network has a target network.
        update_period: updates of the agent per update of this network.
        first_gradient_input: index of the first input whose gradient is required; n_in if none is.
    """

    layers: tuple[Layer, ...]
    members: int = 1
    ensemble: bool = False
    label: str = "critic"
    target: bool = False
    update_period: int = 1
    first_gradient_input: int = 0

    @property
    def n_in(self) -> int:
        """Number of inputs."""
        return self.layers[0].n_in

    @property
    def n_out(self) -> int:
        """Number of outputs of each member."""
        return self.layers[-1].n_out

    @property
    def connections(self) -> int:
        """Number of connections of one member."""
        return sum(layer.connections for layer in self.layers)

    @property
    def deep_connections(self) -> int:
        """Number of connections of one member in the layers after the first."""
        return self.connections - self.layers[0].connections

    @property
    def of_all_members(self) -> int:
        """Number of connections of all members."""
        return self.members * self.connections

    def of_inputs(self, count: int) -> float:
        """Return how many first-layer connections of a member `count` inputs have on average."""
        return self.layers[0].connections * count / self.n_in

    def places(self) -> Iterator[tuple[Place, Layer]]:
        """Iterate over the layers of all members, in the order of the parameters."""
        for member in range(self.members):
            for index, layer in enumerate(self.layers):
                yield (member, index), layer

    def with_connections(self, connections: Sequence[int]) -> NetworkSpec:
        """Return this spec with other numbers of connections in the layers that have patterns."""
        numbers = iter(connections)
        layers = (
            layer.with_connections(next(numbers)) if layer.size else layer for layer in self.layers
        )
        return replace(self, layers=tuple(layers))


def mlp(
    sizes: Sequence[int], output: Activation = "linear", hidden: Activation = "relu"
) -> tuple[Layer, ...]:
    """Return the dense layers of a multilayer perceptron.

    Args:
        sizes: the number of inputs, the number of units of each hidden layer, and the number of
            outputs.
        output: activation of the last layer.
        hidden: activation of the other layers.
    """
    shapes = list(itertools.pairwise(sizes))
    activations = [hidden] * (len(shapes) - 1) + [output]
    return tuple(
        Linear(n_in, n_out, activation, n_in * n_out)
        for (n_in, n_out), activation in zip(shapes, activations, strict=True)
    )
