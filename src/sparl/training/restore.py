"""Resuming a run: from its newest checkpoint that is whole, or from the start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from sparl.agents.agent import Agent
from sparl.configuration import Config, differences, why_not_longer
from sparl.errors import DataError, UsageError
from sparl.methods import config_of
from sparl.random_streams import integer_seed
from sparl.replay.ring_buffer import RingBuffer
from sparl.training.checkpoint import no_checkpoint
from sparl.training.loop import Training
from sparl.training.record import not_exact_because
from sparl.training.run_folder import GROWING, check_continued
from sparl.training.tensors import Tree

_LONGEST_RUN = 1e12  # seconds


def restore_newest(training: Training) -> None:
    """Restore a run from its newest checkpoint that is whole, or start it again if it has none.

    Raises:
        DataError: there are checkpoints, and none can be used; or there were some.
    """
    training.environment.reset(seed=integer_seed(training.config.seed))
    expected, troubles = expected_state(training), list[str]()
    for path in training.saver.checkpoints.newest_first():
        try:
            restore_checkpoint(training, path, *expected)
        except DataError as error:
            troubles.append(str(error))
            continue
        for trouble in troubles:
            training.console.warn(f"{trouble}; resuming from {path.name}")
        break
    else:
        if troubles:
            raise no_checkpoint(troubles)
        _start_again(training)
    if training.env_step < training.config.warmup_env_steps:
        training.warmup.load_policy()


def expected_state(training: Training) -> tuple[Tree, dict[str, int]]:
    """Return what the state of a run must be like, and the largest length of what varies.

    Returns:
        A state with the names, dtypes, shapes and types; and the largest length of each array
        whose length may change, by its path in the state.
    """
    like = {**training.state(), "recorded": training.record.averages.expected_state()}
    return like, {f"agent/{path}": length for path, length in training.agent.longest().items()}


def _start_again(training: Training) -> None:
    """Prepare a run that ended before its first checkpoint to start at step 0.

    Raises:
        DataError: it had a checkpoint, which is gone.
    """
    folder = training.folder
    gone = folder.why_not_anew(training.config)
    if gone:
        raise DataError(gone)
    about = folder.run()
    ended = "ended" if about.get("state") != "failed" else f"failed at step {about['env_step']:,}"
    training.console.say(f"the run {ended} before its first checkpoint; it starts again at step 0")
    folder.growing.rewind(dict.fromkeys(GROWING, 0))


def restore_checkpoint(
    training: Training, path: Path, like: Tree, longest: Mapping[str, int]
) -> None:
    """Restore a run from a checkpoint.

    Args:
        training: an assembled run of the same configuration.
        path: the checkpoint's folder.
        like: what its state must be like, see expected_state.
        longest: the largest length of what may be of another length, see expected_state.

    Raises:
        DataError: it cannot be used.
    """
    state, about = training.saver.checkpoints.load(path, like, longest, training.replay)
    with _damage_reported(path):
        _check_configuration(training.config, path, about)
        _check_counters(training.config, state, training.replay, training.agent)
        training.restore(state)
        because = not_exact_because(training.config.env, state["environment"], about["made_with"])
        check_continued(about["continued"])
        entry = {"env_step": training.env_step, "not_exact_because": because}
        seconds, cpu_seconds = _duration(about["seconds"]), _duration(about["cpu_seconds"])
        training.folder.growing.rewind(about["growing_files"])
        training.record.resume(seconds, cpu_seconds, [*about["continued"], entry])


@contextmanager
def _damage_reported(path: Path) -> Iterator[None]:
    """Report what is wrong with values of a checkpoint as DataError."""
    try:
        yield
    except (
        KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError,
    ) as error:  # fmt: skip
        raise DataError(f"{path}: cannot be used ({type(error).__name__}: {error})") from None


def _check_configuration(config: Config, path: Path, about: Tree) -> None:
    """Check that a checkpoint is of a run with this configuration; fields may have been added.

    Raises:
        DataError: it is not, or it has a field or a value that this version does not know.
    """
    try:
        there = config_of(about["config"], path)
    except UsageError as error:
        raise DataError(f"{error}; it was written by sparl {about['made_with']['sparl']}") from None
    if there.steps < config.steps and not why_not_longer(there):  # trained longer
        there = replace(there, steps=config.steps)
    other = differences(there, config)
    if other:
        raise DataError(f"{path}: of another configuration: {'; '.join(other)}")


def _check_counters(config: Config, state: Tree, replay: RingBuffer, agent: Agent) -> None:
    """Check the counters of a checkpoint: all follow from the step, or are bounded by it.

    Raises:
        ValueError: one contradicts the step.
    """
    env_step, episodes = state["counters"]["env_step"], state["counters"]["episodes"]
    if not 0 <= env_step <= config.steps or episodes > env_step:
        raise ValueError(f"step {env_step} of {config.steps}, {episodes} episodes")
    if replay.first + replay.size != env_step:
        raise ValueError(f"{replay.first + replay.size} transitions in {env_step} steps")
    updates = max(env_step - config.warmup_env_steps, 0) * config.updates_per_env_step
    agent.check(state["agent"], updates)


def _duration(value: Any) -> float:
    """Return the seconds in a checkpoint.

    Raises:
        ValueError, TypeError: they are none.
    """
    if not 0 <= float(value) < _LONGEST_RUN:
        raise ValueError(f"{value} seconds")
    return float(value)
