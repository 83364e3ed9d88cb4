"""The tables of a report: numbers for a file, texts for a page."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np

from sparl.archive.finished_run import FinishedRun
from sparl.random_streams import stream
from sparl.report import statistics as stat
from sparl.report.escape import in_csv, in_markdown
from sparl.report.papers import PAPER_LAST, PAPER_STEPS, Printed, printed
from sparl.report.runs import Collection, Group, differences

Row = dict[str, Any]
NONE = "-"  # a cell without a value


@dataclass(frozen=True)
class Table:
    """Rows of plain values, and how each column is printed.

    Attributes:
        name: of its file.
        title: of its section.
        note: what a reader must know, one paragraph.
        columns: heading, and the text of a row's cell; the first two are text, the rest numbers.
        rows: plain values, None where there is none.
    """

    name: str
    title: str
    note: str
    columns: Sequence[tuple[str, Callable[[Row], str]]]
    rows: list[Row]

    def cells(self) -> list[list[str]]:
        """The texts of all rows; columns in which no row has anything are left out."""
        shown = self.shown()
        return [[text(row) for _, text in shown] for row in self.rows]

    def shown(self) -> list[tuple[str, Callable[[Row], str]]]:
        """The columns in which some row has something."""
        return [(h, f) for h, f in self.columns if any(f(row) != NONE for row in self.rows)]

    def markdown(self) -> str:
        """A Markdown table."""
        heads = [heading for heading, _ in self.shown()]
        cells = [[in_markdown(cell) for cell in row] for row in self.cells()]
        lines = [heads, ["---", "---", *["---:"] * (len(heads) - 2)], *cells]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"

    def csv(self) -> str:
        """The plain values, in full precision."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: in_csv(v) for name, v in row.items()} for row in self.rows)
        return text.getvalue()


def all_tables(runs: Collection) -> list[Table]:
    """Returns, all environments together, costs; those that have rows."""
    tables = [returns(runs), together(runs), costs(runs), origins(runs)]
    return [table for table in tables if table.rows]


def final(group: Group, last: int = 10) -> stat.Array:
    """Return each run's mean over the last evaluations after its first update, float [runs]."""
    return np.array([stat.final_return(run.trained_returns, last) for run in group.runs])


def final_as_in_paper(group: Group) -> stat.Array:
    """Return each run's final return over as many evaluations as its settings' paper takes."""
    return final(group, PAPER_LAST[group.config.settings])


def averaged(runs: Sequence[FinishedRun], last: int) -> int:
    """Return how many evaluations a final return is the mean of: `last`, or all if fewer."""
    return min(last, *(run.trained_returns.size for run in runs))


def returns(runs: Collection) -> Table:
    """Final returns, beside what the papers print."""
    rows = []
    for group in runs.groups:
        config, curves = group.config, group.stacked("returns")
        trained = (group.stacked("updates") > 0).all(axis=0)
        mean, std = stat.mean_and_std(final(group))
        mean_30, std_30 = stat.mean_and_std(final(group, 30))
        middle = stat.stratified_bootstrap(
            stat.interquartile_mean, [final(group)], stream(0, "report")
        )
        dense = runs.dense(group)
        is_dense = dense is group
        percent, reached = None, None
        if dense and not is_dense:
            percent = stat.percent_of(
                float(final_as_in_paper(group).mean()), float(final_as_in_paper(dense).mean())
            )
            reached = stat.steps_to_reach(
                group.env_steps[trained].astype(int).tolist(),
                curves.mean(axis=0)[trained],
                float(final(dense).mean()),
                averaged(dense.runs, 10),
            )
        plain = not set(differences(config)) - {"hard_target_every"}
        paper = printed(config) if plain else Printed()
        rows.append(
            {
                "environment": group.env, "method": group.label,
                "runs": len(group.runs), "planned_runs": group.planned,
                "env_steps": int(group.env_steps[-1]), "horizon_env_steps": config.horizon,
                "paper_env_steps": PAPER_STEPS[config.settings],
                "mean_last_10": mean, "std_last_10": std,
                "evaluations_of_last_10": averaged(group.runs, 10),
                "mean_last_30": mean_30, "std_last_30": std_30,
                "evaluations_of_last_30": averaged(group.runs, 30),
                "iqm": middle.value, "iqm_low": middle.low, "iqm_high": middle.high,
                "area": float(np.mean([stat.learning_curve_area(c) for c in curves])),
                "percent_of_dense": percent,
                "dense_measured": dense is not None and not is_dense,
                "steps_to_dense_final": reached,
                "paper_mean": paper.mean, "paper_std": paper.std, "paper_area": paper.area,
                "paper_percent_of_dense": paper.percent,
            }
        )  # fmt: skip
    note = (
        "Mean return of the last 10 (Sokar et al.) and last 30 (RLx2) evaluations, ± standard "
        "deviation over the runs; where a run has fewer evaluations after its first update, the "
        "mean is of all of those, and their number is given. IQM: interquartile mean of the last "
        "10 with its 95 % stratified bootstrap interval, from two runs on. Area: sum of the "
        "evaluations / 1e6. % of dense: of the dense agent's return under the same settings, last "
        "10 under the settings of Sokar et al. and last 30 under RLx2's. Reaches dense: the step "
        "at which the mean of 10 evaluations first is at the dense agent's last 10. The papers' "
        "figures are those of the -v3 task, after the steps named where our runs are of another "
        "length."
    )
    return Table("returns", "Returns", note, _RETURNS, rows)


def _steps(row: Row) -> str:
    text = _millions(row["env_steps"])
    if row["horizon_env_steps"] != row["env_steps"]:
        text += f" of {_millions(row['horizon_env_steps'])}"
    return text


def _of_paper(row: Row, text: str) -> str:
    if text == NONE or row["env_steps"] == row["paper_env_steps"]:
        return text
    return f"{text} at {_millions(row['paper_env_steps'])}"


def _last(row: Row, last: int) -> str:
    text = _spread(row[f"mean_last_{last}"], row[f"std_last_{last}"])
    return text + _if_fewer(row[f"evaluations_of_last_{last}"], last)


def _if_fewer(count: int, last: int) -> str:
    return "" if count == last else f" (last {count})"


def _interval(row: Row) -> str:
    if row["runs"] < 2:
        return NONE
    return f"{row['iqm']:,.0f} [{row['iqm_low']:,.0f}, {row['iqm_high']:,.0f}]"


def _reached(row: Row) -> str:
    if not row["dense_measured"]:
        return NONE
    steps = row["steps_to_dense_final"]
    if steps is None:
        return "never"
    return f"{_millions(steps)} ({steps / row['env_steps']:.0%})"


_RETURNS: list[tuple[str, Callable[[Row], str]]] = [
    ("environment", lambda r: str(r["environment"])),
    ("method", lambda r: str(r["method"])),
    ("runs", lambda r: _of(r["runs"], r["planned_runs"])),
    ("steps", _steps),
    ("last 10", lambda r: _last(r, 10)),
    ("paper", lambda r: _of_paper(r, _spread(r["paper_mean"], r["paper_std"]))),
    ("last 30", lambda r: _last(r, 30)),
    ("IQM [95 %]", _interval),
    ("area", lambda r: _number(r["area"], ".3f")),
    ("paper", lambda r: _of_paper(r, _number(r["paper_area"], ".3f"))),
    ("% of dense", lambda r: _number(r["percent_of_dense"], ".1f")),
    ("paper", lambda r: _of_paper(r, _number(r["paper_percent_of_dense"], ".1f"))),
    ("reaches dense", _reached),
]


def scores(runs: Collection) -> dict[str, list[tuple[Group, Group]]]:
    """For each method, its groups with a dense agent to compare with, and that."""
    found: dict[str, list[tuple[Group, Group]]] = {}
    for group in runs.groups:
        dense = runs.dense(group)
        if dense is not None and float(final_as_in_paper(dense).mean()) > 0:
            found.setdefault(group.label, []).append((group, dense))
    return {k: v for k, v in found.items() if any(g is not d for g, d in v)}


def normalized(pairs: Sequence[tuple[Group, Group]]) -> list[stat.Array]:
    """Final returns in percent of the dense agent's mean, one float [runs] per environment."""
    return [
        100 * final_as_in_paper(group) / float(final_as_in_paper(dense).mean())
        for group, dense in pairs
    ]


def together(runs: Collection) -> Table:
    """Over all environments: interquartile mean and probability of improvement over dense."""
    rows = []
    for method, pairs in scores(runs).items():
        rng = stream(0, "report")
        ours = normalized(pairs)
        middle = stat.stratified_bootstrap(stat.interquartile_mean, ours, rng)
        both = [
            *(final_as_in_paper(g) for g, _ in pairs),
            *(final_as_in_paper(d) for _, d in pairs),
        ]
        count = len(pairs)

        def chance(both: stat.Scores, count: int = count) -> float:
            return stat.probability_of_improvement(both[:count], both[count:])

        better = stat.stratified_bootstrap(chance, both, rng)
        rows.append(
            {
                "method": method, "environments": ", ".join(g.env for g, _ in pairs),
                "runs": sum(len(g.runs) for g, _ in pairs),
                "fewest_runs_of_an_environment": min(len(g.runs) for g, _ in pairs),
                "dense_runs": sum(len(d.runs) for _, d in pairs),
                "mean_percent": stat.mean_score(ours),
                "iqm_percent": middle.value, "iqm_low": middle.low, "iqm_high": middle.high,
                "probability_of_improvement": better.value,
                "probability_low": better.low, "probability_high": better.high,
            }
        )  # fmt: skip
    columns: list[tuple[str, Callable[[Row], str]]] = [
        ("method", lambda r: str(r["method"])),
        ("environments", lambda r: str(r["environments"])),
        ("runs", lambda r: str(r["runs"])),
        ("dense runs", lambda r: str(r["dense_runs"])),
        ("mean %", lambda r: f"{r['mean_percent']:.1f}"),
        ("IQM % [95 %]", lambda r: _bounded(r, "iqm_percent", "iqm", ".1f")),
        ("P(better than dense) [95 %]",
         lambda r: _bounded(r, "probability_of_improvement", "probability", ".2f")),
    ]  # fmt: skip
    note = (
        "Final returns (last 10 evaluations, under RLx2's settings last 30; all after the first "
        "update where there are fewer) in percent of the dense agent's mean in the same "
        "environment under the same settings. Intervals resample the runs within each "
        "environment: from two runs on, and from a few they are too narrow."
    )
    return Table("together", "All environments together", note, columns, rows)


def costs(runs: Collection) -> Table:
    """Connections, FLOPs in both conventions, measured time and memory."""
    rows = []
    for group in runs.groups:
        cost = group.cost
        if cost is None:
            continue
        flops = {name: f or {} for name, f in cost["flops"].items()}
        steps = [run.env_steps[-1] for run in group.runs]
        wall = [run.seconds[-1] for run in group.runs]
        cpu = [run.cpu_seconds[-1] for run in group.runs if run.cpu_seconds is not None]
        known = len(cpu) == len(wall)
        told = [run.about for run in group.runs]
        memory = [about["peak_memory_bytes"] for about in told if "peak_memory_bytes" in about]
        threads = {about.get("machine", {}).get("threads") for about in told}
        rows.append(
            {
                "environment": group.env, "method": group.label,
                "connections": cost["connections"], "dense_connections": cost["dense_connections"],
                "size_ratio_with_targets": cost["size_ratio_with_targets"],
                "paper_flops": flops["paper"].get("sparse"),
                "paper_flops_ratio": flops["paper"].get("ratio"),
                "counted_flops": flops["counted"]["sparse"],
                "counted_flops_ratio": flops["counted"]["ratio"],
                "action_flops_ratio": cost["inference_flops_ratio"],
                "cpu_seconds": float(np.mean(cpu)) if known else None,
                "env_steps_per_cpu_second": _speed(steps, cpu) if known else None,
                "wall_seconds": float(np.mean(wall)),
                "env_steps_per_wall_second": _speed(steps, wall),
                "under_load": any(run.under_load for run in group.runs) if known else None,
                "threads": ", ".join(str(t) for t in sorted(t for t in threads if t)),
                "peak_memory_megabytes": float(np.mean(memory)) / 1e6 if memory else None,
            }
        )  # fmt: skip
    columns: list[tuple[str, Callable[[Row], str]]] = [
        ("environment", lambda r: str(r["environment"])),
        ("method", lambda r: str(r["method"])),
        ("connections", lambda r: f"{r['connections']:,}"),
        ("of dense", lambda r: f"{r['connections'] / r['dense_connections']:.1%}"),
        ("with targets", lambda r: f"{r['size_ratio_with_targets']:.1%}"),
        ("FLOPs, paper", lambda r: _number(r["paper_flops"], ".3g")),
        ("of dense", lambda r: _number(r["paper_flops_ratio"], ".1%")),
        ("FLOPs, counted", lambda r: f"{r['counted_flops']:.3g}"),
        ("of dense", lambda r: f"{r['counted_flops_ratio']:.1%}"),
        ("an action", lambda r: f"{r['action_flops_ratio']:.1%}"),
        ("CPU time", lambda r: _time(r["cpu_seconds"])),
        ("steps / CPU s", lambda r: _number(r["env_steps_per_cpu_second"], ",.0f")),
        ("wall time", lambda r: _time(r["wall_seconds"]) + " (under load)" * bool(r["under_load"])),
        ("threads", lambda r: r["threads"] or NONE),
        ("peak MB", lambda r: _number(r["peak_memory_megabytes"], ".0f")),
    ]  # fmt: skip
    note = (
        "Actor and both critics; FLOPs of a whole training of one update per step. Paper: the "
        "convention of Sokar et al., 6 B T (2 Q + A / d); counted: every multiply-add of an update "
        "as two operations. CPU time, of all threads and workers, wall time and the peak of the "
        "process's memory were measured, evaluations included. Under load: wall time exceeds CPU "
        "time by more than 20 %, so the run waited, as a rule for other work of the machine. Where "
        "CPU time was not recorded, nothing is known about the load."
    )
    return Table("costs", "Costs", note, columns, rows)


def origins(runs: Collection) -> Table:
    """Where every run comes from."""
    rows = [
        {
            "environment": group.env, "method": group.label, "seed": run.config.seed,
            "final_return": stat.final_return(run.trained_returns),
            "evaluations_of_final_return": averaged([run], 10),
            "folder": run.path.name,
            "times_resumed": len(run.about.get("continued", [])),
            "bit_exact": run.about.get("bit_exact"),
            "commit": run.about.get("versions", {}).get("commit") or None,
            "sparl": run.about.get("versions", {}).get("sparl"),
            "mujoco": run.about.get("versions", {}).get("mujoco"),
            "cpu": run.about.get("machine", {}).get("cpu"),
            "instruction_set": run.about.get("machine", {}).get("instruction_set"),
        }
        for group in runs.groups
        for run in group.runs
    ]  # fmt: skip
    columns: list[tuple[str, Callable[[Row], str]]] = [
        ("environment", lambda r: str(r["environment"])),
        ("method", lambda r: str(r["method"])),
        ("seed", lambda r: str(r["seed"])),
        (
            "last 10",
            lambda r: f"{r['final_return']:,.0f}" + _if_fewer(r["evaluations_of_final_return"], 10),
        ),
        ("commit", lambda r: (r["commit"] or NONE)[:10]),
        ("sparl", lambda r: str(r["sparl"] or NONE)),
        ("MuJoCo", lambda r: str(r["mujoco"] or NONE)),
        ("CPU", lambda r: f"{r['cpu'] or NONE}, {r['instruction_set'] or NONE}"),
        ("resumed", _resumed),
        ("folder", lambda r: str(r["folder"])),
    ]
    return Table("runs", "Runs", "Every run that is counted above.", columns, rows)


def _resumed(row: Row) -> str:
    if not row["times_resumed"]:
        return NONE
    how = "bit for bit" if row["bit_exact"] else "not exactly"
    return f"{row['times_resumed']}, {how}"


def _bounded(row: Row, name: str, bounds: str, form: str) -> str:
    if row["fewest_runs_of_an_environment"] < 2:
        return NONE
    return f"{row[name]:{form}} [{row[bounds + '_low']:{form}}, {row[bounds + '_high']:{form}}]"


def _of(count: int, planned: int) -> str:
    return str(count) if count == planned else f"{count} of {planned}"


def _spread(mean: float | None, std: float | None) -> str:
    if mean is None:
        return NONE
    return f"{mean:,.0f}" if std is None or math.isnan(std) else f"{mean:,.0f} ± {std:,.0f}"


def _speed(steps: Sequence[float], seconds: Sequence[float]) -> float:
    """Return the mean over the runs of their steps per second."""
    return float(np.mean([n / (s or math.nan) for n, s in zip(steps, seconds, strict=True)]))


def _time(seconds: float | None) -> str:
    return NONE if seconds is None else str(timedelta(seconds=round(seconds)))


def _number(value: float | None, form: str) -> str:
    return NONE if value is None or math.isnan(value) else format(value, form)


def _millions(steps: int) -> str:
    return f"{steps / 1e6:g}M" if steps >= 1e5 else f"{steps:,}"
