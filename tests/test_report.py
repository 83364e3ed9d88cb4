"""Test which runs reports include, their tables, and their self-contained pages."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from run_folders import write_run
from sparl.archive.archive import archive_run
from sparl.cli import main
from sparl.errors import DataError
from sparl.methods import METHODS, Method, preset
from sparl.presets import Family
from sparl.report.colours import DARK, LIGHT, MARKERS, METHOD_COLOURS
from sparl.report.figures import MOST_POINTS, Figure, HeatMap, LineChart, Series, short
from sparl.report.inputs import input_names
from sparl.report.pictures import MOST_CURVES, Shade, all_sections, panels
from sparl.report.return_tables import returns, together
from sparl.report.run_tables import costs, origins
from sparl.report.runs import collect, label
from sparl.report.table import Row

ENV = "HalfCheetah-v3"


def rising(final: float, count: int = 41) -> list[float]:
    """Return a curve that rises linearly for half its length and is then constant."""
    half = count // 2
    return [final * min(k, half) / half for k in range(count)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two dense runs, three DS-TD3 runs, one of which was stopped, and one RLx2-TD3 run."""
    path = tmp_path_factory.mktemp("runs")
    for seed, final in enumerate((1000.0, 2000.0)):
        write_run(path / f"dense-{seed}", "TD3", ENV, rising(final), seed=seed)
    for seed, final in enumerate((1800.0, 2400.0, 3000.0)):
        write_run(path / f"ds-{seed}", "DS-TD3", ENV, rising(final), seed=seed)
    write_run(path / "ds-3", "DS-TD3", ENV, rising(9999.0), "stopped by SIGTERM", seed=3)
    write_run(path / "rlx2", "RLx2-TD3", ENV, rising(500.0), horizon_env_steps=3_000_000)
    return path


def figures_of(*paths: Path, shade: Shade = "interval") -> dict[str, Any]:
    """Return all figures of the runs in these folders, by name."""
    found: list[Figure] = []
    for section in all_sections(collect(paths), shade):
        found += section.figures
    return {figure.name: figure for figure in found}


def row_of(rows: list[Row], method: str) -> Row:
    (row,) = (row for row in rows if row["method"] == method)
    return row


def test_unfinished_runs_are_listed_and_not_counted(runs: Path) -> None:
    found = collect([runs])
    assert [(g.label, len(g.runs)) for g in found.groups] == [
        ("TD3", 2), ("DS-TD3", 3), ("RLx2-TD3", 1),
    ]  # fmt: skip
    (note,) = found.notes
    assert "ds-3: stopped by SIGTERM at step 200,000 of 200,000" in note


def test_returns_are_compared_with_the_dense_agent_and_the_paper(runs: Path) -> None:
    rows = returns(collect([runs])).rows
    ours = row_of(rows, "DS-TD3")
    assert ours["mean_last_10"] == pytest.approx(2400)
    assert ours["std_last_10"] == pytest.approx(600)
    # Of the last 30 evaluations, 10 are at 11/20 ... 20/20 of the final return, and 20 are at it.
    share = (sum(range(11, 21)) / 20 + 20) / 30
    assert ours["mean_last_30"] == pytest.approx(2400 * share)
    assert ours["percent_of_dense"] == pytest.approx(160)
    # The means of the runs' last 10 evaluations reach 1500 at evaluations 22, 17 and 15.
    assert ours["steps_to_dense_final"] == pytest.approx(18 * 5000)
    assert ours["runs_that_never_reach_dense"] == 0
    # One of the two dense runs never reaches their mean; the other one does at evaluation 20.
    dense = row_of(rows, "TD3")
    assert dense["steps_to_dense_final"] == pytest.approx((40 + 20) / 2 * 5000)
    assert dense["runs_that_never_reach_dense"] == 1
    shown = [cells[-1] for cells in returns(collect([runs])).cells()]
    assert shown == ["75.0%, 1 of 2 never", "45.0%", "-"]
    assert ours["area"] == pytest.approx(sum(rising(2400)) / 1e6)
    assert (ours["paper_mean"], ours["paper_std"], ours["paper_area"]) == (11460, 483, 1.956)
    assert ours["iqm_low"] <= ours["iqm"] <= ours["iqm_high"]

    # Without a dense agent under the rlx2 settings there is no percentage.
    other = row_of(rows, "RLx2-TD3")
    assert other["percent_of_dense"] is None
    assert other["paper_percent_of_dense"] == 99.8
    text = returns(collect([runs])).markdown()
    assert "| 0.2M of 3M |" in text
    assert "11,460 ± 483 at 1M" in text


def test_the_table_of_all_environments(runs: Path, tmp_path: Path) -> None:
    for method, final in (("TD3", 100.0), ("DS-TD3", 50.0)):
        write_run(tmp_path / method, method, "Hopper-v3", rising(final))
    row = row_of(together(collect([runs, tmp_path])).rows, "DS-TD3")
    assert row["environments"] == "HalfCheetah-v3, Hopper-v3"
    assert row["mean_percent"] == pytest.approx((160 + 50) / 2)
    # HalfCheetah: 5 of 6 pairs; Hopper: none.
    assert row["probability_of_improvement"] == pytest.approx(5 / 6 / 2)
    assert "[" not in together(collect([runs, tmp_path])).markdown()  # one run on Hopper


def test_intervals_in_percent_of_dense_resample_the_dense_runs_too(tmp_path: Path) -> None:
    for seed, dense in enumerate((50.0, 100.0, 150.0)):
        write_run(tmp_path / f"a{seed}", "TD3", ENV, [dense] * 40, seed=seed)
        write_run(tmp_path / f"b{seed}", "DS-TD3", ENV, [100.0] * 40, seed=seed)
        table = together(collect([tmp_path]))
        assert ("[" in table.markdown()) == (seed == 2)
    (row,) = table.rows
    assert row["iqm_percent"] == pytest.approx(100)
    # One of 27 resamples contains the same dense run three times.
    assert (row["iqm_low"], row["iqm_high"]) == pytest.approx((100 / 1.5, 200))
    assert row["probability_low"] < 0.5 < row["probability_high"]
    write_run(tmp_path / "a3", "TD3", ENV, [0.0] * 40, seed=3)
    (row,) = together(collect([tmp_path])).rows
    assert (row["iqm_low"], row["iqm_high"]) == (None, None)
    assert row["probability_low"] is not None


def test_no_percentages_are_computed_for_a_dense_agent_with_return_zero(tmp_path: Path) -> None:
    for method, final in (("TD3", 0.0), ("DS-TD3", -50.0)):
        write_run(tmp_path / method, method, ENV, rising(final))
    found = collect([tmp_path])
    assert not together(found).rows
    assert returns(found).cells()[1][-1] == "never"
    words = ["report", "--tables-only", str(tmp_path), "--out", str(tmp_path / "report")]
    assert main(words) == 0


def test_missing_seeds_and_duplicates_are_listed(runs: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "a", "DS-TD3", ENV, rising(1.0))
    write_run(tmp_path / "b", "DS-TD3", ENV, rising(1.0))
    steps = {"steps": 200_000}
    planned = {
        **{f"ds{s}": {"method": "DS-TD3", "env": ENV, "seed": s, **steps} for s in range(5)},
        "never": {"method": "TD3", "env": ENV, "seed": 0, "hidden": [8, 8], **steps},
    }
    (tmp_path / "plan.json").write_text(json.dumps({"runs": planned}))
    found = collect([tmp_path])
    assert (len(found.groups[0].runs), found.groups[0].planned) == (1, 5)
    assert returns(found).cells()[0][2] == "1 of 5"
    notes = "\n".join(found.notes)
    assert f"the results cover only the finished ones: DS-TD3 on {ENV} (1 of 5)" in notes
    assert re.search("b, because it is the same run as .*a", notes)
    assert f"no planned run has finished on {ENV}: TD3 (hidden 8-8) (1 seed per method" in notes


def test_a_folder_without_runs_is_noted(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    notes = collect([runs, tmp_path / "nothing"]).notes
    assert f"{tmp_path / 'nothing'}: no runs were found" in notes


def test_a_study_file_adds_its_missing_runs_to_the_notes(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "a", "TD3", ENV, rising(1.0))
    study = tmp_path / "table.toml"
    study.write_text(
        f"methods = ['TD3', 'SAC']\nenvironments = ['{ENV}']\nseeds = [1, 2]\n"
        "fields.steps = 200_000\n"
    )
    found = collect([study, tmp_path / "runs", study])
    assert [(g.label, len(g.runs), g.planned) for g in found.groups] == [("TD3", 1, 3)]
    assert found.notes[-1] == (
        f"no planned run has finished on {ENV}: SAC (2 seeds per method and environment)"
    )


def test_environments_without_the_same_runs_share_a_note(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "a", "TD3", ENV, rising(1.0))
    study = tmp_path / "table.toml"
    study.write_text(
        "methods = ['DS-TD3', 'SAC']\nenvironments = ['Hopper-v3', 'Ant-v3']\nseeds = 2\n"
    )
    assert collect([study, tmp_path / "runs"]).notes == [
        "no planned run has finished on Hopper-v3, Ant-v3: DS-TD3, SAC (2 seeds per method and "
        "environment)"
    ]


def test_a_damaged_plan_is_named(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "TD3", ENV, rising(1.0))
    for plan in ("{}", '{"runs": {"x": {"method": "TD3", "env": "A-v0", "seed": 0, "steqs": 3}}}'):
        (tmp_path / "plan.json").write_text(plan)
        (note,) = collect([tmp_path]).notes
        assert "the planned runs are unknown" in note
        assert str(tmp_path / "plan.json") in note


def test_damaged_runs_do_not_affect_the_others(tmp_path: Path) -> None:
    write_run(tmp_path / "good", "TD3", ENV, rising(1.0))
    for name, file, text in (
        ("a", "evaluations.csv", "env_step,updates,wall_seconds,mean\n1,2,3,x\n"),
        ("b", "evaluations.csv", ""),
        ("c", "run.json", "{"),
        ("d", "config.toml", "seed = true\n"),
    ):
        (write_run(tmp_path / name, "TD3", ENV, rising(1.0)) / file).write_text(text)
    found = collect([tmp_path])
    assert [g.runs[0].path.name for g in found.groups] == ["good"]
    assert len(found.notes) == 4


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("evaluations.csv", "0,0,1.0,0.5,5.0,", "0,0,1.0,0.5,nan,"),
        ("evaluations.csv", "0,0,1.0,0.5,5.0,", "-1,0,1.0,0.5,5.0,"),
        ("evaluations.csv", ",0.5,5.0,", ",-0.5,5.0,"),
        ("evaluations.csv", ",0.5,5.0,", ",x,5.0,"),
        ("topology.csv", ",5,20,", ",5,x,"),
        ("metrics.csv", "0,0,1.0,0,1,", "x,0,1.0,0,1,"),
        ("metrics.csv", ",0.1\n", ",1e999\n"),
        ("topology.csv", ",100,0.05,", ",-1,0.05,"),
        ("topology.csv", "agent_update", "update"),
        ("degrees.json", '"in":', '"on":'),
        ("degrees.json", "4", '"4"'),
        ("degrees.json", "4", "5"),
        ("degrees.json", '"actor"', '"critic"'),
        ("degrees.json", '"now"', '"then"'),
        ("run.json", '"0.2.0"', "1"),
        ("run.json", '"threads": 1', '"threads": "one"'),
        ("run.json", "100000000", "-1"),
    ],
)
def test_figures_are_not_drawn_from_damaged_files(
    file: str, old: str, new: str, tmp_path: Path
) -> None:
    write_run(tmp_path / "good", "TD3", ENV, [5.0, 6.0])
    bad = write_run(tmp_path / "bad", "RLx2-TD3", ENV, [5.0, 6.0], cpu=0.5, dead=20)
    content = (bad / file).read_text()
    (bad / file).write_text(re.sub(re.escape(old), new, content, count=1))
    assert content != (bad / file).read_text()
    (note,) = (note for note in collect([tmp_path]).notes if "not included" in note)
    assert str(bad / file) in note


@pytest.mark.parametrize(
    ("file", "keep", "said"),
    [
        ("evaluations.csv", 2 / 3, "the last line is incomplete"),
        ("evaluations.csv", 0, "the last line is incomplete"),
        ("evaluations.csv", "a line less", "it ends at step 195,000, but the run finished at step"),
        ("evaluations.csv", "removed", "it has no data, but the run finished at step 200,000"),
        ("metrics.csv", 1 / 2, "the last line is incomplete"),
        ("metrics.csv", "a line less", "it ends at step 195,000, but the run finished at step"),
        ("metrics.csv", "removed", "it has no data, but the run finished at step 200,000"),
        ("topology.csv", 0, "the last line is incomplete"),
        (
            "topology.csv",
            "removed",
            "there is no topology update of the actor, but its connections changed",
        ),
    ],
)
def test_incomplete_records_are_named_and_not_included(
    file: str, keep: float | str, said: str, tmp_path: Path
) -> None:
    run = write_run(tmp_path / "run", "DS-TD3", ENV, rising(1.0), commit="abcdef1")
    assert len(collect([tmp_path]).groups) == 1
    content = (run / file).read_bytes()
    if keep == "removed":
        (run / file).unlink()
    elif keep == "a line less":
        (run / file).write_bytes(content[: content[:-1].rindex(b"\n") + 1])
    else:
        (run / file).write_bytes(content[: int(len(content) * float(keep))])
    with pytest.raises(DataError, match=f"not included: {run / file}: {said}"):
        collect([tmp_path])
    with pytest.raises(DataError, match=said):
        archive_run(run, tmp_path / "archive", None)


def test_a_report_shows_a_killed_run_at_the_step_that_info_prints(tmp_path: Path) -> None:
    run = write_run(tmp_path, "TD3", ENV, rising(1.0), "running", commit="abcdef1")
    about = json.loads((run / "run.json").read_text()) | {"env_step": 0}
    (run / "run.json").write_text(json.dumps(about))
    said = f"{run}: killed at step 200,000 of 200,000, but only finished runs .* resume {run}"
    with pytest.raises(DataError, match=said):
        collect([run])
    with pytest.raises(DataError, match=said):
        archive_run(run, tmp_path / "archive", None)


@pytest.mark.parametrize(("settings", "last"), [("ds", 10), ("rlx2", 30)])
def test_percent_of_dense_averages_as_many_evaluations_as_the_paper_of_the_settings(
    settings: str, last: int, tmp_path: Path
) -> None:
    """41 evaluations rise for 20 steps; the dense agent is always at 1000."""
    write_run(tmp_path / "dense", "TD3", ENV, [1000.0] * 41, settings=settings)
    write_run(tmp_path / "ds", "DS-TD3", ENV, rising(2000.0), settings=settings)
    found = collect([tmp_path])
    (ours,) = (row for row in returns(found).rows if row["method"].startswith("DS-TD3"))
    wanted = 100 * np.mean(rising(2000.0)[-last:]) / 1000
    assert ours["percent_of_dense"] == pytest.approx(wanted)
    (all_together,) = (r for r in together(found).rows if r["method"].startswith("DS-TD3"))
    assert all_together["mean_percent"] == pytest.approx(wanted)


def test_final_returns_exclude_the_untrained_agent_and_state_their_number(
    tmp_path: Path,
) -> None:
    """Steps 0 to 10,000 are the untrained agent's; 7 evaluations follow."""
    curve = [-900.0] * 3 + [100.0 * k for k in range(1, 8)]
    write_run(tmp_path / "ds", "DS-TD3", ENV, curve, warmup=10_000)
    write_run(tmp_path / "dense", "TD3", ENV, [-900.0] * 3 + [400.0] * 7, warmup=10_000)
    found = collect([tmp_path])
    table = returns(found)
    row = row_of(table.rows, "DS-TD3")
    assert (row["mean_last_10"], row["evaluations_of_last_10"]) == (400.0, 7)
    assert (row["mean_last_30"], row["evaluations_of_last_30"]) == (400.0, 7)
    assert row["percent_of_dense"] == pytest.approx(100)
    assert row["steps_to_dense_final"] == 45_000
    assert table.markdown().count("| 400 (last 7) |") == 4
    assert row_of(together(found).rows, "DS-TD3")["mean_percent"] == pytest.approx(100)
    assert origins(found).markdown().count("| 400 (last 7) |") == 2


def test_a_window_is_full_without_the_untrained_agent(tmp_path: Path) -> None:
    write_run(tmp_path / "ten", "TD3", ENV, [-900.0] + [1.0] * 10)
    row = row_of(returns(collect([tmp_path])).rows, "TD3")
    assert (row["mean_last_10"], row["evaluations_of_last_10"]) == (1.0, 10)
    assert (row["mean_last_30"], row["evaluations_of_last_30"]) == (1.0, 10)
    text = returns(collect([tmp_path])).markdown()
    assert "| 1 | 11,153 ± 473 at 1M | 1 (last 10) |" in text


def test_a_run_that_never_learned_is_not_counted(tmp_path: Path) -> None:
    run = write_run(tmp_path / "short", "TD3", ENV, [1.0] * 5, warmup=25_000)
    with pytest.raises(DataError, match=f"{run}: the agent was not updated in 20,000 steps"):
        collect([tmp_path])


# ------------------------------------------------------------------ time


def test_connections_and_flops_of_the_runs_are_in_the_table_of_costs(runs: Path) -> None:
    rows = costs(collect([runs])).rows
    ours, dense, updates = row_of(rows, "DS-TD3"), row_of(rows, "TD3"), 200_000
    assert (ours["connections"], ours["dense_connections"]) == (106_169, 214_784)
    assert ours["size_ratio_with_targets"] == 106_169 / 214_784
    assert ours["action_flops_ratio"] == 36_215 / 71_424
    # 6 B T (2 Q + A / d) with a batch of 100, and connections Q of a critic and A of the actor
    assert ours["paper_flops"] == 600 * updates * (2 * 34_977 + 36_215 / 2)
    assert ours["paper_flops_ratio"] == pytest.approx(0.4918, abs=5e-5)
    assert dense["counted_flops"] == pytest.approx(200 * updates * 807_552)
    assert ours["counted_flops_ratio"] == ours["counted_flops"] / dense["counted_flops"]
    curve = figures_of(runs)[f"flops-{ENV}"].series[0]
    assert curve.x[-1] == dense["counted_flops"]


def test_cost_is_cpu_time_and_wall_time_is_marked_under_load(tmp_path: Path) -> None:
    # The 41 evaluations take 401 seconds of wall-clock time.
    write_run(tmp_path / "alone", "TD3", ENV, rising(1.0), cpu=1.9)  # two threads
    write_run(tmp_path / "busy", "DS-TD3", ENV, rising(1.0), cpu=0.8)
    write_run(tmp_path / "calm", "Static-TD3", ENV, rising(1.0), cpu=0.85)
    write_run(tmp_path / "old", "SAC", ENV, rising(1.0))
    cells = {row[1]: row for row in costs(collect([tmp_path])).cells()}
    heads = [heading for heading, _ in costs(collect([tmp_path])).shown()]
    at = heads.index("CPU time")
    assert heads[at : at + 3] == ["CPU time", "steps / CPU s", "wall time"]
    assert cells["TD3"][at : at + 3] == ["0:12:42", "263", "0:06:41"]
    assert cells["DS-TD3"][at : at + 3] == ["0:05:21", "623", "0:06:41 (under load)"]
    assert cells["Static-TD3"][at : at + 3] == ["0:05:41", "587", "0:06:41"]
    assert cells["SAC"][at : at + 3] == ["-", "-", "0:06:41 (load unknown)"]


def test_times_are_means_over_the_runs_that_recorded_their_cpu_time(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "TD3", ENV, rising(1.0), cpu=0.9, seed=0)
    write_run(tmp_path / "b", "TD3", ENV, rising(1.0), seed=1)
    table = costs(collect([tmp_path]))
    (row,) = table.rows
    assert row["cpu_seconds"] == pytest.approx(0.9 * row["wall_seconds"])
    assert "| 0:06:01 (1 of 2 runs) | 554 | 0:06:41 |" in table.markdown()
    (series,) = figures_of(tmp_path)[f"cpu-{ENV}"].series
    assert series.x[-1] == pytest.approx(0.9 * 401 / 60)


def test_a_dense_run_with_increasing_returns_reaches_its_own_mean(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for seed in range(20):
        curve = np.sort(rng.uniform(0, 3000, 41))
        path = write_run(tmp_path / str(seed), "TD3", ENV, [0.0, *curve])
        (row,) = returns(collect([path])).rows
        assert row["runs_that_never_reach_dense"] == 0
        assert row["steps_to_dense_final"] == 41 * 5000


def test_variants_of_one_method_under_two_settings_have_figures_with_different_names(
    tmp_path: Path,
) -> None:
    for settings in ("ds", "rlx2"):
        for period in (None, 500, 2000, 3000):
            changed = {} if period is None else {"rewire_every_updates": period}
            path = tmp_path / f"{settings}-{period}"
            write_run(path, "SET-TD3", ENV, rising(1.0), settings=settings, **changed)
    names = [panel.name for panel in panels(collect([tmp_path]))]
    assert names == [
        ENV, f"{ENV}-SET-TD3, rewire_every_updates",
        f"{ENV}-SET-TD3, settings ds, rewire_every_updates",
    ]  # fmt: skip


def test_curves_are_averaged_over_the_last_5_percent_of_each_run(tmp_path: Path) -> None:
    for seed in range(3):
        write_run(tmp_path / f"{seed}", "TD3", ENV, [0.0, 1000.0 * seed] * 30, seed=seed)
    (series,) = figures_of(tmp_path)[f"learning-{ENV}"].series
    assert series.y[0] == 0.0
    assert series.y[2:] == pytest.approx(np.tile([1000 / 3, 2000 / 3], 29))  # windows of three
    assert (series.low[-1], series.high[-1]) == pytest.approx((0.0, 4000 / 3))


def test_variants_have_their_own_figures_if_there_are_many_curves(tmp_path: Path) -> None:
    for name in ("TD3", "Static-TD3", "DS-TD3", "SET-TD3"):
        write_run(tmp_path / name, name, ENV, rising(1.0))
    for period in (500, 2000):
        path = tmp_path / f"period-{period}"
        write_run(path, "DS-TD3", ENV, rising(1.0), rewire_every_updates=period)
    assert len(figures_of(tmp_path)[f"learning-{ENV}"].series) == MOST_CURVES
    write_run(
        tmp_path / "dense-ish", "DS-TD3", ENV, rising(1.0),
        actor_sparsity=0.25, critic_sparsity=0.25,
    )  # fmt: skip
    found = {
        figure.title: [series.method for series in figure.series]
        for name, figure in figures_of(tmp_path).items() if name.startswith("learning")
    }  # fmt: skip
    assert found == {
        ENV: ["TD3", "Static-TD3", "DS-TD3", "SET-TD3"],
        f"{ENV}: DS-TD3, rewire_every_updates": [
            "TD3", "DS-TD3", "DS-TD3 (rewire_every_updates 500)",
            "DS-TD3 (rewire_every_updates 2000)",
        ],
        f"{ENV}: DS-TD3, actor_sparsity, critic_sparsity": [
            "TD3", "DS-TD3", "DS-TD3 (actor_sparsity 0.25, critic_sparsity 0.25)",
        ],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cpu", "said"),
    [
        ((1.0, 1.0), "minutes of wall-clock time"),
        ((1.0, 0.5), "minutes of wall-clock time, partly measured under load"),
        ((0.5, 0.5), "minutes of wall-clock time, measured under load"),
        ((0.5, None), "minutes of wall-clock time, partly measured under load"),
    ],
)
def test_figures_over_time_label_cpu_time_and_wall_time(
    cpu: tuple[float, float | None], said: str, tmp_path: Path
) -> None:
    write_run(tmp_path / "old", "SAC", ENV, rising(1.0))
    found = figures_of(tmp_path)
    assert f"cpu-{ENV}" not in found
    unknown = "minutes of wall-clock time, machine load not recorded"
    assert found[f"time-{ENV}"].x_label == unknown
    for method, share in zip(("TD3", "DS-TD3"), cpu, strict=True):
        write_run(tmp_path / "new" / method, method, ENV, rising(1.0), cpu=share)
    figure = figures_of(tmp_path)[f"cpu-{ENV}"]
    assert figure.x_label == "minutes of CPU time"
    assert [series.method for series in figure.series] == ["TD3", "DS-TD3"][: 2 - cpu.count(None)]
    assert figures_of(tmp_path / "new")[f"time-{ENV}"].x_label == said


def test_a_new_family_is_in_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CONTRIBUTING.md promises that a method needs only a `Family`."""
    family = Family("My-", "a new family", "a paper", "ds", {"rewire_every_updates": 500})
    monkeypatch.setitem(METHODS, "My-TD3", Method("My-TD3", "TD3", family))
    for method in ("My-TD3", "DS-TD3", "TD3"):
        write_run(tmp_path / method, method, ENV, rising(1.0))
    assert collect([tmp_path]).labels == ["TD3", "DS-TD3", "My-TD3"]
    assert main(["report", "--tables-only", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    assert "My-TD3" in (tmp_path / "out" / "README.md").read_text()


def test_methods_have_the_order_of_the_papers_tables(tmp_path: Path) -> None:
    wanted = ["TD3 (settings rlx2)", "Tiny-TD3", "SS-TD3", "SET-TD3", "RigL-TD3", "RLx2-TD3"]
    for name in wanted:
        write_run(tmp_path / name[:4], name.split()[0], ENV, rising(1.0), settings="rlx2")
    assert collect([tmp_path]).labels == wanted


# ------------------------------------------------------------------ labels


def test_labels_name_the_fields_that_differ() -> None:
    assert label(preset("DS-TD3", ENV)) == "DS-TD3"
    assert label(preset("TD3", ENV, settings="rlx2")) == "TD3 (settings rlx2)"
    changed = preset("DS-TD3", ENV, rewire_every_updates=200, seed=3, threads=2)
    assert label(changed) == "DS-TD3 (rewire_every_updates 200)"
    assert label(preset("DS-TD3", ENV, hidden=(32, 32))) == "DS-TD3 (hidden 32-32)"


def test_values_that_all_runs_share_are_stated_once(tmp_path: Path) -> None:
    for method, final in (("TD3", 100.0), ("DS-TD3", 90.0)):
        write_run(tmp_path / method, method, ENV, rising(final), hidden=(64, 64))
    write_run(tmp_path / "e", "DS-TD3", ENV, rising(1.0), hidden=(64, 64), rewire_fraction=0.2)
    found = collect([tmp_path])
    assert found.labels == ["TD3", "DS-TD3", "DS-TD3 (rewire_fraction 0.2)"]
    assert found.notes == [f"all runs on {ENV}: hidden 64-64"]
    # The dense agent has the same widths; the paper's results are for other widths.
    row = row_of(returns(found).rows, "DS-TD3")
    assert row["percent_of_dense"] == pytest.approx(90)
    assert row["paper_mean"] is None


def test_runs_of_another_length_are_another_method(tmp_path: Path) -> None:
    write_run(tmp_path / "short", "TD3", ENV, rising(1.0, 11), seed=0)
    write_run(tmp_path / "long", "TD3", ENV, rising(1.0, 21), seed=1)
    labels = [group.label for group in collect([tmp_path]).groups]
    assert labels == ["TD3, 50,000 of 50,000 steps", "TD3, 100,000 of 100,000 steps"]


def test_a_stopped_and_resumed_run_counts_as_a_seed(
    tmp_path: Path,
) -> None:
    write_run(tmp_path / "0", "TD3", ENV, rising(1.0, 11), seed=0)
    write_run(tmp_path / "1", "TD3", ENV, rising(1.0, 11), seed=1, stop_at=50_000)
    (group,) = collect([tmp_path]).groups
    assert (len(group.runs), group.label) == (2, "TD3")


# ------------------------------------------------------------------ pages and files


@pytest.mark.usefixtures("empty_drawings")
def test_report_writes_page_tables_and_figures(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    assert main(["report", str(runs), "--out", str(out)]) == 0
    page = (out / "report.html").read_text()
    assert not re.search(r"https?://", page)
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    for text in ("DS-TD3", ENV, "11,460 ± 483", "stopped by SIGTERM"):
        assert text in page
        assert text in (out / "README.md").read_text()
    with (out / "tables" / "returns.csv").open() as file:
        assert float(list(csv.DictReader(file))[1]["mean_last_10"]) == pytest.approx(2400)
    drawings = {path.stem for path in (out / "figures").glob("*.svg")}
    for kind in ("learning", "flops", "time", "kept", "moved", "replay_size", "policy_distance"):
        assert f"{kind}-{ENV}" in drawings
    for name in re.findall(r"\((figures/.*?)\)", (out / "README.md").read_text()):
        assert (out / name).exists()


@pytest.mark.parametrize("missing", ["altair", "vl_convert"])
def test_a_report_without_the_drawing_extra_has_tables(
    missing: str, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.delitem(sys.modules, "sparl.report.charts", raising=False)
    monkeypatch.delattr("sparl.report.charts", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    words = ["report", str(runs), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "pip install 'sparl[report]'" in said
    assert not (tmp_path / "out").exists()
    assert main([*words, "--tables-only"]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"README.md", "tables"}
    text = (tmp_path / "out" / "README.md").read_text()
    assert "11,460 ± 483 at 1M" in text
    assert "![" not in text
    assert main([*words, "--tables-only", "--png"]) == 2


@pytest.mark.usefixtures("empty_drawings")
def test_figures_of_an_earlier_report_are_counted_and_not_changed(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both, fresh = tmp_path / "both", tmp_path / "fresh"
    assert main(["report", str(runs), "--out", str(both)]) == 0
    assert "not changed" not in capsys.readouterr().out
    before = {path.name for path in both.rglob("*.*")}
    assert main(["report", str(runs / "dense-0"), "--out", str(fresh)]) == 0
    assert main(["report", str(runs / "dense-0"), "--out", str(both)]) == 0
    old = len(before - {path.name for path in fresh.rglob("*.*")})
    said = capsys.readouterr().out
    counts = re.findall(rf"note: {both}/(?:figures|tables) contains (\d+) files? that", said)
    assert sum(map(int, counts)) == old > 0
    assert {path.name for path in both.rglob("*.*")} == before


def test_heat_map_shows_every_input_at_the_start_and_the_end(runs: Path) -> None:
    figure = figures_of(runs / "ds-0")[f"wiring-{ENV}-DS-TD3"]
    rows = {name: row.tolist() for name, row in figure.rows}
    assert list(rows) == [
        f"{name}, {when}" for name in ("actor", "critic 1", "critic 2") for when in ("start", "end")
    ]
    assert rows["actor, start"] == [3, 1, 2, 0]
    assert rows["actor, end"] == [3, 0, 3, 0]


@pytest.mark.parametrize("what", ["missing", "empty", "file"])
def test_a_folder_without_runs_is_an_error(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    assert (
        main(["report", "--tables-only", str(tmp_path / what), "--out", str(tmp_path / "out")]) == 3
    )
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_report_into_a_file_is_rejected(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("mine")
    assert main(["report", "--tables-only", str(runs), "--out", str(tmp_path / "out")]) == 2
    assert "cannot be created" in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize(
    ("shade", "edges", "note"),
    [
        ("interval", (1, 6), "drawn for three or more runs, is the 95 % bootstrap interval"),
        (
            "std",
            (3 - math.sqrt(7), 3 + math.sqrt(7)),
            "drawn for two or more runs, is one standard deviation over the runs",
        ),
    ],
)
def test_bands_are_the_interval_or_the_standard_deviation(
    shade: Shade, edges: tuple[float, float], note: str, tmp_path: Path
) -> None:
    for seed, value in enumerate((1.0, 2.0, 6.0)):
        write_run(tmp_path / str(seed), "TD3", ENV, [value] * 21, seed=seed)
        found = figures_of(tmp_path, shade=shade)
        (series,) = found[f"learning-{ENV}"].series
        assert (series.low is not None) == (seed + 1 >= (3 if shade == "interval" else 2))
    for kind in ("learning", "flops", "time"):
        (series,) = found[f"{kind}-{ENV}"].series
        assert series.low == pytest.approx([edges[0]] * 21)
        assert series.high == pytest.approx([edges[1]] * 21)
    assert note in all_sections(collect([tmp_path]), shade)[0].note


@pytest.mark.usefixtures("empty_drawings")
def test_bands_are_intervals_unless_the_option_says_otherwise(runs: Path, tmp_path: Path) -> None:
    for words, note in (
        ([], "the 95 % bootstrap interval"),
        (["--shade", "std"], "one standard deviation over the runs"),
    ):
        assert main(["report", str(runs), "--out", str(tmp_path), *words]) == 0
        for file in ("report.html", "README.md"):
            assert note in (tmp_path / file).read_text()


def test_methods_are_in_natural_order_in_every_environment(tmp_path: Path) -> None:
    for fields in (
        {"rewire_every_updates": 10_000}, {"rewire_every_updates": 2000},
        {"rewire_every_updates": 500}, {"actor_sparsity": 0.25}, {"actor_sparsity": 0.05},
    ):  # fmt: skip
        name = "-".join(map(str, *fields.items()))
        write_run(tmp_path / name, "DS-TD3", ENV, rising(1.0), **fields)
    for env, method in (("Hopper-v3", "Static-TD3"), ("Hopper-v3", "DS-TD3"), (ENV, "RLx2-TD3")):
        write_run(tmp_path / f"{method}-{env}", method, env, rising(1.0))
    assert collect([tmp_path]).labels == [
        "Static-TD3", "DS-TD3", "DS-TD3 (actor_sparsity 0.05)", "DS-TD3 (actor_sparsity 0.25)",
        "DS-TD3 (rewire_every_updates 500)", "DS-TD3 (rewire_every_updates 2000)",
        "DS-TD3 (rewire_every_updates 10000)", "RLx2-TD3",
    ]  # fmt: skip


def test_figures_of_a_report_have_different_titles(runs: Path) -> None:
    for section in all_sections(collect([runs])):
        titles = [figure.title for figure in section.figures]
        assert len(set(titles)) == len(titles), section.title


def test_only_lines_of_critics_are_dashed_in_figures_of_the_topology(tmp_path: Path) -> None:
    run = write_run(tmp_path, "DS-TD3", ENV, rising(1.0))
    table = run / "topology.csv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join([*lines, *(each.replace("actor", "critics") for each in lines[1:])]))
    found = figures_of(run)
    for name, percent in (("moved", 5.0), ("new", 4.0)):
        series = found[f"{name}-{ENV}"].series
        assert [(s.part, s.dashed) for s in series] == [("actor", False), ("critics", True)]
        assert [s.y.tolist() for s in series] == [[percent] * 3] * 2


def test_the_performance_profile_falls_exactly_at_the_final_returns(runs: Path) -> None:
    (series,) = figures_of(runs)["profile"].series
    assert series.method == "DS-TD3"
    for percent, before, after in ((120, 1, 2 / 3), (160, 2 / 3, 1 / 3), (200, 1 / 3, 0)):
        shares = [y for x, y in zip(series.x, series.y, strict=True) if math.isclose(x, percent)]
        assert shares == pytest.approx([before, after])


def test_the_profile_compares_methods_in_the_same_environments(runs: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "static", "Static-TD3", ENV, rising(1.0))
    methods = [s.method for s in figures_of(runs, tmp_path)["profile"].series]
    assert methods == ["Static-TD3", "DS-TD3"]
    for method in ("TD3", "DS-TD3"):
        write_run(tmp_path / method, method, "Hopper-v3", rising(1.0))
    (series,) = figures_of(runs, tmp_path)["profile"].series
    assert series.method == "DS-TD3"
    for method in ("TD3", "Static-TD3"):
        write_run(tmp_path / f"{method}-Ant", method, "Ant-v3", rising(1.0))
    assert "profile" not in figures_of(runs, tmp_path)  # neither method has all environments


def test_the_fraction_of_dead_links_is_drawn_if_it_was_recorded(tmp_path: Path) -> None:
    for name, dead in (("old", None), ("none", 0), ("some", 20)):
        write_run(tmp_path / name, "DS-TD3", ENV, rising(1.0), dead=dead)
    assert f"dead-{ENV}" not in figures_of(tmp_path / "old")
    for name, percent in (("none", 0.0), ("some", 20.0)):
        (series,) = figures_of(tmp_path / name)[f"dead-{ENV}"].series
        assert series.y.tolist() == [percent] * 3


@pytest.mark.parametrize("count", [1, MOST_POINTS, MOST_POINTS + 1, 10_000])
def test_a_drawn_line_has_few_points_and_keeps_the_last_one(count: int) -> None:
    x = np.arange(float(count))
    series = Series("TD3", x, 2 * x, x - 1, x + 1).thinned()
    assert count // 50 <= series.x.size <= MOST_POINTS or series.x.size == count
    assert series.x[-1] == count - 1
    assert series.low is not None
    assert series.high is not None
    for values, wanted in ((series.y, 2 * series.x), (series.high - series.low, 2)):
        assert (values == wanted).all()


def test_figures_have_a_text_description(runs: Path) -> None:
    found = figures_of(runs)
    text = found[f"learning-{ENV}"].description()
    assert text.startswith(
        f"{ENV}: return against environment steps. TD3: 0 at 0, 1,500 at 200,000, lowest 0, "
    )
    assert "DS-TD3: 0 at 0, 2,400 at 200,000 (band from 1,800 to 3,000), lowest 0, highest" in text
    text = found[f"wiring-{ENV}-DS-TD3"].description()
    assert "actor, end: 0 to 3, more than 0 for 2 of 4 inputs, most for input 0." in text
    gap = LineChart("n", "t", "x", "y", [Series("TD3", np.zeros(1), np.full(1, math.nan))])
    assert "NaN at 0" in gap.description()


@pytest.mark.parametrize(
    ("env", "sizes", "names"),
    [
        ("HalfCheetah-v3", (17, 6), {0: "rootz position", 2: "bthigh angle", 8: "rootx velocity",
                                     16: "ffoot angular velocity", 17: "action bthigh"}),
        ("Hopper-v5", (11, 3), {0: "rootz position", 4: "foot_joint angle",
                                13: "action foot_joint"}),
        ("Ant-v3", (111, 8), {0: "root position z", 1: "root orientation w", 5: "hip_1 angle",
                              13: "root velocity x", 27: "entry 27", 111: "action hip_4"}),
        ("Humanoid-v5", (348, 17), {45: "cinert 0", 347: "cfrc_ext 77"}),
    ],
)  # fmt: skip
def test_inputs_of_mujoco_tasks_are_named(
    env: str, sizes: tuple[int, int], names: dict[int, str]
) -> None:
    found = input_names(env, "zero", *sizes)
    assert len(found) == sum(sizes)
    assert {k: found[k] for k in names} == names


def test_inputs_of_other_tasks_and_sizes_are_not_named() -> None:
    for env, sizes in (("HalfCheetah-v5", (18, 6)), ("Pendulum-v1", (3, 1)), ("Mine-v0", (3, 1))):
        assert input_names(env, "zero", *sizes) == ()


def test_heat_maps_name_the_inputs_of_a_run(tmp_path: Path) -> None:
    run = write_run(tmp_path, "Static-TD3", "Hopper-v5", rising(1.0))
    layers = [[1] * 11, [1] * 14]
    actor, critic = (
        [
            {"out": out, "in": [len(out), 0]},
            {"out": [1, 0], "in": [1, 0]},
            {"out": [1, 0], "in": [1]},
        ]
        for out in layers
    )
    actor[2]["in"] = [1, 0, 0]
    actor[0]["out"][4] = critic[0]["out"][13] = 2
    actor[0]["in"], critic[0]["in"] = [6, 6], [7, 8]
    counts = {"actor": [actor], "critics": [critic, critic]}
    (run / "degrees.json").write_text(json.dumps({"initial": counts, "now": counts}))
    text = figures_of(tmp_path)["wiring-Hopper-v5-Static-TD3"].description()
    assert "actor, end: 1 to 2, more than 0 for 11 of 11 inputs, most for input " in text
    assert "most for input foot_joint angle (4)" in text
    assert "most for input action foot_joint (13)" in text


def test_numbers_are_shortened_to_four_digits() -> None:
    found = [short(v) for v in (0, 0.25, 1500, 25_000, 1_234_567, 2e9, -30_000, 1e-9)]
    assert found == [
        "0", "0.25", "1,500", "25,000", "1,235,000", "2,000,000,000", "-30,000", "0.000000001",
    ]  # fmt: skip


def test_the_full_colour_of_a_heat_map_is_at_least_one() -> None:
    assert HeatMap("n", "t", "TD3", [("a", np.zeros(3)), ("b", np.zeros(0))], "u", "c").most == 1


def contrast(one: str, other: str) -> float:
    """WCAG's contrast of two colours."""

    def luminance(colour: str) -> float:
        rgb = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in rgb]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_are_readable(colours: dict[str, str]) -> None:
    for ground in ("surface", "page"):
        for name in ("ink", "soft"):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    for k in range(8):
        assert contrast(colours[f"c{k}"], colours["surface"]) >= 3, k


def test_many_methods_have_different_pairs_of_colour_and_marker() -> None:
    pairs = {(k % METHOD_COLOURS, MARKERS[k % len(MARKERS)]) for k in range(56)}
    assert len(pairs) == 56


# ------------------------------------------------------------------ archives


def test_archive_copies_and_names_the_commit(runs: Path, tmp_path: Path) -> None:
    to, run = tmp_path / "results", runs / "ds-1"
    assert main(["archive", str(run), "--to", str(to), "--commit", "0123456789"]) == 0
    kept = to / ENV / "DS-TD3_seed1"
    copied = {"config.toml", "evaluations.csv", "metrics.csv", "topology.csv", "degrees.json"}
    assert {path.name for path in kept.iterdir()} == copied | {"run.json"}
    assert all((kept / name).read_bytes() == (run / name).read_bytes() for name in copied)
    about = json.loads((kept / "run.json").read_text())
    assert about["versions"]["commit"] == "0123456789"
    assert about["machine"]["cpu"] == "a CPU"
    assert main(["report", "--tables-only", str(to), "--out", str(to)]) == 0
    assert "0123456789" in (to / "README.md").read_text()


def test_archiving_an_unsuitable_run_is_rejected(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to, run = str(tmp_path / "results"), str(runs / "ds-1")
    knows = str(write_run(tmp_path / "knows", "TD3", ENV, rising(1.0), commit="abcdef1"))
    for code, words, text in (
        (2, [run], "specify the commit with --commit SHA"),
        (2, [run, "--commit", "latest"], "--commit is 'latest' but must be 7 to 40 lower-case hex"),
        (2, [knows, "--commit", "1234567"], "trained with commit abcdef1"),
        (3, [str(runs / "ds-3"), "--commit", "1234567"], "stopped by SIGTERM"),
        (3, [str(tmp_path)], "is not a run folder"),
    ):
        assert main(["archive", *words, "--to", to]) == code
        error = capsys.readouterr().err
        assert text in error
        assert error.count("\n") == 1
    assert main(["archive", knows, "--to", to]) == 0
    assert main(["archive", knows, "--to", to]) == 2
    assert "already archived" in capsys.readouterr().err


def test_archive_keeps_two_runs_with_the_same_name(runs: Path, tmp_path: Path) -> None:
    words = ["--to", str(tmp_path), "--commit", "0123456789"]
    again = write_run(tmp_path / "again", "DS-TD3", ENV, rising(7.0), seed=1)
    assert main(["archive", str(runs / "ds-1"), str(again), *words]) == 0
    assert (tmp_path / ENV / "DS-TD3_seed1-2" / "evaluations.csv").exists()


@pytest.mark.usefixtures("empty_drawings")
def test_the_page_embeds_the_clips_of_runs(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "TD3", ENV, rising(100.0))
    assert main(["report", str(run), "--out", str(tmp_path / "without")]) == 0
    (run / "clip.mp4").write_bytes(b"a film")
    (run / "long.mp4").write_bytes(bytes(6_000_000))
    (tmp_path / "elsewhere").write_bytes(b"a secret")
    (run / "link.mp4").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(run / "pipe.mp4")
    assert main(["report", str(run), "--out", str(tmp_path / "with")]) == 0
    pages = {n: (tmp_path / n / "report.html").read_text() for n in ("without", "with")}
    assert "<video" not in pages["without"]
    assert pages["with"].count("<video") == 1
    assert 'src="data:video/mp4;base64,YSBmaWxt"' in pages["with"]
    assert f"{run}/link.mp4: found a link but expected a regular file" in pages["with"]
    assert f"{run}/pipe.mp4: found a named pipe but expected a regular file" in pages["with"]
    assert "long.mp4 has 6,000,000 bytes, more than the limit of 5,000,000" in pages["with"]
