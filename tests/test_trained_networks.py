"""Test the networks, masks, weights and texts of trained agents and runs."""

from __future__ import annotations

import builtins
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import sparl
from sparl.errors import DataError, UsageError
from sparl.training.tensors import digest, pack

FIELDS: dict[str, Any] = {
    "steps": 60, "hidden": (8, 7), "warmup_env_steps": 30, "evaluate_every_env_steps": 30,
    "evaluation_episodes": 1, "quiet": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> sparl.training.run.Run:
    path = tmp_path_factory.mktemp("runs") / "a<b>&"
    return sparl.train("DS-TD3", "bad_environments:Walks-v0", run_dir=path, **FIELDS)


def dense(layer: Any) -> Any:
    w = np.zeros(layer.shape, np.float32)
    w[layer.mask()] = layer.weights
    return w


def test_the_layers_compute_the_policy(run: sparl.training.run.Run) -> None:
    agent = sparl.load(run)
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    y = x
    for layer in agent.networks["actor"].layers:
        y = y @ dense(layer).T + layer.bias
        y = {"relu": lambda v: np.maximum(v, 0), "tanh": np.tanh}[layer.activation](y)
    np.testing.assert_allclose(y, agent.policy(x), rtol=1e-5, atol=1e-6)


def test_an_agent_file_gives_access_to_all_networks(run: sparl.training.run.Run) -> None:
    networks = sparl.load(run).networks
    assert list(networks) == ["actor", "critics", "actor_target", "critics_target"]
    for name, network in networks.items():
        first = (3, 2) if name.startswith("actor") else (5, 1)
        assert len(network.members) == (1 if name.startswith("actor") else 2)
        for layers in network.members:
            shapes = [layer.shape for layer in layers]
            assert shapes == [(8, first[0]), (7, 8), (first[1], 7)]
            for layer in layers:
                assert layer.mask().shape == layer.shape
                assert layer.mask().sum() == layer.connections == layer.weights.size
                assert layer.density == layer.mask().mean()
                assert layer.activation == (
                    "relu" if layer is not layers[-1]
                    else "tanh" if name.startswith("actor") else "linear"
                )  # fmt: skip
    with pytest.raises(UsageError, match=r"critics has 2 members; members\[0\]"):
        _ = networks["critics"].layers
    first, second = (members[0] for members in networks["critics"].members)
    assert (first.mask() != second.mask()).any()


def test_a_missing_package_is_named(
    run: sparl.training.run.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name.split(".")[0] in ("scipy", "torch"):
            raise ImportError(name)
        return original(name, *arguments)

    layer = sparl.load(run).networks["actor"].layers[0]
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match="to_scipy needs SciPy: pip install scipy"):
        layer.to_scipy()
    with pytest.raises(UsageError, match=r"to_torch needs PyTorch: pip install 'sparl\[torch\]'"):
        layer.to_torch()


def test_values_are_read_only(run: sparl.training.run.Run) -> None:
    layer = sparl.load(run).networks["actor"].layers[0]
    for values in (layer.weights, layer.bias):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 1.0


def test_texts_are_short(run: sparl.training.run.Run) -> None:
    agent = sparl.load(run)
    first = agent.networks["actor"].layers[0]
    texts = [repr(each) for each in (run, agent, agent.networks["critics"], first)]
    assert all(len(text) < 250 and "\n" not in text for text in texts)
    assert texts[0].startswith(f"<Run {run.path}: method DS-TD3, environment ")
    assert f"state finished, return {run.final_return:,.1f} at step 60" in texts[0]
    assert texts[1].startswith(
        "<TrainedAgent DS-TD3 on bad_environments:Walks-v0, step 60: observations of "
    )
    assert texts[2].startswith("<TrainedNetwork critics: 2 x 5-8-7-1, ")
    assert texts[3] == "<TrainedLayer 3 -> 8, relu: 12 of 24 connections (50.0%)>"


@pytest.mark.parametrize("of", [lambda run: run, sparl.load], ids=["run", "agent"])
def test_notebooks_show_a_table(of: Callable[[Any], Any], run: sparl.training.run.Run) -> None:
    shown = of(run)._repr_html_()
    assert shown.count("<table>") == 1
    assert "DS-TD3" in shown
    assert "a<b>" not in shown  # the folder's name is escaped
    assert re.search('<tr><th scope="row"[^>]*>(method|actor)</th><td', shown)


def test_predict_accepts_deterministic(run: sparl.training.run.Run) -> None:
    agent = sparl.load(run)
    x = np.ones(3)
    assert (agent.predict(x, deterministic=True) == agent.predict(x)).all()
    with pytest.raises(UsageError, match="deterministic is False but must be True"):
        agent.predict(x, deterministic=False)


def test_shipped_agents_of_version_0_1_show_their_actor() -> None:
    folder = Path(__file__).parents[1] / "results" / "agents"
    for path in sorted(folder.glob("*/agent.json")):
        agent = sparl.load(path.parent)
        assert len(agent.networks["actor"].layers) == 3
        assert agent.networks["actor"].layers[0].shape[1] == agent.n_obs
        assert "<TrainedAgent" in repr(agent)


def changed(run: sparl.training.run.Run, copy: Path, change: Callable[[Any], object]) -> Path:
    """Copy a run, and apply a change to the agent.json of the copy."""
    shutil.copytree(run.path, copy)
    manifest = json.loads((copy / "agent.json").read_text())
    change(manifest)
    (copy / "agent.json").write_text(json.dumps(manifest))
    return copy


def test_files_of_version_0_2_show_all_networks(
    run: sparl.training.run.Run, tmp_path: Path
) -> None:
    old = changed(run, tmp_path / "old", lambda manifest: manifest.pop("inputs"))
    now, then = sparl.load(run).networks, sparl.load(old).networks
    assert [repr(network) for network in now.values()] == [repr(n) for n in then.values()]


@pytest.mark.parametrize("inputs", [{"critics": 0}, {"critics": "5"}, {"critics": 1 << 80}, []])
def test_damaged_networks_are_reported(
    inputs: Any, run: sparl.training.run.Run, tmp_path: Path
) -> None:
    damaged = changed(run, tmp_path / "damaged", lambda manifest: manifest.update(inputs=inputs))
    agent = sparl.load(damaged)  # the actor alone is enough to act
    assert repr(agent)
    with pytest.raises(DataError, match="the networks of the agent cannot be read"):
        _ = agent.networks


def test_an_actor_with_several_members_is_damaged(
    run: sparl.training.run.Run, tmp_path: Path
) -> None:
    arrays = safetensors.numpy.load_file(run.path / "agent.safetensors")
    swapped = {"actor": "critics", "critics": "actor"}
    data = pack({
        ".".join([swapped.get(name, name), *rest]): value
        for name, *rest, value in ((*key.split("."), value) for key, value in arrays.items())
    })  # fmt: skip

    def change(manifest: Any) -> None:
        networks = manifest["networks"]
        networks["actor"], networks["critics"] = networks["critics"], networks["actor"]
        manifest["file"] |= {"bytes": len(data), "sha256": digest(data)}

    damaged = changed(run, tmp_path / "damaged", change)
    (damaged / "agent.safetensors").write_bytes(data)
    with pytest.raises(DataError, match="the actor has 2 members but must have 1"):
        sparl.load(damaged)
