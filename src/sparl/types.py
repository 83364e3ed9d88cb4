"""The types of arrays and states that the packages share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
State = dict[str, NDArray[np.generic] | int | float]  # complete state of an object
