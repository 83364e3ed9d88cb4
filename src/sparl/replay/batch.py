"""Batch: the transitions of one update."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparl.types import Array


@dataclass(frozen=True)
class Batch:
    """B transitions, each a window of 1 to n environment steps.

    Attributes:
        observation: float32 [B, n_obs].
        action: float32 [B, n_act], in [-1, 1].
        reward: float32 [B, 1]; sum_{k<m} gamma^k r_{t+k} over a window of m steps.
        discount: float32 [B, 1]; gamma^m, or 0 if the last state is terminal.
        next_observation: float32 [B, n_obs], after the last step.
        path_observation: float32 [B, n, n_obs], the states reached by the steps; the last one is
            next_observation. A window of m < n steps fills the last m entries; the other entries
            repeat the state that its first step reached. None if n is 1 or paths were not
            requested.
        path_discount: float32 [B, n]; gamma^{k+1} at the state reached after k + 1 steps, 0 at a
            terminal state and at entries without a step. None if path_observation is None.
    """

    observation: Array
    action: Array
    reward: Array
    discount: Array
    next_observation: Array
    path_observation: Array | None = None
    path_discount: Array | None = None

    def path(self) -> tuple[Array, Array]:
        """Return the states on the path and their discounts: float32 [B, n, n_obs] and [B, n].

        If path_observation is None, the path consists of next_observation alone (n is 1).
        """
        if self.path_observation is None or self.path_discount is None:
            return self.next_observation[:, np.newaxis], self.discount
        return self.path_observation, self.path_discount
