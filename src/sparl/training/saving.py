"""Save the checkpoints of a run, and tolerate occasional failures."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from sparl.configuration import Config
from sparl.errors import ResourceError
from sparl.replay.ring_buffer import RingBuffer
from sparl.topology.propose import rule_digests
from sparl.training.best_agent import BestAgent
from sparl.training.checkpoint import Checkpoints
from sparl.training.console import RunConsole
from sparl.training.machine import made_with
from sparl.training.memory import return_freed_memory
from sparl.training.record import Record
from sparl.training.run_folder import RunFolder
from sparl.training.tasks import module_of
from sparl.training.tensors import Tree
from sparl.user_modules import command_line

_FAILURES = 3  # number of consecutive failures that ends the run


class CheckpointSaver:
    """Saves the checkpoints of a run; the third consecutive failure ends the run.

    Args:
        config: the configuration of the run.
        folder: the folder of the run.
        record: the record of the run, whose durations a checkpoint stores.
        best: the best agent of the run, which is written before each checkpoint.
        console: the console on which warnings about failures are printed.

    Attributes:
        checkpoints: the checkpoints in the folder.
    """

    def __init__(
        self, config: Config, folder: RunFolder, record: Record, best: BestAgent,
        console: RunConsole,
    ) -> None:  # fmt: skip
        self.checkpoints = Checkpoints(folder.files)
        self._config, self._folder = config, folder
        self._record, self._best, self._console = record, best, console
        self._made_with = made_with()
        self._rules = rule_digests(config.drop, config.grow, config.density_schedule)
        self._failures = 0

    def save(
        self, env_step: int, updates: int, state: Tree, replay: RingBuffer, *, last: bool
    ) -> Path | None:
        """Commit a checkpoint.

        Args:
            env_step: the environment step of the checkpoint.
            updates: number of updates of the agent so far.
            state: all state of the run except the replay buffer.
            replay: the replay buffer of the run.
            last: whether this is the last attempt.

        Returns:
            The checkpoint's folder; None if a failure was tolerated.

        Raises:
            ResourceError: if the checkpoint could not be written, training is not complete, and
                this was the last attempt or the third consecutive failure.
        """
        try:
            self._best.save()
            saved = self.checkpoints.save(env_step, state, replay, self._about())
        except ResourceError as error:
            self._failures += 1
            self._report(error, env_step, last=last)
            return None
        else:
            self._failures = 0
            self._note_first(env_step, updates)
            return saved
        finally:
            return_freed_memory()

    def _about(self) -> Tree:
        return {
            "config": json.loads(json.dumps(self._config.as_dict())),
            "made_with": self._made_with,
            "rules": self._rules,
            "growing_files": self._folder.growing.flush(),
            "seconds": self._record.seconds,
            "cpu_seconds": self._record.cpu_seconds,
            "continued": self._record.continued,
        }

    def _report(self, error: ResourceError, env_step: int, *, last: bool) -> None:
        if env_step == self._config.steps:
            self._console.warn(f"{error}; training had already finished")
        elif last or self._failures == _FAILURES:
            resume = command_line(module_of(self._config.env), "resume", self._folder.path)
            raise ResourceError(f"{error}; correct this, then resume the run: {resume}") from None
        else:
            self._console.warn(
                f"{error}; training continues, and will try again at the next checkpoint"
            )

    def _note_first(self, env_step: int, updates: int) -> None:
        """Record in run.json that the run has had a checkpoint."""
        if not self._record.had_checkpoint:
            self._record.had_checkpoint = True
            with suppress(ResourceError):
                self._record.run("running", env_step, updates)
