"""Evaluation: episodes without noise, always from the same starts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sparl.errors import Diverged
from sparl.random_streams import integer_seed
from sparl.training.environment import Environment
from sparl.training.fork import CAN_FORK, Fork, shared_zeros
from sparl.training.interrupt import interrupt_held
from sparl.types import Array


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

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(np.mean(self.returns))

    @property
    def std(self) -> float:
        """Standard deviation of the returns over the episodes (divided by their number)."""
        return float(np.std(self.returns))


SIDE_BY_SIDE = 10  # environments, at most
OBSERVATIONS = 1000  # kept of an evaluation, at most
_OBSERVATION_BYTES = 1 << 24  # that they may take in the memory that the processes share


class Evaluator:
    """Plays evaluation episodes side by side; what happens in one does not depend on the others.

    Episode i starts from (seed, i) whatever was played before. One pass of the policy serves all
    episodes of a process.

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

    def evaluate(self, policy: Callable[[Array], Array], cores: int = 1) -> Evaluation:
        """Play all episodes.

        Args:
            policy: float32 [B, n_obs] -> [B, n_act] in [-1, 1], each row on its own.
            cores: that may play at a time. All but one are a copy's of this process, where a copy
                can play.

        Raises:
            EnvironmentFault: an environment raised, or returned what it must not.
            Diverged: an action is not finite.
        """
        while len(self._environments) < min(self.episodes, SIDE_BY_SIDE):
            self._environments.append(self._make())
        if not (CAN_FORK and self._environments[0].can_be_copied):
            cores = 1
        totals = shared_zeros(self.episodes, 2)  # return and length
        observed = self._room_for_observations()
        parts = [range(core, self.episodes, cores) for core in range(min(cores, self.episodes))]
        copies: dict[range, Fork] = {}
        with ExitStack() as opened:
            with interrupt_held():
                for part in parts[1:]:
                    with suppress(OSError):
                        copies[part] = Fork(partial(self._play, policy, part, totals, observed))
                        opened.callback(copies[part].close)
            for part in parts:
                copy = copies.get(part)
                if copy is None or not copy.succeeded():  # what a copy met is met here again
                    self._play(policy, part, totals, observed)
        returns = tuple(totals[:, 0].tolist())
        lengths = tuple(int(length) for length in totals[:, 1])
        kept = [
            rows[: _kept(length, len(rows))]
            for rows, length in zip(observed, lengths, strict=False)
        ]
        return Evaluation(returns, lengths, np.concatenate(kept).astype(np.float32))

    def _room_for_observations(self) -> NDArray[np.float64]:
        """Return zeros [episodes, rows, n_obs] for the observations of the first episodes."""
        n_obs = self._environments[0].n_obs
        most = min(OBSERVATIONS, max(2, _OBSERVATION_BYTES // (8 * n_obs)))
        episodes = min(self.episodes, most // 2)
        rows = most // episodes // 2 * 2  # even: see _remember
        return shared_zeros(episodes * rows, n_obs).reshape(episodes, rows, n_obs)

    def _play(
        self,
        policy: Callable[[Array], Array],
        episodes: range,
        totals: NDArray[np.float64],
        observed: NDArray[np.float64],
    ) -> None:
        """Play these episodes.

        Return and length of each go to its row of totals, its observations to its part of observed.
        """
        free, waiting = self._environments, iter(episodes)
        playing: list[tuple[int, Environment, Array, float, int]] = []
        while True:
            for environment, episode in zip(free, waiting, strict=False):
                observation = environment.reset(seed=integer_seed(self.seed, episode))
                playing.append((episode, environment, observation, 0.0, 0))
            if not playing:
                return
            for episode, _, observation, _, length in playing:
                if episode < len(observed):
                    _remember(observed[episode], length, observation)
            actions = policy(np.stack([observation for _, _, observation, _, _ in playing]))
            if not np.isfinite(actions).all():
                raise Diverged("an action of the policy is not finite")
            free, going = [], []
            for (episode, environment, _, total, length), action in zip(
                playing, actions, strict=True
            ):
                step = environment.step(action)
                total, length = total + step.reward, length + 1
                if step.terminated or step.truncated:
                    totals[episode] = total, length
                    free.append(environment)
                else:
                    going.append((episode, environment, step.observation, total, length))
            playing = going

    def close(self) -> None:
        """Release the environments."""
        for environment in self._environments:
            environment.close()
        self._environments.clear()


def _every(steps: int, rows: int) -> int:
    """Return the distance of the observations that are kept once an episode has so many steps."""
    return 1 << (steps // rows).bit_length()


def _kept(length: int, rows: int) -> int:
    """Return how many observations are kept of an episode of so many steps."""
    return -(-length // _every(length - 1, rows))


def _remember(rows: NDArray[np.float64], step: int, observation: Array) -> None:
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
