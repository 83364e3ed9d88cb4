"""Train the runs of a study in processes on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sparl.errors import ResourceError, RunInUse, SparlError
from sparl.studies.progress import progress
from sparl.studies.study import Unit
from sparl.studies.unit import OUTPUT, record_end, record_loss, words
from sparl.training.folder import Folder
from sparl.training.interrupt import PARENT, stop_on_signal
from sparl.user_modules import import_flags, imported_modules

POLL_SECONDS = 0.5


def execute(
    folder: Path,
    units: Sequence[Unit],
    processes: int,
    wait: Callable[[float], None],
    finished: Callable[[Unit], None],
) -> signal.Signals | None:
    """Train all units; the failure of a unit is recorded and does not affect the others.

    Units that another process is training are left until last.

    Args:
        folder: folder of the study.
        units: the units, in the order in which they are started.
        processes: maximum number of simultaneous runs.
        wait: a function that waits for a number of seconds; it is called repeatedly.
        finished: a function that is called with each unit that has finished while others remain.

    Returns:
        The signal that stopped the study, after every run has saved its state and ended; None if
        no signal stopped it.
    """
    waiting = list(units)
    ended: list[Unit] = []
    running: dict[Unit, subprocess.Popen[bytes]] = {}
    with stop_on_signal() as stop:  # a second signal while runs are saved ends this process
        try:
            while (waiting or running) and stop.signal is None:
                while len(running) < processes and (unit := _take(folder, waiting)):
                    try:
                        running[unit] = start(folder, unit, imported_modules())
                    except SparlError as error:
                        record_loss(folder, unit, str(error))
                while ended:  # after the next run was started, because archiving takes time
                    finished(ended.pop())
                wait(POLL_SECONDS)
                for unit, process in list(running.items()):
                    if process.poll() is None:
                        continue
                    del running[unit]
                    if process.returncode == RunInUse.exit_code:
                        waiting.append(unit)
                    else:
                        record_end(folder, unit, process.returncode)
                        if process.returncode == 0:
                            ended.append(unit)
            return stop.signal
        finally:
            for process in running.values():
                process.send_signal(signal.SIGTERM)  # the run saves its state and ends
            for unit, process in running.items():
                record_end(folder, unit, process.wait())


def _take(folder: Path, waiting: list[Unit]) -> Unit | None:
    """Remove and return the first unit that no other process is training; None if there is none.

    Finished units before it are removed too.
    """
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
    """Start a unit's process in a new session, so that Ctrl-C reaches only the study.

    When this process ends, even by SIGKILL, the unit's process saves its run and ends too.

    Args:
        folder: folder of the study.
        unit: the unit to train.
        modules: modules that the process imports first.
        directory: working directory of the process; None means this process's directory.
        python_path: directories that are searched for modules before PYTHONPATH.

    Raises:
        DataError: if the run's folder or one of its files is a link or a special file.
        ResourceError: if a file cannot be written.
    """
    paths = [path for path in (python_path, os.environ.get("PYTHONPATH")) if path]
    # -P keeps Python from importing modules from the working directory, which is untrusted.
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
    """Open the file that receives the output of a run's process; yield its descriptor."""
    run = Folder(folder).at(unit.id)
    with ExitStack() as opened:
        try:
            descriptor = opened.enter_context(run.appending(OUTPUT))
        except OSError as error:
            raise ResourceError(f"cannot write {run.path / OUTPUT}: {error.strerror}") from None
        yield descriptor
