"""The commands `sparl train` and `sparl resume`."""

from __future__ import annotations

import signal
from dataclasses import asdict, dataclass
from typing import Any

from sparl.arguments import check_threads, named, parse_config, parse_typed
from sparl.errors import UsageError
from sparl.options import RunPath, joined, parse, parse_options, separated
from sparl.spellings import split_values
from sparl.studies.seeds import train_seeds
from sparl.training import start
from sparl.training.console import Progress
from sparl.training.run import Run

_HELP = ("-h", "--help")


@dataclass(frozen=True)
class TrainOptions:
    """The options of `sparl train` that are not fields of a run."""

    seeds: tuple[int, ...] = ()
    """train a run for each seed, as a study"""
    quiet: bool = False
    """print nothing"""
    progress: Progress | None = None
    """default: rich on a terminal, else plain"""


def train(args: list[str]) -> int:
    """Run `sparl train` with these arguments, and return the exit code."""
    own, words = separated(TrainOptions, split_values(args))
    given, errors = parse(TrainOptions, own, "sparl train")
    options = TrainOptions(**given)
    if errors:
        raise UsageError(joined(errors, "sparl train"))
    if options.seeds and not set(words).intersection(_HELP):
        if options.progress is not None:
            raise UsageError("train: --progress cannot be used with --seeds; remove it")
        typed = parse_typed(words, "sparl train", TrainOptions)
        return train_seeds(typed, options.seeds, named(words), quiet=options.quiet)
    config = parse_config(words, "sparl train", TrainOptions)
    return _exit_code(start.train(config, quiet=options.quiet, progress=options.progress))


@dataclass(frozen=True)
class ResumeOptions:
    """Resume a run from its last checkpoint, with the same results as an uninterrupted run.

    If the results may differ, for example because versions have changed, the reason is printed.
    Settings for which no option is given keep their values.
    """

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
    keep_checkpoint: bool = False
    """Keep the last checkpoint, so that the finished run can be extended; --no-keep-checkpoint
    deletes it when the run finishes."""
    tensorboard: bool = False
    """Write event files for TensorBoard from now on; --no-tensorboard stops writing them."""
    quiet: bool = False
    """Print nothing."""
    progress: Progress | None = None
    """How progress is shown: none, plain or rich; by default rich on a terminal, else plain."""


def resume(args: list[str]) -> int:
    """Run `sparl resume` with these arguments, and return the exit code."""
    options: dict[str, Any] = asdict(parse_options(ResumeOptions, args, "sparl resume"))
    path, quiet, progress = (options.pop(name) for name in ("run", "quiet", "progress"))
    check_threads(options["threads"])
    given = named(args)  # the other fields keep their values
    changes = {k: v for k, v in options.items() if k in given and v is not None}
    return _exit_code(start.resume(path, quiet=quiet, progress=progress, **changes))


def _exit_code(run: Run) -> int:
    return 128 + run.stopped_by if isinstance(run.stopped_by, signal.Signals) else 0
