"""Evaluate archived agents with the masses of MuJoCo before version 2.1.1.

    python results/older_masses.py [RUN...]

Version 2.1.1 made the masses and inertias of capsules exact; older versions used a cylinder that
consists of the capsule's middle section and half a radius at each end. Each agent plays the same 30
episodes with the masses of the installed version and with the older ones. Only tasks whose bodies
consist of one capsule each are supported: Hopper-v3 and Walker2d-v3. The default is their agents in
results/agents.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np

import sparl
from sparl.training.run_folder import CONFIG
from sparl.training.tasks import make_task
from sparl.training.toml_files import read_toml
from sparl.training.trained_agent import TrainedAgent
from sparl.types import Float64Array

AGENTS = Path(__file__).parent / "agents"
TASKS = ("Hopper-v3", "Walker2d-v3")
STEPS = 1000  # length of an episode without a fall
EPISODES, FIRST_SEED = 30, 1000


def use_older_masses(model: Any) -> None:
    """Replace the masses and inertias of a model whose bodies consist of one capsule each.

    Raises:
        ValueError: if a body does not consist of one capsule.
    """
    for body in range(1, model.nbody):
        geoms = np.flatnonzero(model.geom_bodyid == body)
        if model.geom_type[geoms].tolist() != [mujoco.mjtGeom.mjGEOM_CAPSULE]:
            raise ValueError(f"body {body} does not consist of one capsule")
        (geom,) = geoms
        radius, half = model.geom_size[geom, :2]
        section = np.pi * radius**2
        density = model.body_mass[body] / (section * (2 * half + 4 / 3 * radius))
        length = 2 * half + radius
        mass = density * section * length
        across = mass * (3 * radius**2 + length**2) / 12
        along = mass * radius**2 / 2
        order = np.argsort(model.body_inertia[body])
        model.body_mass[body] = mass
        model.body_inertia[body, order] = sorted((across, across, along))


def play(
    agent: TrainedAgent, environment: gymnasium.Env[Any, Any]
) -> tuple[Float64Array, Float64Array]:
    """Return the return and the length of each episode, float [episodes] each."""
    returns, lengths = np.zeros(EPISODES), np.zeros(EPISODES)
    for episode in range(EPISODES):
        observation, _ = environment.reset(seed=FIRST_SEED + episode)
        ended = False
        while not ended:
            action = agent.predict(observation)
            observation, reward, terminated, truncated, _ = environment.step(action)
            returns[episode] += float(reward)
            lengths[episode] += 1
            ended = terminated or truncated
    return returns, lengths


def main(runs: Sequence[Path]) -> None:
    """Print the mean return of each agent with both sets of masses."""
    for run in runs:
        task = read_toml(run / CONFIG)["env"]
        for masses in ("installed", "older"):
            environment = make_task(task, None, "zero", None)
            simulated: Any = environment.unwrapped
            if masses == "older":
                use_older_masses(simulated.model)
                mujoco.mj_setConst(simulated.model, simulated.data)
            returns, lengths = play(sparl.load(run), environment)
            whole = returns[lengths == STEPS]
            text = f", with a return of {whole.mean():,.0f}" if whole.size else ""
            print(
                f"{run.name}, {masses} masses ({simulated.model.body_mass.sum():.2f} kg): return "
                f"{returns.mean():,.0f}; {whole.size} of {EPISODES} episodes have the full length"
                + text,
                flush=True,
            )


if __name__ == "__main__":
    agents = [path for task in TASKS for path in sorted(AGENTS.glob(f"*_{task}"))]
    main([Path(run) for run in sys.argv[1:]] or agents)
