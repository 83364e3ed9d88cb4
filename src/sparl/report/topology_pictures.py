"""Create figures of the topology, the neurons' degrees, the inputs and RLx2's replay buffer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from sparl.agents.agent import ACTOR
from sparl.archive.finished_run import DEAD, FinishedRun
from sparl.report.figures import STEPS, Figure, HeatMap, LineChart, Series
from sparl.report.inputs import input_names
from sparl.report.runs import Collection
from sparl.types import Float64Array

Rows = list[tuple[str, Float64Array]]  # the rows of a heat map


def topology(runs: Collection) -> Iterator[Figure]:
    """Yield figures of the fractions of initial, moved and new connections, and of dead links."""
    for env in runs.environments:
        series: dict[str, list[Series]] = {name: [] for name, *_ in _PERCENTAGES}
        for group in runs.of_environment(env):
            for network in group.runs[0].networks:
                updates, *percentages = _topology_updates(group.runs[0], network)
                for (name, *_), percent in zip(_PERCENTAGES, percentages, strict=True):
                    if updates.size and np.isfinite(percent).all():
                        dashed = network != ACTOR
                        line = Series(group.label, updates, percent, part=network, dashed=dashed)
                        series[name].append(line)
        for name, title, label in _PERCENTAGES:
            if series[name]:
                yield LineChart(
                    f"{name}-{env}", f"{env}, {title}", "updates", label, series[name], True
                )


# The file name, title and label of a figure for each percentage that `_topology_updates` returns.
_PERCENTAGES = (
    ("kept", "initial connections", "% that existed at the start"),
    ("moved", "moved connections", "% moved per topology update"),
    ("new", "new connections", "% new per topology update"),
    ("dead", "dead links", "% dead links"),
)


def _topology_updates(run: FinishedRun, network: str) -> tuple[Float64Array, ...]:
    """Return the agent's updates at which the topology changed, and four percentages for each.

    They are percentages of the connections of the changed layers: connections that existed at the
    start of the run, moved connections, new connections and dead links. New connections are the
    moved connections without those that return in the same topology update. The percentage of dead
    links is NaN if it was not recorded. All arrays are float64 [topology updates].
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
    kept, moved, new, dead = (100 * table[:, k] / np.maximum(table[:, 0], 1) for k in (1, 2, 3, 4))
    return updates, kept, moved, new, dead


def degrees(runs: Collection) -> Iterator[Figure]:
    """Yield figures of the hidden layers' degree distributions at the start and at the end."""
    for env in runs.environments:
        sparse = [g for g in runs.of_environment(env) if _is_sparse(g.runs[0])]
        for network in {name: None for group in sparse for name in group.runs[0].networks}:
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
    """Return the degrees of a hidden layer's neurons in all members of a network.

    Args:
        run: the run.
        when: "initial" for the start of training, "now" for the end.
        network: name of the network.
        layer: index of the layer of connections.
        side: "in" for the degrees of the layer's output neurons, "out" for its input neurons.
    """
    members = run.degrees[when].get(network, [])
    return [d for m in members if layer < len(m) - 1 for d in m[layer][side]]


def _distributions(counts: list[tuple[str, str, list[int]]]) -> list[Series]:
    """Return the percentage of neurons by number of connections, in at most 24 shared bins."""
    if not counts:
        return []
    low, high = min(min(c) for *_, c in counts), max(max(c) for *_, c in counts)
    width = max(1, -(-(high - low + 1) // 24))
    bins = -(-(high - low + 1) // width)
    centres: Float64Array = low + width * (np.arange(bins, dtype=np.float64) + 0.5) - 0.5
    series = []
    for method, when, degrees_ in counts:
        at = (np.asarray(degrees_) - low) // width
        y = 100 * np.bincount(at, minlength=bins) / at.size
        part, dashed = ("end", False) if when == "now" else ("start", True)
        series.append(Series(method, centres, y, part=part, dashed=dashed))
    return series


def wiring(runs: Collection) -> Iterator[Figure]:
    """Yield heat maps that show how many connections each input of a network has."""
    for group in runs.groups:
        run = group.runs[0]
        if not _is_sparse(run):
            continue
        rows: Rows = []
        for network, members in run.degrees["now"].items():
            spec = run.networks[network]
            for member, layers in enumerate(members):
                name = f"{spec.label} {member + 1}" if spec.ensemble else spec.label
                start = run.degrees["initial"][network][member][0]["out"]
                rows.append((f"{name}, start", np.asarray(start, np.float64)))
                rows.append((f"{name}, end", np.asarray(layers[0]["out"], np.float64)))
        title = f"{group.env}, {group.label}"
        name = f"wiring-{group.env}-{group.label}"
        yield HeatMap(name, title, group.label, rows, "connections", "input", _names(run, rows))


def _names(run: FinishedRun, rows: Rows) -> tuple[str, ...]:
    """Return the names of a run's inputs, or an empty tuple if they are unknown."""
    if run.sizes is None:
        return ()
    names = input_names(run.config.env, run.config.contact_forces, *run.sizes)
    known = {run.sizes[0], sum(run.sizes)}  # numbers of inputs of an actor and of a critic
    return names if known.issuperset(row.size for _, row in rows) else ()


def _is_sparse(run: FinishedRun) -> bool:
    """Return whether a run recorded its degrees and the first layer of its actor is sparse."""
    if not run.degrees:
        return False
    first = run.degrees["initial"][ACTOR][0][0]
    return int(sum(first["out"])) < len(first["out"]) * len(first["in"])


def replay(runs: Collection) -> Iterator[Figure]:
    """Yield figures of RLx2's dynamic replay buffer.

    They show the number of transitions, the policy distance and the n of the n-step targets.
    """
    for env in runs.environments:
        dynamic = [g for g in runs.of_environment(env) if g.config.dynamic_buffer]
        for column, title, y_label in (
            ("replay_size", "replay buffer", "transitions in the replay buffer"),
            ("policy_distance", "policy distance", "distance of the oldest actions"),
            ("n_step", "n-step targets", "n of the n-step targets"),
        ):
            series = []
            for group in dynamic:
                rows = [row for row in group.runs[0].metrics if column in row]
                x = np.array([row["env_step"] for row in rows])
                y = np.array([row[column] for row in rows])
                if x.size:
                    series.append(Series(group.label, x, y))
            if series:
                yield LineChart(f"{column}-{env}", f"{env}, {title}", STEPS, y_label, series, True)
