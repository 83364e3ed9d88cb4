"""Test that the label of a run names the fields that contradict its method's definition."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import sparl
from run_folders import write_run
from sparl.cli import main
from sparl.identity import run_name
from sparl.labels import contradictions, method_label
from sparl.methods import METHODS, preset
from sparl.report.runs import collect

CASES: list[tuple[str, dict[str, Any], list[str]]] = [
    ("SS-TD3", {"rewire_every_updates": 1000}, ["rewire_every_updates"]),
    ("Static-SAC", {"rewire_every_updates": 7}, ["rewire_every_updates"]),
    ("DS-TD3", {"rewire_every_updates": 0}, ["rewire_every_updates"]),
    ("DS-TD3", {"rewire": "critics"}, ["rewire"]),
    ("DS-TD3", {"target_pattern": "shared"}, ["target_pattern"]),
    ("SET-TD3", {"grow": "gradient"}, ["grow"]),
    ("SET-TD3", {"grow": "my_rule", "drop": "nearest_zero_of_each_sign"}, ["drop", "grow"]),
    ("RLx2-TD3", {"n_step": 1, "dynamic_buffer": False}, ["dynamic_buffer", "n_step"]),
    ("TD3", {"actor_sparsity": 0.9}, ["actor_sparsity"]),
    ("TD3", {"n_step": 3}, ["n_step"]),
    (
        "SAC",
        {"critic_densities": (0.1, 0.1, 1.0), "rewire_every_updates": 9},
        ["rewire_every_updates", "critic_densities"],
    ),
    ("Tiny-TD3", {"narrow": False}, ["narrow"]),
    ("SS-TD3", {"initial_topology": "random"}, ["initial_topology"]),
    ("SET-TD3", {"rewire_schedule": "constant"}, ["rewire_schedule"]),
    ("SET-TD3", {"rewire_fraction": 0.0}, ["rewire_fraction"]),
    ("RigL-SAC", {"freeze_fraction": 1.0}, ["freeze_fraction"]),
    # Settings of a method do not contradict it.
    ("DS-TD3", {"rewire_every_updates": 200, "rewire_fraction": 0.3}, []),
    ("RLx2-TD3", {"actor_sparsity": 0.5, "n_step": 5, "n_step_delay_updates": 0}, []),
    ("RLx2-TD3", {"initial_topology": "random"}, []),
    ("SS-TD3", {"grow": "gradient"}, []),
    ("Static-TD3", {"rewire_every_updates": 100, "rewire": "none"}, []),
    # Nothing can move in dense networks.
    ("TD3", {"rewire_every_updates": 1000}, []),
    ("Tiny-TD3", {"rewire_every_updates": 1000}, []),
]


@pytest.mark.parametrize(("method", "fields", "found"), CASES)
def test_fields_that_contradict_a_method_are_found(
    method: str, fields: dict[str, Any], found: list[str]
) -> None:
    assert contradictions(preset(method, "HalfCheetah-v3", **fields)) == found


@pytest.mark.parametrize("settings", ["ds", "rlx2"])
@pytest.mark.parametrize("method", METHODS)
def test_no_preset_contradicts_itself(method: str, settings: str) -> None:
    config = preset(method, "Ant-v3", settings=settings)
    assert method_label(config) == method
    assert run_name(config) == f"{method}_Ant-v3_seed0"


def test_the_label_is_in_the_folder_the_record_the_console_and_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run = sparl.train(
        "SS-TD3", "Pendulum-v1", rewire_every_updates=1000, steps=60, warmup_env_steps=50,
        evaluate_every_env_steps=60, hidden=(8, 8), batch_size=8, evaluation_episodes=1,
        max_episode_steps=20,
    )  # fmt: skip
    name = "SS-TD3 (rewire_every_updates 1000)"
    assert run.path.name == "SS-TD3-rewire_every_updates-1000_Pendulum-v1_seed0"
    about = json.loads((run.path / "run.json").read_text())
    assert (about["method"], about["preset"]) == (name, 2)
    out = capsys.readouterr().out
    assert out.startswith(f"{name} on Pendulum-v1")
    assert out.startswith(f"{name} on Pendulum-v1, seed 0\n")
    assert json.loads((run.path / "agent.json").read_text())["method"] == name
    assert main(["info", str(run.path)]) == 0
    assert f"method: {name}" in capsys.readouterr().out
    # A report's label contains the field even if all runs on the environment have it.
    assert main(["report", "--tables-only", str(run.path), "--out", str(tmp_path / "report")]) == 0
    assert f"| {name}" in (tmp_path / "report" / "README.md").read_text()


def test_runs_of_two_versions_are_not_averaged(tmp_path: Path) -> None:
    """A run without a recorded version has version 1, in which DS was different."""
    for seed, version in ((0, 2), (1, 1), (2, 2)):
        path = write_run(
            tmp_path / str(seed), "DS-TD3", "HalfCheetah-v3", [0.0, 10.0 * seed], seed=seed
        )
        about = json.loads((path / "run.json").read_text())
        (path / "run.json").write_text(json.dumps({**about, "preset": version}))
    found = {
        group.label: [run.config.seed for run in group.runs] for group in collect([tmp_path]).groups
    }
    assert found == {"DS-TD3": [0, 2], "DS-TD3 (version 1)": [1]}
