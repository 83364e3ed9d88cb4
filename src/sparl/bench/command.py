"""Implement `sparl bench`: measure the sections and print their tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.table import Table

from sparl import _native
from sparl.bench import growth, kernels, peers, training, update
from sparl.console import PlainConsole
from sparl.errors import UsageError
from sparl.options import parse_options
from sparl.training.environment import Environment
from sparl.training.machine import machine, versions

Section = Literal["kernels", "update", "training", "growth"]


@dataclass(frozen=True)
class BenchOptions:
    """Measure the speed of this machine: kernels, parts of an update, training, growth with size.

    Reports medians over interleaved repetitions. No other program should run at the same time. All
    sections take about half an hour, or about five minutes with --quick.
    """

    only: tuple[Section, ...] = ("kernels", "update", "training", "growth")
    """Sections to run."""
    env: str = "HalfCheetah-v5"
    """Environment in which updates and training are measured."""
    against: bool = False
    """Also train with other installed libraries (Stable-Baselines3, SBX; RLtools with MKL)."""
    quick: bool = False
    """Measure fewer sizes with fewer repetitions."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write all results to this file."""
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write a plot of the growth with size to this file (.svg or .png); needs matplotlib."""


def bench(args: list[str]) -> int:
    """Run `sparl bench`."""
    options = parse_options(BenchOptions, args, "sparl bench")
    against = peers.installed() if options.against else []
    if options.against and not against:
        raise UsageError("bench: --against needs another library; install one that --help lists")
    _check_files(options)
    if {"update", "training"} & set(options.only):
        Environment(options.env).close()  # reports errors before the measurements
    peak = kernels.peak()
    result: dict[str, Any] = {"machine": machine(), "versions": versions(), "peak_gflops": peak}
    say = PlainConsole().print
    say(f"{_native.isa()}, multiply-add peak of one core: {peak:.1f} GFLOP/s")
    repetitions = 1 if options.quick else 3

    def kernel_section() -> Any:
        rows: list[dict[str, Any]] = []
        for row in kernels.all_kernels(peak, quick=options.quick):
            if not rows:
                say(_kernel_line(None, peak))
            rows.append(row)
            say(_kernel_line(row, peak))
        return rows

    def update_section() -> Any:
        rows = []
        for name, fields in update.CONFIGURATIONS.items():
            for threads in (1, 2):
                parts = update.split(
                    options.env, threads, fields, updates=1000, repetitions=repetitions
                )
                rows.append({"name": name, "threads": threads, "microseconds": parts})
                say(_update_line(name, threads, parts))
        return rows

    def training_section() -> Any:
        rows = training.all_trainings(options.env, peak, repetitions=repetitions, against=against)
        say(_training_table(rows))
        return rows

    def growth_section() -> Any:
        found = growth.all_sizes(quick=options.quick)
        say(_growth_table(found))
        if options.plot:
            _plot(found, options.plot)
        return found

    sections: dict[Section, Callable[[], Any]] = {
        "kernels": kernel_section, "update": update_section,
        "training": training_section, "growth": growth_section,
    }  # fmt: skip
    for name in options.only:
        say(f"\n{name}")
        result[name] = sections[name]()
        if options.json:
            options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


def _check_files(options: BenchOptions) -> None:
    """Raise UsageError before the measurements if a file cannot be written."""
    for path in (options.json, options.plot):
        try:
            if path is not None:
                path.open("a").close()
        except OSError as error:
            raise UsageError(f"bench: {path}: {error.strerror}") from None
    if options.plot is None:
        return
    if "growth" not in options.only or options.plot.suffix not in (".svg", ".png"):
        raise UsageError(
            f"bench: --plot is {options.plot} but must be an .svg or .png file, and the section "
            "growth must be measured"
        )
    if find_spec("matplotlib") is None:
        raise UsageError("bench: --plot needs matplotlib; install it with pip install matplotlib")


def _kernel_line(row: dict[str, Any] | None, peak: float) -> str:
    """Format a row of the kernels: GFLOP/s on stored weights, and percent of peak and roofline."""
    if row is None:
        head = f"{'layer':>10} {'batch':>5} {'density':>7}"
        heads = "".join(f"{name:>24}" for name in kernels.KERNELS)
        return head + heads + "".join(f"{name:>18}" for name in ("NumPy dense", "SciPy CSR"))
    line = f"{row['inputs']:>5}x{row['outputs']:<4} {row['batch']:>5} {row['density']:>7.2f}"
    took = row["microseconds"]
    for name in kernels.KERNELS:
        rate = kernels.gflops(row, name)
        most = rate * took[name] / row["roofline"][name]
        line += f"{rate:>10.1f} ({rate / peak:>4.0%} /{most / peak:>5.0%})"
    for name in ("NumPy dense", "SciPy CSR"):
        if name in took:
            line += f"{took[name] / took['forward']:>12.1f} times"
    return line


def _update_line(name: str, threads: int, microseconds: dict[str, float]) -> str:
    """Format the parts of an update that took measurable time, largest first."""
    parts = dict(sorted(microseconds.items(), key=lambda part: -part[1]))
    total = parts.pop("total")
    listed = ", ".join(f"{part} {took:,.0f}" for part, took in parts.items() if took >= 0.5)
    return f"{name}, threads {threads}: {total:,.0f} us; {listed}"


def _training_table(rows: list[dict[str, Any]]) -> Table:
    table = _table("steps/s", "1 thread", "2 threads", "floor of 1", "times", "floor of 2", "times")
    for row in rows:
        cells = [f"{row['steps_per_second'][threads]:,.0f}" for threads in (1, 2)]
        for threads in (1, 2) if "floor_ms" in row else ():
            floor = row["floor_ms"]
            least = floor["update"] / threads + floor["environment"] + floor["evaluation"]
            took = 1e3 / row["steps_per_second"][threads]
            cells += [f"{least:.2f} ms", f"{took / least:.2f}"]
        table.add_row(row["name"], *cells)
    return table


def _growth_table(found: dict[str, Any]) -> Table:
    table = _table("width", "connections", "ms per update", "MB", "ns per connection")
    for row in found["rows"]:
        table.add_row(
            f"{row['width']:,}", f"{row['connections']:,}", f"{row['milliseconds']:.3f}",
            f"{row['bytes'] / 1e6:.2f}", f"{1e6 * row['milliseconds'] / row['connections']:.1f}",
        )  # fmt: skip
    for of, unit, scale in (("milliseconds", "ns", 1e6), ("bytes", "bytes", 1.0)):
        fit = found[of]
        table.caption = (f"{table.caption}\n" if table.caption else "") + (
            f"{of} = {scale * fit['per_neuron']:.1f} {unit} per neuron + "
            f"{scale * fit['per_connection']:.1f} {unit} per connection, "
            f"within {fit['largest_deviation']:.0%}"
        )
    return table


def _table(first: str, *columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _plot(found: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, of, unit in zip(
        figure.subplots(1, 2), ("milliseconds", "bytes"), ("ms per update", "bytes"), strict=True
    ):
        for fixed in (True, False):
            rows = [r for r in found["rows"] if (r["width"] == growth.FIXED_WIDTH) == fixed]
            name = f"width {growth.FIXED_WIDTH:,}" if fixed else f"{growth.PER_NEURON} per neuron"
            axes.loglog([r["connections"] for r in rows], [r[of] for r in rows], "o-", label=name)
        axes.set_xlabel("connections")
        axes.set_ylabel(unit)
        axes.legend()
    figure.savefig(path)
