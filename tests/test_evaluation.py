"""Test that the episodes of an evaluation do not depend on each other."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np
import pytest

from sparl.errors import Diverged, EnvironmentFault
from sparl.training.environment import Environment
from sparl.training.evaluate import Evaluation, Evaluator


def hop(x: Any) -> Any:
    """Return actions for Hopper."""
    return np.tanh(x[:, :3])


def hopper() -> Environment:
    return Environment("Hopper-v5")


def test_an_episode_does_not_depend_on_the_others() -> None:
    """Test MuJoCo, where these episodes end at different times."""

    def evaluation(episodes: int, seed: int, times: int = 1) -> Evaluation:
        with closing(Evaluator(hopper, episodes, seed)) as evaluator:
            for _ in range(times):
                result = evaluator.evaluate(hop)
        return result

    many = evaluation(13, seed=100)  # more episodes than run at the same time
    assert len(set(many.lengths)) > 3
    assert evaluation(13, seed=100, times=2) == many
    for episodes in (1, 2, 5):
        alone = evaluation(episodes, seed=100)
        assert alone.returns == many.returns[:episodes]
        assert alone.lengths == many.lengths[:episodes]
    assert evaluation(2, seed=101).returns != many.returns[:2]
    assert many.mean == pytest.approx(sum(many.returns) / 13)
    assert many.std == pytest.approx(np.std(many.returns))


def test_faults_name_the_environment_and_an_infinite_action_means_divergence() -> None:
    made: list[Environment] = []

    def make() -> Environment:
        made.append(hopper())
        return made[-1]

    with closing(Evaluator(make, 4, seed=0)) as evaluator:
        before = evaluator.evaluate(hop)
        with pytest.raises(Diverged, match="not finite"):
            evaluator.evaluate(lambda x: hop(x) * np.nan)
        assert evaluator.evaluate(hop) == before
        made[0].gym.reset = lambda seed: (np.full(11, np.nan), {})  # type: ignore
        with pytest.raises(EnvironmentFault, match=r"reset returned observation\[0\] = nan"):
            evaluator.evaluate(hop)
