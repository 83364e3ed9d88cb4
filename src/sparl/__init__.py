"""Deep reinforcement learning with truly sparse networks, trained from scratch.

Example:
    run = sparl.train(method="DS-TD3", env="HalfCheetah-v5", steps=100_000)
    action = sparl.load(run.path).predict(observation)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sparl.training.callbacks import ActiveRun, Callback

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Unpack

    import gymnasium

    from sparl.fields import ResumeFields, TrainFields
    from sparl.training.run import Run
    from sparl.training.trained_agent import TrainedAgent

    AnyEnv = gymnasium.Env[Any, Any]
    EnvironmentSource = AnyEnv | Callable[[], AnyEnv]

__all__ = ["ActiveRun", "Callback", "load", "resume", "train"]


def train(
    method: str = "DS-TD3",
    env: EnvironmentSource | str = "HalfCheetah-v5",
    *,
    callback: Callback | Sequence[Callback] = (),
    quiet: bool = False,
    **fields: Unpack[TrainFields],
) -> Run:
    """Train an agent in a new run folder; with resume="auto", resume the run in run_dir, if any.

    Args:
        method: a name that `sparl methods` lists.
        env: the id of a Gymnasium environment (MODULE:ID imports MODULE first); a class or a
            function that returns a new environment each time it is called; or an environment,
            which is deep-copied before use. The observation space must be a flat Box, and the
            action space a bounded Box.
        callback: a callback, or a sequence of callbacks; see `sparl.Callback`.
        quiet: whether to suppress all output.
        fields: any other field of sparl.configuration.Config, for example seed, steps or run_dir.

    Returns:
        The run, with its folder, configuration and evaluations.

    Raises:
        sparl.errors.SparlError: if an argument is invalid or the run fails; each kind of error has
            its own subclass, and every message is one line.
        KeyboardInterrupt: after Ctrl-C. A run that had begun has been saved, unless its environment
            failed too.
        Exception, SystemExit: any exception raised by a callback, once the run has been saved in
            its folder.
    """
    from sparl.configuration_checks import typed_fields
    from sparl.methods import preset
    from sparl.training.callbacks import Callbacks
    from sparl.training.environment_factory import EnvironmentFactory
    from sparl.training.start import train
    from sparl.user_modules import import_module_of

    callbacks = Callbacks(callback)
    factory = None if isinstance(env, str) else EnvironmentFactory(env)
    env_id = env if factory is None else factory.env_id
    values = typed_fields({"method": method, "env": env_id, **fields}, "train")
    if factory is None:
        import_module_of(values["env"])
    config = preset(values.pop("method"), values.pop("env"), **values)
    return _interrupted(train(config, quiet=quiet, callbacks=callbacks, factory=factory))


def resume(
    run: str | Path | Run,
    *,
    env: EnvironmentSource | None = None,
    callback: Callback | Sequence[Callback] = (),
    quiet: bool = False,
    **changes: Unpack[ResumeFields],
) -> Run:
    """Resume a run from its last checkpoint; only a larger `steps` changes a finished run.

    Args:
        run: a run folder, or the value returned by `train`.
        env: the environment, class or function that was passed to `train`; None if an id was
            passed.
        callback: a callback, or a sequence of callbacks. Callbacks are not saved with a run, so
            those that were passed to `train` must be passed again.
        quiet: whether to suppress all output.
        changes: new values of stop_at, threads, checkpoint_every_env_steps, keep_checkpoint or
            tensorboard; or steps, to extend the run.

    Returns:
        The run. Its results are the same as those of an uninterrupted run, unless the environment's
        state cannot be saved, or the versions or the instruction set have changed; run.json states
        whether they are.

    Raises:
        sparl.errors.SparlError: if an argument is invalid or the run fails; each kind of error has
            its own subclass, and every message is one line.
        KeyboardInterrupt: after Ctrl-C; the run can be resumed again.
        Exception, SystemExit: any exception raised by a callback, once the run has been saved in
            its folder.
    """
    from sparl.configuration_checks import typed_fields
    from sparl.training.callbacks import Callbacks
    from sparl.training.environment_factory import EnvironmentFactory
    from sparl.training.start import resume

    callbacks, values = Callbacks(callback), typed_fields({**changes}, "resume")
    factory = None if env is None else EnvironmentFactory(env)
    return _interrupted(
        resume(_path(run), quiet=quiet, callbacks=callbacks, factory=factory, **values)
    )


def load(run: str | Path | Run, *, best: bool = False) -> TrainedAgent:
    """Load the trained agent of a run.

    Args:
        run: a run folder, or the value returned by `train`.
        best: whether to load the agent of the best evaluation instead of the last agent. The best
            evaluation is the first one with the highest mean return.

    Raises:
        sparl.errors.DataError: if the agent is missing or damaged, or has an unsupported format.
        sparl.errors.UsageError: if `run` is neither a path nor a run.
    """
    from sparl.training.agent_file import BEST, LAST, load_agent

    return load_agent(_path(run), BEST if best else LAST)


def _path(run: str | Path | Run) -> Path:
    from sparl.errors import UsageError
    from sparl.training.durable import user_path
    from sparl.training.run import Run
    from sparl.wording import shown

    if isinstance(run, str | Path):
        return user_path(run)
    if isinstance(run, Run):
        return run.path
    raise UsageError(f"run is {shown(run)} but must be the folder of a run, or a sparl Run")


def _interrupted(run: Run) -> Run:
    """Return the run, or raise KeyboardInterrupt if Ctrl-C stopped it."""
    import signal

    if run.stopped_by is signal.SIGINT:
        raise KeyboardInterrupt  # the run has been saved, unless its environment failed too
    return run
