"""Evaluate policies without exploration noise, in episodes that always have the same seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from sparl.errors import Diverged
from sparl.random_streams import integer_seed
from sparl.training.environment import Environment
from sparl.types import Array

Policy = Callable[[Array], Array]  # float32 [B, n_obs] -> [B, n_act] in [-1, 1]

CONCURRENT_EPISODES = 10  # maximum number of episodes that are played concurrently
OBSERVATIONS = 1000  # maximum number of observations that an evaluation keeps
_OBSERVATION_BYTES = 1 << 24  # maximum size of the kept observations as float64


class Episode(NamedTuple):
    """A completed episode.

    Attributes:
        total: the undiscounted return.
        length: the number of environment steps.
        observations: the observations that were kept, float32 [B, n_obs].
    """

    total: float
    length: int
    observations: Array


@dataclass(frozen=True)
class Evaluation:
    """The results of an evaluation.

    Attributes:
        returns: undiscounted return of each episode.
        lengths: length of each episode [environment steps].
        observations: up to OBSERVATIONS observations that the policy received, float32 [B, n_obs].
    """

    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    observations: Array = field(compare=False, repr=False)

    @classmethod
    def of(cls, episodes: Mapping[int, Episode]) -> Evaluation:
        """Combine the episodes of an evaluation; the keys are the numbers of the episodes."""
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
        """Population standard deviation of the returns (ddof = 0)."""
        return float(np.std(self.returns))


class Evaluator:
    """Plays several independent evaluation episodes concurrently.

    Episode i is always seeded with (seed, i), independently of earlier episodes. One forward pass
    of the policy computes the actions of all concurrent episodes.

    Args:
        make: a function that constructs an environment; it is called when another one is needed.
        episodes: number of episodes.
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
            EnvironmentFault: if an environment raised an exception or returned an invalid value.
            Diverged: if an action is not finite.
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
                raise Diverged("the policy returned an action that is not finite")
            ended = [each.step(action) for each, action in zip(playing, actions, strict=True)]
            done = [each for each, over in zip(playing, ended, strict=True) if over]
            playing = [each for each, over in zip(playing, ended, strict=True) if not over]
            played |= {each.number: each.result() for each in done}
            free = [each.environment for each in done]

    def _begin(self, environment: Environment, number: int) -> _Playing:
        observation = environment.reset(seed=integer_seed(self.seed, number))
        most = min(OBSERVATIONS, max(2, _OBSERVATION_BYTES // (8 * environment.n_obs)))
        # Observations are kept of this many episodes, starting with episode 0.
        episodes = min(self.episodes, most // 2)
        rows = most // episodes // 2 * 2 if number < episodes else 0
        return _Playing(number, environment, observation, rows)

    def close(self) -> None:
        """Release the environments."""
        for environment in self._environments:
            environment.close()
        self._environments.clear()


class _Playing:
    """An episode in progress.

    Args:
        number: the number of the episode.
        environment: the environment, which was reset for the episode.
        observation: the observation that the reset returned.
        rows: maximum number of observations to keep; an even number.
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
    """Return the interval between kept observations after `steps` steps of an episode."""
    return 1 << (steps // rows).bit_length()


def _count_kept(length: int, rows: int) -> int:
    """Return the number of observations that are kept from an episode of `length` steps."""
    return -(-length // _every(length - 1, rows))


def _remember(rows: Array, step: int, observation: Array) -> None:
    """Keep every observation of an episode, or every 2nd, 4th, ... if there are too many.

    Args:
        rows: the kept observations; the number of rows is even.
        step: the step of the observation in its episode; this function is called at every step.
        observation: the observation, which is kept if `step` is a multiple of the interval.
    """
    every = _every(step, len(rows))
    if step % every:
        return
    if every > 1 and 2 * step == every * len(rows):  # all rows are full: keep every second one
        rows[: len(rows) // 2] = rows[::2].copy()
    rows[step // every] = observation
