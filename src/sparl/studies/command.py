"""`sparl study run FILE` and `sparl study status FILE`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.live import Live
from rich.table import Table

from sparl.arguments import parse_options
from sparl.console import PlainConsole
from sparl.errors import UsageError
from sparl.studies.estimate import estimates
from sparl.studies.execute import execute
from sparl.studies.plan import Study, read_study, write_plan
from sparl.studies.progress import Progress, hours, progress, table
from sparl.studies.ray_tasks import LOCAL, execute_on_ray
from sparl.training.machine import available_cores
from sparl.wording import counted, shell_word

USAGE = "usage: sparl study run FILE | status FILE        sparl study run --help"


def study(args: list[str]) -> int:
    """`sparl study`."""
    commands = {"run": run, "status": status}
    if not args or args[0] not in commands:
        asked = bool(args) and args[0] in ("-h", "--help", "help")
        if asked:
            PlainConsole().print(USAGE)
            return 0
        raise UsageError(f"study: run or status? {USAGE}")
    return commands[args[0]](args[1:])


@dataclass(frozen=True)
class StatusOptions:
    """How far a study is."""

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """The study's file."""
    folder: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Where its runs are; None: runs/NAME."""


@dataclass(frozen=True)
class RunOptions(StatusOptions):
    """Run all that a study's file names: what is finished is skipped, what stopped goes on."""

    processes: int | None = None
    """Runs at a time; None: one per core."""
    ray: Annotated[str | None, tyro.conf.arg(metavar="[ADDRESS]")] = None
    """Send the runs to a Ray cluster; without an address to one started here for them."""
    dry_run: bool = False
    """Print the runs, and an estimate of time and memory."""


def status(args: list[str]) -> int:
    """`sparl study status`."""
    options = parse_options(StatusOptions, args, "sparl study status")
    found = read_study(options.file)
    every = _look(_folder(options, found), found)
    PlainConsole().print(table(every))
    for p in every:
        if p.state == "finished":
            PlainConsole().print(f"finished: {p.unit.id}, return {p.last_return:,.1f}")
    return 0


def run(args: list[str]) -> int:
    """`sparl study run`."""
    options = parse_options(RunOptions, _with_address(args), "sparl study run")
    processes = available_cores() if options.processes is None else options.processes
    if processes < 1:
        raise UsageError(f"study: --processes is {processes}, must be at least 1")
    found = read_study(options.file)
    folder = _folder(options, found)
    every = _look(folder, found)
    todo = [p.unit for p in every if p.state != "finished"]
    console = PlainConsole()
    if options.dry_run:
        _print_plan(console, every, processes)
        return 0
    write_plan(folder, found)
    console.print(f"{counted(len(every), 'run')} in {folder}, {len(todo)} to do")
    with _Watch(console, folder, found) as watch:
        if options.ray is None:
            stopped = execute(folder, todo, processes, watch.look)
        else:
            stopped = execute_on_ray(folder, todo, options.ray, processes, watch.look)
    every = _look(folder, found)
    console.print(table(every))
    if stopped is not None:
        console.print(f"stopped; go on with: sparl study run {shell_word(options.file)}")
        return 128 + stopped
    console.print(f"tables and pictures: sparl report {shell_word(folder)}")
    return 0 if all(p.state == "finished" for p in every) else 1


class _Watch:
    """The live table on a terminal; anywhere else a line for each change."""

    refresh_seconds = 2.0

    def __init__(self, console: PlainConsole, folder: Path, study: Study) -> None:
        self._console, self._folder, self._study = console, folder, study
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._states = {p.unit.id: p.state for p in _look(folder, study)}
        self._next = 0.0

    def __enter__(self) -> _Watch:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def look(self, seconds: float) -> None:
        """Wait so long, and show what there is now and then."""
        time.sleep(seconds)
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self.refresh_seconds
        every = _look(self._folder, self._study)
        if self._live.is_started:
            self._live.update(table(every), refresh=True)
            return
        for p in every:
            if p.state != self._states[p.unit.id]:
                self._states[p.unit.id] = p.state
                told = f": {p.error}" if p.error else ""
                self._console.print(f"{p.state}: {p.unit.id}{told}")


def _with_address(args: Sequence[str]) -> list[str]:
    """`--ray` without an address means a local cluster."""
    words = list(args)
    if "--ray" in words:
        at = words.index("--ray") + 1
        if at == len(words) or words[at].startswith("--") or words[at].endswith(".toml"):
            words.insert(at, LOCAL)
    return words


def _folder(options: StatusOptions, found: Study) -> Path:
    return Path("runs") / found.name if options.folder is None else options.folder


def _look(folder: Path, found: Study) -> list[Progress]:
    return [progress(folder, unit) for unit in found.units]


def _print_plan(console: PlainConsole, every: Sequence[Progress], processes: int) -> None:
    """Every run, its state and what it is estimated to need."""
    todo = [p for p in every if p.state != "finished"]
    needs, trials = estimates({p.unit: p.env_step for p in todo})
    shown = Table(box=None, pad_edge=False)
    for column in ("run", "state", "steps", "time", "memory"):
        shown.add_column(column, justify="left" if column in ("run", "state") else "right")
    for p in every:
        need = needs.get(p.unit.id)
        cells = (hours(need.seconds), f"{need.bytes / 1e6:,.0f} MB") if need else ("-", "-")
        shown.add_row(p.unit.id, p.state, f"{p.unit.config.end:,}", *cells)
    console.print(shown)
    if not todo:
        console.print("all runs have finished")
        return
    seconds = sum(need.seconds for need in needs.values()) / min(processes, len(todo))
    longest = max(need.seconds for need in needs.values())
    most = sorted((need.bytes for need in needs.values()), reverse=True)[:processes]
    console.print(
        f"{counted(len(todo), 'run')} to do, {processes} at a time: about "
        f"{hours(max(seconds, longest))} and {sum(most) / 1e6:,.0f} MB, "
        f"by a trial of {trials} of them"
    )
