"""What a drop or grow rule may know of a layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sparl.sparse.pattern import Pattern


class DenseGradient(Protocol):
    """dL/dW of all positions, existing or not, of which rows are asked for."""

    def __getitem__(self, rows: slice, /) -> NDArray[np.float32]:
        """float32 [rows, n_in]."""


@dataclass(frozen=True, eq=False)
class FactoredGradient:
    """dL/dW = dY X^T, of which only the rows that are asked for are ever worked out.

    Attributes:
        dy: float32 [n_out, B], the gradient of the loss to the layer's sums.
        x: float32 [n_in, B], the layer's inputs.
    """

    dy: NDArray[np.float32]
    x: NDArray[np.float32]

    def __getitem__(self, rows: slice) -> NDArray[np.float32]:
        """float32 [rows, n_in]."""
        return self.dy[rows] @ self.x.T


@dataclass(frozen=True, eq=False)
class LayerView:
    """A layer as topology sees it.

    Attributes:
        pattern: its existing connections.
        weights: float32 [N], in canonical order.
        gradient: of the loss just taken, for methods that grow by gradient; an array
            float32 [n_out, n_in] will do. None for the others.
    """

    pattern: Pattern
    weights: NDArray[np.float32]
    gradient: DenseGradient | None = None
