"""The policy that is exported, as a list of layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sparl.errors import UsageError
from sparl.networks.layout import Layout
from sparl.networks.network import Network
from sparl.networks.spec import Activation, Linear, NetworkSpec
from sparl.sparse.pattern import Pattern
from sparl.training.action_scale import ActionScale
from sparl.training.trained_agent import TrainedAgent
from sparl.types import Array


@dataclass(frozen=True, eq=False)
class Layer:
    """The connections and the parameters of a layer.

    Attributes:
        pattern: which connections exist.
        weight: float32 [N], in the order of pattern.positions, that is, ordered by output neuron.
        bias: float32 [n_out].
        activation: function applied to the weighted sums.
        codes: int8 [N], the quantised weights, or None if the layer is not quantised. A weight is
            its code times the scale of the connection's output neuron.
        scale: float32 [n_out], or None if the layer is not quantised.
    """

    pattern: Pattern
    weight: Array
    bias: Array
    activation: Activation = "linear"
    codes: NDArray[np.int8] | None = None
    scale: Array | None = None

    @property
    def spec(self) -> Linear:
        """The specification of the layer, without its parameters."""
        pattern = self.pattern
        return Linear(pattern.n_in, pattern.n_out, self.activation, pattern.connections)

    @property
    def dense(self) -> bool:
        """Whether every connection exists, so that positions need not be stored."""
        return self.pattern.connections == self.pattern.size

    @property
    def counts(self) -> NDArray[np.int64]:
        """Number of connections of each output neuron, int64 [n_out]."""
        return np.bincount(self.pattern.outputs, minlength=self.pattern.n_out)

    def quantised(self) -> Layer:
        """Return this layer with weights quantised to 8 bits.

        The code of a weight w is round(127 w / m), where m is the largest magnitude among the
        weights of the same output neuron.
        """
        outputs = self.pattern.outputs
        largest = np.zeros(self.pattern.n_out, np.float32)
        np.maximum.at(largest, outputs, np.abs(self.weight))
        scale: Array = np.where(largest > 0, largest / 127, 1).astype(np.float32)
        codes = np.rint(self.weight / scale[outputs]).astype(np.int8)
        return replace(self, weight=scale[outputs] * codes, codes=codes, scale=scale)


class Policy:
    """A deterministic policy: maps observations to actions in the environment's units.

    Args:
        layers: the layers.
        low: float64 [n_act], the environment's lower bounds of an action.
        high: float64 [n_act], the environment's upper bounds of an action.
        normalization: mean and scale, float32 [n_obs] each; the first layer gets
            (observation - mean) * scale. None means that the first layer gets the observation.

    Attributes:
        low: float64 [n_act], the lower bounds, rounded to float32 values within the environment's
            bounds.
        high: float64 [n_act], the upper bounds, rounded in the same way.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        low: NDArray[np.float64],
        high: NDArray[np.float64],
        normalization: tuple[Array, Array] | None = None,
    ) -> None:
        self.layers = list(layers)
        self.normalization = normalization
        self._scale = ActionScale(low, high)
        self.low = self._scale.rounded_low.astype(np.float64)
        self.high = self._scale.rounded_high.astype(np.float64)
        patterns = {(0, k): layer.pattern for k, layer in enumerate(self.layers)}
        layout = Layout(NetworkSpec(tuple(layer.spec for layer in self.layers)), patterns)
        parameters = np.empty(layout.parameters, np.float32)
        for place, layer in zip(patterns, self.layers, strict=True):
            layout.write(parameters, place, layer.weight)
            layout.write(parameters, place, layer.bias, "bias")
        self._network = Network(layout, parameters)

    @classmethod
    def of(cls, agent: TrainedAgent) -> Policy:
        """Create the deterministic policy of an agent.

        The last layer consists of the network's first n_act outputs, with the activation of the
        agent's head.

        Raises:
            UsageError: if exports do not support the type of a layer.
        """
        layout, parameters = agent.actor.layout, agent.actor.parameters
        for (_, index), layer in layout.spec.places():
            if not isinstance(layer, Linear):
                raise UsageError(
                    f"export: layer {index} of the policy is of kind {type(layer).__name__} but "
                    "must be Linear; other layers cannot be exported"
                )
        layers = [
            Layer(
                layout.pattern(place), layout.read(parameters, place),
                layout.read(parameters, place, "bias"), layer.activation,
            )
            for place, layer in layout.spec.places()
        ]  # fmt: skip
        last = layers[-1].pattern
        used = last.positions[: np.searchsorted(last.positions, agent.n_act * last.n_in)]
        layers[-1] = Layer(
            Pattern(last.n_in, agent.n_act, used.copy()),
            layers[-1].weight[: used.size],
            layers[-1].bias[: agent.n_act],
            agent.head.of_sums,
        )
        bounds = (agent.manifest["policy"][name] for name in ("action_low", "action_high"))
        low, high = (np.asarray(bound, np.float64) for bound in bounds)
        return cls(layers, low, high, agent.normalizer.factors)

    @property
    def n_obs(self) -> int:
        """Length of an observation."""
        return self.layers[0].pattern.n_in

    @property
    def n_act(self) -> int:
        """Length of an action."""
        return self.layers[-1].pattern.n_out

    @property
    def connections(self) -> int:
        """Number of weights in all layers."""
        return sum(layer.pattern.connections for layer in self.layers)

    @property
    def scaled(self) -> bool:
        """Whether the last layer's outputs must be scaled or clipped to the action's bounds."""
        bounded = self.layers[-1].activation == "tanh"
        return not bounded or bool((self.low != -1).any() or (self.high != 1).any())

    @property
    def bounds(self) -> tuple[Array, Array]:
        """The action's bounds, float32 [n_act] each."""
        return self.low.astype(np.float32), self.high.astype(np.float32)

    def quantised(self) -> Policy:
        """Return the policy with every weight quantised to 8 bits."""
        layers = [layer.quantised() for layer in self.layers]
        return Policy(layers, self.low, self.high, self.normalization)

    def __call__(self, observation: Array) -> Array:
        """Compute unscaled actions, float32 [B, n_act], for observations, float32 [B, n_obs].

        They are in [-1, 1] if the activation of the last layer is tanh.
        """
        if self.normalization is not None:
            mean, scale = self.normalization
            observation = (observation - mean) * scale
        return self._network(observation)

    def predict(self, observation: Array) -> Array:
        """Compute actions in environment units, float32 [B, n_act], for float32 [B, n_obs]."""
        scaled: Array = np.clip(self._scale(self(observation)).astype(np.float32), *self.bounds)
        return scaled

    def distances(self, actions: Array, observations: Array) -> NDArray[np.float64]:
        """Compute the distances between given actions and this policy's actions.

        Distances are in units of half an action's range.

        Args:
            actions: [B, n_act], in the environment's units. The distance of a NaN is infinite.
            observations: float32 [B, n_obs].

        Returns:
            float64 [B, n_act].
        """
        distance = np.abs(actions.astype(np.float64) - self.predict(observations))
        return np.nan_to_num(distance / ((self.high - self.low) / 2), nan=np.inf, posinf=np.inf)
