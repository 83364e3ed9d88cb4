"""The function that maps the outputs of an actor network to an action."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sparl.networks.spec import Output
from sparl.types import Array


@dataclass(frozen=True)
class ActionHead:
    """The function from an actor's outputs to a noise-free action in [-1, 1].

    Attributes:
        output: activation of the network's last layer, by which agent files identify the head.
        outputs_per_action: number of network outputs for each entry of an action; the first n_act
            outputs determine the action.
        activation: the function applied to these outputs.
        formula: the same function as text, for readers of an agent file.
    """

    output: Output
    outputs_per_action: int
    activation: Callable[[Array], Array]
    formula: str

    def __call__(self, outputs: Array, n_act: int) -> Array:
        """Return actions, float32 [B, n_act], for outputs [B, outputs_per_action * n_act]."""
        return self.activation(outputs[:, :n_act])


def _unchanged(values: Array) -> Array:
    return values


DETERMINISTIC = ActionHead("tanh", 1, _unchanged, "outputs")
SQUASHED_MEAN = ActionHead("linear", 2, np.tanh, "tanh(outputs[:n_act])")
HEADS: dict[str, ActionHead] = {head.output: head for head in (DETERMINISTIC, SQUASHED_MEAN)}
