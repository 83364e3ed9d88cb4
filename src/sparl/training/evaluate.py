"""Evaluation: episodes without noise, always from the same starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from sparl.errors import Diverged
from sparl.networks.mlp import Array
from sparl.random_streams import integer_seed
from sparl.training.environment import Environment


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
    episodes of a thread.

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
        self._given_up = False

    def evaluate(self, policy: Callable[[Array], Array], threads: int = 1) -> Evaluation:
        """Play all episodes.

        Args:
            policy: float32 [B, n_obs] -> [B, n_act] in [-1, 1], each row on its own.
            threads: that play, and call the policy, where MuJoCo steps; else one.

        Raises:
            EnvironmentFault: an environment raised, or returned what it must not.
            Diverged: an action is not finite.
        """
        while len(self._environments) < min(self.episodes, SIDE_BY_SIDE):
            self._environments.append(self._make())
        if not self._environments[0].steps_outside_lock:
            threads = 1
        totals = [(0.0, 0)] * self.episodes
        waiting = iter(range(self.episodes))
        self._given_up = False
        with ThreadPoolExecutor(threads) as pool:
            try:
                parts = [
                    pool.submit(self._play, policy, self._environments[t::threads], waiting, totals)
                    for t in range(1, threads)
                ]
                for part in parts:
                    part.add_done_callback(self._give_up_if_failed)
                self._play(policy, self._environments[::threads], waiting, totals)
                for part in parts:
                    part.result()
            except BaseException:  # the others need not play to the end
                self._given_up = True
                raise
        returns, lengths = zip(*totals, strict=True)
        return Evaluation(returns, lengths)

    def _play(
        self,
        policy: Callable[[Array], Array],
        environments: list[Environment],
        waiting: Iterator[int],
        totals: list[tuple[float, int]],
    ) -> None:
        """Play episodes while any wait; return and length of each go to its place in totals."""
        free = environments
        playing: list[tuple[int, Environment, Array]] = []  # episode, where, last observation
        while not self._given_up:
            for environment, episode in zip(free, waiting, strict=False):
                observation = environment.reset(seed=integer_seed(self.seed, episode))
                playing.append((episode, environment, observation))
            if not playing:
                return
            actions = policy(np.stack([observation for _, _, observation in playing]))
            if not np.isfinite(actions).all():
                raise Diverged("an action of the policy is not finite")
            free, going = [], []
            for (episode, environment, _), action in zip(playing, actions, strict=True):
                step = environment.step(action)
                total, length = totals[episode]
                totals[episode] = total + step.reward, length + 1
                if step.terminated or step.truncated:
                    free.append(environment)
                else:
                    going.append((episode, environment, step.observation))
            playing = going

    def _give_up_if_failed(self, part: Future[None]) -> None:
        """The other threads need not play to the end."""
        if part.exception() is not None:
            self._given_up = True

    def close(self) -> None:
        """Release the environments."""
        for environment in self._environments:
            environment.close()
        self._environments.clear()
