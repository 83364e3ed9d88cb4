"""Runs of a study as processes of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from sparl.studies.plan import Unit
from sparl.studies.unit import OUTPUT, record_end, words
from sparl.training.interrupt import stop_on_signal

POLL_SECONDS = 0.5


def execute(
    folder: Path, units: Sequence[Unit], processes: int, look: Callable[[float], None]
) -> signal.Signals | None:
    """Run all units, so many at a time; what fails is recorded, and the others go on.

    Args:
        folder: of the study.
        units: what to run, in this order.
        processes: how many at a time.
        look: called again and again with the seconds it should take.

    Returns:
        The signal that stopped it, after every run has saved and ended; None if all were run.
    """
    waiting = list(reversed(units))
    running: dict[Unit, subprocess.Popen[bytes]] = {}
    try:
        with stop_on_signal() as stop:
            while (waiting or running) and stop.signal is None:
                while waiting and len(running) < processes:
                    unit = waiting.pop()
                    running[unit] = start(folder, unit)
                look(POLL_SECONDS)
                for unit, process in list(running.items()):
                    if process.poll() is not None:
                        record_end(folder / unit.id, process.returncode)
                        del running[unit]
            return stop.signal
    finally:
        for process in running.values():
            process.send_signal(signal.SIGTERM)  # it saves and ends
        for unit, process in running.items():
            record_end(folder / unit.id, process.wait())


def start(folder: Path, unit: Unit) -> subprocess.Popen[bytes]:
    """The unit as a process, in a session of its own: Ctrl-C is for whoever started the study."""
    command = [sys.executable, "-m", "sparl.cli", *words(folder, unit)]
    with (folder / unit.id / OUTPUT).open("ab") as output:
        return subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
