"""Test that runs, studies and agents of earlier versions can be read and keep their meaning."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import sparl
from sparl.archive.archive import Archive
from sparl.cli import main
from sparl.studies.study import read_study
from sparl.training.run_folder import CONFIG, RunFolder

RESULTS = Path(__file__).parents[1] / "results"
RUNS = sorted(path.parent for path in (RESULTS / "runs").rglob(CONFIG))
STUDY = """
environments = ["HalfCheetah-v3", "Hopper-v3"]
methods = ["DS-TD3", "RLx2-SAC", "Tiny-TD3"]
seeds = 1
[fields]
settings = "rlx2"
steps = 3_000_000
hidden = [400, 300]
rewire_every_updates = 500
[grid]
batch_size = [100, 256]
"""
IDS = {
    "DS-TD3_HalfCheetah-v3_seed0_690f627b", "DS-TD3_HalfCheetah-v3_seed0_c137e305",
    "DS-TD3_Hopper-v3_seed0_35a1d7c9", "DS-TD3_Hopper-v3_seed0_09ee0c32",
    "RLx2-SAC_HalfCheetah-v3_seed0_cb36632f", "RLx2-SAC_HalfCheetah-v3_seed0_9073056d",
    "RLx2-SAC_Hopper-v3_seed0_b0ee8664", "RLx2-SAC_Hopper-v3_seed0_3b43e16a",
    "Tiny-TD3_HalfCheetah-v3_seed0_b6835325", "Tiny-TD3_HalfCheetah-v3_seed0_078bb618",
    "Tiny-TD3_Hopper-v3_seed0_170ff1ce", "Tiny-TD3_Hopper-v3_seed0_95921e7b",
}  # fmt: skip
ARCHIVED = {
    "Static-TD3_Ant-v3_seed0_d99df6e2", "TD3_Ant-v3_seed0_e1402d5e",
    "Static-TD3_HalfCheetah-v3_seed0_68dbb207", "TD3_HalfCheetah-v3_seed0_5f44ad68",
    "Static-TD3_HalfCheetah-v3_seed1_7f314b5d", "TD3_HalfCheetah-v3_seed1_6d5cbceb",
    "Static-TD3_Hopper-v3_seed0_1126bea4", "TD3_Hopper-v3_seed0_330c9e42",
    "Static-TD3_Humanoid-v3_seed0_cf20ccf4", "TD3_Humanoid-v3_seed0_2f3f40dd",
    "Static-TD3_Walker2d-v3_seed0_b2640662", "TD3_Walker2d-v3_seed0_80f02ed6",
}  # fmt: skip
ACTION = [0.25217652, 0.91872215, -0.9695781, -0.9910229, -0.9894442, -0.9999999]


def rows(table: Path, number: Callable[[str], object]) -> list[dict[str, object]]:
    """The rows of a CSV table, without the column that depends on the studies of a report."""

    def value(cell: str) -> object:
        try:
            return number(cell)
        except ValueError:
            return cell

    with table.open() as file:
        return [
            {name: value(cell) for name, cell in row.items() if name != "planned_runs"}
            for row in csv.DictReader(file)
        ]


def near(cell: str) -> object:
    return pytest.approx(float(cell), rel=1e-12, nan_ok=True)


def test_archived_runs_give_the_tables_of_the_report(tmp_path: Path) -> None:
    """More runs may have been archived since the report was written."""
    words = ["report", str(RESULTS / "runs"), "--tables-only", "--out", str(tmp_path)]
    assert main(words) == 0
    for table in (RESULTS / "tables").iterdir():
        now = rows(tmp_path / "tables" / table.name, float)
        for row in rows(table, near):
            assert row in now


def test_archived_runs_keep_their_identity() -> None:
    assert Archive.read(RESULTS / "runs").runs.keys() >= ARCHIVED


@pytest.mark.parametrize("run", RUNS, ids=lambda path: path.name)
def test_all_fields_of_an_old_configuration_are_read(run: Path, tmp_path: Path) -> None:
    config = RunFolder.open(run).config()
    RunFolder(tmp_path).write_config(config)
    before, now = (tomllib.loads((path / CONFIG).read_text()) for path in (run, tmp_path))
    assert set(before.pop("unset", ())) <= set(now.pop("unset"))
    assert before.items() <= now.items()


def test_studies_keep_the_identities_of_their_runs(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(STUDY)
    assert {unit.id for unit in read_study(tmp_path / "study.toml").units} == IDS


def test_an_agent_acts_as_before() -> None:
    agent = sparl.load(RESULTS / "agents" / "SET-TD3-95_HalfCheetah-v5")
    action = agent.predict(np.linspace(-0.2, 0.2, 17, dtype=np.float32))
    assert action == pytest.approx(ACTION, abs=1e-5)


@pytest.mark.parametrize("folder", sorted(RESULTS.glob("agents/*/")), ids=lambda path: path.name)
def test_the_card_of_an_agent_states_its_connections(folder: Path) -> None:
    agent, card = sparl.load(folder), (folder / "README.md").read_text()
    layers = agent.actor.layout.spec.layers
    connections = [sum(layer.connections for layer in layers), sum(e.size for e in layers)]
    assert "| connections of the actor | {:,} of {:,} |".format(*connections) in card
    assert np.isfinite(agent.predict(np.zeros(agent.n_obs, np.float32))).all()
