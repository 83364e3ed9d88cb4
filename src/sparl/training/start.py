"""Starting a run, and going on with one that is there."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from sparl.configuration import CHANGEABLE, Config, check, differences
from sparl.console import PlainConsole
from sparl.errors import UsageError
from sparl.training.about import environment_importable
from sparl.training.checkpoint import Checkpoints, step_of
from sparl.training.durable import user_path
from sparl.training.loop import Run, Training
from sparl.training.run_folder import RunFolder, holds_run, read_evaluations
from sparl.training.tasks import command_line


def train(config: Config, *, quiet: bool = False) -> Run:
    """Train in a new run folder; with resume "auto" go on with the run that run_dir holds.

    Raises:
        SparlError: a subclass for each kind of trouble.
    """
    check(config)
    if config.resume == "auto" and config.run_dir is not None:
        path = user_path(config.run_dir)
        if holds_run(path):
            return resume(path, wanted=config, quiet=quiet)
    return Training(config, quiet=quiet).run()


def resume(
    path: str | Path, *, wanted: Config | None = None, quiet: bool = False, **changes: Any
) -> Run:
    """Go on with a run, from its last checkpoint to its end; a finished one is left as it is.

    Args:
        path: the run's folder.
        wanted: the configuration that it must be of, and where to stop; None: its own.
        quiet: print nothing.
        changes: fields of its configuration, from CHANGEABLE, that are to be others from now on.

    Raises:
        UsageError: it is a run of another configuration, or a change would alter its results.
        RunInUse: another process works on it.
        DataError: no run, or no checkpoint that can be used.
        SparlError: what can go wrong while training.
    """
    if not changes.keys() <= CHANGEABLE:
        fixed, free = sorted(changes.keys() - CHANGEABLE), ", ".join(sorted(CHANGEABLE))
        raise UsageError(f"{path}: {fixed[0]} cannot change when a run goes on; only {free} can")
    folder = RunFolder.open(path)
    folder.lock()
    with closing(folder):
        there = folder.config()
        config = replace(wanted or there, **changes)
        check(config)
        other = differences(there, config)
        if other:
            raise UsageError(
                f"{path} holds a run of another configuration: {'; '.join(other)}; choose another "
                "--run-dir"
            )
        already = _already(folder, config)
        if already:
            PlainConsole(quiet=quiet).print(f"{path}: already {already}")
            evaluations, seconds = read_evaluations(folder), folder.run().get("wall_seconds", 0.0)
            return Run(folder.path, config, tuple(evaluations), None, seconds)
        with environment_importable(folder, "resume"):
            training = Training(config, quiet=quiet, folder=folder)
        with closing(training):
            if config != there:
                folder.write_config(config)
            training.resume()
            return training.run()


def _already(folder: RunFolder, config: Config) -> str:
    """Why nothing is left to do, in words; "" if something is."""
    checkpoints = Checkpoints(folder.path)
    about, found = folder.run(), checkpoints.newest_first()
    if about.get("state") == "finished" and about["env_step"] >= config.end:
        if about["env_step"] == config.steps:
            checkpoints.remove_all()  # it was killed in the middle of that
            return f"finished, {config.steps:,} steps"
        longer = f"--stop-at {config.steps}"
        words = command_line(folder.environment_module(), "resume", folder.path, longer)
        return f"finished, {about['env_step']:,} of {config.steps:,} steps; to go on: {words}"
    if found and step_of(found[0]) > config.end:
        return f"at step {step_of(found[0]):,}, past the step {config.end:,} where it should stop"
    return ""
