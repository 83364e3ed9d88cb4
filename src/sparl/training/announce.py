"""Print a run's schedule before training, and its outcome afterwards."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from sparl import _native
from sparl.architecture import Architecture
from sparl.errors import EnvironmentFault
from sparl.labels import method_label, without_effect
from sparl.text_table import INDENT, Column
from sparl.training.plan_text import plan_text
from sparl.training.record import resumption_text
from sparl.training.tasks import module_of
from sparl.user_modules import command_line
from sparl.wording import counted

if TYPE_CHECKING:
    from sparl.training.loop import Training


def announce(run: Training) -> None:
    """Print the environment, the networks and the schedule before training starts."""
    config, say = run.config, run.console.say
    say(f"{method_label(config)} on {config.env}, seed {config.seed}")
    say(f"{_native.isa()}, {counted(run.threads, 'thread')}")
    run.console.say_path(str(run.folder.path))
    say("")
    run.console.say_table(_COLUMNS, _network_rows(run.architecture))
    say("")
    for line in plan_text(config, run.architecture):
        say(line)
    for note in (*run.environment.notes, *run.architecture.notes, *without_effect(config)):
        say(f"note: {note}")
    if run.record.continued:
        last = run.record.continued[-1]
        tell = run.console.warn if last["not_exact_because"] else say
        tell(f"resuming {resumption_text(last)}")
    if config.end <= config.warmup_env_steps:
        run.console.warn(
            f"THE AGENT WILL NOT BE TRAINED: the run ends at step {config.end:,}, but the first "
            f"{config.warmup_env_steps:,} steps are a warm-up without updates; increase --steps or "
            "--stop-at, or reduce --warmup-env-steps"
        )
    say("")


_COLUMNS = (
    Column("network", left=True),
    Column("layers", rank=2, left=True),
    Column("connections"),
    Column("possible", rank=1),
    Column("density", rank=1),
)


def _network_rows(nets: Architecture) -> list[list[str]]:
    """Return the rows of the table of networks, and a row of totals."""
    rows, every, all_possible = [], 0, 0
    for name, spec in nets.networks.items():
        widths = (spec.layers[0].n_in, *(layer.n_out for layer in spec.layers))
        copies = f"{spec.members} x " if spec.members > 1 else ""
        count = spec.of_all_members
        possible = spec.members * sum(layer.size for layer in spec.layers)
        rows.append([name, f"{copies}{'-'.join(map(str, widths))}", *_share(count, possible)])
        every, all_possible = every + count, all_possible + possible
    return [*rows, ["total", "", *_share(every, all_possible)]]


def _share(connections: int, possible: int) -> list[str]:
    return [f"{connections:,}", f"{possible:,}", f"{connections / max(possible, 1):.1%}"]


def report_end(run: Training, state: str) -> None:
    """Print the outcome of a run and the commands that resume it or evaluate its agent.

    Args:
        run: the run that ended.
        state: "finished", or why the run stopped.
    """
    say, seconds, env_step = run.console.say, run.record.seconds, run.env_step
    say("")
    outcome = state if state == "finished" else f"{state} at step {env_step:,}"
    say(
        f"{outcome}: {env_step:,} steps, {run.agent.updates:,} updates in {seconds:,.0f} s "
        f"({env_step / seconds:,.0f} steps/s, including evaluations)"
    )
    best_step, best = max(run.record.evaluations, key=lambda e: e[1])
    last_step, last = run.record.evaluations[-1]
    say(
        f"mean evaluation return: {last:,.1f} at step {last_step:,}, "
        f"best {best:,.1f} at step {best_step:,}"
    )
    if state != "finished":
        say("to resume:")
        run.console.say_path(INDENT + _command(run, "resume"))
    elif env_step < run.config.steps:
        say(f"to resume until step {run.config.steps:,}:")
        run.console.say_path(INDENT + _command(run, "resume", f"--stop-at {run.config.steps}"))
    say("to evaluate the agent again:")
    run.console.say_path(INDENT + _command(run, "evaluate"))


def warn_not_saved(run: Training, error: EnvironmentFault, stopped_by: signal.Signals) -> None:
    """Warn that the run could not be saved after a signal, because its environment failed."""
    run.console.warn(
        f"{error}; this happened after {stopped_by.name}, so the steps since the last checkpoint "
        f"are lost; to resume from there: {_command(run, 'resume')}"
    )


def _command(run: Training, name: str, options: str = "") -> str:
    return command_line(module_of(run.config.env), name, run.folder.path, options)
