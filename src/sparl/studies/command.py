"""The commands `sparl study run FILE...` and `sparl study status FILE...`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.live import Live
from rich.text import Text

from sparl.archive.archive import Archive
from sparl.console import PlainConsole
from sparl.errors import SparlError, UsageError
from sparl.options import Argument, parse_options
from sparl.studies.estimate import estimates
from sparl.studies.execute import execute
from sparl.studies.progress import Progress, archived_progress, hours, progress, table
from sparl.studies.ray_tasks import LOCAL, execute_on_ray
from sparl.studies.study import Study, Unit, read_studies, write_plan
from sparl.text_table import INDENT, Column
from sparl.training.durable import user_path, why_invalid_name
from sparl.training.environment import make_environment
from sparl.training.machine import available_cores, commit
from sparl.user_modules import is_imported, named_module, sparl_command
from sparl.wording import counted, shell_word

USAGE = "usage: sparl study run FILE... | sparl study status FILE..., with --help for the options"


def study(args: list[str]) -> int:
    """Run `sparl study` with these arguments, and return the exit code."""
    commands = {"run": run, "status": status}
    if not args or args[0] not in commands:
        if args and args[0] in ("-h", "--help", "help"):
            PlainConsole().print(USAGE)
            return 0
        raise UsageError(f"study: the first argument must be run or status; {USAGE}")
    return commands[args[0]](args[1:])


@dataclass(frozen=True)
class StatusOptions:
    """Show the progress of studies."""

    files: Annotated[tuple[Path, ...], Argument("FILE...", positional=True)]
    """Study files, whose runs are trained in this order."""
    folder: Annotated[Path | None, Argument("DIR")] = None
    """Folder of the runs; by default runs/NAME for the file NAME.toml, or runs/NAME+NAME for
    several files."""
    archive: Annotated[Path | None, Argument("DIR")] = None
    """An archive, whose runs count as finished."""


@dataclass(frozen=True)
class RunOptions(StatusOptions):
    """Train all runs of the study files, file by file.

    Finished runs are skipped, and stopped runs are resumed. With --archive, every run is archived
    when it finishes. For the first seed of each configuration, the archive also contains the actor
    and its return over 100 episodes.
    """

    processes: int | None = None
    """Number of simultaneous runs; by default one per core."""
    ray: Annotated[str | None, Argument("[ADDRESS]")] = None
    """Submit the runs to a Ray cluster; without an address, a local cluster is started for them."""
    dry_run: bool = False
    """Instead of training, print the runs and an estimate of their time and memory, which is
    measured in short trials."""


def status(args: list[str]) -> int:
    """Run `sparl study status` with these arguments, and return the exit code."""
    options = parse_options(StatusOptions, args, "sparl study status")
    runs = _Runs.named(options)
    every = runs.progress()
    console = PlainConsole()
    console.copyable(table(every, console.width))
    for p in every:
        if p.state == "finished":
            console.print(f"finished: {p.unit.id}, last mean return {p.last_return:,.1f}")
    return 0


def run(args: list[str]) -> int:
    """Run `sparl study run` with these arguments, and return the exit code."""
    return run_study(parse_options(RunOptions, _with_address(args), "sparl study run"))


def run_study(options: RunOptions, *, quiet: bool = False) -> int:
    """Train the runs of studies, and return the exit code.

    Args:
        options: the study files, the folder of the runs, and how to train them.
        quiet: whether to print only errors.

    Returns:
        0 if all runs have finished and, with an archive, were archived; 128 plus the signal's
        number if a signal stopped the study; 1 otherwise.
    """
    processes = available_cores() if options.processes is None else options.processes
    if processes < 1:
        raise UsageError(f"study: --processes is {processes} but must be at least 1")
    runs = _Runs.named(options)
    _check_imports(runs.study, options)
    console = PlainConsole(quiet=quiet)
    if not quiet:
        _warn_of_untrained(runs.study)
    if options.dry_run:
        _print_plan(console, runs.progress(), processes)
        return 0
    if options.archive and not commit():
        raise UsageError(
            "study: --archive records the commit of sparl, which is unknown in this installation; "
            "install sparl from a Git checkout"
        )
    if options.ray is None:
        _check_environments(runs)
    write_plan(runs.folder, runs.study)
    runs.archive_finished()
    every = runs.progress()
    todo = [p.unit for p in every if p.state != "finished"]
    console.print(f"{counted(len(every), 'run')}, {len(todo)} of them unfinished, in:")
    console.copyable(str(runs.folder))
    with _Watch(console, runs) as watch:
        if options.ray is None:
            stopped = execute(runs.folder, todo, processes, watch.wait, runs.keep)
        else:
            stopped = execute_on_ray(
                runs.folder, todo, options.ray, processes, watch.wait, runs.keep
            )
    runs.archive_finished()  # including runs that another study finished
    every = runs.progress()
    console.copyable(table(every, console.width))
    if stopped is not None:
        console.print("stopped; to resume:")
        console.copyable(INDENT + _again(options))
        return 128 + stopped
    if any(p.state == "finished" for p in every):
        console.print("to write tables and figures:")
        console.copyable(f"{INDENT}sparl report {shell_word(runs.archive_path or runs.folder)}")
    return 0 if all(p.state == "finished" for p in every) and not runs.not_archived else 1


def _check_imports(study: Study, options: RunOptions) -> None:
    """Raise UsageError if the module that registers an environment is not imported."""
    for env in dict.fromkeys(unit.config.env for unit in study.units):
        module = named_module(env)
        if module and not is_imported(module):
            raise UsageError(
                f"study: environment {env}: the module {module} has not been imported, and sparl "
                "does not import modules that are named in files; import the module on the command "
                f"line: {_again(options, module)}"
            )


def _check_environments(runs: _Runs) -> None:
    """Construct the environment of every unfinished run, so that no run fails hours later.

    The machines of a Ray cluster may have other packages than this one, so that their runs are not
    checked.

    Raises:
        UsageError: if an environment is unknown or not supported.
        EnvironmentFault: if an environment cannot be constructed.
    """
    todo = [p.unit.config for p in runs.progress() if p.state != "finished"]
    for config in {(c.env, c.max_episode_steps, c.contact_forces): c for c in todo}.values():
        make_environment(config).close()


def _again(options: RunOptions, module: str = "") -> str:
    """Return the command that runs a study again with the same options.

    Args:
        options: options of the study.
        module: a further module to import; "" for none.
    """
    words = ["study run", *map(shell_word, options.files)]
    for name in ("folder", "archive", "processes", "ray"):
        value = getattr(options, name)
        if value is not None:
            words += [f"--{name}", *([] if value == LOCAL else [shell_word(str(value))])]
    return sparl_command(" ".join(words), module)


class _Runs:
    """The runs of studies, which are in a folder and, if one is given, in an archive.

    Attributes:
        study: the study that the files describe.
        folder: folder of the runs.
        not_archived: ids of the runs that could not be archived.
    """

    def __init__(self, study: Study, folder: Path, archive: Path | None) -> None:
        self.study = study
        self.folder = folder
        self.not_archived: set[str] = set()
        self._archive = None if archive is None else Archive.read(archive)
        self._finished: dict[str, Progress] = {}
        for note in self._archive.notes if self._archive else ():
            PlainConsole().print(f"note: {note}")

    @classmethod
    def named(cls, options: StatusOptions) -> _Runs:
        """Read the study files that the user named on the command line."""
        study = read_studies(options.files)
        folder = _default_folder(study) if options.folder is None else options.folder
        return cls(study, folder, options.archive)

    @property
    def archive_path(self) -> Path | None:
        """The archive's folder."""
        return None if self._archive is None else self._archive.path

    def progress(self) -> list[Progress]:
        """Return the progress of each run; archived runs count as finished.

        Finished runs are read only once, because a study can have hundreds of them.
        """
        archived = self._archive.runs if self._archive else {}
        every = []
        for unit in self.study.units:
            if (p := self._finished.get(unit.id)) is None:
                if unit.id in archived:
                    p = archived_progress(archived[unit.id], unit)
                else:
                    p = progress(self.folder, unit)
                if p.state == "finished":
                    self._finished[unit.id] = p
            every.append(p)
        return every

    def archive_finished(self) -> None:
        """Archive all finished runs that the archive does not contain yet."""
        for p in self.progress():
            if p.state == "finished":
                self.keep(p.unit)

    def keep(self, unit: Unit) -> None:
        """Archive a finished run; print any error, so that the study can continue."""
        if self._archive is None or unit.id in self._archive.runs:
            return
        try:
            self._archive.add(self.folder / unit.id, with_actor=unit.id in self.study.first_seeds)
        except SparlError as error:
            self.not_archived.add(unit.id)
            PlainConsole(stderr=True).print(f"warning: {unit.id} was not archived: {error}")


def _default_folder(study: Study) -> Path:
    """Return runs/NAME.

    Raises:
        UsageError: if the study's name is not a valid folder name.
    """
    because = why_invalid_name(study.name)
    if because:
        raise UsageError(
            f"study: {study.name[:80]!r} is not a valid name for the folder of the runs: "
            f"{because}; choose a folder with --folder"
        )
    return user_path("runs") / study.name


class _Watch:
    """Shows progress: a live table on a terminal, otherwise a line for each change of state."""

    refresh_seconds = 2.0

    def __init__(self, console: PlainConsole, runs: _Runs) -> None:
        self._console, self._runs = console, runs
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._states = {p.unit.id: p.state for p in runs.progress()}
        self._next = 0.0

    def __enter__(self) -> _Watch:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def wait(self, seconds: float) -> None:
        """Wait, and periodically show the progress.

        Args:
            seconds: how long to wait.
        """
        time.sleep(seconds)
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self.refresh_seconds
        every = self._runs.progress()
        if self._live.is_started:
            text = table(every, self._console.width)
            self._live.update(Text(text, no_wrap=True, overflow="ignore"), refresh=True)
            return
        for p in every:
            if p.state != self._states[p.unit.id]:
                self._states[p.unit.id] = p.state
                reason = f": {p.error}" if p.error else ""
                self._console.print(f"{p.state}: {p.unit.id}{reason}")


def _with_address(args: Sequence[str]) -> list[str]:
    """Insert LOCAL after `--ray` if no address follows it."""
    words = list(args)
    if "--ray" in words:
        at = words.index("--ray") + 1
        if at == len(words) or words[at].startswith("--") or words[at].endswith(".toml"):
            words.insert(at, LOCAL)
    return words


def _warn_of_untrained(study: Study) -> None:
    """Warn of runs that end before their first update."""
    every = [unit for unit in study.units if unit.config.end <= unit.config.warmup_env_steps]
    if every:
        config = every[0].config
        their = "ITS" if len(every) == 1 else "THEIR"
        PlainConsole(stderr=True).print(
            f"warning: {len(every):,} of {counted(len(study.units), 'run')} WILL END BEFORE "
            f"{their} FIRST UPDATE, for example {every[0].id}: the run ends at step "
            f"{config.end:,}, but the first {config.warmup_env_steps:,} steps are a warm-up "
            "without updates; increase steps or decrease warmup_env_steps"
        )


def _print_plan(console: PlainConsole, every: Sequence[Progress], processes: int) -> None:
    """Print every run with its state and its estimated time and memory."""
    todo = [p for p in every if p.state != "finished"]
    needs, trials = estimates({p.unit: p.env_step for p in todo})
    columns = (
        Column("run", left=True), Column("state", left=True), Column("steps"), Column("time"),
        Column("memory", rank=1),
    )  # fmt: skip
    rows = []
    for p in every:
        need = needs.get(p.unit.id)
        cells = (hours(need.seconds), f"{need.bytes / 1e6:,.0f} MB") if need else ("-", "-")
        rows.append([p.unit.id, p.state, f"{p.unit.config.end:,}", *cells])
    console.table(columns, rows, names=True)
    if not todo:
        console.print("all runs have finished")
        return
    seconds = sum(need.seconds for need in needs.values()) / min(processes, len(todo))
    longest = max(need.seconds for need in needs.values())
    most = sorted((need.bytes for need in needs.values()), reverse=True)[:processes]
    console.print(
        f"{counted(len(todo), 'run')} to train, at most {processes} at a time: about "
        f"{hours(max(seconds, longest))} and {sum(most) / 1e6:,.0f} MB, "
        f"estimated from {counted(trials, 'short trial')}"
    )
