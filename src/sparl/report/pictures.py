"""The figures of a report, drawn from what the runs recorded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sparl.archive.finished_run import DEAD, FinishedRun
from sparl.random_streams import stream
from sparl.report import statistics as stat
from sparl.report.figures import Array, Figure, HeatMap, LineChart, Series
from sparl.report.runs import Collection, Group
from sparl.report.tables import normalized, scores

STEPS = "environment steps"
Shade = Literal["interval", "std"]
_SHADES = {
    "interval": "the 95 % bootstrap interval of that mean",
    "std": "the standard deviation over the runs (as in Sokar et al.)",
}


@dataclass(frozen=True)
class Section:
    """Figures that belong together."""

    title: str
    note: str
    figures: list[Figure]


def all_sections(runs: Collection, shade: Shade = "interval") -> list[Section]:
    """Return every section that has a figure; `shade` is what the bands of return curves show."""
    sections = [
        Section(
            "Learning curves",
            f"Mean over the runs of each method, shaded where there are several: {_SHADES[shade]}.",
            list(learning_curves(runs, shade)),
        ),
        Section(
            "Performance profile",
            "Share of runs above a percentage of the dense agent's final return (last 10 "
            "evaluations, under RLx2's settings last 30), mean over the environments.",
            list(profiles(runs)),
        ),
        Section(
            "Return against computation",
            "CPU time is of all threads and workers of a run that recorded it; wall clock also "
            "contains the time that a run waited for other work of the machine.",
            list(against_computation(runs, shade)),
        ),
        Section(
            "Topology over time",
            "Of the first run of each method: connections that existed at the start, and how many "
            "each evolution drops and grows; of those, a few return at once. Dead links: dropped "
            "connections whose weight was exactly 0, where recorded. Dashed: critics.",
            list(topology(runs)),
        ),
        Section(
            "Degrees",
            "How many connections reach a neuron (in) or leave it (out), at the end and, dashed, "
            "at the start; of the first run of each sparse method.",
            list(degrees(runs)),
        ),
        Section(
            "What the networks look at",
            "Connections of every input at the start and at the end, of the first run of each "
            "sparse method. A critic's last inputs are the actions.",
            list(wiring(runs)),
        ),
        Section(
            "Replay and targets",
            "RLx2's dynamic-capacity replay: transitions kept, distance of the oldest actions to "
            "the policy, and steps of the targets; of the first run.",
            list(replay(runs)),
        ),
    ]
    return [section for section in sections if section.figures]


def learning_curves(runs: Collection, shade: Shade) -> Iterator[Figure]:
    """Mean return over environment steps, one figure per environment."""
    for env in runs.environments:
        groups = runs.of_environment(env)
        yield from _curves(groups, "learning", STEPS, lambda group: group.env_steps, shade)


def against_computation(runs: Collection, shade: Shade) -> Iterator[Figure]:
    """Mean return over FLOPs, CPU time and wall-clock time."""

    def flops(group: Group) -> Array | None:
        each = group.flops_per_update
        return None if each is None else each * group.stacked("updates").mean(axis=0)

    def cpu(group: Group) -> Array | None:
        return _minutes(group, "cpu_seconds") if group.has_cpu_seconds else None

    def wall(group: Group) -> Array:
        return _minutes(group, "seconds")

    for env in runs.environments:
        groups = runs.of_environment(env)
        label = "FLOPs of the updates, every multiply-add counted"
        yield from _curves(groups, "flops", label, flops, shade)
        yield from _curves(groups, "cpu", "minutes of CPU time", cpu, shade)
        label = f"minutes of wall clock{_load(groups)}"
        yield from _curves(groups, "time", label, wall, shade)


def _minutes(group: Group, clock: str) -> Array:
    """Return a clock's reading at each evaluation, averaged over the runs [minutes]."""
    return np.asarray(group.stacked(clock).mean(axis=0) / 60, np.float64)


def _load(groups: Sequence[Group]) -> str:
    """Return what an axis of wall-clock time says about the load of the machine."""
    loaded = [run.under_load for group in groups for run in group.runs]
    if any(loaded):
        return ", measured under load" if all(loaded) else ", some runs measured under load"
    known = all(group.has_cpu_seconds for group in groups)
    return "" if known else ", load of the machine not recorded"


def _curves(
    groups: Sequence[Group], name: str, x_label: str, x: Callable[[Group], Array | None],
    shade: Shade,
) -> Iterator[Figure]:  # fmt: skip
    """Draw the mean return of those groups of one environment for which `x` gives an axis."""
    series = []
    for group in groups:
        along = x(group)
        if along is None:
            continue
        curves = group.stacked("returns")
        mean = curves.mean(axis=0)
        low, high = _band(curves, shade) if len(curves) > 1 else (None, None)
        series.append(Series(group.label, along, mean, low, high))
    if series:
        env = groups[0].env
        yield LineChart(f"{name}-{env}", env, x_label, "return", series)


def _band(curves: Array, shade: Shade) -> tuple[Array, Array]:
    """Return the lower and the upper edge of the band around a mean curve, float [K] each."""
    if shade == "std":
        mean, std = curves.mean(axis=0), curves.std(axis=0, ddof=1)
        return mean - std, mean + std
    low, high = stat.curve_interval(curves, stream(0, "report"))
    return low, high


def profiles(runs: Collection) -> Iterator[Figure]:
    """Performance profiles over all environments."""
    found = scores(runs)
    if not found:
        return
    of = {method: normalized(pairs) for method, pairs in found.items()}
    most = max(float(s.max()) for tasks in of.values() for s in tasks)
    tau = np.linspace(0.0, 1.1 * most, 200)
    series = [Series(m, tau, stat.performance_profile(tasks, tau)) for m, tasks in of.items()]
    yield LineChart(
        "profile", "Performance profile", "% of the dense agent", "share of runs", series, zero=True
    )


def topology(runs: Collection) -> Iterator[Figure]:
    """Connections kept since the start, moved by each evolution, and dead ones among them."""
    for env in runs.environments:
        kept, moved, dead = [], [], []
        for group in runs.of_environment(env):
            for network in ("actor", "critics"):
                updates, overlap, share, new, dead_share = _evolutions(group.runs[0], network)
                if not updates.size:
                    continue
                dashed = network == "critics"
                kept.append(Series(group.label, updates, overlap, part=network, dashed=dashed))
                text = f"{network}, dropped and grown"
                moved.append(Series(group.label, updates, share, part=text, dashed=dashed))
                moved.append(Series(group.label, updates, new, part=f"{network}, new", dashed=True))
                if np.isfinite(dead_share).all():
                    dead.append(
                        Series(group.label, updates, dead_share, part=network, dashed=dashed)
                    )
        if kept:
            yield LineChart(f"kept-{env}", env, "updates", "% there since the start", kept, True)
            yield LineChart(f"moved-{env}", env, "updates", "% moved per evolution", moved, True)
        if dead:
            yield LineChart(f"dead-{env}", env, "updates", "% dead links", dead, True)


def _evolutions(run: FinishedRun, network: str) -> tuple[Array, Array, Array, Array, Array]:
    """Update, and in percent of the connections: those of the start, moved, moved for good, dead.

    The last is NaN where it was not recorded.
    """
    sums: dict[int, list[float]] = defaultdict(lambda: [0.0] * 5)
    for row in run.topology[network]:
        total = sums[int(row["agent_update"])]
        total[0] += row["connections"]
        total[1] += row["connections"] * row["initial_overlap"]
        total[2] += row["moved"]
        total[3] += row["moved"] - row["returned"]
        total[4] += row.get(DEAD, np.nan)
    updates = np.array(sorted(sums), np.float64)
    table = np.array([sums[int(u)] for u in updates]).reshape(-1, 5)
    kept, moved, new, dead = (100 * table[:, k] / table[:, 0] for k in (1, 2, 3, 4))
    return updates, kept, moved, new, dead


def degrees(runs: Collection) -> Iterator[Figure]:
    """Distributions of in- and out-degrees of the hidden layers, at the start and the end."""
    for env in runs.environments:
        sparse = [g for g in runs.of_environment(env) if _is_sparse(g.runs[0])]
        for network in ("actor", "critics"):
            for layer, side, name in (
                (0, "in", "1st hidden layer, in"),
                (1, "out", "1st hidden layer, out"),
                (1, "in", "2nd hidden layer, in"),
            ):
                counts = [
                    (group.label, when, _degrees(group.runs[0], when, network, layer, side))
                    for group in sparse
                    for when in ("now", "initial")
                ]
                series = _distributions([c for c in counts if len(set(c[2])) > 1])
                if series:
                    title = f"{env}, {network}: {name}"
                    file = f"degrees-{env}-{network}-{layer + 1}-{side}"
                    yield LineChart(file, title, "connections", "% of neurons", series, True)


def _degrees(run: FinishedRun, when: str, network: str, layer: int, side: str) -> list[int]:
    """Degrees of a hidden layer's neurons, in all members of a network."""
    members = run.degrees[when][network]
    return [d for m in members if layer < len(m) - 1 for d in m[layer][side]]


def _distributions(counts: list[tuple[str, str, list[int]]]) -> list[Series]:
    """Percent of neurons with so many connections, in the same 24 bins, or fewer, for all."""
    if not counts:
        return []
    low, high = min(min(c) for *_, c in counts), max(max(c) for *_, c in counts)
    width = max(1, -(-(high - low + 1) // 24))
    bins = -(-(high - low + 1) // width)
    centres: Array = low + width * (np.arange(bins, dtype=np.float64) + 0.5) - 0.5
    series = []
    for method, when, degrees_ in counts:
        at = (np.asarray(degrees_) - low) // width
        y = 100 * np.bincount(at, minlength=bins) / at.size
        part, dashed = ("end", False) if when == "now" else ("start", True)
        series.append(Series(method, centres, y, part=part, dashed=dashed))
    return series


def wiring(runs: Collection) -> Iterator[Figure]:
    """Heat maps: connections of each input of each network."""
    for group in runs.groups:
        run = group.runs[0]
        if not _is_sparse(run):
            continue
        rows = []
        for network, members in run.degrees["now"].items():
            for member, layers in enumerate(members):
                name = "actor" if network == "actor" else f"critic {member + 1}"
                start = run.degrees["initial"][network][member][0]["out"]
                rows.append((f"{name}, start", np.asarray(start, np.float64)))
                rows.append((f"{name}, end", np.asarray(layers[0]["out"], np.float64)))
        title = f"{group.env}, {group.label}"
        name = f"wiring-{group.env}-{group.label}"
        yield HeatMap(name, title, group.label, rows, "connections", "input")


def _is_sparse(run: FinishedRun) -> bool:
    """Whether its degrees are known and its first layer is not full."""
    if not run.degrees:
        return False
    first = run.degrees["initial"]["actor"][0][0]
    return int(sum(first["out"])) < len(first["out"]) * len(first["in"])


def replay(runs: Collection) -> Iterator[Figure]:
    """Replay size, policy distance and n-step of runs with a dynamic replay."""
    for env in runs.environments:
        dynamic = [g for g in runs.of_environment(env) if g.config.dynamic_buffer]
        for column, y_label in (
            ("replay_size", "transitions in the replay"),
            ("policy_distance", "distance of the oldest actions"),
            ("n_step", "n of the targets"),
        ):
            series = []
            for group in dynamic:
                rows = [row for row in group.runs[0].metrics if column in row]
                x = np.array([row["env_step"] for row in rows])
                y = np.array([row[column] for row in rows])
                if x.size:
                    series.append(Series(group.label, x, y))
            if series:
                yield LineChart(f"{column}-{env}", env, STEPS, y_label, series, True)
