"""What `sparl info RUN` says of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sparl.configuration import Config
from sparl.errors import DataError
from sparl.training.checkpoint import Checkpoints, read_manifest, step_of
from sparl.training.record import how_exactly, how_it_went_on, not_exact_because
from sparl.training.run_folder import AGENT, EVALUATIONS, RunFolder


def about_run(path: str | Path) -> dict[str, Any]:
    """State, step, last checkpoint, whether its continuations were and would be exact, and more.

    Raises:
        DataError: no run, or a file of it is damaged.
    """
    folder = RunFolder.open(path)
    config, about = folder.config(), folder.run()
    content: dict[str, Any] = {"method": config.method, "env": config.env, "seed": config.seed}
    state = about.get("state", "running")
    if state == "running" and not folder.in_use():
        state = "killed" if about or not (folder.path / AGENT).exists() else "a trained agent alone"
    rows = folder.rows(EVALUATIONS)
    try:
        kinds = {"env_step": int, "mean": float, "std": float}
        last = {name: kind(rows[-1][name]) for name, kind in kinds.items()} if rows else None
        evaluated = [int(last["env_step"])] if last else []
    except (KeyError, TypeError, ValueError, OverflowError):
        raise DataError(f"{folder.path / EVALUATIONS}: its last line is damaged") from None
    # run.json is of the beginning or the end; what else there is may be newer.
    found = [step_of(checkpoint) for checkpoint in Checkpoints(folder.path).newest_first()]
    steps = [about.get("env_step", 0), *found[:1], *evaluated]
    content |= {"state": state, "env_step": max(steps), "steps": config.steps}
    content["last_checkpoint"] = found[0] if found else None
    if state in ("running", "killed", "failed") or found:
        content["continuation"] = _continuation(folder, config)
    if state in ("running", "killed"):
        about = {k: v for k, v in about.items() if k not in ("updates", "wall_seconds")}
    continued = about.pop("continued", [])
    content["times_continued"] = len(continued) or None
    content["continued"] = [how_it_went_on(e) for e in continued if e["not_exact_because"]]
    content |= {name: value for name, value in about.items() if name not in content}
    content |= {"evaluations": len(rows), "last_evaluation": last}
    return {name: value for name, value in content.items() if value not in (None, [])}


def _continuation(folder: RunFolder, config: Config) -> str:
    """How the run would go on from its newest checkpoint."""
    words = f"sparl resume {folder.path}"
    if config.end < config.steps:
        words += f" --stop-at {config.steps}"
    found = Checkpoints(folder.path).newest_first()
    if not found:
        return f"{words} begins anew: there is no checkpoint"
    try:
        manifest = read_manifest(found[0])
        environment, made_with = manifest["state"]["environment"], manifest["about"]["made_with"]
        because = not_exact_because(config.env, environment, made_with)
    except (DataError, KeyError, TypeError, AttributeError) as error:
        return f"{words} tries an older checkpoint ({error})"
    return f"{words} goes on {how_exactly(because)}"
