"""Test --normalize-observations: statistics, training, resuming, agent files and exports."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

import sparl
from resuming import results, stopped_at
from sparl.agents.observation_normalizer import ObservationStatistics, RawObservations
from sparl.errors import DataError
from sparl.export import arrays, c_check
from sparl.export.c_source import c_source
from sparl.export.policy import Policy
from sparl.methods import preset
from sparl.replay.batch import Batch
from sparl.training.agent_copies import save_actor
from sparl.training.agent_file import load_agent
from sparl.training.environment import make_environment
from sparl.training.evaluate import Evaluator
from sparl.training.run_folder import RunFolder
from sparl.training.tensors import digest, pack

SMALL: dict[str, Any] = {
    "env": "Pendulum-v1", "steps": 300, "warmup_env_steps": 100, "hidden": (40, 24),
    "batch_size": 16, "evaluate_every_env_steps": 300, "evaluation_episodes": 3, "threads": 1,
    "quiet": True,
}  # fmt: skip
NORMALIZED = {**SMALL, "normalize_observations": True}


def seen(count: int, n_obs: int = 3) -> tuple[ObservationStatistics, np.ndarray]:
    rng = np.random.default_rng(5)
    observations = rng.normal([5, -100, 0], [1, 20, 1e-3], (count, n_obs)).astype(np.float32)
    statistics = ObservationStatistics.initial(n_obs)
    for observation in observations:
        statistics.update(observation)
    return statistics, observations


def test_statistics_include_all_observations() -> None:
    """The initial mean 0 and variance 1 have the weight of 1e-4 observations."""
    statistics, observations = seen(2000)
    weights = np.array([1e-4, *np.ones(2000)])
    values = np.concatenate([np.zeros((1, 3)), observations.astype(np.float64)])
    mean = np.average(values, axis=0, weights=weights)
    variance = np.average((values - mean) ** 2, axis=0, weights=weights) + 1e-4 / weights.sum()
    np.testing.assert_allclose(statistics.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(statistics.variance, variance, rtol=1e-9)
    assert statistics.count == pytest.approx(2000.0001, rel=1e-15)


def test_normalised_observations_have_mean_zero_and_deviation_one() -> None:
    statistics, observations = seen(2000)
    normalized = statistics(observations)
    assert normalized.dtype == np.float32
    np.testing.assert_allclose(normalized.mean(axis=0), 0, atol=1e-3)
    expected = observations.std(axis=0) / np.sqrt(statistics.variance + 1e-8)
    np.testing.assert_allclose(normalized.std(axis=0), expected, rtol=1e-3)


def test_an_entry_that_never_changes_is_normalised_to_zero() -> None:
    statistics = ObservationStatistics.initial(1)
    for _ in range(100_000):
        statistics.update(np.full(1, 9.81, np.float32))
    assert abs(statistics(np.full((1, 1), 9.81, np.float32))[0, 0]) < 1e-2


def test_all_observations_of_a_batch_are_normalised_and_nothing_else() -> None:
    statistics, observations = seen(64)
    one = np.ones((4, 1), np.float32)
    path = observations[:8].reshape(4, 2, 3)
    batch = Batch(
        observations[:4], one, one, one, observations[4:8], path, np.ones((4, 2), np.float32)
    )
    normalized = statistics.batch(batch)
    np.testing.assert_array_equal(normalized.observation, statistics(observations[:4]))
    np.testing.assert_array_equal(normalized.next_observation, statistics(observations[4:8]))
    np.testing.assert_array_equal(normalized.path_observation, statistics(path))
    assert normalized.action is normalized.reward is normalized.discount is one
    assert RawObservations().batch(batch) is batch


@pytest.fixture(scope="module", params=["DS-TD3", "RLx2-SAC"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("normalized") / "run"
    sparl.train(request.param, run_dir=str(path), **NORMALIZED)
    return path


def test_every_acted_step_is_counted_once_and_evaluations_are_not(run: Path) -> None:
    manifest = json.loads((run / "agent.json").read_text())
    assert manifest["normalizer"]["count"] == pytest.approx(SMALL["steps"] + 1e-4, rel=1e-12)


def test_normalisation_changes_the_result_and_is_off_in_every_preset(
    run: Path, tmp_path: Path
) -> None:
    method = json.loads((run / "agent.json").read_text())["method"].split()[0]
    plain = tmp_path / "plain"
    sparl.train(method, run_dir=str(plain), **SMALL)
    assert "normalizer" not in json.loads((plain / "agent.json").read_text())
    assert results(plain)["agent.safetensors"] != results(run)["agent.safetensors"]


def test_the_loaded_agent_acts_on_raw_observations_like_the_trained_one(run: Path) -> None:
    evaluator = Evaluator(lambda: make_environment(preset("TD3", "Pendulum-v1")), 3, 100)
    again = evaluator.evaluate(load_agent(run).policy)
    evaluator.close()
    last = results(run)["evaluations.csv"][-1]
    assert again.mean == pytest.approx(float(last["mean"]), rel=1e-9)


def test_exports_normalise_raw_observations(run: Path) -> None:
    agent = load_agent(run)
    policy = Policy.of(agent)
    rng = np.random.default_rng(1)
    observations = rng.normal(2, 3, (200, agent.n_obs)).astype(np.float32)
    expected = agent.predict(observations)
    np.testing.assert_allclose(policy.predict(observations), expected, atol=1e-6)
    np.testing.assert_allclose(
        arrays.actions(arrays.npz(policy), observations), expected, atol=1e-5
    )
    source = c_source(policy, "policy", observations[:16], "tanhf", [])
    command = c_check.compiler()
    assert command is not None
    compiled = c_check.run(command, source, "policy", observations)
    np.testing.assert_allclose(compiled, expected, atol=1e-5)
    raw = Policy(policy.layers, policy.low, policy.high)
    assert not np.allclose(raw(observations), policy(observations), atol=1e-2)


def test_a_copy_of_the_actor_keeps_the_statistics(run: Path, tmp_path: Path) -> None:
    whole, config = load_agent(run), RunFolder.open(run).config()
    copy = RunFolder.create(replace(config, run_dir=str(tmp_path / "copy")))
    save_actor(RunFolder.open(run), copy)
    observations = np.ones((3, whole.n_obs), np.float32)
    there = load_agent(tmp_path / "copy")
    np.testing.assert_array_equal(there.predict(observations), whole.predict(observations))


@pytest.mark.parametrize("method", ["DS-TD3", "RLx2-SAC"])
def test_a_resumed_run_equals_an_uninterrupted_one(method: str, tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    fields = {**NORMALIZED, "env": "Hopper-v5"}
    sparl.train(method, run_dir=str(whole), **fields)
    with stopped_at(SMALL["steps"] // 2):
        sparl.train(method, run_dir=str(stopped), **fields)
    sparl.resume(str(stopped))
    assert results(stopped) == results(whole)


def damaged(run: Path, into: Path, statistics: dict[str, Any], **arrays: Any) -> Path:
    """Copy a run, and change the statistics of its agent."""
    shutil.copytree(run, into)
    manifest = json.loads((into / "agent.json").read_text())
    data = pack(load((into / "agent.safetensors").read_bytes()) | arrays)
    (into / "agent.safetensors").write_bytes(data)
    manifest["file"] |= {"sha256": digest(data), "bytes": len(data)}
    (into / "agent.json").write_text(json.dumps({**manifest, "normalizer": statistics}))
    return into


@pytest.mark.parametrize("count", [{}, *({"count": c} for c in (float("nan"), -1, None, "1"))])
def test_an_impossible_count_is_reported_as_damage(
    count: dict[str, Any], run: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        load_agent(damaged(run, tmp_path / "run", count))


@pytest.mark.parametrize(("name", "value"), [("variance", -1.0), ("mean", np.inf)])
def test_impossible_statistics_are_reported_as_damage(
    name: str, value: float, run: Path, tmp_path: Path
) -> None:
    changed = {f"normalizer.{name}": np.full(3, value)}
    with pytest.raises(DataError, match=rf"{name}"):
        load_agent(damaged(run, tmp_path / "run", {"count": 300.0}, **changed))


def test_statistics_of_another_size_are_rejected(run: Path, tmp_path: Path) -> None:
    changed = {"normalizer.mean": np.zeros(2)}
    with pytest.raises(DataError):
        load_agent(damaged(run, tmp_path / "run", {"count": 300.0}, **changed))
