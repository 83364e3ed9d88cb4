"""The results of a training run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sparl.configuration import Config
from sparl.labels import method_label
from sparl.training.interrupt import StoppedBy
from sparl.training.notebook import html_table


@dataclass(frozen=True, repr=False)
class Run:
    """The results of a training run.

    Attributes:
        path: the run's folder.
        config: the resolved configuration.
        evaluations: (environment step, mean return) of each evaluation.
        stopped_by: the signal that stopped the run early, or "callback" if a callback did; None if
            the run reached its last step or stop_at.
        seconds: wall-clock time, without work that was lost in interruptions [s].
    """

    path: Path
    config: Config
    evaluations: tuple[tuple[int, float], ...]
    stopped_by: StoppedBy | None
    seconds: float

    @property
    def final_return(self) -> float:
        """Mean return of the last evaluation; NaN if there was none."""
        return self.evaluations[-1][1] if self.evaluations else float("nan")

    def __repr__(self) -> str:
        cells = ", ".join(f"{name} {value}" for name, value in self._cells().items())
        return f"<Run {self.path}: {cells}>"

    def _repr_html_(self) -> str:
        cells = {**self._cells(), "folder": str(self.path)}
        return html_table(cells.items())

    def _cells(self) -> dict[str, str]:
        """Describe the run by names and values, as `repr` and notebooks show them."""
        cells = {
            "method": method_label(self.config),
            "environment": self.config.env,
            "seed": str(self.config.seed),
            "state": state_text(self.stopped_by),
        }
        if self.evaluations:
            step, best = max(self.evaluations, key=lambda each: each[1])
            cells["return"] = f"{self.final_return:,.1f} at step {self.evaluations[-1][0]:,}"
            cells["best return"] = f"{best:,.1f} at step {step:,}"
        return cells


def state_text(stopped_by: StoppedBy | None) -> str:
    """Describe the state of a run that has been saved."""
    if stopped_by is None:
        return "finished"
    return f"stopped by {'a callback' if stopped_by == 'callback' else stopped_by.name}"
