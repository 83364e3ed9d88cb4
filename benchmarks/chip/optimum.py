"""The best return that is possible on the pendulum of pendulum.h, by value iteration on a grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
ANGLES, SPEEDS, STEPS = 241, 201, 200
DISCOUNT = 0.995  # nearly undiscounted; with 1, the values of a grid do not converge


def starts(seed: int, episodes: int = 100) -> tuple[Array, Array]:
    """Return the first angles and speeds of the episodes that `evaluate` in episodes.h plays."""
    random, numbers = seed ^ 0xE7A1, []
    for _ in range(2 * episodes):
        random = (random * 1664525 + 1013904223) & 0xFFFFFFFF
        numbers.append((random >> 8) / (1 << 23) - 1)
    drawn = np.array(numbers).reshape(-1, 2)
    return np.pi * drawn[:, 0], drawn[:, 1]


def step(angle: Array, speed: Array, action: Array, strength: float) -> tuple[Array, Array, Array]:
    """Return costs, next angles and next speeds; the dynamics of pendulum_step."""
    torque = 2 * action
    cost = angle**2 + 0.1 * speed**2 + 0.001 * torque**2
    speed = np.clip(speed + 0.05 * (15 * np.sin(angle) + 3 * strength * torque), -8, 8)
    angle = (angle + 0.05 * speed + np.pi) % (2 * np.pi) - np.pi
    return cost, angle, speed


class Interpolation:
    """Bilinear interpolation of a table of values [ANGLES, SPEEDS] at fixed states."""

    def __init__(self, angle: Array, speed: Array) -> None:
        row, self.row_share = np.divmod((angle + np.pi) / (2 * np.pi) * ANGLES, 1)
        column = np.minimum((speed + 8) / 16 * (SPEEDS - 1), SPEEDS - 1.001)
        column, self.column_share = np.divmod(column, 1)
        self.low = row.astype(np.intp) % ANGLES * SPEEDS + column.astype(np.intp)
        self.high = (row.astype(np.intp) + 1) % ANGLES * SPEEDS + column.astype(np.intp)

    def __call__(self, table: Array) -> Array:
        """Return the values at the states."""
        flat, share = table.ravel(), self.column_share
        low = (1 - share) * flat[self.low] + share * flat[self.low + 1]
        high = (1 - share) * flat[self.high] + share * flat[self.high + 1]
        return np.asarray((1 - self.row_share) * low + self.row_share * high)


def costs_to_go(strength: float) -> Array:
    """Return the smallest discounted cost from every state of the grid."""
    axes = (
        np.linspace(-np.pi, np.pi, ANGLES, endpoint=False), np.linspace(-8, 8, SPEEDS),
        np.linspace(-1, 1, 15),
    )  # fmt: skip
    cost, angle, speed = step(*np.meshgrid(*axes, indexing="ij"), strength)
    after, table = Interpolation(angle, speed), np.zeros((ANGLES, SPEEDS))
    for _ in range(600):
        old, table = table, (cost + DISCOUNT * after(table)).min(2)
        if np.abs(table - old).max() < 0.05:
            break
    return table


def optimum(seed: int, table: Array, strength: float) -> float:
    """Return the mean return of the policy that looks one step ahead in the table."""
    angle, speed = starts(seed)
    total, rows, actions = 0.0, np.arange(len(angle)), np.linspace(-1, 1, 41)[None]
    for _ in range(STEPS):
        cost, angles, speeds = step(angle[:, None], speed[:, None], actions, strength)
        best = (cost + DISCOUNT * Interpolation(angles, speeds)(table)).argmin(1)
        total -= float(cost[rows, best].mean())
        angle, speed = angles[rows, best], speeds[rows, best]
    return total
