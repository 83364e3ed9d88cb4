"""Batch: what an agent's update learns from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Batch:
    """B transitions, each of one or several environment steps.

    Attributes:
        observation: float32 [B, n_obs].
        action: float32 [B, n_act], in [-1, 1].
        reward: float32 [B, 1]; over a window of m steps sum_{k<m} gamma^k r_{t+k}.
        discount: float32 [B, 1]; gamma^m, or 0 where the last step was terminal.
        next_observation: float32 [B, n_obs], after the last step.
    """

    observation: Array
    action: Array
    reward: Array
    discount: Array
    next_observation: Array
