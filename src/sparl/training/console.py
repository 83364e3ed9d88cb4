"""Show the progress of a run: a line per evaluation, and on a terminal a live line."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import Self

from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from sparl.console import Escaping, PlainConsole
from sparl.standard_streams import send_nowhere
from sparl.training.evaluate import Evaluation
from sparl.wording import visible


class RunConsole:
    """Shows steps, steps/s, time left, last return and connections.

    Args:
        end: the step at which the run stops [environment steps].
        connections: a description of the networks' connections.
        warmup: length of the warm-up [steps]; afterwards the speed measurement restarts.
        quiet: show nothing.
    """

    refresh_seconds = 0.5
    remember_seconds = 60.0  # half-life of the average speed, including evaluations

    def __init__(self, end: int, connections: str, warmup: int = 0, *, quiet: bool = False) -> None:
        self._console = PlainConsole(quiet=quiet)
        self._quiet = quiet
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._end = end
        self._connections = connections
        self._warmup = warmup
        self._return = "-"
        self.begin(0)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """Print a line of text."""
        try:
            self._console.print(text)
        except OSError:  # the output is closed or full; training continues
            self._console.quiet = True
            send_nowhere(sys.stdout)

    def warn(self, text: str) -> None:
        """Print a warning to standard error, above the live line if there is one."""
        if not self._quiet:
            with suppress(OSError):  # the output is closed or full
                Escaping(sys.stderr).write(f"warning: {visible(text)}\n")

    def begin(self, env_step: int) -> None:
        """Start measuring the speed at this step."""
        self._last = (time.monotonic(), env_step)
        self._seconds = self._steps = 0.0  # exponentially weighted sums

    def stepped(self, env_step: int) -> None:
        """Show progress if the refresh interval has passed; call this after every step."""
        if time.monotonic() - self._last[0] < self.refresh_seconds:
            return
        self._measure(env_step)
        if self._live.is_started:
            self._live.update(self._line(env_step), refresh=True)

    def _measure(self, env_step: int) -> None:
        """Update the average speed, in which older steps have exponentially smaller weights."""
        then, before = self._last
        if before < self._warmup <= env_step:
            self.begin(env_step)
            return
        now = time.monotonic()
        fade = 0.5 ** ((now - then) / self.remember_seconds)
        self._seconds = fade * self._seconds + now - then
        self._steps = fade * self._steps + env_step - before
        self._last = (now, env_step)

    def evaluated(self, env_step: int, evaluation: Evaluation) -> None:
        """Print a line for an evaluation."""
        self._measure(env_step)
        self._return = f"{evaluation.mean:,.1f}"
        self.say(
            f"{env_step:>11,} of {self._end:,} steps  {self._speed()}  {self._left(env_step)}  "
            f"return {evaluation.mean:10,.1f} ± {evaluation.std:,.1f}  {self._connections}"
        )

    def _speed(self) -> str:
        if not self._steps:
            return "      - steps/s"
        return f"{self._steps / max(self._seconds, 1e-9):7,.0f} steps/s"

    def _left(self, env_step: int) -> str:
        if not self._steps or env_step < min(self._warmup, self._end):
            return "   -:-- left"
        left = (self._end - env_step) * self._seconds / self._steps
        minutes, seconds = divmod(round(left), 60)
        hours, minutes = divmod(minutes, 60)
        text = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
        return f"{text:>7} left"

    def _line(self, env_step: int) -> Table:
        table = Table.grid(padding=(0, 2))
        table.add_row(
            ProgressBar(total=self._end, completed=env_step, width=24),
            f"{env_step:,} of {self._end:,} steps",
            self._speed(),
            self._left(env_step),
            f"return {self._return}",
            self._connections,
        )
        return table
