"""Normalise observations with their running mean and variance."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np

from sparl.replay.batch import Batch
from sparl.types import Array, Float64Array, State

EPSILON = 1e-8  # added to the variance under the square root
_FIRST_COUNT = 1e-4  # weight of the initial mean 0 and variance 1


class Normalizer(Protocol):
    """Converts observations to the inputs of an agent."""

    @property
    def factors(self) -> tuple[Array, Array] | None:
        """Mean and scale, float32 [n_obs] each, of the input (observation - mean) * scale.

        None if observations are passed unchanged.
        """

    def update(self, observation: Array) -> None:
        """Include one observation, float32 [n_obs], in the statistics."""

    def __call__(self, observation: Array) -> Array:
        """Return the inputs of the agent for these observations, float32 [..., n_obs]."""

    def batch(self, batch: Batch) -> Batch:
        """Return a batch whose observations have been converted to inputs of the agent."""

    def state(self) -> State:
        """Return the statistics."""

    def restore(self, state: State) -> None:
        """Restore the statistics."""


class RawObservations:
    """Passes observations to the agent unchanged."""

    factors = None

    def update(self, observation: Array) -> None:
        """Do nothing."""

    def __call__(self, observation: Array) -> Array:
        """Return the same observation."""
        return observation

    def batch(self, batch: Batch) -> Batch:
        """Return the same batch."""
        return batch

    def state(self) -> State:
        """Return an empty state."""
        return {}

    def restore(self, state: State) -> None:
        """Do nothing."""


class ObservationStatistics:
    """Normalises observations with the running mean and variance of each entry.

    A normalised observation is (x - mean) / sqrt(variance + EPSILON), without clipping, as in SimBa
    (Lee et al. 2024). The statistics are float64. The factors are rounded to float32, so that
    exported policies compute the same values.

    Args:
        mean: float64 [n_obs].
        variance: float64 [n_obs].
        count: number of observations, plus the weight of the initial mean 0 and variance 1.
    """

    def __init__(self, mean: Float64Array, variance: Float64Array, count: float) -> None:
        self.mean, self.variance, self.count = mean, variance, count

    @classmethod
    def initial(cls, n_obs: int) -> ObservationStatistics:
        """Return the statistics before the first observation."""
        return cls(np.zeros(n_obs), np.ones(n_obs), _FIRST_COUNT)

    def update(self, observation: Array) -> None:
        """Include one observation, float32 [n_obs], in the statistics."""
        count = self.count + 1
        delta = observation - self.mean
        self.mean = self.mean + delta / count
        self.variance = (self.variance + delta * delta / count) * (self.count / count)
        self.count = count

    @property
    def factors(self) -> tuple[Array, Array]:
        """The mean and 1 / sqrt(variance + EPSILON), float32 [n_obs] each."""
        scale = 1 / np.sqrt(self.variance + EPSILON)
        return self.mean.astype(np.float32), scale.astype(np.float32)

    def __call__(self, observation: Array) -> Array:
        """Return normalised observations, float32 [..., n_obs]."""
        mean, scale = self.factors
        return (observation - mean) * scale

    def batch(self, batch: Batch) -> Batch:
        """Return a batch whose observations are normalised with the current statistics."""
        path = batch.path_observation
        return replace(
            batch,
            observation=self(batch.observation),
            next_observation=self(batch.next_observation),
            path_observation=None if path is None else self(path),
        )

    def state(self) -> State:
        """Return the statistics."""
        return {"mean": self.mean, "variance": self.variance, "count": self.count}

    def restore(self, state: State) -> None:
        """Restore the statistics.

        Raises:
            KeyError: if an entry is missing.
            ValueError: if an array has the wrong shape, or a value is out of range.
        """
        mean, variance = (np.asarray(state[name], np.float64) for name in ("mean", "variance"))
        count = float(state["count"])
        if mean.shape != self.mean.shape or variance.shape != mean.shape:
            raise ValueError(
                f"observation statistics: the shapes are {mean.shape} and {variance.shape} but "
                f"must be {self.mean.shape}"
            )
        if not (np.isfinite(mean).all() and np.isfinite(variance).all() and (variance >= 0).all()):
            raise ValueError(
                "observation statistics: all means and variances must be finite, and the variances "
                "nonnegative"
            )
        if not _FIRST_COUNT <= count < np.inf:
            raise ValueError(
                f"observation statistics: the count is {count} but must be finite and at least "
                f"{_FIRST_COUNT:g}"
            )
        self.mean, self.variance, self.count = mean, variance, count
