"""Test that results/ds_departures.py removes the departures of DS-TD3 from the authors' code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import ds_departures
from sparl.agents.td3 import TD3
from sparl.architecture import architecture
from sparl.build import build_agent
from sparl.learner import SparseLearner
from sparl.methods import preset
from sparl.replay.batch import Batch


def new_agent() -> TD3:
    config = preset(
        "DS-TD3", "Pendulum-v1", hidden=(16, 16), actor_sparsity=0.5, critic_sparsity=0.5,
        rewire_every_updates=4, rewire_fraction=0.3,
    )  # fmt: skip
    agent = build_agent(config, architecture(config, 3, 1))
    assert isinstance(agent, TD3)
    return agent


def update(agent: TD3, times: int, rng: np.random.Generator) -> None:
    def normal(n: int) -> np.ndarray:
        return rng.standard_normal((32, n), dtype=np.float32)

    for _ in range(times):
        discount = np.full((32, 1), 0.9, np.float32)
        agent.update(Batch(normal(3), np.tanh(normal(1)), normal(1), discount, normal(3)))


def test_dense_moments_equal_adams_at_existing_connections() -> None:
    agent = new_agent()
    ds_departures.treat(agent, "moments")
    initial = {
        (name, place): pattern
        for name, learner in agent.learners.items()
        for place, pattern in learner.network.layout
    }
    update(agent, 9, np.random.default_rng(0))
    for name, learner in agent.learners.items():
        assert isinstance(learner, SparseLearner)
        adam, layout = learner.adam, learner.network.layout
        for place, dense in adam.dense_v.items():
            pattern = layout.pattern(place)
            assert pattern.overlap(initial[name, place]) < 1
            # Also equal where connections have been grown, because they start with these moments.
            for moments, all_moments in ((adam.v, dense), (adam.m, adam.dense_m[place])):
                ours = layout.read(moments, place)
                np.testing.assert_allclose(
                    ours, all_moments[pattern.positions], rtol=1e-3, atol=1e-7
                )


@pytest.mark.parametrize(
    ("treatment", "weight_is_zero"), [("moments", True), ("first-step", False)]
)
def test_grown_connections_start_with_a_step_only_if_asked(
    treatment: str, weight_is_zero: bool
) -> None:
    agent = new_agent()
    ds_departures.treat(agent, treatment)
    critics = agent.critics
    old = dict(critics.layout)
    update(agent, 2, np.random.default_rng(0))  # the first topology update is at update 2
    grown = []
    for place, pattern in critics.layout:
        _, existed = old[place].find(pattern.positions)
        grown.append(critics.layout.read(critics.parameters, place)[~existed])
    values = np.concatenate(grown)
    assert values.size > 20
    assert (values == 0).mean() == (1 if weight_is_zero else pytest.approx(0, abs=0.3))
    assert np.abs(values).max() <= (0 if weight_is_zero else 1.1e-3)  # the learning rate is 1e-3


def test_a_target_keeps_no_more_connections_than_non_zero_online_weights() -> None:
    agent = new_agent()
    ds_departures.treat(agent, "all")
    update(agent, 8, np.random.default_rng(0))  # two updates after a topology update
    target, online = agent.critics_target.network, agent.critics
    fewer = 0
    for place, pattern in online.layout:
        weights = online.layout.read(online.parameters, place)
        kept = np.count_nonzero(target.layout.read(target.parameters, place))
        if pattern.density < 1:
            assert kept <= np.count_nonzero(weights)
            fewer += kept < pattern.connections
    assert fewer  # because of dead links


def test_a_run_prints_the_mean_of_its_last_evaluations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["none", "3", str(tmp_path / "run"), "--env", "Pendulum-v1", "--steps", "400"]
    assert ds_departures.main(words) == 0
    assert "none, seed 3: mean return of the last 2 evaluations -" in capsys.readouterr().out
    assert ds_departures.main(words) == 2
    assert ds_departures.main(["none", "-1", str(tmp_path / "other")]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert "seed is -1" in errors[1]
