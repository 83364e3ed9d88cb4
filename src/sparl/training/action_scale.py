"""Scale actions in [-1, 1] to the bounds of an environment."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparl.types import Array


class ActionScale:
    """Maps each entry of an action linearly from [-1, 1] to [low, high].

    Rounding never moves a result outside these bounds.

    Args:
        low: lower bounds, float64 [n_act].
        high: upper bounds, float64 [n_act].
        dtype: the dtype of scaled actions, a floating-point type.
    """

    def __init__(
        self, low: NDArray[np.float64], high: NDArray[np.float64], dtype: str = "float32"
    ) -> None:
        self.low, self.high, self.dtype = low, high, np.dtype(dtype)
        self.rounded_low = rounded_within(low, np.inf, self.dtype)
        self.rounded_high = rounded_within(high, -np.inf, self.dtype)
        self._middle, self._reach = low / 2 + high / 2, high / 2 - low / 2
        self._same = bool((low == -1).all() and (high == 1).all())

    def __call__(self, action: Array) -> NDArray[Any]:
        """Return actions [..., n_act] in the environment's units, converted to `dtype`."""
        if self._same:
            return action.astype(self.dtype)
        scaled = (self._middle + self._reach * action).astype(self.dtype)
        bounded: NDArray[Any] = np.minimum(np.maximum(scaled, self.rounded_low), self.rounded_high)
        return bounded


def rounded_within(bound: NDArray[Any], inside: float, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Round bounds to a dtype, towards `inside` where they are not representable."""
    with np.errstate(over="ignore"):
        rounded = bound.astype(dtype)
    beyond = rounded < bound if inside > 0 else rounded > bound
    within: NDArray[Any] = np.where(beyond, np.nextafter(rounded, dtype.type(inside)), rounded)
    return within
