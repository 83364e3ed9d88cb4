"""The command `sparl bench`, which measures the speed of this machine and prints tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from sparl import _native
from sparl.bench import growth, kernels, peers, training, update
from sparl.console import PlainConsole
from sparl.errors import UsageError
from sparl.options import Argument, parse_options
from sparl.text_table import Column, fitting, row_line, title_lines
from sparl.training.environment import Environment
from sparl.training.machine import machine, versions
from sparl.wording import counted

Section = Literal["kernels", "update", "training", "growth"]


@dataclass(frozen=True)
class BenchOptions:
    """Measure how fast sparl is on this machine: kernels, parts of an update, training, growth.

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
    json: Annotated[Path | None, Argument("FILE")] = None
    """Write all results to this file."""
    plot: Annotated[Path | None, Argument("FILE")] = None
    """Write a plot of the "growth" section to this file (.svg or .png); needs matplotlib."""


def bench(args: list[str]) -> int:
    """Run `sparl bench` with these arguments, and return the exit code."""
    options = parse_options(BenchOptions, args, "sparl bench")
    against = peers.installed() if options.against else []
    if options.against and not against:
        raise UsageError("bench: --against needs another library; install one that --help lists")
    _check_files(options)
    if {"update", "training"} & set(options.only):
        Environment(options.env).close()  # reports errors before the measurements
    peak = kernels.peak()
    result: dict[str, Any] = {"machine": machine(), "versions": versions(), "peak_gflops": peak}
    console = PlainConsole()
    say = console.print
    say(f"{_native.isa()}, multiply-add peak of one core: {peak:.1f} GFLOP/s")
    repetitions = 1 if options.quick else 3

    def kernel_section() -> Any:
        rows: list[dict[str, Any]] = []
        widths = [column.widened([]) for column in _KERNEL_COLUMNS]
        kept = fitting(_KERNEL_COLUMNS, widths, console.width)
        columns, widths = [_KERNEL_COLUMNS[i] for i in kept], [widths[i] for i in kept]
        for row in kernels.all_kernels(peak, quick=options.quick):
            for title in title_lines(columns, widths) if not rows else ():
                console.copyable(title)
            rows.append(row)
            cells = _kernel_cells(row, peak)
            console.copyable(row_line(columns, widths, [cells[i] for i in kept]))
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
        console.table(_TRAINING_COLUMNS, _training_rows(rows), names=True)
        return rows

    def growth_section() -> Any:
        found = growth.all_sizes(quick=options.quick)
        console.table(_GROWTH_COLUMNS, _growth_rows(found))
        for line in _growth_fits(found):
            say(line)
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
    """Raise UsageError before the measurements if --json or --plot cannot be satisfied."""
    for path in (options.json, options.plot):
        try:
            if path is not None:
                path.open("a").close()
        except OSError as error:
            raise UsageError(f"bench: cannot write {path}: {error.strerror}") from None
    if options.plot is None:
        return
    if "growth" not in options.only or options.plot.suffix not in (".svg", ".png"):
        raise UsageError(
            f"bench: --plot is {options.plot} but must be an .svg or .png file, and the section "
            "growth must be measured"
        )
    if find_spec("matplotlib") is None:
        raise UsageError("bench: --plot needs matplotlib; install it with pip install matplotlib")


_KERNEL_COLUMNS = (
    Column("layer", width=9),
    Column("batch"),
    Column("density"),
    *(
        column
        for name in kernels.KERNELS
        for column in (
            Column(f"{name.replace(' ', chr(10))}\nGFLOP/s", rank=1),
            Column("of\npeak", rank=3),
            Column("roof\nof peak", rank=2),
        )
    ),
    *(
        Column(f"{name.replace(' ', chr(10))}\ntimes", rank=4)
        for name in ("NumPy dense", "SciPy CSR")
    ),
)


def _kernel_cells(row: dict[str, Any], peak: float) -> list[str]:
    """Format a row of the kernels' table: GFLOP/s on stored weights, and fractions of two bounds.

    The bounds are the core's peak and the roofline. The last cells are the times that dense and
    sparse libraries need, divided by the time of the forward pass.
    """
    took = row["microseconds"]
    cells = [f"{row['inputs']}x{row['outputs']}", str(row["batch"]), f"{row['density']:.2f}"]
    for name in kernels.KERNELS:
        rate = kernels.gflops(row, name)
        most = rate * took[name] / row["roofline"][name]
        cells += [f"{rate:.1f}", f"{rate / peak:.0%}", f"{most / peak:.0%}"]
    for name in ("NumPy dense", "SciPy CSR"):
        cells.append(f"{took[name] / took['forward']:.1f}" if name in took else "-")
    return cells


def _update_line(name: str, threads: int, microseconds: dict[str, float]) -> str:
    """Format the parts of an update that took measurable time, the longest first."""
    parts = dict(sorted(microseconds.items(), key=lambda part: -part[1]))
    total = parts.pop("total")
    listed = ", ".join(f"{part} {took:,.0f}" for part, took in parts.items() if took >= 0.5)
    return f"{name}, threads {threads}: {total:,.0f} us; {listed}"


_TRAINING_COLUMNS = (
    Column("configuration", left=True),
    Column("steps/s\n1 thread"),
    Column("steps/s\n2 threads"),
    *(
        Column(title, rank=threads)
        for threads in (1, 2)
        for title in (f"floor ms\n{counted(threads, 'thread')}", "times\nfloor")
    ),
)


def _training_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Return the speed of each configuration, the floor, and a step's time divided by the floor."""
    table = []
    for row in rows:
        cells = [row["name"]]
        cells += [f"{row['steps_per_second'][threads]:,.0f}" for threads in (1, 2)]
        for threads in (1, 2):
            if "floor_ms" not in row:
                cells += ["-", "-"]
                continue
            floor = row["floor_ms"]
            least = floor["update"] / threads + floor["environment"] + floor["evaluation"]
            took = 1e3 / row["steps_per_second"][threads]
            cells += [f"{least:.2f}", f"{took / least:.2f}"]
        table.append(cells)
    return table


_GROWTH_COLUMNS = (
    Column("width"),
    Column("connections"),
    Column("ms per\nupdate"),
    Column("MB", rank=2),
    Column("ns per\nconnection", rank=1),
)


def _growth_rows(found: dict[str, Any]) -> list[list[str]]:
    return [
        [
            f"{row['width']:,}", f"{row['connections']:,}", f"{row['milliseconds']:.3f}",
            f"{row['bytes'] / 1e6:.2f}", f"{1e6 * row['milliseconds'] / row['connections']:.1f}",
        ]
        for row in found["rows"]
    ]  # fmt: skip


def _growth_fits(found: dict[str, Any]) -> list[str]:
    """Describe how time and memory grow with the numbers of neurons and connections."""
    return [
        f"{name} = {scale * found[of]['per_neuron']:.1f} {unit} per neuron + "
        f"{scale * found[of]['per_connection']:.1f} {unit} per connection, "
        f"within {found[of]['largest_deviation']:.0%}"
        for name, of, unit, scale in (
            ("time per update", "milliseconds", "ns", 1e6), ("memory", "bytes", "bytes", 1.0),
        )
    ]  # fmt: skip


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
