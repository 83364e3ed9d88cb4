"""Start or resume a run."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from sparl.configuration import CHANGEABLE, Config, differences, why_not_longer
from sparl.console import PlainConsole
from sparl.errors import DataError, RunExists, UsageError
from sparl.methods import check
from sparl.training.about import environment_importable
from sparl.training.assemble import assemble
from sparl.training.callbacks import Callbacks
from sparl.training.checkpoint import Checkpoints, step_of
from sparl.training.console import Progress
from sparl.training.durable import user_path
from sparl.training.environment_factory import EnvironmentFactory
from sparl.training.loop import Training
from sparl.training.restore import restore_newest
from sparl.training.run import Run
from sparl.training.run_folder import RunFolder, holds_run, read_evaluations
from sparl.user_modules import WITHOUT_ID, command_line


def train(
    config: Config,
    *,
    quiet: bool = False,
    progress: Progress | None = None,
    callbacks: Callbacks | None = None,
    factory: EnvironmentFactory | None = None,
) -> Run:
    """Train in a new run folder, or resume the run in run_dir if config.resume is "auto".

    Args:
        config: the configuration of the run.
        quiet: whether to suppress all output.
        progress: how progress is shown; see RunConsole.
        callbacks: the callbacks of the run; None means no callbacks.
        factory: creates the environments; None if the configuration names a Gymnasium id.

    Raises:
        SparlError: if the run cannot be trained; the subclass indicates the kind of error.
    """
    check(config)
    path = user_path(config.run_dir) if config.resume == "auto" and config.run_dir else None
    resumed = partial(
        resume, wanted=config, quiet=quiet, progress=progress, callbacks=callbacks, factory=factory
    )
    if path is not None and holds_run(path):
        return resumed(path)
    try:
        training = assemble(
            config, quiet=quiet, progress=progress, callbacks=callbacks, factory=factory
        )
    except RunExists:
        if path is None or not holds_run(path):
            raise
        return resumed(path)  # another process started and finished the run after the check above
    return training.run()


def resume(
    path: str | Path,
    *,
    wanted: Config | None = None,
    quiet: bool = False,
    progress: Progress | None = None,
    callbacks: Callbacks | None = None,
    factory: EnvironmentFactory | None = None,
    **changes: Any,
) -> Run:
    """Resume a run from its last checkpoint; leave a finished run unchanged.

    Args:
        path: the run's folder.
        wanted: the configuration that the run must have, except for fields in CHANGEABLE or
            COMMAND_LINE_ONLY; None keeps the run's own configuration.
        quiet: whether to suppress all output.
        progress: how progress is shown; see RunConsole.
        callbacks: the callbacks of the run; None means no callbacks.
        factory: creates the environments of a run whose environment has no Gymnasium id.
        changes: new values of fields in CHANGEABLE, or of steps, which extends the run.

    Raises:
        UsageError: if the run has a different configuration, a change would alter its results, or
            the run cannot be trained longer.
        RunInUse: if another process has locked the run's folder.
        DataError: if the folder contains no run, or no checkpoint can be used.
        SparlError: if training failed.
    """
    changeable = CHANGEABLE | {"steps"}
    if not changes.keys() <= changeable:
        fixed, free = sorted(changes.keys() - changeable), ", ".join(sorted(changeable))
        raise UsageError(
            f"{path}: {fixed[0]} cannot be changed when a run is resumed; only {free} can be"
        )
    folder = RunFolder.open(path)
    folder.lock()
    with closing(folder):
        before = folder.config()
        config = _configuration(folder, before, wanted, changes)
        already = _already(folder, before, config)
        if already:
            PlainConsole(quiet=quiet).print(f"{path}: already {already}")
            evaluations, seconds = read_evaluations(folder), folder.run().get("wall_seconds", 0.0)
            return Run(folder.path, config, tuple(evaluations), None, seconds)
        _check_factory(folder, config, factory)
        with environment_importable(folder, "resume"):
            training = assemble(
                config, quiet=quiet, progress=progress, folder=folder, callbacks=callbacks,
                factory=factory,
            )  # fmt: skip
        return _resume(training, before)


def _check_factory(folder: RunFolder, config: Config, factory: EnvironmentFactory | None) -> None:
    """Raise UsageError if a factory is given for a run with another environment."""
    if factory is not None and factory.env_id != config.env:
        raise UsageError(
            f"{folder.path}: env is {factory.env_id}, but the run's environment is {config.env}"
            + ("" if config.env.endswith(WITHOUT_ID) else "; omit env")
        )


def _configuration(
    folder: RunFolder, before: Config, wanted: Config | None, changes: dict[str, Any]
) -> Config:
    """Return the configuration with which a run is resumed; see `resume`.

    Raises:
        UsageError: if the results would differ, or the run cannot be trained longer.
    """
    if changes.get("steps", before.steps) != before.steps:
        _check_longer(folder, before, changes["steps"])
        changes = {"stop_at": None, **changes}
        before = replace(before, steps=changes["steps"])
    config = replace(wanted or before, **changes)
    check(config)
    other = differences(before, config)
    if other:
        raise UsageError(
            f"{folder.path} contains a run with a different configuration: {'; '.join(other)}; "
            "choose another --run-dir"
        )
    return config


def _resume(training: Training, before: Config) -> Run:
    """Resume a run whose configuration was `before`; write the configuration if it changed."""
    folder, config = training.folder, training.config
    with closing(training):
        if config != before:
            folder.write_config(config)
        try:
            restore_newest(training)
        except DataError:
            if config != before:
                folder.write_config(before)
            raise
        return training.run()


def _check_longer(folder: RunFolder, before: Config, steps: int) -> None:
    """Raise UsageError unless a run of `steps` steps would have begun exactly like this one."""
    if steps < before.steps:
        raise UsageError(
            f"{folder.path} is a run of {before.steps:,} steps, but --steps is {steps:,}; to stop "
            "earlier, use --stop-at"
        )
    because = _not_longer_because(folder, before)
    if because:
        raise UsageError(f"{folder.path} cannot be trained longer: {because}")


def _not_longer_because(folder: RunFolder, config: Config) -> str:
    """Explain why a run cannot be trained longer, and state the remedy; return "" if it can."""
    because = why_not_longer(config)
    if because:
        return (
            f"{because}; to plan for a longer run from the start, use sparl train --steps N "
            f"--stop-at {config.steps}"
        )
    if folder.run().get("state") == "finished" and not Checkpoints(folder.files).newest_first():
        return (
            "its last checkpoint was deleted when it finished; to be able to extend a run, train "
            "it with --keep-checkpoint"
        )
    return ""


def _already(folder: RunFolder, before: Config, config: Config) -> str:
    """Explain why a run needs no further training; return "" if it does."""
    checkpoints = Checkpoints(folder.files)
    about, found = folder.run(), checkpoints.newest_first()
    if about.get("state") == "finished" and about["env_step"] >= config.end:
        if about["env_step"] == config.steps:
            if not before.keep_checkpoint:
                checkpoints.remove_all()  # a process was killed while deleting them
            because = _not_longer_because(folder, config)
            longer = (
                f"it cannot be trained longer: {because}"
                if because
                else f"to train longer: {_resume_command(folder, '--steps N')}"
            )
            return f"finished after {config.steps:,} steps; {longer}"
        return (
            f"stopped at step {about['env_step']:,} of {config.steps:,}; to resume: "
            + _resume_command(folder, f"--stop-at {config.steps}")
        )
    if found and step_of(found[0]) > config.end:
        return f"at step {step_of(found[0]):,}, past step {config.end:,}, at which it should stop"
    return ""


def _resume_command(folder: RunFolder, options: str) -> str:
    """Return the command line that resumes a run."""
    return command_line(folder.environment_module(), "resume", folder.path, options)
