"""Test that the agent of a custom training loop can be saved, loaded, evaluated and exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bad_environments  # noqa: F401  (registers the environments)
import sparl
from sparl.agents.agent import Agent
from sparl.agents.observation_normalizer import ObservationStatistics
from sparl.architecture import architecture
from sparl.build import build_agent
from sparl.cli import main
from sparl.configuration import Config
from sparl.errors import RunExists, UsageError
from sparl.methods import preset
from sparl.training.custom_loop import save_agent

LOW, HIGH = [-2.0, 0.0], [2.0, 1.0]
OBSERVATIONS = np.random.default_rng(0).normal(size=(3000, 3))


def trained(method: str = "DS-TD3", env: str = "point", **fields: Any) -> tuple[Agent, Config]:
    config = preset(method, env, hidden=(8,), steps=100, warmup_env_steps=10, **fields)
    return build_agent(config, architecture(config, 3, 2)), config


def save(folder: Path, agent: Agent, config: Config, **changed: Any) -> None:
    arguments: dict[str, Any] = {
        "action_low": LOW, "action_high": HIGH, "env_step": 100, "observations": OBSERVATIONS,
    }  # fmt: skip
    save_agent(folder, agent, config, **{**arguments, **changed})


@pytest.mark.parametrize("method", ["DS-TD3", "RLx2-SAC"])
def test_a_saved_agent_is_loaded_described_and_exported(
    method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agent, config = trained(method)
    save(tmp_path / "own", agent, config)
    loaded = sparl.load(tmp_path / "own")
    actions = loaded.predict(OBSERVATIONS)
    np.testing.assert_array_equal(loaded.policy(OBSERVATIONS.astype(np.float32)),
                                  agent.policy(OBSERVATIONS))  # fmt: skip
    assert (actions >= LOW).all()
    assert (actions <= HIGH).all()
    assert loaded.env_step == 100
    assert {"actor", "critics", "critics_target"} <= loaded.networks.keys()
    assert main(["info", str(tmp_path / "own"), "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert (described["env"], described["env_step"]) == ("point", 100)
    assert main(["export", str(tmp_path / "own"), "--format", "npz"]) == 0
    assert "checked on 1,000 observations" in capsys.readouterr().out
    with pytest.raises(RunExists):
        save(tmp_path / "own", agent, config)
    agent, config = trained(method, seed=1, overwrite=True)
    save(tmp_path / "own", agent, config)
    assert not np.array_equal(sparl.load(tmp_path / "own").predict(OBSERVATIONS), actions)


def test_a_saved_agent_is_evaluated_and_acts_in_a_warm_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = preset("DS-TD3", "Walks-v0", hidden=(8,), steps=40, warmup_env_steps=30)
    agent = build_agent(config, architecture(config, 3, 2))
    save(tmp_path / "own", agent, config)
    assert main(["evaluate", str(tmp_path / "own"), "--episodes", "2"]) == 0
    assert "mean return" in capsys.readouterr().out
    fields = {"steps": 40, "hidden": (8,), "warmup_env_steps": 30, "evaluation_episodes": 1}
    for name, warm_start in (("warm", str(tmp_path / "own")), ("cold", None)):
        sparl.train(
            "TD3", "Walks-v0", run_dir=tmp_path / name, warm_start=warm_start, quiet=True, **fields
        )
    warm, cold = (sparl.load(tmp_path / name).predict(OBSERVATIONS) for name in ("warm", "cold"))
    assert not np.array_equal(warm, cold)  # because the actions in the warm-up differ


def test_the_statistics_of_observations_are_saved(tmp_path: Path) -> None:
    agent, config = trained(normalize_observations=True)
    statistics = ObservationStatistics.initial(3)
    for observation in OBSERVATIONS.astype(np.float32):
        statistics.update(5 * observation)
    save(tmp_path / "own", agent, config, normalizer=statistics)
    observations = OBSERVATIONS[:9].astype(np.float32)
    np.testing.assert_array_equal(
        sparl.load(tmp_path / "own").policy(observations), agent.policy(statistics(observations))
    )
    for normalizer, message in (
        (None, "normalizer is RawObservations but config.normalize_observations is True"),
        (ObservationStatistics.initial(1), "the normalizer is for 1 entries"),
    ):
        with pytest.raises(UsageError, match=message):
            save(tmp_path / "other", agent, config, normalizer=normalizer)
    agent, config = trained()
    with pytest.raises(UsageError, match="normalize_observations is False"):
        save(tmp_path / "other", agent, config, normalizer=statistics)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"action_low": -1.0}, "action_low is -1.0 but must be 2 finite numbers"),
        ({"action_high": [1.0, np.inf]}, "action_high is"),
        ({"action_low": [0.0, 1.0]}, "each element of action_low must be less"),
        ({"observations": OBSERVATIONS[0]}, r"observations has shape \(3,\)"),
        ({"observations": OBSERVATIONS[:0]}, r"observations has shape \(0, 3\)"),
        ({"env_step": -1}, "env_step is -1"),
        ({"env_step": True}, "env_step is True"),
    ],
)
def test_invalid_arguments_are_rejected_before_anything_is_written(
    changed: dict[str, Any], message: str, tmp_path: Path
) -> None:
    agent, config = trained()
    with pytest.raises(UsageError, match=message):
        save(tmp_path / "own", agent, config, **changed)
    assert not (tmp_path / "own").exists()
