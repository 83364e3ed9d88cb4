"""Run the examples with few steps."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sparl.cli import main

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
