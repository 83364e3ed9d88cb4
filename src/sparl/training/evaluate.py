"""Evaluation: episodes without noise, always from the same starts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sparl.errors import Diverged
from sparl.networks.mlp import Array
from sparl.random_streams import integer_seed
from sparl.training.environment import Environment
from sparl.training.fork import CAN_FORK, Fork, shared_zeros
from sparl.training.interrupt import interrupt_held


@dataclass(frozen=True)
class Evaluation:
    """Undiscounted return and length [environment steps] of each episode."""

    returns: tuple[float, ...]
    lengths: tuple[int, ...]

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(np.mean(self.returns))

    @property
    def std(self) -> float:
        """Standard deviation of the returns over the episodes (divided by their number)."""
        return float(np.std(self.returns))


SIDE_BY_SIDE = 10  # environments, at most


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
        parts = [range(core, self.episodes, cores) for core in range(min(cores, self.episodes))]
        copies: dict[range, Fork] = {}
        with ExitStack() as opened:
            with interrupt_held():
                for part in parts[1:]:
                    with suppress(OSError):
                        copies[part] = Fork(partial(self._play, policy, part, totals))
                        opened.callback(copies[part].close)
            for part in parts:
                copy = copies.get(part)
                if copy is None or not copy.succeeded():  # what a copy met is met here again
                    self._play(policy, part, totals)
        returns, lengths = totals.T.tolist()
        return Evaluation(tuple(returns), tuple(int(length) for length in lengths))

    def _play(
        self, policy: Callable[[Array], Array], episodes: range, totals: NDArray[np.float64]
    ) -> None:
        """Play these episodes; return and length of each go to its row of totals."""
        free, waiting = self._environments, iter(episodes)
        playing: list[tuple[int, Environment, Array, float, int]] = []
        while True:
            for environment, episode in zip(free, waiting, strict=False):
                observation = environment.reset(seed=integer_seed(self.seed, episode))
                playing.append((episode, environment, observation, 0.0, 0))
            if not playing:
                return
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
