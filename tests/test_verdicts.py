"""Test how results/verdicts.py judges the papers' claims."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import claims
import verdicts
from quantities import Mean, geometric_mean
from run_folders import write_run
from sparl.configuration import Config
from sparl.report.runs import Collection, collect
from sparl.report.statistics import Interval
from sparl.training.run_folder import RUN, RunFolder

RESULTS = Path(__file__).parents[1] / "results"
TASK = "HalfCheetah-v3"
EVALUATIONS = 200  # of a run as long as those of Sokar et al., without the one at step 0
AS_GOOD = claims.Claim("", "", [(claims.DS, claims.TD3)], "final return", "≥ 0.97")


def write_constant(path: Path, method: str, final: float, task: str = TASK, **fields: Any) -> None:
    """Write a run with a constant return from the first update on, and 0 at step 0."""
    write_run(path, method, task, [0.0, *[final] * EVALUATIONS], **fields)


def runs_of(folder: Path, returns: dict[str, list[float]], task: str = TASK) -> Collection:
    """Write a run for each method and final return, and collect all runs in the folder."""
    for method, finals in returns.items():
        for seed, final in enumerate(finals):
            write_constant(folder / task / f"{method}-{seed}", method, final, task, seed=seed)
    return collect([folder])


def row_of(
    runs: Collection, *tasks: str, plans: Sequence[Config] = (), mean: Mean = np.mean
) -> list[str]:
    return verdicts.row(AS_GOOD, AS_GOOD.pairs[0], tasks, verdicts.Archive(runs, plans), mean)


@pytest.mark.parametrize(
    ("holds_if", "low", "high", "verdict"),
    [
        ("≥ 0.97", 0.97, 1.2, "reproduced"), ("≥ 0.97", 0.96, 1.2, "undecided"),
        ("≥ 0.97", 0.5, 0.96, "not reproduced"), ("> 1", 1.0, 1.2, "undecided"),
        ("< 0.97", 0.5, 0.96, "reproduced"), ("< 0.97", 0.97, 1.2, "not reproduced"),
        ("≤ 0.5", 0.3, 0.5, "reproduced"), ("≤ 0.5", 0.51, 1.0, "not reproduced"),
    ],
)  # fmt: skip
def test_the_whole_interval_decides(holds_if: str, low: float, high: float, verdict: str) -> None:
    assert replace(AS_GOOD, holds_if=holds_if).verdict(Interval(1.0, low, high)) == verdict


def test_three_runs_of_each_method_are_needed(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, {"DS-TD3": [110.0, 110.0, 110.0], "TD3": [90.0, 110.0]})
    paper = f"{11460 / 11153:.3f}"
    assert row_of(runs, TASK) == [
        TASK, "110 ± 0 (3)", "100 ± 14 (2)", paper, "1.100",
        "undecided: too few runs are planned",
    ]  # fmt: skip
    plans = [claims.TD3.config(TASK)]
    plans = [replace(plans[0], steps=1_000_000, seed=seed) for seed in range(4)]
    assert row_of(runs, TASK, plans=plans)[-1] == "undecided: too few runs"
    write_constant(tmp_path / "third", "TD3", 100.0, seed=2)
    full = row_of(collect([tmp_path]), TASK, plans=plans[:3])
    assert full[-2:] == ["1.100 [1.000, 1.222]", "reproduced"]
    more_planned = row_of(collect([tmp_path]), TASK, plans=plans)
    assert more_planned[2] == "100 ± 10 (3 of 4)"
    assert more_planned[-1] == "reproduced (provisional)"


def test_ratios_are_averaged_over_the_tasks(tmp_path: Path) -> None:
    runs_of(tmp_path, {"DS-TD3": [80.0, 100.0, 120.0], "TD3": [100.0] * 3})
    runs = runs_of(tmp_path, {"DS-TD3": [3.0] * 3, "TD3": [1.0] * 3}, "Hopper-v3")
    assert row_of(runs, TASK)[-1] == "undecided: the claim holds in a part of the interval"
    low, high = 1 + 0.8 / 2 + 0.5, 1 + 1.2 / 2 + 0.5
    row = row_of(runs, TASK, "Hopper-v3")
    assert (row[0], row[-1]) == ("mean of all", "reproduced")
    assert row[-2] == f"2.000 [{low:.3f}, {high:.3f}]"
    row = row_of(runs, TASK, "Hopper-v3", mean=geometric_mean)
    assert (row[0], row[-1]) == ("geometric mean of all", "reproduced")
    low, high = math.sqrt(0.8 * 3), math.sqrt(1.2 * 3)
    assert row[-2] == f"{math.sqrt(3):.3f} [{low:.3f}, {high:.3f}]"


def test_only_runs_with_the_papers_settings_length_and_results_are_compared(
    tmp_path: Path,
) -> None:
    write_constant(tmp_path / "rlx2", "TD3", 1.0, settings="rlx2", horizon_env_steps=3_000_000)
    write_constant(tmp_path / "slow", "DS-TD3", 1.0, tau=0.01)
    write_constant(tmp_path / "often", "DS-TD3", 1.0, rewire_every_updates=200)
    write_run(tmp_path / "short", "DS-TD3", TASK, [1.0] * 13)
    write_run(tmp_path / "part", "DS-TD3", TASK, [1.0] * 13, horizon_env_steps=1_000_000)
    write_constant(tmp_path / "old", "DS-TD3", 1.0)
    folder = RunFolder.open(tmp_path / "old")
    folder.write_json(RUN, {**folder.run(), "preset": 1})
    runs = collect([tmp_path])
    assert len(runs.groups) == 6
    assert claims.DS.on(TASK, runs) is None
    assert claims.TD3.on(TASK, runs) is None
    assert claims.Side("TD3", "rlx2").on(TASK, runs) is None  # not 3M steps
    assert claims.with_period(200).on(TASK, runs).config.rewire_every_updates == 200
    assert verdicts.far_from_paper(runs) == []


def test_steps_to_reach_count_the_whole_run_if_the_return_is_never_reached(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, {"TD3": [10.0] * 3, "DS-TD3": [10.0, 10.0, 9.0]})
    claim = replace(AS_GOOD, quantity="steps", holds_if="≤ 0.6")
    row = verdicts.row(claim, claim.pairs[0], [TASK], verdicts.Archive(runs, ()))
    # Ten evaluations reach the goal at evaluation 10 of 200.
    assert row[1] == "0.367 ± 0.548 (3; 1 never)"
    assert row[2] == "0.050 ± 0.000 (3)"
    assert row[4] == "0.367 [0.050, 1.000]"


def test_a_mean_far_from_the_papers_is_listed(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, {"TD3": [11153 - 2 * 473] * 2, "Static-TD3": [10584 - 2 * 308] * 2})
    (found,) = verdicts.far_from_paper(runs)
    assert found == "Static-TD3 on HalfCheetah-v3: 9,968 in 2 runs; paper: 10,584 ± 307"


def test_the_stored_verdicts_are_those_of_the_archived_runs() -> None:
    text = verdicts.document(verdicts.archived())
    assert (RESULTS / "VERDICTS.md").read_text() == text
    rows = [line for line in text.splitlines() if line.startswith("|") and "v3" in line]
    of_papers = [claim for each in claims.CLAIMS.values() for claim in each]
    assert len(rows) == sum(len(claim.pairs) * len(claim.tasks) for claim in of_papers)
