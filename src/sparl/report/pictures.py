"""Create the figures of a report from the records of the runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sparl.methods import preset
from sparl.random_streams import stream
from sparl.report import statistics as stat
from sparl.report.figures import STEPS, Figure, LineChart, Series
from sparl.report.final_returns import normalized, scores
from sparl.report.runs import Collection, Group
from sparl.report.topology_pictures import degrees, replay, topology, wiring
from sparl.types import Float64Array

Shade = Literal["interval", "std"]
_SHADES = {
    "interval": "drawn for three or more runs, is the 95 % bootstrap interval of the mean; with "
    "only a few runs, it is too narrow",
    "std": "drawn for two or more runs, is one standard deviation over the runs on either side, as "
    "in Sokar et al.",
}
_FEWEST_RUNS = {"interval": stat.FEWEST_RUNS_OF_INTERVAL, "std": 2}
# Number of curves in a figure above which variants of methods get figures of their own.
MOST_CURVES = 6


@dataclass(frozen=True)
class Section:
    """A section of a report, with its figures."""

    title: str
    note: str
    figures: list[Figure]


def all_sections(runs: Collection, shade: Shade = "interval") -> list[Section]:
    """Return the sections that have figures; `shade` selects the statistic shown as a band."""
    sections = [
        Section(
            "Learning curves",
            "Mean return over the runs of each method. Each value is averaged over the last 5 % of "
            "a run's evaluations up to that step: 10 of 201, as in the final returns of Sokar et "
            f"al., or 30 of 601, as in RLx2's. The band, {_SHADES[shade]}.",
            list(learning_curves(runs, shade)),
        ),
        Section(
            "Performance profile",
            "Fraction of runs whose final return exceeds a percentage of the dense agent's, "
            "averaged over the environments, for the methods that were run in all of them. The "
            "final return is the mean of the last 10 evaluations, or 30 under RLx2's settings.",
            list(profiles(runs)),
        ),
        Section(
            "Return against computation",
            "The same curves against other quantities. CPU time covers all threads and the child "
            "processes that have ended. CPU time and wall-clock time are means over the runs that "
            "recorded their CPU time. Wall-clock time includes the time during which other "
            "processes used the machine; if no run of a method recorded its CPU time, it is the "
            "mean over all of its runs.",
            list(against_computation(runs, shade)),
        ),
        Section(
            "Topology over time",
            "For the first run of each method: the fraction of the connections that existed at the "
            "start, the fraction that each topology update moves, and the fraction that is new: "
            "moved connections without those that were dropped and regrown in the same update. "
            "Dead links are dropped connections whose weight was exactly 0; runs of version 0.1 "
            "did not record them. Dashed lines are critics.",
            list(topology(runs)),
        ),
        Section(
            "Degrees",
            "Number of connections that enter (in) or leave (out) a neuron, for the first run of "
            "each method whose actor has a sparse first layer. Solid lines show the end of "
            "training, dashed lines the start.",
            list(degrees(runs)),
        ),
        Section(
            "Connections of the inputs",
            "Number of connections of every input at the start and the end of training, for the "
            "first run of each method whose actor has a sparse first layer. The last inputs of a "
            "critic are the actions.",
            list(wiring(runs)),
        ),
        Section(
            "Replay and targets",
            "RLx2's dynamic-capacity replay, for the first run of each method that uses it: the "
            "number of transitions, the distance of the oldest actions from the policy, and the "
            "number of steps in the targets.",
            list(replay(runs)),
        ),
    ]
    return [section for section in sections if section.figures]


def learning_curves(runs: Collection, shade: Shade) -> Iterator[Figure]:
    """Yield figures of the mean return against environment steps, for each panel."""
    for panel in panels(runs):
        yield from _curves(panel, "learning", STEPS, lambda group: group.env_steps, shade)


def against_computation(runs: Collection, shade: Shade) -> Iterator[Figure]:
    """Yield figures of the mean return against FLOPs, CPU time and wall-clock time."""

    def flops(group: Group) -> Float64Array | None:
        each = group.flops_per_update
        return None if each is None else each * group.stacked("updates").mean(axis=0)

    def cpu(group: Group) -> Float64Array | None:
        return _minutes(group, "cpu_seconds") if group.timed else None

    def wall(group: Group) -> Float64Array:
        return _minutes(group, "seconds")

    for panel in panels(runs):
        label = "FLOPs of the updates (a multiply-add counts as two)"
        yield from _curves(panel, "flops", label, flops, shade, ", FLOPs")
    for panel in panels(runs):
        yield from _curves(panel, "cpu", "minutes of CPU time", cpu, shade, ", CPU time")
    for panel in panels(runs):
        label = f"minutes of wall-clock time{_load(panel.groups)}"
        yield from _curves(panel, "time", label, wall, shade, ", wall-clock time")


def _minutes(group: Group, clock: str) -> Float64Array:
    """Return a clock's readings at the evaluations, float [K] [minutes].

    They are averaged over the runs that recorded their CPU time, or over all if none did.
    """
    return np.asarray(group.stacked(clock, group.timed).mean(axis=0) / 60, np.float64)


def _load(groups: Sequence[Group]) -> str:
    """Return a remark about the machine's load, for the label of a wall-clock axis."""
    loaded = [run.under_load for group in groups for run in group.timed or group.runs]
    if any(loaded):
        return ", measured under load" if all(loaded) else ", partly measured under load"
    return "" if all(group.timed for group in groups) else ", machine load not recorded"


@dataclass(frozen=True)
class Panel:
    """Groups in the same environment whose curves are in one figure.

    Attributes:
        groups: the groups.
        name: the end of the figure's name.
        title: the environment, and what the figure compares if there are several for it.
    """

    groups: list[Group]
    name: str
    title: str


def panels(runs: Collection) -> Iterator[Panel]:
    """Yield one panel per environment, or several if it has many groups, some of them variants.

    If there are more than MOST_CURVES groups, the first panel contains the methods as their presets
    define them. For each set of fields that was varied, another panel compares a method's variants
    with the method and with the dense agent.
    """
    for env in runs.environments:
        groups = runs.of_environment(env)
        plain = [group for group in groups if not runs.varied(group)]
        if len(groups) <= MOST_CURVES or not plain:
            yield Panel(groups, env, env)
            continue
        yield Panel(plain, env, env)
        variants: dict[tuple[str, str, tuple[str, ...]], list[Group]] = {}
        for group in groups:
            if fields := tuple(runs.varied(group)):
                key = group.config.method, group.config.settings, fields
                variants.setdefault(key, []).append(group)
        for (method, settings, fields), of_method in variants.items():
            compared = [
                group for group in plain
                if group.config.settings == settings
                and (group.config.method == method or group is runs.dense(of_method[0]))
            ]  # fmt: skip
            usual = settings == preset(method, env).settings
            what = ", ".join([method, *([] if usual else [f"settings {settings}"]), *fields])
            yield Panel([*compared, *of_method], f"{env}-{what}", f"{env}: {what}")


def _curves(
    panel: Panel, name: str, x_label: str, x: Callable[[Group], Float64Array | None],
    shade: Shade, after_title: str = "",
) -> Iterator[Figure]:  # fmt: skip
    """Yield a figure of the groups' mean returns against the coordinates that `x` returns.

    Groups for which `x` returns None are omitted. The title is the panel's, followed by
    `after_title`.
    """
    series = []
    for group in panel.groups:
        along = x(group)
        if along is None:
            continue
        curves = stat.smoothed(group.stacked("returns"))
        mean = curves.mean(axis=0)
        enough = len(curves) >= _FEWEST_RUNS[shade]
        low, high = _band(curves, shade) if enough else (None, None)
        series.append(Series(group.label, along, mean, low, high))
    if series:
        title = f"{panel.title}{after_title}"
        yield LineChart(f"{name}-{panel.name}", title, x_label, "return", series)


def _band(curves: Float64Array, shade: Shade) -> tuple[Float64Array, Float64Array]:
    """Return the lower and the upper edge of the band around the mean curve, float [K] each."""
    if shade == "std":
        mean, std = curves.mean(axis=0), curves.std(axis=0, ddof=1)
        return mean - std, mean + std
    low, high = stat.curve_interval(curves, stream(0, "report"))
    return low, high


def profiles(runs: Collection) -> Iterator[Figure]:
    """Yield the performance profile over all environments, if a method has scores in all of them.

    Methods that lack an environment in which another method has scores are omitted, because a
    comparison would depend on the environments.
    """
    found = scores(runs)
    if not found:
        return
    environments = {group.env for pairs in found.values() for group, _ in pairs}
    of = {
        method: normalized(pairs)
        for method, pairs in found.items()
        if {group.env for group, _ in pairs} == environments
    }
    if not of:
        return
    most = max(float(s.max()) for tasks in of.values() for s in tasks)
    yield LineChart(
        "profile", "Performance profile", "% of the dense agent", "fraction of runs",
        [_profile(method, tasks, 1.1 * most) for method, tasks in of.items()], zero=True,
    )  # fmt: skip


def _profile(method: str, tasks: Sequence[Float64Array], end: float) -> Series:
    """Return the performance profile of a method between 0 and `end` percent.

    The profile is a step function: each step has a point before it and a point after it.
    """
    steps = np.concatenate(tasks)
    tau = np.unique(np.concatenate([[0.0, end], np.nextafter(steps, -math.inf), steps]))
    tau = tau[tau >= 0]
    return Series(method, tau, stat.performance_profile(tasks, tau))
