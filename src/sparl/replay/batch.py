"""Batch: the transitions of one update."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparl.types import Array

_FLOAT32 = np.dtype(np.float32)  # comparing with np.float32 itself is slow


@dataclass(frozen=True)
class Batch:
    """B transitions, each a window of 1 to n environment steps.

    All arrays must be float32 and contiguous in C order. Every transition has the same weight in an
    update; there are no importance weights.

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

    Raises:
        ValueError: if an array has the wrong dtype, shape or memory order.
    """

    observation: Array
    action: Array
    reward: Array
    discount: Array
    next_observation: Array
    path_observation: Array | None = None
    path_discount: Array | None = None

    def __post_init__(self) -> None:
        """Check the arrays."""
        if self.observation.ndim != 2 or self.action.ndim != 2:
            raise ValueError(
                f"batch: observation has shape {self.observation.shape} and action has shape "
                f"{self.action.shape}, but both must have two dimensions, [B, n_obs] and "
                "[B, n_act]"
            )
        size, n_obs = self.observation.shape
        _check("observation", self.observation, (size, n_obs))
        _check("action", self.action, (size, self.action.shape[1]))
        _check("reward", self.reward, (size, 1))
        _check("discount", self.discount, (size, 1))
        _check("next_observation", self.next_observation, (size, n_obs))
        if (self.path_observation is None) != (self.path_discount is None):
            raise ValueError(
                "batch: only one of path_observation and path_discount is given; give both or none"
            )
        if self.path_observation is not None and self.path_discount is not None:
            n = self.path_discount.shape[1] if self.path_discount.ndim == 2 else 1
            _check("path_discount", self.path_discount, (size, n))
            _check("path_observation", self.path_observation, (size, n, n_obs))

    def path(self) -> tuple[Array, Array]:
        """Return the states on the path and their discounts: float32 [B, n, n_obs] and [B, n].

        If path_observation is None, the path consists of next_observation alone (n is 1).
        """
        if self.path_observation is None or self.path_discount is None:
            return self.next_observation[:, np.newaxis], self.discount
        return self.path_observation, self.path_discount


def _check(name: str, array: Array, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless an array is float32, has this shape, and is contiguous."""
    if array.shape != shape:
        raise ValueError(f"batch: {name} has shape {array.shape} but must have shape {shape}")
    if array.dtype != _FLOAT32 or not array.flags.c_contiguous:
        order = "" if array.flags.c_contiguous else "non-contiguous "
        raise ValueError(
            f"batch: {name} is {order}{array.dtype} but must be float32 and contiguous in C order; "
            f"convert it with np.ascontiguousarray({name}, np.float32)"
        )
