"""Keep the agent of a run's best evaluation, in addition to the last agent."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sparl.errors import DataError
from sparl.labels import method_label
from sparl.training.agent_file import BEST, load_agent, packed_agent
from sparl.training.run_folder import RunFolder

if TYPE_CHECKING:
    from sparl.training.loop import Training


class BestAgent:
    """The agent of the best evaluation: the first one with the highest mean return.

    The agent is written together with the next checkpoint, or at the end of the run, so that a
    resumed run finds the best agent up to its checkpoint. An evaluation outside the schedule, at
    the end of a run that can be resumed, does not count, because the resumed run does not contain
    it.

    Args:
        folder: the folder of the run.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._unsaved: tuple[bytes, dict[str, Any]] | None = None

    def evaluated(self, run: Training) -> None:
        """Keep the agent if the last evaluation is the best one so far."""
        config = run.config
        resumable = run.env_step < config.steps or config.keep_checkpoint
        if resumable and run.env_step % config.evaluate_every_env_steps:
            return
        if _best_step(run.record.evaluations) == run.env_step:
            about = {**about_agent(run), "mean_return": run.record.evaluations[-1][1]}
            scale = run.environment.action_scale
            self._unsaved = packed_agent(run.agent, run.normalizer, scale, about, BEST)

    def save(self) -> None:
        """Write the best agent, if it has changed since the last call.

        Raises:
            ResourceError: if a file cannot be written.
        """
        if self._unsaved is None:
            return
        data, manifest = self._unsaved
        self._folder.write(BEST.arrays, data)
        self._folder.write_json(BEST.manifest, manifest)
        self._unsaved = None

    def resumed(self, evaluations: list[tuple[int, float]], warn: Callable[[str], object]) -> None:
        """Delete the files unless they contain the agent of the best of these evaluations.

        A run that was killed may have written a better agent after its last checkpoint. If the run
        is resumed exactly, it will write that agent again.

        Args:
            evaluations: steps and mean returns of the resumed run.
            warn: shows a warning; called if the files are deleted because they are damaged.
        """
        present = [name for name in (BEST.arrays, BEST.manifest) if self._folder.files.has(name)]
        if not present:
            return
        try:
            if load_agent(self._folder.path, BEST).env_step == _best_step(evaluations):
                return
        except DataError as error:
            warn(f"{error}; the best agent up to this step was deleted")
        for name in present:
            self._folder.files.remove(name)


def about_agent(run: Training) -> dict[str, Any]:
    """Return the entries of an agent's manifest that describe the run."""
    config = run.config
    return {"method": method_label(config), "env": config.env, "env_step": run.env_step}


def _best_step(evaluations: list[tuple[int, float]]) -> int | None:
    """Return the first step with the highest mean return; None if there are no evaluations."""
    return max(evaluations, key=lambda each: each[1])[0] if evaluations else None
