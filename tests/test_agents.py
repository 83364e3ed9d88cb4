"""Test that a new agent needs only its declarations, and no changes elsewhere."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sparl
from resuming import results, stopped_at
from sparl.agents import AGENTS, field_names, head_of
from sparl.agents.action_head import SQUASHED_MEAN
from sparl.agents.agent import Agent
from sparl.architecture import architecture
from sparl.archive.finished_run import FinishedRun
from sparl.build import build_agent
from sparl.cli import main
from sparl.configuration import FIELDS
from sparl.cost import cost
from sparl.export.policy import Policy
from sparl.labels import without_effect
from sparl.methods import METHODS, Method, preset
from sparl.networks.spec import NetworkSpec, mlp
from sparl.presets import AGENT_PRESETS, FAMILIES, AgentPreset
from sparl.replay.batch import Batch
from sparl.report.runs import collect
from sparl.report.topology_pictures import degrees
from sparl.types import Array

SMALL: dict[str, Any] = {
    "steps": 240, "warmup_env_steps": 100, "hidden": (20, 12), "batch_size": 16,
    "evaluate_every_env_steps": 120, "evaluation_episodes": 1, "threads": 1, "quiet": True,
}  # fmt: skip


@dataclass(frozen=True)
class QuietSettings:
    """Settings of an agent that shares one field with the others."""

    tau: float = 0.005


class Quiet(Agent):
    """A squashed policy with tanh in its hidden layers, and a critic that is not an ensemble."""

    settings: QuietSettings
    settings_type = QuietSettings
    head = SQUASHED_MEAN
    metrics = ("value_loss", "largest_error")

    @classmethod
    def network_specs(
        cls, settings: QuietSettings, hidden: Sequence[int], n_obs: int, n_act: int
    ) -> dict[str, NetworkSpec]:
        actor = mlp((n_obs, *hidden, 2 * n_act), hidden="tanh")
        critic = mlp((n_obs + n_act, *hidden, 1))
        return {
            "actor": NetworkSpec(actor, label="actor", update_period=3),
            "value": NetworkSpec(critic, label="value", target=True, first_gradient_input=n_obs),
        }

    @classmethod
    def multiply_adds(
        cls, settings: QuietSettings, specs: Mapping[str, NetworkSpec], n_act: int, n_step: int
    ) -> float:
        return 3.0 * sum(spec.of_all_members for spec in specs.values())

    def act(self, observation: Array) -> tuple[Array, Array]:
        action = self.policy(observation[np.newaxis])[0]
        return action, action

    def update(self, batch: Batch) -> dict[str, float]:
        self.updates += 1
        critic = self.learners["value"]
        next_action = self.policy(batch.next_observation)
        next_q = self.targets["value"](batch.next_observation, next_action)
        q, trace = critic.network.forward(batch.observation, batch.action)
        error = q - batch.reward - batch.discount * next_q
        critic.step(trace, error * np.float32(2 / len(error)), self.updates)
        if self.updates % 3 == 0:
            heads, actor_trace = self.actor.forward(batch.observation)
            action = np.tanh(heads[:, : self.n_act])
            _, d_action = critic.network.value_and_input_gradient(
                batch.observation, action, weight=-1 / len(action)
            )
            d_heads = np.concatenate([d_action * (1 - action**2), 0 * action], axis=1)
            self.learners["actor"].step(actor_trace, d_heads, self.updates)
            self.targets["value"].soft_update(self.settings.tau)
        return {
            "value_loss": float((error**2).mean()),
            "largest_error": float(np.abs(error).max()),
        }


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the agent and its presets, which is all that a new agent needs."""
    monkeypatch.setitem(AGENTS, "Quiet", Quiet)
    monkeypatch.setitem(AGENT_PRESETS, "Quiet", AgentPreset("a test", {}, {}))
    for family in FAMILIES:
        name = f"{family.prefix}Quiet"
        monkeypatch.setitem(METHODS, name, Method(name, "Quiet", family))
    return


@pytest.mark.parametrize("agent", ["TD3", "SAC"])
def test_every_setting_of_an_agent_is_a_field_of_a_configuration(agent: str) -> None:
    settings = AGENTS[agent].settings_type
    assert set(field_names(settings)) <= FIELDS.keys()
    assert all(field.default is MISSING for field in fields(settings))  # Config has the defaults


def test_an_agent_without_update_or_act_cannot_be_created() -> None:
    class Half(Agent):
        def act(self, observation: Array) -> tuple[Array, Array]:
            return observation, observation

    with pytest.raises(TypeError, match="abstract"):
        Half({}, {}, None, np.random.default_rng(0), np.random.default_rng(0))  # type: ignore[abstract]


def test_an_unknown_formula_of_actions_is_an_error_that_suggests_the_version_of_sparl() -> None:
    with pytest.raises(ValueError, match=r"must be one of .*; use the version of sparl that train"):
        head_of("sin(outputs)")


@pytest.mark.parametrize("method", ["Quiet", "DS-Quiet"])
@pytest.mark.slow
def test_a_custom_agent_trains_resumes_and_is_exported(method: str, tmp_path: Path) -> None:
    fields = {**SMALL, "env": "Hopper-v5", "rewire_every_updates": 20 * (method != "Quiet")}
    path = tmp_path / "whole"
    sparl.train(method, run_dir=str(path), **fields)
    with stopped_at(171):
        sparl.train(method, run_dir=str(tmp_path / "stopped"), **fields)
    sparl.resume(tmp_path / "stopped", quiet=True)
    assert results(tmp_path / "stopped") == results(path)

    manifest = json.loads((path / "agent.json").read_text())
    assert list(manifest["networks"]) == ["actor", "value", "value_target"]
    assert manifest["policy"]["actions"] == "tanh(outputs[:n_act])"
    assert manifest["hidden_activation"] == "tanh"
    assert [layer.get("activation") for layer in manifest["networks"]["value"][0]] == [
        "relu", "relu", None,
    ]  # fmt: skip
    assert [layer["outputs"] for layer in manifest["networks"]["actor"][0]] == [20, 12, 6]
    with (path / "metrics.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    assert list(last)[-3:] == ["value_loss", "largest_error", "episode_return"]
    assert float(last["largest_error"]) > 0
    agent, observations = sparl.load(path), np.ones((5, 11), np.float32)
    assert np.abs(Policy.of(agent).predict(observations) - agent.predict(observations)).max() < 1e-6
    for words in (["npz"], ["c"], ["c", "--tanh", "built-in"]):
        assert main(["export", str(path), "--format", *words]) == 0
    finished = FinishedRun.read(path)
    assert finished.sizes == replace(finished, about={}).sizes == (11, 3)
    assert list(finished.topology) == ["actor", "value"]
    words = ["report", str(path), "--out", str(tmp_path / "report"), "--tables-only"]
    assert main(words) == 0
    figures = {figure.name for figure in degrees(collect([path]))}
    assert ("degrees-Hopper-v5-value-1-in" in figures) == (method == "DS-Quiet")


@pytest.mark.parametrize("fields", [{}, {"lambda_1": 5.0}, {"settings": "rlx2"}])
def test_a_custom_agent_is_sparse_without_lambdas_of_a_paper(fields: dict[str, Any]) -> None:
    config = preset("DS-Quiet", "HalfCheetah-v5", **fields)
    nets = architecture(config, 17, 6)
    assert 0 < nets.connections < nets.densified().connections


@pytest.mark.parametrize("method", ["TD3", "SAC"])
def test_agents_accept_float64_observations_and_reject_wrong_shapes(method: str) -> None:
    """MuJoCo returns float64 observations."""
    config = preset(method, "Hopper-v5", hidden=(8,))
    one, other = (build_agent(config, architecture(config, 11, 3)) for _ in range(2))
    observation = np.linspace(-1, 1, 11)
    for action, same in zip(
        one.act(observation), other.act(observation.astype(np.float32)), strict=True
    ):
        assert action.dtype == np.float32
        np.testing.assert_array_equal(action, same)
    np.testing.assert_array_equal(one.policy(observation[np.newaxis])[0], one.act(observation)[1])
    for wrong in (np.zeros(10), np.zeros((1, 11)), 0.0):
        with pytest.raises(ValueError, match=r"act: the observation .* must have shape \(11,\)"):
            one.act(wrong)


@pytest.mark.parametrize("method", ["DS-TD3", "RLx2-SAC"])
def test_a_batch_of_the_wrong_lengths_is_rejected_before_an_update(method: str) -> None:
    config = preset(method, "HalfCheetah-v3", hidden=(8,))
    agent = build_agent(config, architecture(config, 5, 2))
    lengths = {"observation": 5, "action": 2, "reward": 1, "discount": 1, "next_observation": 5}
    for name, wrong in (("observation", 6), ("action", 3)):
        changed = {**lengths, name: wrong}
        changed["next_observation"] = changed["observation"]
        batch = Batch(**{n: np.zeros((4, k), np.float32) for n, k in changed.items()})
        with pytest.raises(ValueError, match=f"update: batch.{name} has length {wrong} but must"):
            agent.update(batch)
    assert agent.updates == 0


def test_which_networks_may_change_their_topology() -> None:
    for rewire, changing in (("both", ["actor", "value"]), ("actor", ["actor"]),
                             ("critics", ["value"]), ("none", [])):  # fmt: skip
        config = preset("DS-Quiet", "Hopper-v5", rewire=rewire)
        agent = build_agent(config, architecture(config, 11, 3))
        assert [n for n, each in agent.learners.items() if each.schedule.every] == changing


def test_the_pruned_cost_is_counted_as_documented() -> None:
    config = preset("Quiet", "Hopper-v5", hidden=(20, 12), batch_size=10, steps=1000)
    found = cost(config, 11, 3)
    actor, critic = 11 * 20 + 20 * 12 + 12 * 6, 14 * 20 + 20 * 12 + 12
    assert found["connections"] == actor + critic
    assert found["bytes"]["targets"] == 4 * critic  # the actor has no target network
    assert found["flops"]["counted"]["dense"] == 2 * 10 * 1000 * 3 * (actor + critic)
    assert found["flops"]["paper"]["dense"] == 6 * 10 * 1000 * (critic + actor / 3)


def test_settings_of_other_agents_change_nothing_and_are_named() -> None:
    fields = {"critics": 3, "policy_delay": 7, "learn_alpha": True, "tau": 0.1}
    notes = " ".join(without_effect(preset("Quiet", "Hopper-v5", **fields)))
    assert all(f"--{name} " in notes for name in ("critics", "policy-delay", "learn-alpha"))
    assert "--tau" not in notes
    assert "--critics" not in " ".join(without_effect(preset("TD3", "Hopper-v5", critics=3)))


@pytest.mark.parametrize("critics", [1, 3])
@pytest.mark.parametrize("method", ["DS-TD3", "RLx2-SAC"])
@pytest.mark.slow
def test_the_number_of_critics_is_a_setting(method: str, critics: int, tmp_path: Path) -> None:
    fields = {**SMALL, "env": "Hopper-v5", "critics": critics, "rewire_every_updates": 20}
    sparl.train(method, run_dir=str(tmp_path / "whole"), **fields)
    with stopped_at(171):
        sparl.train(method, run_dir=str(tmp_path / "stopped"), **fields)
    sparl.resume(tmp_path / "stopped", quiet=True)
    assert results(tmp_path / "stopped") == results(tmp_path / "whole")
    manifest = json.loads((tmp_path / "whole" / "agent.json").read_text())
    for name in ("critics", "critics_target"):
        assert len(manifest["networks"][name]) == critics
    config = preset(method, "Hopper-v5", critics=critics)
    assert cost(config, 11, 3)["networks"]["critic"]["copies"] == critics
    assert architecture(config, 11, 3).networks["critics"].members == critics
    assert (
        main(
            ["report", str(tmp_path / "whole"), "--out", str(tmp_path / "report"), "--tables-only"]
        )
        == 0
    )


@pytest.mark.parametrize("critics", ["0", "101", "two"])
def test_an_invalid_number_of_critics_is_rejected(
    critics: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--method", "TD3", "--critics", critics]) == 2
    assert "critics is" in capsys.readouterr().err
