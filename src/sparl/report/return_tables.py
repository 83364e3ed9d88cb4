"""The tables of returns for each environment and for all environments together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.random import Generator

from sparl.random_streams import stream
from sparl.report import statistics as stat
from sparl.report.final_returns import (
    averaged,
    final,
    final_as_in_paper,
    normalized,
    reaching,
    scores,
)
from sparl.report.papers import PAPER_STEPS, Printed, printed
from sparl.report.runs import Collection, differences
from sparl.report.table import NONE, Row, Table, if_fewer, number


def returns(runs: Collection) -> Table:
    """Return the table of final returns, including the results that the papers print."""
    rows = []
    for group in runs.groups:
        config, curves = group.config, group.stacked("returns")
        mean, std = stat.mean_and_std(final(group))
        mean_30, std_30 = stat.mean_and_std(final(group, 30))
        iqm, low, high = _interval(stat.interquartile_mean, [final(group)], stream(0, "report"))
        dense = runs.dense(group)
        is_dense = dense is group
        percent, reached = None, []
        if dense:
            reached = reaching(group.runs, float(final(dense).mean()), averaged(dense.runs, 10))
        if dense and not is_dense:
            percent = stat.percent_of(
                float(final_as_in_paper(group).mean()), float(final_as_in_paper(dense).mean())
            )
        areas = [stat.learning_curve_area(curve) for curve in curves]
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
                "iqm": iqm, "iqm_low": low, "iqm_high": high,
                "area": stat.mean_and_std(areas)[0], "std_area": stat.mean_and_std(areas)[1],
                "percent_of_dense": percent,
                "dense_measured": dense is not None,
                "steps_to_dense_final": _mean_steps(reached, int(group.env_steps[-1])),
                "runs_that_never_reach_dense": reached.count(None),
                "paper_mean": paper.mean, "paper_std": paper.std, "paper_area": paper.area,
                "paper_percent_of_dense": paper.percent,
            }
        )  # fmt: skip
    note = (
        "Last 10, last 30: mean return of the last 10 (Sokar et al.) and 30 (RLx2) evaluations, ± "
        "the standard deviation over the runs; if a run has fewer evaluations after its first "
        "update, all of them are averaged and their number is given. IQM: interquartile mean of "
        "the last 10 with its 95 % stratified bootstrap interval, for three or more runs; the "
        "interval of only a few runs is too narrow. Area: sum of the evaluations / 1e6. % of "
        "dense: final return in percent of the dense agent's under the same settings, over the "
        "last 10 evaluations under the settings of Sokar et al. and the last 30 under RLx2's. "
        "Reaches dense: the first step at which the mean of a run's last 10 evaluations is at "
        "least the mean of the dense agent's last 10, averaged over the runs, in percent of their "
        "steps; runs that never reach it count with all of their steps, and their number is given. "
        "The return need not stay at this level. The dense agent's own value shows when its mean "
        "is reached merely because returns vary between evaluations. The papers' figures are for "
        "the -v3 task; the number of steps is given if it differs from that of the runs here."
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
    return text + if_fewer(row[f"evaluations_of_last_{last}"], last)


def _middle(row: Row) -> str:
    if row["iqm_low"] is None:
        return NONE
    return f"{row['iqm']:,.0f} [{row['iqm_low']:,.0f}, {row['iqm_high']:,.0f}]"


def _reached(row: Row) -> str:
    if not row["dense_measured"]:
        return NONE
    steps, never = row["steps_to_dense_final"], row["runs_that_never_reach_dense"]
    if never == row["runs"]:
        return "never"
    text = f"{steps / row['env_steps']:.1%}"
    return text + f", {never} of {row['runs']} never" * bool(never)


def _area(row: Row) -> str:
    text = f"{row['area']:.3f}"
    return text if math.isnan(row["std_area"]) else f"{text} ± {row['std_area']:.3f}"


def _mean_steps(reached: Sequence[int | None], env_steps: int) -> float | None:
    """Return the mean number of steps; a run that never reaches the goal counts with all steps."""
    if not reached:
        return None
    return float(np.mean([env_steps if steps is None else steps for steps in reached]))


_RETURNS: list[tuple[str, Callable[[Row], str]]] = [
    ("environment", lambda r: str(r["environment"])),
    ("method", lambda r: str(r["method"])),
    ("runs", lambda r: _of(r["runs"], r["planned_runs"])),
    ("steps", _steps),
    ("last 10", lambda r: _last(r, 10)),
    ("paper", lambda r: _of_paper(r, _spread(r["paper_mean"], r["paper_std"]))),
    ("last 30", lambda r: _last(r, 30)),
    ("IQM [95 %]", _middle),
    ("area", _area),
    ("paper", lambda r: _of_paper(r, number(r["paper_area"], ".3f"))),
    ("% of dense", lambda r: number(r["percent_of_dense"], ".1f")),
    ("paper", lambda r: _of_paper(r, number(r["paper_percent_of_dense"], ".1f"))),
    ("reaches dense", _reached),
]


def together(runs: Collection) -> Table:
    """Return the table of results over all environments.

    It contains interquartile means and probabilities of improvement over the dense agent.
    """
    rows = []
    for method, pairs in scores(runs).items():
        rng = stream(0, "report")
        both = [
            *(final_as_in_paper(g) for g, _ in pairs),
            *(final_as_in_paper(d) for _, d in pairs),
        ]
        count = len(pairs)

        def percent(both: stat.Scores, count: int = count) -> float:
            parts = zip(both[:count], both[count:], strict=True)
            return stat.interquartile_mean([100 * ours / dense.mean() for ours, dense in parts])

        def chance(both: stat.Scores, count: int = count) -> float:
            return stat.probability_of_improvement(both[:count], both[count:])

        iqm, iqm_low, iqm_high = percent(both), None, None
        if all((returns > 0).all() for returns in both[count:]):  # so that no resample has mean 0
            iqm, iqm_low, iqm_high = _interval(percent, both, rng)
        better, better_low, better_high = _interval(chance, both, rng)
        rows.append(
            {
                "method": method, "environments": ", ".join(g.env for g, _ in pairs),
                "runs": sum(len(g.runs) for g, _ in pairs),
                "fewest_runs_of_an_environment": min(len(g.runs) for g, _ in pairs),
                "dense_runs": sum(len(d.runs) for _, d in pairs),
                "mean_percent": stat.mean_score(normalized(pairs)),
                "iqm_percent": iqm, "iqm_low": iqm_low, "iqm_high": iqm_high,
                "probability_of_improvement": better,
                "probability_low": better_low, "probability_high": better_high,
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
        "Final returns in percent of the dense agent's mean in the same environment under the same "
        "settings. The final return is the mean of the last 10 evaluations, or 30 under RLx2's "
        "settings, or of all evaluations after the first update if there are fewer. P(better than "
        "dense): the probability that the final return of a run is higher than that of a dense "
        "run, averaged over the environments. Confidence intervals resample the runs of the method "
        "and of the dense agent within each environment and are too narrow for only a few runs. "
        "Columns with intervals are shown if both have three or more runs in each environment of a "
        "method. The IQM has one only if the returns of all dense runs are positive. Because the "
        "mean of the dense runs is the denominator, even a method that is as good as the dense "
        "agent is on average above 100 % if there are only a few dense runs."
    )
    return Table("together", "All environments together", note, columns, rows)


def _interval(
    statistic: Callable[[stat.Scores], float], scores: stat.Scores, rng: Generator
) -> tuple[float, float | None, float | None]:
    """Return a statistic and the bounds of its interval; None if a task has too few runs."""
    if min(s.size for s in scores) < stat.FEWEST_RUNS_OF_INTERVAL:
        return statistic(scores), None, None
    return stat.stratified_bootstrap(statistic, scores, rng)


def _bounded(row: Row, name: str, bounds: str, form: str) -> str:
    if row[f"{bounds}_low"] is None:
        return NONE
    return f"{row[name]:{form}} [{row[bounds + '_low']:{form}}, {row[bounds + '_high']:{form}}]"


def _of(count: int, planned: int) -> str:
    return str(count) if count == planned else f"{count} of {planned}"


def _spread(mean: float | None, std: float | None) -> str:
    if mean is None:
        return NONE
    return f"{mean:,.0f}" if std is None or math.isnan(std) else f"{mean:,.0f} ± {std:,.0f}"


def _millions(steps: int) -> str:
    return f"{steps / 1e6:g}M" if steps >= 1e5 else f"{steps:,}"
