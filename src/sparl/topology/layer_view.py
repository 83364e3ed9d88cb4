"""What a drop or grow rule may know of a layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparl.sparse.pattern import Pattern

Factors = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class LayerView:
    """A layer as topology sees it.

    Attributes:
        pattern: its existing connections.
        weights: float32 [N], in canonical order.
        gradient_factors: dY, float32 [n_out, B], and X, float32 [n_in, B], of the loss just
            taken, for methods that grow by gradient: that of all positions, existing or not, is
            dY X^T. None for the others.
    """

    pattern: Pattern
    weights: NDArray[np.float32]
    gradient_factors: Factors | None = None
