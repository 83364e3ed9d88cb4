"""Test how results/verdicts.py judges the papers' claims."""

from __future__ import annotations

from pathlib import Path

import pytest

import verdicts
from run_folders import write_run
from sparl.report.runs import Collection, collect
from sparl.report.statistics import Interval

RESULTS = Path(__file__).parents[1] / "results"
TASK = "HalfCheetah-v3"


def runs_of(folder: Path, returns: dict[str, list[float]], task: str = TASK) -> Collection:
    """Runs whose return is constant from the first update on, and 0 at step 0."""
    for method, finals in returns.items():
        for seed, final in enumerate(finals):
            path = folder / task / f"{method}-{seed}"
            write_run(path, method, task, [0.0, *[final] * 12], seed=seed)
    return collect([folder])


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
    claim = verdicts.Claim(verdicts.DS, verdicts.TD3, "final return", holds_if)
    assert claim.verdict(Interval(1.0, low, high)) == verdict


def test_three_runs_of_each_method_are_needed(tmp_path: Path) -> None:
    claim = verdicts.Claim(verdicts.DS, verdicts.TD3, "final return", "≥ 0.97")
    runs = runs_of(tmp_path, {"DS-TD3": [110.0, 110.0, 110.0], "TD3": [100.0, 100.0]})
    *_, count, paper, ours, verdict = verdicts.row(claim, [TASK], runs)
    assert (count, ours, verdict) == ("3 and 2", "1.100", "undecided")
    assert paper == f"{11460 / 11153:.3f}"
    write_run(tmp_path / "third", "TD3", TASK, [0.0, *[100.0] * 12], seed=2)
    row = verdicts.row(claim, [TASK], collect([tmp_path]))
    assert [row[-4], *row[-2:]] == [
        "3 and 3", "1.100 [1.100, 1.100]", "reproduced",
    ]  # fmt: skip


def test_ratios_are_averaged_over_the_tasks(tmp_path: Path) -> None:
    claim = verdicts.Claim(verdicts.DS, verdicts.TD3, "final return", "≥ 0.97")
    runs_of(tmp_path, {"DS-TD3": [80.0, 100.0, 120.0], "TD3": [100.0] * 3})
    runs = runs_of(tmp_path, {"DS-TD3": [3.0] * 3, "TD3": [1.0] * 3}, "Hopper-v3")
    assert verdicts.row(claim, [TASK], runs)[-1] == "undecided"  # from 0.8 to 1.2
    low, high = 1 + 0.8 / 2 + 0.5, 1 + 1.2 / 2 + 0.5
    row = verdicts.row(claim, [TASK, "Hopper-v3"], runs)
    assert (row[1], row[-1]) == ("mean of all", "reproduced")
    assert row[-2] == f"2.000 [{low:.3f}, {high:.3f}]"


def test_runs_of_other_settings_are_not_mixed(tmp_path: Path) -> None:
    for seed in range(3):
        write_run(tmp_path / f"rlx2-{seed}", "TD3", TASK, [1.0] * 12, settings="rlx2", seed=seed)
        write_run(tmp_path / f"slow-{seed}", "DS-TD3", TASK, [1.0] * 12, seed=seed, tau=0.01)
        write_run(
            tmp_path / f"often-{seed}", "DS-TD3", TASK, [1.0] * 12, seed=seed,
            rewire_every_updates=200,
        )  # fmt: skip
    runs = collect([tmp_path])
    assert verdicts.DS.on(TASK, runs) is None
    assert verdicts.TD3.on(TASK, runs) is None
    assert verdicts.with_period(200).on(TASK, runs).config.rewire_every_updates == 200
    assert verdicts.Side("TD3", "rlx2").on(TASK, runs).config.settings == "rlx2"


def test_steps_to_reach_count_the_whole_run_if_the_return_is_never_reached(tmp_path: Path) -> None:
    write_run(tmp_path / "dense", "TD3", TASK, [0.0, *[10.0] * 20])
    write_run(tmp_path / "early", "DS-TD3", TASK, [0.0, *[10.0] * 20], seed=0)
    write_run(tmp_path / "never", "DS-TD3", TASK, [0.0, *[9.0] * 20], seed=1)
    runs = collect([tmp_path])
    ours, other = verdicts.DS.on(TASK, runs).runs, verdicts.TD3.on(TASK, runs).runs
    assert verdicts.steps_to_reach(ours[:1], other) == 0.5  # 10 of 20 evaluations
    assert verdicts.steps_to_reach(ours, other) == 0.75


def test_a_mean_far_from_the_papers_is_listed(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, {"TD3": [11153 - 2 * 473] * 2, "Static-TD3": [10584 - 2 * 308] * 2})
    (found,) = verdicts.far_from_paper(runs)
    assert found == "Static-TD3 on HalfCheetah-v3: 9,968 in 2 runs; paper: 10,584 ± 307"


def test_every_claim_has_a_row_for_the_archived_runs() -> None:
    lines = verdicts.document(collect([RESULTS / "runs"])).splitlines()
    rows = [line for line in lines if line.startswith("|") and "v3" in line]
    expected = sum(len(claim.tasks) for claims in verdicts.CLAIMS.values() for claim in claims)
    assert len(rows) == expected
