"""Format the evaluations of a run: rows of a table on a terminal, and key=value lines elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sparl.text_table import Column, fitting, row_line, title_lines
from sparl.training.evaluate import Evaluation

EPISODE_RETURN = "episode_return"  # the return of training episodes, a column of metrics.csv


@dataclass(frozen=True)
class Row:
    """What the console shows about an evaluation.

    Attributes:
        env_step: the environment step.
        evaluation: the result.
        metrics: means since the previous evaluation, by name; missing if nothing was measured.
        speed: environment steps per second; None if unknown.
        elapsed: duration of the run [s].
        left: estimated time remaining [s]; None if unknown.
    """

    env_step: int
    evaluation: Evaluation
    metrics: Mapping[str, float]
    speed: float | None
    elapsed: float
    left: float | None


class EvaluationRows:
    """The rows of a table of evaluations, with the columns that fit into the width.

    Args:
        end: the step at which the run stops [environment steps].
        metrics: names of the agent's metrics.
        main: the metrics that are shown first if there is no room for all of them.
    """

    def __init__(self, end: int, metrics: Sequence[str], main: Sequence[str]) -> None:
        self._metrics = [*main, *(name for name in metrics if name not in main)]
        self._columns = [
            Column("step", width=len(f"{end:,}")),
            Column("return\nmean", width=7),
            Column("std", rank=2, width=6),
            Column("episode\nreturn", rank=98, width=7),
            *(
                Column(name.replace("_", "\n"), rank=4 + i if i < len(main) else 100 + i, width=7)
                for i, name in enumerate(self._metrics)
            ),
            Column("steps/s", rank=3, width=7),
            Column("elapsed", rank=99, width=7),
            Column("left", rank=1, width=6),
        ]
        self._shown: list[int] = []

    def lines(self, row: Row, width: int) -> list[str]:
        """Return the line of an evaluation, preceded by the titles if the shown columns changed."""
        cells = [
            f"{row.env_step:,}",
            compact(row.evaluation.mean),
            compact(row.evaluation.std),
            *(compact(row.metrics.get(name)) for name in (EPISODE_RETURN, *self._metrics)),
            "-" if row.speed is None else compact(round(row.speed)),
            duration(row.elapsed),
            duration(row.left),
        ]
        widths = [column.widened([]) for column in self._columns]
        kept = fitting(self._columns, widths, width)
        columns, widths = [self._columns[i] for i in kept], [widths[i] for i in kept]
        titles = [] if kept == self._shown else title_lines(columns, widths)
        self._shown = kept
        return [*titles, row_line(columns, widths, [cells[i] for i in kept])]


def plain_line(row: Row, metrics: Sequence[str]) -> str:
    """Return an evaluation as a line of key=value pairs; every line contains all keys.

    The keys are step, return, std, episode_return, each of the agent's metrics, steps_per_s,
    elapsed_s and left_s. Unknown values are nan.
    """
    values = {
        "return": row.evaluation.mean,
        "std": row.evaluation.std,
        **{name: row.metrics.get(name) for name in (EPISODE_RETURN, *metrics)},
        "steps_per_s": row.speed,
        "elapsed_s": row.elapsed,
        "left_s": row.left,
    }
    words = (f"{n}={math.nan if v is None else v:.6g}" for n, v in values.items())
    return " ".join([f"step={row.env_step}", *words])


def compact(value: float | None) -> str:
    """Format a number, usually in at most seven characters; "-" for None."""
    if value is None:
        return "-"
    size = abs(value)
    if size and not 0.01 <= size < 99_999.5:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    if size >= 999.95 or isinstance(value, int):
        return f"{value:,.0f}"
    decimals = 1 if size >= 99.995 else 2 if size >= 0.995 or not size else 3
    return f"{value:.{decimals}f}"


def duration(seconds: float | None) -> str:
    """Format a duration as 59:59, 23h05m or 41d06h; "-" for None.

    The result has at most six characters if the duration is less than 100 days.
    """
    if seconds is None:
        return "-"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days > 3:
        return f"{days}d{hour:02}h"
    return f"{hours}h{minute:02}m" if hours else f"{minute}:{second:02}"
