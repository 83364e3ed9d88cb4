"""The part of a layer that drop and grow rules see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sparl.sparse.pattern import Pattern


class DenseGradient(Protocol):
    """dL/dW of all positions, existing or not, computed row by row."""

    def __getitem__(self, rows: slice, /) -> NDArray[np.float32]:
        """Compute some rows: float32 [rows, n_in]."""


@dataclass(frozen=True, eq=False)
class FactoredGradient:
    """dL/dW = dY X^T, whose rows are computed on access.

    Attributes:
        dy: float32 [n_out, B], the gradient of the loss to the layer's sums.
        x: float32 [n_in, B], the layer's inputs.
    """

    dy: NDArray[np.float32]
    x: NDArray[np.float32]

    def __getitem__(self, rows: slice) -> NDArray[np.float32]:
        """Compute some rows: float32 [rows, n_in]."""
        return self.dy[rows] @ self.x.T


@dataclass(frozen=True, eq=False)
class LayerView:
    """A layer's pattern, weights and, for rules that need it, gradient.

    Attributes:
        pattern: the existing connections.
        weights: float32 [N], in canonical order.
        gradient: gradient of the current loss, for rules that need it; an array float32
            [n_out, n_in] is accepted. None for other rules.
    """

    pattern: Pattern
    weights: NDArray[np.float32]
    gradient: DenseGradient | None = None
