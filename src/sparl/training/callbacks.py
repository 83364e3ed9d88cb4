"""Callbacks: user-defined objects that a run notifies of its progress, and that may stop it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparl.errors import UsageError
from sparl.wording import shown

if TYPE_CHECKING:
    from sparl.agents.agent import Agent
    from sparl.configuration import Config
    from sparl.training.evaluate import Evaluation
    from sparl.training.loop import Training


class ActiveRun:
    """A run in progress, as its callbacks see it."""

    def __init__(self, training: Training) -> None:
        self._training = training

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self._training.folder.path

    @property
    def config(self) -> Config:
        """The resolved configuration."""
        return self._training.config

    @property
    def agent(self) -> Agent:
        """The agent that is being trained, which callbacks must not change.

        `agent.policy` and calls of its networks, such as `agent.critics(observations, actions)`, do
        not affect the run. `agent.act` draws from the run's random stream, and therefore changes
        the results, as do `agent.update` and changes of parameters. The networks' `parameters` and
        outputs are available only after the pending update has finished, which slows down a run if
        a callback reads them after every step. If config.normalize_observations is set, the
        agent's inputs are normalised observations.
        """
        return self._training.agent

    @property
    def env_step(self) -> int:
        """Number of environment steps so far."""
        return self._training.env_step

    @property
    def updates(self) -> int:
        """Number of updates of the agent so far."""
        return self._training.agent.updates

    @property
    def episodes(self) -> int:
        """Number of training episodes that have ended."""
        return self._training.episodes

    @property
    def evaluations(self) -> tuple[tuple[int, float], ...]:
        """The environment step and the mean return of each evaluation so far."""
        return tuple(self._training.record.evaluations)

    @property
    def metrics(self) -> Mapping[str, float]:
        """The metrics in the last row of metrics.csv, by name, without empty cells.

        They are counts and means since the previous evaluation. The mapping is empty until this
        process has evaluated the agent.
        """
        return self._training.record.last_metrics

    def stop(self) -> None:
        """Stop the run after the current step; it is saved and can be resumed."""
        self._training.stop.by_callback = True


class Callback:
    """Base class of callbacks; override the methods that you need.

    A run calls its callbacks in the order in which they were passed. `run.stop()` stops the run,
    which then saves a checkpoint and its agent, and can be resumed. An exception also stops the
    run; `sparl.train` or `sparl.resume` raises it again, with a note, after the run has been saved.
    Callbacks are not part of a run's saved state, so pass them again to `sparl.resume`.
    """

    def on_step(self, run: ActiveRun) -> None:
        """Called after each environment step and its updates, before an evaluation at that step."""

    def on_evaluation(self, run: ActiveRun, evaluation: Evaluation) -> None:
        """Called after every evaluation; the first one is at step 0."""

    def on_checkpoint(self, run: ActiveRun, path: Path) -> None:
        """Called after a checkpoint has been written to the folder `path`.

        A run keeps its two newest checkpoints; when it has finished, it deletes them unless
        keep_checkpoint is True.
        """


class Callbacks:
    """The callbacks of one run.

    Args:
        given: a callback, or a sequence of callbacks.

    Attributes:
        error: the exception that a callback raised, or None; after it, no callback is called.

    Raises:
        UsageError: if an object is not a Callback, or the name of a method is misspelt.
    """

    def __init__(self, given: Callback | Sequence[Callback] = ()) -> None:
        self._all = list(given) if isinstance(given, Sequence) else [given]
        for callback in self._all:
            if not isinstance(callback, Callback):
                raise UsageError(
                    f"callback is {shown(callback)} but must be an instance of a subclass of "
                    "sparl.Callback, or a list of such instances"
                )
            _reject_misspelt(callback)
        self._of_step = [each for each in self._all if _overrides(each, "on_step")]
        self.error: BaseException | None = None

    def stepped(self, training: Training) -> None:
        """Call on_step of each callback that overrides it."""
        for callback in self._of_step:
            self._call(training, callback, "on_step")

    def evaluated(self, training: Training, evaluation: Evaluation) -> None:
        """Call on_evaluation of each callback."""
        for callback in self._all:
            self._call(training, callback, "on_evaluation", evaluation)

    def saved(self, training: Training, checkpoint: Path) -> None:
        """Call on_checkpoint of each callback."""
        for callback in self._all:
            self._call(training, callback, "on_checkpoint", checkpoint)

    def _call(self, training: Training, callback: Callback, name: str, *arguments: Any) -> None:
        if self.error is not None:
            return
        try:
            getattr(callback, name)(ActiveRun(training), *arguments)
        except (Exception, SystemExit) as error:
            error.add_note(
                f"raised by {type(callback).__name__}.{name} at step {training.env_step:,}; the "
                f"run was stopped and saved in {training.folder.path}"
            )
            self.error = error
            training.stop.by_callback = True

    def raise_error(self) -> None:
        """If a callback raised an exception, raise it again."""
        if self.error is not None:
            raise self.error


def _reject_misspelt(callback: Callback) -> None:
    """Raise UsageError if a method would never be called because its name is misspelt."""
    known = {name for name in vars(Callback) if name.startswith("on_")}
    others = {name for name in dir(callback) if name.startswith("on_")} - known
    for name in sorted(others):
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
        if near and callable(getattr(callback, name)):
            raise UsageError(
                f"callback: {type(callback).__name__} has a method {name}, which a run does not "
                f"call; did you mean {near[0]}?"
            )


def _overrides(callback: Callback, name: str) -> bool:
    return getattr(type(callback), name) is not getattr(Callback, name)
