"""End a run: write the agent, and record the outcome in run.json and on the console."""

from __future__ import annotations

import signal
from contextlib import suppress

from sparl.errors import EnvironmentFault, SparlError
from sparl.labels import method_label
from sparl.training.agent_file import save_agent
from sparl.training.announce import report_end, warn_not_saved
from sparl.training.assemble import Parts
from sparl.types import Array


def write_results(run: Parts, state: str, env_step: int, observations: Array | None) -> None:
    """Write the results of a run, and report them.

    Args:
        run: the parts of the run.
        state: "finished", or the cause of the stop.
        env_step: the environment step at which the run ended.
        observations: observations of the last evaluation, which are used to check exports.

    Raises:
        ResourceError: if a file cannot be written.
    """
    config, agent = run.config, run.agent
    about = {"method": method_label(config), "env": config.env, "env_step": env_step}
    save_agent(
        run.folder, agent.networks(), run.environment, about, observations,
        agent.head,
    )  # fmt: skip
    run.record.degrees(agent)
    run.folder.growing.flush()
    run.record.run(state, env_step, agent.updates)
    if env_step == config.steps and not config.keep_checkpoint:
        run.saver.checkpoints.remove_all()  # a finished run is not resumed
    report_end(run, state, env_step, agent.updates)


def report_failure(
    run: Parts, error: Exception | SystemExit, stopped_by: signal.Signals | None, env_step: int
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
            run.record.run("failed", env_step, run.agent.updates)
        if isinstance(
            error, SystemExit
        ):  # raised by a signal handler of the environment, for example
            raise EnvironmentFault(
                f"environment {run.config.env}: SystemExit: {error}, raised outside sparl at step "
                f"{env_step}, perhaps by a signal handler"
            ) from None
        raise error
    warn_not_saved(run, error, stopped_by)
    return stopped_by
