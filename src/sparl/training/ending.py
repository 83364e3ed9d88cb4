"""End a run: write the agent, record the outcome in run.json, and print it."""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from sparl.errors import EnvironmentFault, SparlError
from sparl.training.agent_file import write_agent
from sparl.training.announce import report_end, warn_not_saved
from sparl.training.best_agent import about_agent
from sparl.training.interrupt import StoppedBy
from sparl.training.run import state_text

if TYPE_CHECKING:
    from sparl.training.loop import Training


def write_results(run: Training, stopped_by: StoppedBy | None) -> None:
    """Write the results of a run, and print its outcome.

    Args:
        run: the run that ended.
        stopped_by: what stopped the run early, if anything.

    Raises:
        ResourceError: if a file cannot be written.
    """
    config, agent, env_step = run.config, run.agent, run.env_step
    state = state_text(stopped_by)
    about, observations = about_agent(run), run.evaluation_observations
    scale = run.environment.action_scale
    write_agent(run.folder, agent, run.normalizer, scale, about, observations)
    run.best.save()
    run.record.degrees(agent, env_step)
    run.folder.growing.flush()
    run.record.run(state, env_step, agent.updates)
    if env_step == config.steps and not config.keep_checkpoint:
        run.saver.checkpoints.remove_all()  # a finished run is not resumed
    report_end(run, state)


def report_failure(
    run: Training, error: Exception | SystemExit, stopped_by: signal.Signals | None
) -> signal.Signals:
    """Record that a run failed and raise the error again, unless a signal caused the failure.

    Ctrl-C also reaches the worker processes of an environment, which may therefore end before the
    run has been saved.

    Returns:
        The signal that caused the failure.

    Raises:
        EnvironmentFault: if the error was SystemExit.
        Exception: the original error, if no signal caused that error.
    """
    if not isinstance(error, EnvironmentFault) or stopped_by is None:
        with suppress(SparlError):
            run.record.run("failed", run.env_step, run.agent.updates)
        if isinstance(error, SystemExit):  # raised by an environment's signal handler, for example
            raise EnvironmentFault(
                f"environment {run.config.env}: SystemExit: {error}, raised outside sparl at step "
                f"{run.env_step}, perhaps by a signal handler"
            ) from None
        raise error
    warn_not_saved(run, error, stopped_by)
    return stopped_by
