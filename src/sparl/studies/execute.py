"""Runs of a study as processes of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sparl.errors import ResourceError, SparlError
from sparl.studies.plan import Unit
from sparl.studies.progress import progress
from sparl.studies.unit import IN_USE, OUTPUT, record_end, record_loss, words
from sparl.training.folder import Folder
from sparl.training.interrupt import PARENT, stop_on_signal
from sparl.user_modules import import_flags, imported_modules

POLL_SECONDS = 0.5


def execute(
    folder: Path,
    units: Sequence[Unit],
    processes: int,
    look: Callable[[float], None],
    finished: Callable[[Unit], None],
) -> signal.Signals | None:
    """Run all units, so many at a time; what fails is recorded, and the others go on.

    A unit that another process works on is waited for, after all others.

    Args:
        folder: of the study.
        units: what to run, in this order.
        processes: how many at a time.
        look: called again and again with the seconds it should take.
        finished: called when a run has finished and others are still to do.

    Returns:
        The signal that stopped it, after every run has saved and ended; None if all were run.
    """
    waiting = list(units)
    ended: list[Unit] = []
    running: dict[Unit, subprocess.Popen[bytes]] = {}
    with stop_on_signal() as stop:  # a second signal while the runs save ends this process at once
        try:
            while (waiting or running) and stop.signal is None:
                while len(running) < processes and (unit := _take(folder, waiting)):
                    try:
                        running[unit] = start(folder, unit, imported_modules())
                    except SparlError as error:
                        record_loss(folder, unit, str(error))
                while ended:  # after the next run was started: it may take a while
                    finished(ended.pop())
                look(POLL_SECONDS)
                for unit, process in list(running.items()):
                    if process.poll() is None:
                        continue
                    del running[unit]
                    if process.returncode == IN_USE:
                        waiting.append(unit)
                    else:
                        record_end(folder, unit, process.returncode)
                        if process.returncode == 0:
                            ended.append(unit)
            return stop.signal
        finally:
            for process in running.values():
                process.send_signal(signal.SIGTERM)  # it saves and ends
            for unit, process in running.items():
                record_end(folder, unit, process.wait())


def _take(folder: Path, waiting: list[Unit]) -> Unit | None:
    """Take the first unit that nobody works on from the list, and finished ones too."""
    for unit in list(waiting):
        state = progress(folder, unit).state
        if state == "running":
            continue
        waiting.remove(unit)
        if state != "finished":
            return unit
    return None


def start(
    folder: Path,
    unit: Unit,
    modules: Sequence[str],
    directory: Path | None = None,
    python_path: str = "",
) -> subprocess.Popen[bytes]:
    """Start the unit as a process in a session of its own: Ctrl-C is for whoever runs the study.

    The process stops, and saves, when this one has ended, even by SIGKILL.

    Args:
        folder: of the study.
        unit: what to run.
        modules: that the process imports first.
        directory: working directory of the process; None: that of this one.
        python_path: directories where modules are searched for, before those of PYTHONPATH.

    Raises:
        DataError: a link or a special file is in the place of the run's folder or file.
        ResourceError: a file cannot be written.
    """
    paths = [path for path in (python_path, os.environ.get("PYTHONPATH")) if path]
    # -P: the working directory may hold anything, and Python would search it for every module.
    command = [sys.executable, "-P", "-m", "sparl", *import_flags(modules), *words(folder, unit)]
    with _output(folder, unit) as output:
        return subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            cwd=directory,
            env={
                **os.environ,
                "PYTHONUNBUFFERED": "1",
                "PYTHONPATH": os.pathsep.join(paths),
                PARENT: str(os.getpid()),
            },
        )


@contextmanager
def _output(folder: Path, unit: Unit) -> Iterator[int]:
    """The descriptor of the file that a run's process prints into."""
    run = Folder(folder).at(unit.id)
    with ExitStack() as opened:
        try:
            descriptor = opened.enter_context(run.appending(OUTPUT))
        except OSError as error:
            raise ResourceError(f"cannot write {run.path / OUTPUT}: {error.strerror}") from None
        yield descriptor
