"""Save the agent of a custom training loop, so that `sparl.load` and `sparl export` can read it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparl.agents.agent import Agent
from sparl.agents.observation_normalizer import Normalizer, RawObservations
from sparl.configuration import Config
from sparl.errors import UsageError
from sparl.labels import method_label
from sparl.methods import check
from sparl.training.action_scale import ActionScale
from sparl.training.agent_file import write_agent
from sparl.training.evaluate import OBSERVATIONS
from sparl.training.run_folder import RunFolder
from sparl.types import Array


def save_agent(
    folder: str | Path,
    agent: Agent,
    config: Config,
    action_low: Sequence[float] | NDArray[np.floating],
    action_high: Sequence[float] | NDArray[np.floating],
    *,
    env_step: int,
    observations: ArrayLike,
    normalizer: Normalizer | None = None,
) -> None:
    """Save the agent of a custom training loop in a new folder.

    The folder contains the configuration and the agent, but no evaluations, metrics or checkpoints.
    `sparl.load`, `sparl info`, `sparl export` and the field `warm_start` can read it; so can `sparl
    evaluate` and `sparl play` if `config.env` names a Gymnasium environment.

    Args:
        folder: the folder. With config.overwrite, it may contain a run, which is replaced.
        agent: the agent, which `sparl.build.build_agent` created from `config`.
        config: the configuration.
        action_low: [n_act], the lower bounds of an action in the simulator's units, to which -1 is
            scaled.
        action_high: [n_act], the upper bounds, to which 1 is scaled.
        env_step: number of environment steps so far.
        observations: [B, n_obs], of any real dtype, the observations with which exports are
            checked. If there are more than 1,000, evenly spaced ones are saved.
        normalizer: the ObservationStatistics with which the loop normalised the observations;
            needed if config.normalize_observations is set.

    Raises:
        UsageError: if the configuration or another argument is invalid, or the folder cannot be
            written.
        RunExists: if the folder contains a run, and config.overwrite is False.
        ResourceError: if a file cannot be written.
    """
    check(config)
    normalizer = normalizer or RawObservations()
    _check_normalizer(normalizer, config, agent.n_obs)
    scale = _scale(action_low, action_high, agent.n_act)
    seen = _observations(observations, agent.n_obs)
    if not isinstance(env_step, int | np.integer) or isinstance(env_step, bool) or env_step < 0:
        raise UsageError(
            f"save_agent: env_step is {env_step!r} but must be an integer of at least 0"
        )
    about = {"method": method_label(config), "env": config.env, "env_step": int(env_step)}
    with closing(RunFolder.create(replace(config, run_dir=str(folder)))) as created:
        write_agent(created, agent, normalizer, scale, about, seen)


def _check_normalizer(normalizer: Normalizer, config: Config, n_obs: int) -> None:
    """Raise UsageError unless a normalizer is the one that the configuration needs."""
    factors = normalizer.factors
    if config.normalize_observations != (factors is not None):
        raise UsageError(
            f"save_agent: normalizer is {type(normalizer).__name__} but "
            f"config.normalize_observations is {config.normalize_observations}; pass the "
            "ObservationStatistics with which the loop normalised the observations if, and only "
            "if, it is True"
        )
    if factors is not None and factors[0].shape != (n_obs,):
        raise UsageError(
            f"save_agent: the normalizer is for {factors[0].size} entries of an observation, but "
            f"the agent's observations have {n_obs}"
        )


def _scale(
    low: Sequence[float] | NDArray[np.floating],
    high: Sequence[float] | NDArray[np.floating],
    n_act: int,
) -> ActionScale:
    """Return the scaling of actions to these bounds, each of which must be float [n_act]."""
    bounds = np.asarray(low, np.float64), np.asarray(high, np.float64)
    for name, bound in zip(("action_low", "action_high"), bounds, strict=True):
        if bound.shape != (n_act,) or not np.isfinite(bound).all():
            raise UsageError(
                f"save_agent: {name} is {bound.tolist()} but must be {n_act} finite numbers, one "
                "for each element of an action"
            )
    if not (bounds[0] < bounds[1]).all():
        raise UsageError("save_agent: each element of action_low must be less than in action_high")
    return ActionScale(*bounds)


def _observations(observations: ArrayLike, n_obs: int) -> Array:
    """Return up to OBSERVATIONS of these observations, float32 [B, n_obs]."""
    seen = np.asarray(observations, np.float32)
    if seen.ndim != 2 or seen.shape[1] != n_obs or not len(seen):
        raise UsageError(
            f"save_agent: observations has shape {seen.shape} but must have shape (B, {n_obs}) "
            "with B of at least 1"
        )
    rows = np.linspace(0, len(seen) - 1, min(len(seen), OBSERVATIONS)).astype(int)
    return np.ascontiguousarray(seen[rows])
