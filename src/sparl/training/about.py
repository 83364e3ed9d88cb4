"""Describe a run, for `sparl info RUN`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sparl.configuration import Config, why_not_longer
from sparl.console import PlainConsole
from sparl.errors import DAMAGE_ERRORS, DataError, UnknownEnvironment
from sparl.labels import method_label
from sparl.training.agent_file import load_agent
from sparl.training.checkpoint import Checkpoints, step_of
from sparl.training.record import exactness_text, not_exact_because, resumption_text
from sparl.training.run_folder import AGENT, EVALUATIONS, RunFolder
from sparl.training.trained_agent import TrainedAgent
from sparl.user_modules import WITHOUT_ID, command_line


def about_run(path: str | Path) -> dict[str, Any]:
    """Return what `sparl info RUN` prints: the run's state and step, how to resume it, and more.

    Raises:
        DataError: if the folder contains no run, or one of the run's files is damaged.
    """
    folder = RunFolder.open(path)
    config, about = folder.config(), folder.run()
    content: dict[str, Any] = {
        "method": method_label(config),
        "env": config.env,
        "seed": config.seed,
    }
    state = about.get("state", "running")
    alone = not about and folder.files.has(AGENT) and not folder.in_use()
    if alone:
        state = "trained agent without its run"
    elif state == "running" and not folder.in_use():
        state = "killed"
    rows = folder.rows(EVALUATIONS)
    last = _last_evaluation(folder, rows)
    evaluated = [int(last["env_step"])] if last else []
    # run.json is written only a few times during a run; the other files may be newer.
    found = [step_of(checkpoint) for checkpoint in Checkpoints(folder.path).newest_first()]
    steps = [about.get("env_step", 0), *found[:1], *evaluated]
    if alone:
        steps.append(load_agent(folder.path).env_step)
    content |= {"state": state, "env_step": max(steps), "steps": config.steps}
    content["last_checkpoint"] = found[0] if found else None
    if state in ("running", "killed", "failed") or found:
        content["continuation"] = _continuation(folder, config)
    if state in ("running", "killed"):
        about = {
            k: v for k, v in about.items() if k not in ("updates", "wall_seconds", "cpu_seconds")
        }
    continued = about.pop("continued", [])
    content["times_continued"] = len(continued) or None
    content["continued"] = [resumption_text(e) for e in continued if e["not_exact_because"]]
    content |= {name: value for name, value in about.items() if name not in content}
    content["evaluations"] = None if alone and not rows else len(rows)
    content["last_evaluation"] = last
    return {name: value for name, value in content.items() if value not in (None, [])}


def _last_evaluation(folder: RunFolder, rows: list[dict[str, str]]) -> dict[str, float] | None:
    """Return the last evaluation's step, mean and standard deviation; None before the first one.

    Raises:
        DataError: if the line of the evaluation is damaged.
    """
    try:
        kinds = {"env_step": int, "mean": float, "std": float}
        return {name: kind(rows[-1][name]) for name, kind in kinds.items()} if rows else None
    except (KeyError, TypeError, ValueError, OverflowError):
        raise DataError(f"{folder.path / EVALUATIONS}: the last line is damaged") from None


def _continuation(folder: RunFolder, config: Config) -> str:
    """Describe how the run can be resumed from its newest usable checkpoint, or why it cannot."""
    checkpoints, errors = Checkpoints(folder.path), []
    longer = ""
    if config.end < config.steps:
        longer = f"--stop-at {config.steps}"
    elif folder.run().get("state") == "finished":  # the checkpoint of a finished run was kept
        schedule = why_not_longer(config)
        if schedule:
            return f"cannot be trained longer: {schedule}"
        longer = "--steps N"
    command = command_line(folder.environment_module(), "resume", folder.path, longer)
    for path in checkpoints.newest_first():
        try:
            manifest = checkpoints.checked_manifest(path)
            state, about = manifest["state"], manifest["about"]
            because = not_exact_because(config, state["environment"], about)
        except DataError as error:
            errors.append(str(error))
        except DAMAGE_ERRORS as error:
            errors.append(f"{path}: cannot be used ({type(error).__name__}: {error})")
        else:
            since = f"; {path.name} is used because {'; '.join(errors)}" if errors else ""
            return f"{command} resumes the run, {exactness_text(because)}{since}"
    if errors:
        return f"no checkpoint can be used: {'; '.join(errors)}"
    reason = folder.why_not_restarted(config)
    if reason:
        return f"cannot be resumed: {reason}"
    return f"{command} restarts the run at step 0, because there is no checkpoint"


@contextmanager
def environment_importable(folder: RunFolder, command: str, options: str = "") -> Iterator[None]:
    """Add to an error about an unknown environment how to import that environment.

    Args:
        folder: the run's folder.
        command: the command that needs the environment.
        options: options that the command needs.

    Raises:
        DataError: if the block raises UnknownEnvironment.
    """
    try:
        yield
    except UnknownEnvironment as error:
        module = folder.environment_module() or "MODULE"
        remedy = "in Python" if module == WITHOUT_ID else "import the module that registers it"
        words = command_line(module, command, folder.path, options)
        raise DataError(f"{folder.path}: {error.problem}; {remedy}: {words}") from None


def warn_if_outdated(agent: TrainedAgent, path: str | Path) -> None:
    """Warn if a checkpoint is newer than the agent, which is written only when a run ends."""
    folder = RunFolder.open(path)
    found = Checkpoints(folder.path).newest_first()
    if found and step_of(found[0]) > agent.env_step:
        resume = command_line(folder.environment_module(), "resume", path)
        remedy = (
            "the run is in progress and saves a newer agent when it ends"
            if folder.in_use()
            else f"to resume the run, which then saves a newer agent: {resume}"
        )
        PlainConsole(stderr=True).print(
            f"warning: {path}: the agent was saved at step {agent.env_step:,}, but the newest "
            f"checkpoint is from step {step_of(found[0]):,}; {remedy}"
        )
