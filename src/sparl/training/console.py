"""Show the progress of a run: a row per evaluation, and a progress bar on a terminal."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Literal, Self

from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from sparl.console import Escaping, PlainConsole
from sparl.standard_streams import send_nowhere
from sparl.text_table import Column, wrapped
from sparl.training.evaluate import Evaluation
from sparl.training.evaluation_rows import EvaluationRows, Row, compact, duration, plain_line
from sparl.training.notebook import NotebookBar, in_notebook
from sparl.wording import visible

Progress = Literal["none", "plain", "rich"]
_NOTEBOOK_WIDTH = 80  # columns; notebooks break longer lines


class RunConsole:
    """Shows the evaluations, the speed and the remaining time of a run.

    Args:
        end: the step at which the run stops [environment steps].
        metrics: names of the agent's metrics.
        main_metrics: the metrics that are shown first if there is no room for all of them.
        warmup: length of the warm-up [steps]; afterwards the speed measurement restarts.
        quiet: whether to show nothing.
        progress: "rich" shows a table and a progress bar, "plain" prints a line of key=value pairs
            for each evaluation, and "none" shows no progress; None means "rich" on a terminal and
            in a notebook, and "plain" elsewhere.
    """

    refresh_seconds = 0.5
    remember_seconds = 60.0  # half-life of the weights in the average speed [s]

    def __init__(
        self,
        end: int,
        metrics: Sequence[str] = (),
        main_metrics: Sequence[str] = (),
        warmup: int = 0,
        *,
        quiet: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self._console = PlainConsole(quiet=quiet)
        notebook = in_notebook()
        on_screen = self._console.is_terminal or notebook
        self._progress = progress or ("rich" if on_screen else "plain")
        if self._progress == "rich" and not self._console.is_terminal:
            self._console.width = (
                _NOTEBOOK_WIDTH if notebook else shutil.get_terminal_size((80, 24)).columns
            )
        self._quiet = quiet
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._bar = NotebookBar() if notebook and self._progress == "rich" and not quiet else None
        self._end = end
        self._metrics = metrics
        self._rows = EvaluationRows(end, metrics, main_metrics)
        self._warmup = warmup
        self.begin(0)

    def __enter__(self) -> Self:
        if self._console.is_terminal and self._progress == "rich":
            self._live.start()
        if self._bar is not None:
            self._show_bar(0)  # show the bar above the table; a later bar would divide the table
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """Print a text; long lines are broken between words."""
        self._print(wrapped(visible(text), self._console.width))

    def say_path(self, text: str) -> None:
        """Print a path or a command on one line, without breaking it, so that it can be copied."""
        self._print(visible(text))

    def say_table(self, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
        """Print a table."""
        try:
            self._console.table(columns, rows)
        except OSError:
            self._lose_output()

    def _print(self, text: str) -> None:
        try:
            self._console.copyable(text)
        except OSError:
            self._lose_output()

    def _lose_output(self) -> None:
        """Stop printing because the output is closed or full; training continues."""
        self._console.quiet = True
        send_nowhere(sys.stdout)

    def warn(self, text: str) -> None:
        """Print a warning to standard error, above the progress bar if there is one."""
        if not self._quiet:
            text = f"warning: {visible(text)}"
            if sys.stderr.isatty():
                text = wrapped(text, self._console.width)
            with suppress(OSError):  # the output is closed or full
                Escaping(sys.stderr).write(f"{text}\n")

    def begin(self, env_step: int) -> None:
        """Start measuring the speed from this step."""
        self._last = (time.monotonic(), env_step)
        self._seconds = self._steps = 0.0  # exponentially weighted sums

    def stepped(self, env_step: int) -> None:
        """Show progress if the refresh interval has passed; call this after every step."""
        if time.monotonic() - self._last[0] < self.refresh_seconds:
            return
        self._measure(env_step)
        self._show_bar(env_step)

    def _show_bar(self, env_step: int) -> None:
        if self._live.is_started:
            self._live.update(self._bar_line(env_step), refresh=True)
        if self._bar is not None:
            self._bar.show(env_step, self._end, "  ".join(self._bar_texts(env_step)))

    def _measure(self, env_step: int) -> None:
        """Update the average speed, in which older steps have exponentially smaller weights.

        The time of evaluations is included. The measurement restarts at the end of the warm-up.
        """
        then, before = self._last
        if before < self._warmup <= env_step:
            self.begin(env_step)
            return
        now = time.monotonic()
        fade = 0.5 ** ((now - then) / self.remember_seconds)
        self._seconds = fade * self._seconds + now - then
        self._steps = fade * self._steps + env_step - before
        self._last = (now, env_step)

    def evaluated(
        self, env_step: int, evaluation: Evaluation, metrics: Mapping[str, float], elapsed: float
    ) -> None:
        """Show an evaluation.

        Args:
            env_step: the environment step.
            evaluation: the result.
            metrics: means of the metrics since the previous evaluation, by name.
            elapsed: duration of the run so far [s].
        """
        self._measure(env_step)
        row = Row(env_step, evaluation, metrics, self._speed, elapsed, self._left(env_step))
        if self._progress == "rich":
            for line in self._rows.lines(row, self._console.width):
                self._print(line)
            self._show_bar(env_step)
        elif self._progress == "plain":
            self._print(plain_line(row, self._metrics))

    @property
    def _speed(self) -> float | None:
        """Environment steps per second; None if unknown."""
        return self._steps / max(self._seconds, 1e-9) if self._steps else None

    def _left(self, env_step: int) -> float | None:
        """Return the estimated time remaining [s], or None if it is unknown."""
        if not self._steps or env_step < min(self._warmup, self._end):
            return None
        return (self._end - env_step) * self._seconds / self._steps

    def _bar_texts(self, env_step: int) -> list[str]:
        """Return the texts next to the bar, the most important ones first."""
        speed, left = self._speed, self._left(env_step)
        return [
            f"{env_step / self._end:4.0%}",
            *([] if left is None else [f"{duration(left)} left"]),
            f"{env_step:,} of {self._end:,}",
            *([] if speed is None else [f"{compact(round(speed))} steps/s"]),
        ]

    def _bar_line(self, env_step: int) -> Table:
        """Return the progress bar, followed by those texts that fit on the line."""
        width, least = self._console.width - 1, 10
        texts = self._bar_texts(env_step)
        while texts and len("  ".join(texts)) + 2 + least > width:
            texts.pop()
        text = "  ".join(texts)
        bar = ProgressBar(total=self._end, completed=env_step, width=min(width - len(text) - 2, 40))
        table = Table.grid(padding=(0, 2))
        table.add_row(bar, text)
        return table
