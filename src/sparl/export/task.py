"""Describe the environment of an exported policy."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from sparl.export.policy import Policy
from sparl.training.environment import Environment
from sparl.training.tasks import ZeroContactForces

# Wrappers that change neither the order of the entries of observations and actions nor the
# control period.
_NEUTRAL = (
    gymnasium.wrappers.OrderEnforcing,
    gymnasium.wrappers.PassiveEnvChecker,
    gymnasium.wrappers.TimeLimit,
    ZeroContactForces,
)


def describe(env_id: str, environment: Environment | None, policy: Policy) -> list[str]:
    """Describe the observations and the actions of an environment, and its control period.

    The description contains no units, because Gymnasium states them only in its documentation.

    Args:
        env_id: id of the environment.
        environment: the environment; None if it is not registered in this process.
        policy: the exported policy.

    Returns:
        The lines of the description.
    """
    simulator = None if environment is None else _simulator(environment.gym)
    period = "unknown"
    if simulator is not None:
        steps, seconds = simulator.frame_skip, simulator.model.opt.timestep
        period = f"{simulator.dt:g} s of simulated time ({steps} simulator steps of {seconds:g} s)"
    return [
        f"Observation: {policy.n_obs} numbers, in the order and units of {env_id}",
        *([] if environment is None else _observations(environment, simulator)),
        f"Action: {policy.n_act} numbers, in the order and units of {env_id}",
        *_actions(policy, simulator),
        "Units: see the documentation of the environment; Gymnasium has no field for them.",
        f"Control period (time between two actions): {period}",
    ]


def _simulator(gym: gymnasium.Env[Any, Any]) -> Any | None:
    """Return the MuJoCo task of Gymnasium, or None for other tasks and unknown wrappers."""
    while type(gym) in _NEUTRAL:
        gym = gym.env  # type: ignore[attr-defined]
    return gym if type(gym).__module__.startswith("gymnasium.envs.mujoco.") else None


def _observations(environment: Environment, simulator: Any | None) -> list[str]:
    space = environment.gym.observation_space
    assert isinstance(space, Box)
    parts = _parts(simulator, environment.n_obs)
    described = [
        ", ".join(filter(None, (_bounds(low, high), part)))
        for low, high, part in zip(space.low, space.high, parts, strict=True)
    ]
    return [f"  {text}" for text in _grouped(described)]


def _parts(simulator: Any | None, n_obs: int) -> list[str]:
    """Return the part of MuJoCo's state that each entry of an observation shows, "" if unknown."""
    structure = dict(getattr(simulator, "observation_structure", None) or {})
    skipped = structure.pop("skipped_qpos", 0)
    parts: list[str] = []
    for name, count in structure.items():
        first = f" from entry {skipped} onwards" if name == "qpos" and skipped else ""
        parts += [f"MuJoCo's {name}{first}"] * count
    return parts if len(parts) == n_obs else [""] * n_obs


def _actions(policy: Policy, simulator: Any | None) -> list[str]:
    controls = _controls(simulator) if simulator is not None else []
    if len(controls) != policy.n_act:
        controls = [""] * policy.n_act
    described = [
        ", ".join(filter(None, (_bounds(low, high), control)))
        for low, high, control in zip(*policy.bounds, controls, strict=True)
    ]
    return [f"  {text}" for text in _grouped(described)]


def _controls(simulator: Any) -> list[str]:
    """Describe what each of a model's actuators controls."""
    import mujoco

    model, described = simulator.model, []
    for index in range(model.nu):
        actuator = model.actuator(index)
        words = f"control of MuJoCo's actuator {actuator.name or index}"
        if actuator.trntype[0] == mujoco.mjtTrn.mjTRN_JOINT:
            joint = model.joint(actuator.trnid[0])
            words += f" (joint {joint.name or joint.id}, gear {actuator.gear[0]:g})"
        described.append(words)
    return described


def _bounds(low: np.floating, high: np.floating) -> str:
    unbounded = np.isneginf(low) and np.isposinf(high)
    return "unbounded" if unbounded else f"from {low!s} to {high!s}"


def _grouped(described: list[str]) -> list[str]:
    """Merge equal consecutive descriptions, and put the range of their indices before each."""
    lines, start = [], 0
    for text, entries in groupby(described):
        last = start + len(list(entries)) - 1
        where = f"[{start}]" if start == last else f"[{start}] to [{last}]"
        lines.append(f"{where}: {text}")
        start = last + 1
    return lines
