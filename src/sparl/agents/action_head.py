"""The function that maps the outputs of an actor network to an action."""

from __future__ import annotations

from dataclasses import dataclass

from sparl.networks.spec import ACTIVATIONS, Activation
from sparl.types import Array


@dataclass(frozen=True)
class ActionHead:
    """Maps the outputs of an actor to a noise-free action in [-1, 1].

    The action is an activation of the first n_act outputs. The head determines the last layer of an
    agent's actor, and how the agent's files and exports convert outputs to actions.

    Attributes:
        output: activation of the network's last layer.
        outputs_per_action: number of network outputs for each entry of an action.
        activation: the function applied to the first n_act outputs.
        formula: the same function as text, which identifies the head in agent files.
    """

    output: Activation
    outputs_per_action: int
    activation: Activation
    formula: str

    def __post_init__(self) -> None:
        if "linear" not in (self.output, self.activation):
            raise ValueError(
                f"an action head applies {self.activation} to outputs that the network's last "
                f"layer computes with {self.output}; one of the two must be linear"
            )

    @property
    def of_sums(self) -> Activation:
        """The function that maps the weighted sums of the network's last layer to actions."""
        return self.activation if self.output == "linear" else self.output

    def __call__(self, outputs: Array, n_act: int) -> Array:
        """Return actions, float32 [B, n_act], for outputs [B, outputs_per_action * n_act]."""
        return ACTIVATIONS[self.activation](outputs[:, :n_act])


DETERMINISTIC = ActionHead("tanh", 1, "linear", "outputs")
SQUASHED_MEAN = ActionHead("linear", 2, "tanh", "tanh(outputs[:n_act])")
