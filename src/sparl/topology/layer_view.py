"""What a drop or grow rule may know of a layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparl.sparse.pattern import Pattern


@dataclass(frozen=True, eq=False)
class LayerView:
    """A layer as topology sees it.

    Attributes:
        pattern: its existing connections.
        weights: float32 [N], in canonical order.
    """

    pattern: Pattern
    weights: NDArray[np.float32]
