"""Evaluation: episodes without noise, always from the same starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from sparl.errors import Diverged
from sparl.random_streams import integer_seed
from sparl.training.environment import Environment
from sparl.types import Array

Policy = Callable[[Array], Array]  # float32 [B, n_obs] -> [B, n_act] in [-1, 1], row by row

CONCURRENT_EPISODES = 10  # at most
OBSERVATIONS = 1000  # kept of an evaluation, at most
_OBSERVATION_BYTES = 1 << 24  # that they may take as float64


class Episode(NamedTuple):
    """An episode that was played.

    Attributes:
        total: its undiscounted return.
        length: its environment steps.
        observations: float32 [B, n_obs], those that are kept of it.
    """

    total: float
    length: int
    observations: Array


@dataclass(frozen=True)
class Evaluation:
    """Undiscounted return and length [environment steps] of each episode.

    Attributes:
        returns: of each episode.
        lengths: of each episode [environment steps].
        observations: float32 [B, n_obs], at most OBSERVATIONS of those that the policy met.
    """

    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    observations: Array = field(compare=False, repr=False)

    @classmethod
    def of(cls, episodes: Mapping[int, Episode]) -> Evaluation:
        """Put together the episodes of an evaluation, given by their numbers."""
        ordered = [episodes[number] for number in sorted(episodes)]
        return cls(
            tuple(episode.total for episode in ordered),
            tuple(episode.length for episode in ordered),
            np.concatenate([episode.observations for episode in ordered]),
        )

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(np.mean(self.returns))

    @property
    def std(self) -> float:
        """Standard deviation of the returns over the episodes (divided by their number)."""
        return float(np.std(self.returns))


class Evaluator:
    """Plays several evaluation episodes at once, none of which depends on the others.

    Episode i starts from (seed, i) whatever was played before. One pass of the policy serves all
    episodes that are being played.

    Args:
        make: makes an environment; called when one is first needed.
        episodes: how many to play.
        seed: the evaluation seed.
    """

    def __init__(self, make: Callable[[], Environment], episodes: int, seed: int) -> None:
        self._make = make
        self._environments: list[Environment] = []
        self.episodes = episodes
        self.seed = seed

    def evaluate(self, policy: Policy) -> Evaluation:
        """Play all episodes.

        Raises:
            EnvironmentFault: an environment raised, or returned what it must not.
            Diverged: an action is not finite.
        """
        while len(self._environments) < min(self.episodes, CONCURRENT_EPISODES):
            self._environments.append(self._make())
        free, waiting = self._environments, iter(range(self.episodes))
        playing: list[_Playing] = []
        played: dict[int, Episode] = {}
        while True:
            playing += [self._begin(each, n) for each, n in zip(free, waiting, strict=False)]
            if not playing:
                return Evaluation.of(played)
            actions = policy(np.stack([each.observation for each in playing]))
            if not np.isfinite(actions).all():
                raise Diverged("an action of the policy is not finite")
            ended = [each.step(action) for each, action in zip(playing, actions, strict=True)]
            done = [each for each, over in zip(playing, ended, strict=True) if over]
            playing = [each for each, over in zip(playing, ended, strict=True) if not over]
            played |= {each.number: each.result() for each in done}
            free = [each.environment for each in done]

    def _begin(self, environment: Environment, number: int) -> _Playing:
        observation = environment.reset(seed=integer_seed(self.seed, number))
        most = min(OBSERVATIONS, max(2, _OBSERVATION_BYTES // (8 * environment.n_obs)))
        episodes = min(self.episodes, most // 2)  # the first ones, of which observations are kept
        rows = most // episodes // 2 * 2 if number < episodes else 0
        return _Playing(number, environment, observation, rows)

    def close(self) -> None:
        """Release the environments."""
        for environment in self._environments:
            environment.close()
        self._environments.clear()


class _Playing:
    """An episode that is being played.

    Args:
        number: of the episode.
        environment: that was reset for it.
        observation: from the reset.
        rows: observations to keep at most; an even number.
    """

    def __init__(
        self, number: int, environment: Environment, observation: Array, rows: int
    ) -> None:
        self.number, self.environment, self.observation = number, environment, observation
        self._total, self._length = 0.0, 0
        self._kept = np.zeros((rows, environment.n_obs), np.float32)

    def step(self, action: Array) -> bool:
        """Take an action, and return whether the episode ended."""
        if len(self._kept):
            _remember(self._kept, self._length, self.observation)
        step = self.environment.step(action)
        self.observation = step.observation
        self._total += step.reward
        self._length += 1
        return step.terminated or step.truncated

    def result(self) -> Episode:
        """Return the episode after its last step."""
        rows = len(self._kept)
        kept = _count_kept(self._length, rows) if rows else 0
        return Episode(self._total, self._length, self._kept[:kept])


def _every(steps: int, rows: int) -> int:
    """Return the distance of the observations that are kept once an episode has so many steps."""
    return 1 << (steps // rows).bit_length()


def _count_kept(length: int, rows: int) -> int:
    """Return how many observations are kept of an episode of so many steps."""
    return -(-length // _every(length - 1, rows))


def _remember(rows: Array, step: int, observation: Array) -> None:
    """Keep every observation of an episode, or every 2nd, 4th, ... where there are too many.

    Args:
        rows: those that are kept, an even number.
        step: of the observation in its episode; called for every step, from 0 on.
        observation: to keep, if its turn has come.
    """
    every = _every(step, len(rows))
    if step % every:
        return
    if every > 1 and 2 * step == every * len(rows):  # all are full: keep half as many from here on
        rows[: len(rows) // 2] = rows[::2].copy()
    rows[step // every] = observation
