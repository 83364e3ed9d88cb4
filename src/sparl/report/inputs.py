"""Find names for the inputs of networks in Gymnasium's MuJoCo tasks."""

from __future__ import annotations

from functools import cache
from typing import Any

import gymnasium

from sparl.errors import SparlError
from sparl.training.tasks import make_task

_FREE, _BALL, _HINGE = 0, 1, 3  # values of MuJoCo's mjtJoint


@cache
def input_names(env_id: str, contact_forces: str, n_obs: int, n_act: int) -> tuple[str, ...]:
    """Return the names of the observation's entries and of the actions, in this order.

    Positions and velocities are named after their joint. Other entries of an observation are named
    after the MuJoCo array that they come from, if Gymnasium states it, and are numbered otherwise.
    Actions are named after their actuator or, if it has no name, after the joint that it moves.

    Args:
        env_id: id of the environment.
        contact_forces: the field of the configuration; see `make_task`.
        n_obs: length of an observation.
        n_act: length of an action.

    Returns:
        A tuple of n_obs + n_act names; empty if the environment is not one of Gymnasium's MuJoCo
        tasks, cannot be created here, or has observations or actions of other lengths.
    """
    spec = gymnasium.registry.get(env_id.replace("-v3", "-v4"))
    if spec is None or spec.additional_wrappers:  # a wrapper may change the order
        return ()
    if not str(spec.entry_point).startswith("gymnasium.envs.mujoco"):
        return ()
    try:
        env = make_task(env_id, None, contact_forces, None)
    except SparlError:
        return ()
    try:
        if env.observation_space.shape != (n_obs,) or env.action_space.shape != (n_act,):
            return ()
        simulator: Any = env.unwrapped
        return (*_observation(simulator, n_obs), *_actions(simulator.model))
    finally:
        env.close()


def _observation(simulator: Any, n_obs: int) -> list[str]:
    """Return the names of the entries of an observation."""
    positions, velocities = _joints(simulator.model)
    structure = dict(getattr(simulator, "observation_structure", None) or {})
    if structure:
        skipped = structure.pop("skipped_qpos", 0)
    else:  # tasks of version v4 do not state the structure, whose beginning is the same as in v5
        skipped = 2 if simulator.model.jnt_type[0] == _FREE else 1
    names = [*positions[skipped:], *velocities]
    counts = {name: n for name, n in structure.items() if name not in ("qpos", "qvel")}
    names += [f"{name} {k}" for name, count in counts.items() for k in range(count)]
    names += [f"entry {k}" for k in range(len(names), n_obs)]
    return names if len(names) == n_obs else [f"entry {k}" for k in range(n_obs)]


def _joints(model: Any) -> tuple[list[str], list[str]]:
    """Return names for the entries of MuJoCo's qpos, and names for those of its qvel."""
    positions, velocities = [], []
    for k in range(model.njnt):
        name, kind = model.joint(k).name or f"joint {k}", model.jnt_type[k]
        if kind == _FREE:
            positions += [f"{name} position {axis}" for axis in "xyz"]
            velocities += [f"{name} velocity {axis}" for axis in "xyz"]
        if kind in (_FREE, _BALL):
            positions += [f"{name} orientation {part}" for part in "wxyz"]
            velocities += [f"{name} angular velocity {axis}" for axis in "xyz"]
        else:
            angular = kind == _HINGE
            positions.append(f"{name} {'angle' if angular else 'position'}")
            velocities.append(f"{name} {'angular velocity' if angular else 'velocity'}")
    return positions, velocities


def _actions(model: Any) -> list[str]:
    """Return the names of the actions."""
    names = []
    for k in range(model.nu):
        actuator = model.actuator(k)
        names.append(f"action {actuator.name or model.joint(actuator.trnid[0]).name or k}")
    return names
