"""The results of a training run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sparl.configuration import Config
from sparl.training.interrupt import StoppedBy


@dataclass(frozen=True)
class Run:
    """The results of a training run.

    Attributes:
        path: the run's folder.
        config: the resolved configuration.
        evaluations: (environment step, mean return) of each evaluation.
        stopped_by: the signal that stopped the run early, "callback" if a callback did, or None.
        seconds: wall-clock time.
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
