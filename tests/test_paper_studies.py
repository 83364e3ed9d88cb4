"""Test that the studies of the papers' tables and figures contain the papers' runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparl.configuration import Config
from sparl.methods import preset
from sparl.report.runs import label
from sparl.studies.study import read_study

STUDIES = Path(__file__).parents[1] / "studies"


def configurations(name: str) -> list[Config]:
    """Return the study's configurations on HalfCheetah with seed 0."""
    every = [unit.config for unit in read_study(STUDIES / f"{name}.toml").units]
    return [config for config in every if (config.seed, config.env[:4]) == (0, "Half")]


@pytest.mark.parametrize(
    "path",
    # DS-SAC in evidence-2 is compared only with the paper's figures.
    [path for path in sorted(STUDIES.glob("*.toml")) if path.stem != "evidence-2"],
    ids=lambda path: path.stem,
)
def test_every_study_has_its_dense_agents(path: Path) -> None:
    found = [unit.config for unit in read_study(path).units]
    dense = {(c.agent, c.settings, c.env, c.seed) for c in found if c.method == c.agent}
    assert {(c.agent, c.settings, c.env, c.seed) for c in found} == dense


def test_the_study_of_the_update_period_has_four_periods_and_the_dense_agent() -> None:
    found = configurations("ds-topology-update-period")
    periods = [(config.method, config.rewire_every_updates) for config in found]
    assert periods == [
        ("TD3", 0), ("DS-TD3", 200), ("DS-TD3", 500), ("DS-TD3", 1000), ("DS-TD3", 2000),
    ]  # fmt: skip


def test_ablations_include_tiny_with_rlx2s_targets_and_replay() -> None:
    found = configurations("rlx2-ablations")
    (tiny,) = (config for config in found if config.method == "Tiny-TD3")
    rlx2 = preset("RLx2-TD3", tiny.env, steps=tiny.steps)
    for name in (
        "n_step", "n_step_delay_updates", "dynamic_buffer", "replay_capacity", "replay_minimum",
        "learning_rate", "batch_size", "steps",
    ):  # fmt: skip
        assert getattr(tiny, name) == getattr(rlx2, name), name
    assert tiny.narrow
    assert len({label(config) for config in found}) == len(found)
