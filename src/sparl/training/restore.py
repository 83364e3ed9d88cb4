"""Resume a run from its newest complete checkpoint, or restart it if it never had a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sparl.agents.agent import Agent
from sparl.configuration import Config, differences, why_not_longer
from sparl.errors import DataError, UsageError, damage_reported
from sparl.methods import config_of
from sparl.random_streams import integer_seed, restore_generator
from sparl.replay.ring_buffer import RingBuffer
from sparl.training.checkpoint import no_checkpoint
from sparl.training.loop import Training
from sparl.training.record import not_exact_because
from sparl.training.run_folder import GROWING
from sparl.training.run_json import check_continued
from sparl.training.tensors import Tree

_LONGEST_RUN = 1e12  # seconds


def restore_newest(training: Training) -> None:
    """Restore a run from its newest complete checkpoint, or restart a run that never had one.

    Raises:
        DataError: if no checkpoint can be used, or all checkpoints were deleted.
    """
    training.environment.reset(seed=integer_seed(training.config.seed))
    expected, errors = expected_state(training), list[str]()
    for path in training.saver.checkpoints.newest_first():
        try:
            restore_checkpoint(training, path, *expected)
        except DataError as error:
            errors.append(str(error))
            continue
        for message in errors:
            training.console.warn(f"{message}; resuming from {path.name}")
        break
    else:
        if errors:
            raise no_checkpoint(errors)
        _start_again(training)
    if training.env_step < training.config.warmup_env_steps:
        training.warmup.load_policy()


def expected_state(training: Training) -> tuple[Tree, dict[str, int]]:
    """Return a template of a run's state, and the maximum lengths of its resizable arrays.

    Returns:
        A state with the expected names, dtypes, shapes and types; and the maximum length of each
        array whose length may change, by its path in the state.
    """
    like = {**training.state(), "recorded": training.record.averages.expected_state()}
    return like, {f"agent/{path}": length for path, length in training.agent.longest().items()}


def _start_again(training: Training) -> None:
    """Prepare a run that ended before its first checkpoint for a restart at step 0.

    Raises:
        DataError: if the run had a checkpoint, which was deleted.
    """
    folder = training.folder
    because = folder.why_not_restarted(training.config)
    if because:
        raise DataError(because)
    about = folder.run()
    ended = "ended" if about.get("state") != "failed" else f"failed at step {about['env_step']:,}"
    training.console.say(f"the run {ended} before its first checkpoint; it is restarted at step 0")
    folder.growing.rewind(dict.fromkeys(GROWING, 0))
    training.best.resumed([], training.console.warn)


def restore_checkpoint(
    training: Training, path: Path, like: Tree, longest: Mapping[str, int]
) -> None:
    """Restore a run from a checkpoint.

    Args:
        training: an assembled run with the same configuration.
        path: the checkpoint's folder.
        like: the template of the run's state; see expected_state.
        longest: the maximum lengths of resizable arrays; see expected_state.

    Raises:
        DataError: if the checkpoint cannot be used.
    """
    state, about = training.saver.checkpoints.load(path, like, longest, training.replay)
    with damage_reported(f"{path}: cannot be used"):
        _check_configuration(training.config, path, about)
        _check_counters(training.config, state, training.replay, training.agent)
        restore_state(training, state)
        because = not_exact_because(training.config, state["environment"], about)
        check_continued(about["continued"])
        entry = {"env_step": training.env_step, "not_exact_because": because}
        seconds, cpu_seconds = _duration(about["seconds"]), _duration(about["cpu_seconds"])
        training.folder.growing.rewind(about["growing_files"])
        training.record.resume(seconds, cpu_seconds, [*about["continued"], entry])
        training.best.resumed(training.record.evaluations, training.console.warn)


def restore_state(training: Training, state: Tree) -> None:
    """Restore the state of a run with the same configuration.

    The replay buffer must already have been restored. If the environment's state cannot be
    restored, a new episode begins.
    """
    training.agent.restore(state["agent"])
    training.normalizer.restore(state["normalizer"])
    restore_generator(training.replay_rng, state["replay_rng"])
    training.warmup.restore(state["warmup_rng"])
    training.record.averages.restore(state["recorded"])
    for name, value in state["counters"].items():
        setattr(training, name, value)
    environment, seed = training.environment, integer_seed(training.config.seed, training.env_step)
    training.observation = environment.reset(seed)
    resumed = environment.restore(state["environment"])
    if resumed:
        training.observation = state["observation"].copy()
    else:
        training.episode_return = 0.0
    if not resumed or training.replay.episode_over:
        training.replay.begin(training.observation)


def _check_configuration(config: Config, path: Path, about: Tree) -> None:
    """Check that a checkpoint belongs to a run with this configuration.

    Fields that did not exist in the version that wrote the checkpoint take their defaults.

    Raises:
        DataError: if the configurations differ, or the checkpoint has a field or a value that this
            version does not support.
    """
    try:
        saved = config_of(about["config"], path)
    except UsageError as error:
        raise DataError(
            f"{error}; the checkpoint was written by sparl {about['made_with']['sparl']}"
        ) from None
    if saved.steps < config.steps and not why_not_longer(saved):  # the run was extended
        saved = replace(saved, steps=config.steps)
    other = differences(saved, config)
    if other:
        raise DataError(
            f"{path}: written by a run with a different configuration: {'; '.join(other)}"
        )


def _check_counters(config: Config, state: Tree, replay: RingBuffer, agent: Agent) -> None:
    """Check a checkpoint's counters, each of which the step determines or bounds.

    Raises:
        ValueError: if a counter contradicts the step.
    """
    env_step, episodes = state["counters"]["env_step"], state["counters"]["episodes"]
    if not 0 <= env_step <= config.steps or episodes > env_step:
        raise ValueError(
            f"env_step is {env_step} but must be between the number of episodes, {episodes}, and "
            f"the number of steps, {config.steps}"
        )
    if replay.first + replay.size != env_step:
        raise ValueError(
            f"the replay buffer has stored {replay.first + replay.size} transitions but must have "
            f"stored {env_step}"
        )
    updates = max(env_step - config.warmup_env_steps, 0) * config.updates_per_env_step
    agent.check(state["agent"], updates)


def _duration(value: Any) -> float:
    """Check a duration from a checkpoint, and return it as a float [s].

    Raises:
        ValueError, TypeError: if the value is not a duration.
    """
    if not 0 <= float(value) < _LONGEST_RUN:
        raise ValueError(
            f"a duration is {value} s but must be at least 0 and below {_LONGEST_RUN:g} s"
        )
    return float(value)
