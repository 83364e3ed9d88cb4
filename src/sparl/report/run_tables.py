"""The table of costs and the table of runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import timedelta

import numpy as np

from sparl.report import statistics as stat
from sparl.report.final_returns import averaged
from sparl.report.runs import Collection
from sparl.report.table import NONE, Row, Table, if_fewer, number


def costs(runs: Collection) -> Table:
    """Return the table of connections, FLOPs in both conventions, measured times and memory."""
    rows = []
    for group in runs.groups:
        cost = group.cost
        if cost is None:
            continue
        flops = {name: f or {} for name, f in cost["flops"].items()}
        timed = group.timed or group.runs
        steps = [run.env_steps[-1] for run in timed]
        wall = [run.seconds[-1] for run in timed]
        cpu = [run.cpu_seconds[-1] for run in timed if run.cpu_seconds is not None]
        records = [run.about for run in group.runs]
        memory = [about["peak_memory_bytes"] for about in records if "peak_memory_bytes" in about]
        threads = {about.get("machine", {}).get("threads") for about in records}
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
                "runs": len(group.runs), "timed_runs": len(cpu),
                "cpu_seconds": float(np.mean(cpu)) if cpu else None,
                "env_steps_per_cpu_second": _speed(steps, cpu) if cpu else None,
                "wall_seconds": float(np.mean(wall)),
                "env_steps_per_wall_second": _speed(steps, wall),
                "under_load": any(run.under_load for run in timed) if cpu else None,
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
        ("FLOPs, paper", lambda r: number(r["paper_flops"], ".3g")),
        ("of dense", lambda r: number(r["paper_flops_ratio"], ".1%")),
        ("FLOPs, counted", lambda r: f"{r['counted_flops']:.3g}"),
        ("of dense", lambda r: f"{r['counted_flops_ratio']:.1%}"),
        ("per action", lambda r: f"{r['action_flops_ratio']:.1%}"),
        ("CPU time", _cpu_time),
        ("steps / CPU s", lambda r: number(r["env_steps_per_cpu_second"], ",.0f")),
        ("wall time", _wall_time),
        ("threads", lambda r: r["threads"] or NONE),
        ("peak MB", lambda r: number(r["peak_memory_megabytes"], ".0f")),
    ]  # fmt: skip
    note = (
        "Connections of the actor and all critics, and FLOPs of a complete training run with one "
        "update per step. Of dense: in percent of the dense agent's. With targets: connections "
        "including those of the targets, of dense. FLOPs, paper: the convention of Sokar et al., "
        "6 B T (2 Q + A / d), with batch size B, T updates, Q and A connections of a critic and of "
        "the actor, and policy delay d. FLOPs, counted: every multiply-add of an update counts as "
        "two operations. Per action: FLOPs of computing an action, of dense. CPU time (of all "
        "threads and of child processes that have ended), wall time and the process's peak memory "
        "were measured and include evaluations. Times are means over the runs that recorded their "
        "CPU time, whose number is given if it is not that of all runs; peak memory is the mean "
        "over all runs that recorded it. Under load: in at least one of these runs, wall time "
        "exceeds CPU time by more than 20 %, usually because other processes used the machine. "
        "Load unknown: no run recorded its CPU time. The runs may have been trained with different "
        "versions of sparl and on different machines, which the table of runs states; only times "
        "from the same version and machine can be compared."
    )
    return Table("costs", "Costs", note, columns, rows)


def origins(runs: Collection) -> Table:
    """Return the table of runs, with the software and the machine that produced each of them."""
    rows = [
        {
            "environment": group.env, "method": group.label, "seed": run.config.seed,
            "final_return": stat.final_return(run.trained_returns),
            "evaluations_of_final_return": averaged([run], 10),
            "folder": "/".join(run.path.parts[-2:]),
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
            lambda r: f"{r['final_return']:,.0f}" + if_fewer(r["evaluations_of_final_return"], 10),
        ),
        ("commit", lambda r: (r["commit"] or NONE)[:10]),
        ("sparl", lambda r: str(r["sparl"] or NONE)),
        ("MuJoCo", lambda r: str(r["mujoco"] or NONE)),
        ("CPU", lambda r: f"{r['cpu'] or NONE}, {r['instruction_set'] or NONE}"),
        ("resumed", _resumed),
        ("folder", lambda r: str(r["folder"])),
    ]
    return Table("runs", "Runs", "All runs in the tables and figures above.", columns, rows)


def _cpu_time(row: Row) -> str:
    text = _time(row["cpu_seconds"])
    timed, runs = row["timed_runs"], row["runs"]
    return f"{text} ({timed} of {runs} runs)" if 0 < timed < runs else text


def _wall_time(row: Row) -> str:
    loads = {None: " (load unknown)", True: " (under load)", False: ""}
    return _time(row["wall_seconds"]) + loads[row["under_load"]]


def _resumed(row: Row) -> str:
    if not row["times_resumed"]:
        return NONE
    how = "bit for bit" if row["bit_exact"] else "not exactly"
    return f"{row['times_resumed']}, {how}"


def _speed(steps: Sequence[float], seconds: Sequence[float]) -> float:
    """Return the steps per second, averaged over the runs."""
    return float(np.mean([n / (s or math.nan) for n, s in zip(steps, seconds, strict=True)]))


def _time(seconds: float | None) -> str:
    return NONE if seconds is None else str(timedelta(seconds=round(seconds)))
