"""Run `sparl train` and `sparl resume`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

import tyro

from sparl.arguments import check_threads, named, parse_config
from sparl.options import RunPath, parse_options
from sparl.training import start
from sparl.training.run import Run


def train(args: list[str]) -> int:
    """Run `sparl train`."""
    return _exit_code(start.train(parse_config(args, "sparl train")))


@dataclass(frozen=True)
class ResumeOptions:
    """Resume a run from its last checkpoint, with the same result as an uninterrupted run."""

    run: RunPath
    """Folder of the run."""
    steps: int | None = None
    """Extend the run to this total [environment steps]; only for runs that kept their checkpoint
    and whose topology and n-step targets do not change over time."""
    stop_at: int | None = None
    """Stop at this step [environment steps]; by default unchanged."""
    threads: int | None = None
    """Maximum number of threads, which does not affect results; by default unchanged."""
    checkpoint_every_env_steps: int | None = None
    """Steps between checkpoints [environment steps]; by default unchanged."""
    keep_checkpoint: Annotated[bool, tyro.conf.arg(help_behavior_hint="(default: unchanged)")] = (
        False
    )
    """Keep the last checkpoint, so that the finished run can be extended; --no-keep-checkpoint
    deletes it."""
    tensorboard: Annotated[bool, tyro.conf.arg(help_behavior_hint="(default: unchanged)")] = False
    """Write event files for TensorBoard from now on; --no-tensorboard stops writing them."""


def resume(args: list[str]) -> int:
    """Run `sparl resume`."""
    options: dict[str, Any] = asdict(parse_options(ResumeOptions, args, "sparl resume"))
    path = options.pop("run")
    check_threads(options["threads"])
    given = named(args)  # the other fields keep their values
    changes = {k: v for k, v in options.items() if k in given and v is not None}
    return _exit_code(start.resume(path, **changes))


def _exit_code(run: Run) -> int:
    return 0 if run.stopped_by is None else 128 + run.stopped_by
