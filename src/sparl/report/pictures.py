"""The figures of a report, drawn from what the runs recorded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from sparl.random_streams import stream
from sparl.report import statistics as stat
from sparl.report.figures import Array, Figure, HeatMap, LineChart, Series
from sparl.report.runs import Collection, FinishedRun, Group
from sparl.report.tables import normalized, scores

STEPS = "environment steps"


@dataclass(frozen=True)
class Section:
    """Figures that belong together."""

    title: str
    note: str
    figures: list[Figure]


def all_sections(runs: Collection) -> list[Section]:
    """Every section that has a figure."""
    sections = [
        Section(
            "Learning curves",
            "Mean over the runs of each method, and the 95 % bootstrap interval of that mean where "
            "there are several.",
            list(learning_curves(runs)),
        ),
        Section(
            "Performance profile",
            "Share of runs above a percentage of the dense agent's final return, mean over the "
            "environments.",
            list(profiles(runs)),
        ),
        Section("Return against computation", "", list(against_computation(runs))),
        Section(
            "Topology over time",
            "Of the first run of each method: connections that existed at the start, and how many "
            "each evolution drops and grows; of those, a few return at once. Dashed: critics.",
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


def learning_curves(runs: Collection) -> Iterator[Figure]:
    """Mean return over environment steps, one figure per environment."""
    return _curves(runs, "learning", STEPS, lambda group: group.env_steps)


def against_computation(runs: Collection) -> Iterator[Figure]:
    """Mean return over FLOPs and over wall-clock time."""

    def flops(group: Group) -> Array | None:
        each = group.flops_per_update
        return None if each is None else each * group.stacked("updates").mean(axis=0)

    yield from _curves(runs, "flops", "FLOPs of the updates, every multiply-add counted", flops)
    yield from _curves(
        runs, "hours", "hours of wall clock", lambda g: g.stacked("seconds").mean(axis=0) / 3600
    )


def _curves(
    runs: Collection, name: str, x_label: str, x: Callable[[Group], Array | None]
) -> Iterator[Figure]:
    for env in runs.environments:
        series = []
        for group in runs.of_environment(env):
            along = x(group)
            if along is None:
                continue
            curves = group.stacked("returns")
            mean = curves.mean(axis=0)
            if len(curves) == 1:
                series.append(Series(group.label, along, mean))
            else:
                low, high = stat.curve_interval(curves, stream(0, "report"))
                series.append(Series(group.label, along, mean, low, high))
        if series:
            yield LineChart(f"{name}-{env}", env, x_label, "return", series)


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
    """Connections kept since the start, and moved by each evolution."""
    for env in runs.environments:
        kept, moved = [], []
        for group in runs.of_environment(env):
            for network in ("actor", "critics"):
                updates, overlap, share, new = _evolutions(group.runs[0], network)
                if not updates.size:
                    continue
                dashed = network == "critics"
                kept.append(Series(group.label, updates, overlap, part=network, dashed=dashed))
                text = f"{network}, dropped and grown"
                moved.append(Series(group.label, updates, share, part=text, dashed=dashed))
                moved.append(Series(group.label, updates, new, part=f"{network}, new", dashed=True))
        if kept:
            yield LineChart(f"kept-{env}", env, "updates", "% there since the start", kept, True)
            yield LineChart(f"moved-{env}", env, "updates", "% moved per evolution", moved, True)


def _evolutions(run: FinishedRun, network: str) -> tuple[Array, Array, Array, Array]:
    """Update, and in percent of the connections: those of the start, moved, moved for good."""
    sums: dict[int, list[float]] = defaultdict(lambda: [0.0] * 4)
    for row in run.topology:
        if row["network"] != network:
            continue
        count, gone = int(row["connections"]), int(row["moved"])
        total = sums[int(row["agent_update"])]
        total[0] += count
        total[1] += count * float(row["initial_overlap"])
        total[2] += gone
        total[3] += gone - int(row["returned"])
    updates = np.array(sorted(sums), np.float64)
    table = np.array([sums[int(u)] for u in updates]).reshape(-1, 4)
    kept, moved, new = (100 * table[:, k] / table[:, 0] for k in (1, 2, 3))
    return updates, kept, moved, new


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
                series = []
                for group in sparse:
                    for when, part in (("now", "end"), ("initial", "start")):
                        counts = [
                            degree
                            for member in group.runs[0].degrees[when][network]
                            if layer < len(member) - 1
                            for degree in member[layer][side]
                        ]
                        if len(set(counts)) < 2:
                            continue
                        x, y = _distribution(np.asarray(counts))
                        dashed = part == "start"
                        series.append(Series(group.label, x, y, part=part, dashed=dashed))
                if series:
                    title = f"{env}, {network}: {name}"
                    file = f"degrees-{env}-{network}-{layer + 1}-{side}"
                    yield LineChart(file, title, "connections", "% of neurons", series, True)


def _distribution(counts: np.ndarray[tuple[int], np.dtype[np.int64]]) -> tuple[Array, Array]:
    """Bin centres and percent of neurons, in at most 24 bins of a whole width."""
    low, high = int(counts.min()), int(counts.max())
    width = max(1, -(-(high - low + 1) // 24))
    bins = np.bincount((counts - low) // width)
    centres = low + width * (np.arange(bins.size) + 0.5) - 0.5
    # One empty bin at each end: the line comes down to 0.
    x = np.concatenate([[centres[0] - width], centres, [centres[-1] + width]])
    y = np.concatenate([[0.0], 100 * bins / counts.size, [0.0]])
    keep = x >= 0
    return x[keep], y[keep]


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
        yield HeatMap(name, title, group.label, rows, "connection", "input")


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
                rows = [r for r in group.runs[0].metrics if r.get(column)]
                x = np.array([float(r["env_step"]) for r in rows])
                y = np.array([float(r[column]) for r in rows])
                if x.size:
                    series.append(Series(group.label, x, y))
            if series:
                yield LineChart(f"{column}-{env}", env, STEPS, y_label, series, True)
