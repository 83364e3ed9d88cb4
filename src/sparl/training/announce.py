"""Report a run's schedule and its outcome to the user."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from sparl import _native
from sparl.errors import EnvironmentFault
from sparl.labels import method_label, without_effect
from sparl.training.plan_text import connections_text, plan_text
from sparl.training.record import resumption_text
from sparl.training.tasks import module_of
from sparl.user_modules import command_line

if TYPE_CHECKING:
    from sparl.training.loop import Training


def announce(run: Training) -> None:
    """Report the environment, the networks and the schedule before training starts."""
    config, say = run.config, run.console.say
    for note in (*run.environment.notes, *run.architecture.notes, *without_effect(config)):
        say(f"note: {note}")
    if run.record.continued:
        last = run.record.continued[-1]
        tell = run.console.warn if last["not_exact_because"] else say
        tell(f"resuming {resumption_text(last)}")
    say(
        f"{method_label(config)} on {config.env}: {connections_text(run.architecture)}, "
        f"{_native.isa()}, {run.threads} threads, run {run.folder.path}"
    )
    for line in plan_text(config, run.architecture):
        say(line)
    if config.end <= config.warmup_env_steps:
        run.console.warn(
            f"THE AGENT WILL NOT BE TRAINED: the run ends at step {config.end:,}, but the first "
            f"{config.warmup_env_steps:,} steps are a warm-up without updates; use more --steps or "
            "fewer --warmup-env-steps"
        )


def report_end(run: Training, state: str) -> None:
    """Report the outcome of a run.

    Args:
        run: the run that ended.
        state: "finished", or the cause of the stop.
    """
    config, say, seconds, env_step = run.config, run.console.say, run.record.seconds, run.env_step
    say("")
    if state != "finished":
        say(f"{state} at step {env_step:,}; to resume: {_command(run, 'resume')}")
    label, connections = method_label(config), connections_text(run.architecture)
    say(f"{label} on {config.env}, seed {config.seed}: {connections}")
    say(
        f"{env_step:,} steps, {run.agent.updates:,} updates in {seconds:,.0f} s "
        f"({env_step / seconds:,.0f} steps/s, including evaluations)"
    )
    best_step, best = max(run.record.evaluations, key=lambda e: e[1])
    last_step, last = run.record.evaluations[-1]
    say(f"return: {last:,.1f} at step {last_step:,}, best {best:,.1f} at step {best_step:,}")
    say(f"run: {run.folder.path}   to evaluate the agent again: {_command(run, 'evaluate')}")


def warn_not_saved(run: Training, error: EnvironmentFault, stopped_by: signal.Signals) -> None:
    """Warn that an environment failed after a signal, so that the run could not be saved."""
    run.console.warn(
        f"{error}; this happened after {stopped_by.name}, so the steps since the last checkpoint "
        f"are lost; to resume from there: {_command(run, 'resume')}"
    )


def _command(run: Training, name: str) -> str:
    return command_line(module_of(run.config.env), name, run.folder.path)
