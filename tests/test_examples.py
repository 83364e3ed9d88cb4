"""Run the examples with few steps."""

from __future__ import annotations

import csv
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bad_environments  # noqa: F401  (registers the environments)
import sparl
from sparl.cli import main
from sparl.configuration import Config
from sparl.methods import preset
from sparl.random_streams import integer_seed
from sparl.training.environment import make_environment
from sparl.training.evaluate import Evaluation

REPOSITORY = Path(__file__).parents[1]
AGENTS = sorted((REPOSITORY / "results" / "agents").glob("*/"))


def run(name: str, folder: Path, *arguments: str) -> str:
    """Return the output of an example."""
    done = subprocess.run(
        [sys.executable, "-W", "error", REPOSITORY / "examples" / name, *arguments],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_train_and_export(tmp_path: Path) -> None:
    printed = run("train_and_export.py", tmp_path, "400", "c")
    assert "8-bit weights: return" in printed
    assert "void policy_act(" in (tmp_path / "c" / "policy.h").read_text()


@pytest.mark.slow
def test_own_topology_method(tmp_path: Path) -> None:
    run("own_topology_method.py", tmp_path, "600")
    (path,) = tmp_path.glob("runs/*")
    with (path / "topology.csv").open() as file:
        updated = {row["network"] for row in csv.DictReader(file)}
    assert updated == {"actor", "critics"}
    # The inputs' numbers of connections become more equal; with random growth, they do not.
    degrees = json.loads((path / "degrees.json").read_text())
    before, now = (np.std(degrees[when]["critics"][0][1]["out"]) for when in ("initial", "now"))
    assert now < 0.9 * before


def test_custom_environment(tmp_path: Path) -> None:
    printed = run("custom_environment.py", tmp_path, "400")
    assert re.search(r"agent pushes with [+-]\d\.\d\d N", printed)


def test_own_loop_learns(tmp_path: Path) -> None:
    printed = run("own_loop.py", tmp_path, "1500")
    found = re.search(r"first episode: (\S+), of the last one: (\S+)", printed)
    assert found is not None
    assert float(found[2]) > 20 > float(found[1])
    assert re.search(r"step 302: \d+ connections of actor moved", printed)
    assert sparl.load(tmp_path / "runs" / "own_loop").env_step == 1500


class Walk:
    """The environment Walks-v0 with the methods of the example's simulator."""

    low, high = -np.ones(1), np.ones(1)

    def __init__(self, config: Config) -> None:
        self.environment, self.seed = make_environment(config), integer_seed(config.seed)
        self.n_obs, self.n_act = self.environment.n_obs, self.environment.n_act

    def restart(self) -> Any:
        seed, self.seed = self.seed, None
        return self.environment.reset(seed=seed)

    def push(self, action: Any) -> Any:
        step = self.environment.step(action.astype(np.float32))
        return step.observation, step.reward, step.terminated, step.truncated


@pytest.mark.parametrize("method", ["DS-TD3", "RLx2-TD3", "RLx2-SAC"])
def test_own_loop_trains_as_sparl_train_does(method: str, tmp_path: Path) -> None:
    """Warm-up, n-step delay, dynamic capacity and topology updates give the same bits."""
    fields: dict[str, Any] = {
        "steps": 150, "hidden": (8,), "warmup_env_steps": 40, "n_step_delay_updates": 30,
        "replay_check_every_env_steps": 50, "replay_minimum": 20, "replay_distance_threshold": 0.0,
        "rewire_every_updates": 15, "freeze_fraction": 0.0, "updates_per_env_step": 2,
        "evaluate_every_env_steps": 150, "evaluation_episodes": 1,
    }  # fmt: skip
    found: dict[str, Any] = {}

    class Last(sparl.Callback):
        def on_step(self, run: sparl.ActiveRun) -> None:
            if run.env_step == 150:
                found.update(run.agent.state())

        def on_evaluation(self, run: sparl.ActiveRun, evaluation: Evaluation) -> None:
            found["size"] = run.metrics.get("replay_size")

    sparl.train(method, "Walks-v0", run_dir=tmp_path / "run", callback=Last(), quiet=True, **fields)
    config = preset(method, "Walks-v0", **fields)
    loop = runpy.run_path(str(REPOSITORY / "examples" / "own_loop.py"))
    agent, replay, _ = loop["train"](config, Walk(config))
    assert replay.size == found.pop("size")
    assert (replay.size < 150) == config.dynamic_buffer
    for part, state in agent.state().items():
        for name, value in state.items():
            if not name.startswith("topology_updates."):  # the loop has taken them
                np.testing.assert_array_equal(value, found[part][name], f"{part} {name}")


@pytest.mark.parametrize(
    "agent",
    [AGENTS[0], *(pytest.param(agent, marks=pytest.mark.slow) for agent in AGENTS[1:])],
    ids=lambda path: path.name,
)
def test_shipped_agents_reach_the_returns_of_their_cards(
    agent: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = (agent / "README.md").read_text()
    (stated,) = re.findall(r"^\| return over 100 .* \| (.*) ± (.*) \|$", card, re.M)
    mean, std = (float(number.replace(",", "")) for number in stated)
    assert main(["evaluate", str(agent), "--episodes", "5", "--json"]) == 0
    # Some agents fall in many episodes, so the mean of five varies more than the best of them.
    best = max(json.loads(capsys.readouterr().out)["returns"])
    assert -max(std, 0.05 * mean) < best - mean < max(3 * std, 0.05 * mean)
