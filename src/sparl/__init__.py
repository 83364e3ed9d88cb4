"""Deep reinforcement learning with truly sparse networks, trained from scratch.

run = sparl.train(method="DS-TD3", env="HalfCheetah-v5", steps=100_000)
action = sparl.load(run.path).predict(observation)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparl.training.agent_file import TrainedAgent
    from sparl.training.run import Run

__all__ = ["load", "resume", "train"]


def train(
    method: str = "DS-TD3", env: str = "HalfCheetah-v5", *, quiet: bool = False, **fields: Any
) -> Run:
    """Train an agent in a new run folder.

    Args:
        method: a name that `sparl methods` lists.
        env: a Gymnasium id with a flat Box observation and a bounded Box action; MODULE:ID imports
            MODULE first.
        quiet: print nothing.
        fields: any field of sparl.configuration.Config, for example seed, steps or run_dir.

    Returns:
        The run: its folder, configuration and evaluations.

    Raises:
        sparl.errors.SparlError: a subclass for each kind of trouble, with one clear line.
        KeyboardInterrupt: after Ctrl-C; the run's folder holds what was done.
    """
    from sparl.configuration_checks import typed_fields
    from sparl.methods import preset
    from sparl.training.start import train
    from sparl.user_modules import import_module_of

    values = typed_fields({"method": method, "env": env, **fields}, "train")
    import_module_of(env)
    config = preset(values.pop("method"), values.pop("env"), **values)
    return _interrupted(train(config, quiet=quiet))


def resume(run: str | Path | Run, *, quiet: bool = False, **changes: Any) -> Run:
    """Go on with a run from its last checkpoint; a finished one is left as it is.

    Args:
        run: a run folder, or what train returned.
        quiet: print nothing.
        changes: stop_at, threads, checkpoint_every_env_steps, keep_checkpoint or tensorboard, from
            now on; or steps, to train longer than the run was asked to.

    Returns:
        The run, as if it had never been stopped.

    Raises:
        sparl.errors.SparlError: a subclass for each kind of trouble, with one clear line.
        KeyboardInterrupt: after Ctrl-C; the run can be resumed again.
    """
    from sparl.configuration_checks import typed_fields
    from sparl.training.start import resume

    return _interrupted(resume(_path(run), quiet=quiet, **typed_fields(changes, "resume")))


def load(run: str | Path | Run) -> TrainedAgent:
    """The trained agent of a run.

    Args:
        run: a run folder, or what train returned.

    Raises:
        sparl.errors.DataError: missing, damaged, or of another format.
    """
    from sparl.training.agent_file import load_agent

    return load_agent(_path(run))


def _path(run: str | Path | Run) -> Path:
    from sparl.training.durable import user_path

    return user_path(run) if isinstance(run, str | Path) else run.path


def _interrupted(run: Run) -> Run:
    """The run, or Ctrl-C as Python knows it."""
    import signal

    if run.stopped_by is signal.SIGINT:
        raise KeyboardInterrupt  # what was done is kept in the run's folder
    return run
