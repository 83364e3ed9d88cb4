"""The data of a layer that drop and grow rules can read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sparl.sparse.pattern import Pattern


class DenseGradient(Protocol):
    """The gradient dL/dW at all positions, connected or not, computed by rows."""

    def __getitem__(self, rows: slice, /) -> NDArray[np.float32]:
        """Compute the rows of a slice, float32 [rows, n_in]."""


@dataclass(frozen=True, eq=False)
class FactoredGradient:
    """dL/dW = dY X^T, whose rows are computed on access.

    Attributes:
        dy: float32 [n_out, B], the gradient of the loss with respect to the pre-activations.
        x: float32 [n_in, B], the layer's inputs.
    """

    dy: NDArray[np.float32]
    x: NDArray[np.float32]

    def __getitem__(self, rows: slice) -> NDArray[np.float32]:
        """Compute the rows of a slice, float32 [rows, n_in]."""
        return self.dy[rows] @ self.x.T


@dataclass(frozen=True, eq=False)
class LayerView:
    """A layer's pattern and weights, and its gradient if a rule needs it.

    If the field `rewire_skips_step` is False, a topology update follows the optimiser's step: the
    weights are those after the step, and the gradient was computed before it. If it is True, the
    update replaces the step (unless no connection moves), so both are from before it. The gradient
    is that of the loss without weight decay. The loss is the mean over the batch; the critics' loss
    is the sum of the losses of all critics. A drop rule that removes dead links receives the layer
    without them; a grow rule always receives the layer before the drop, dead links included.

    Attributes:
        pattern: the existing connections.
        weights: float32 [N], in canonical order; read-only.
        gradient: dense gradient of the loss, at all positions, dead links and absent connections
            included; a float32 array [n_out, n_in] is accepted too. None if neither the drop rule
            nor the grow rule needs the gradient.
    """

    pattern: Pattern
    weights: NDArray[np.float32]
    gradient: DenseGradient | None = None

    def __post_init__(self) -> None:
        """Make the weights read-only, because a rule must not change the network."""
        weights = self.weights.view()
        weights.flags.writeable = False
        object.__setattr__(self, "weights", weights)
