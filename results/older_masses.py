"""Evaluate or train agents with the masses of MuJoCo before version 2.1.1.

    python results/older_masses.py [RUN...]
    python results/older_masses.py --train METHOD TASK SEED FOLDER

Version 2.1.1 made the masses and inertias of capsules exact; older versions used a cylinder that
consists of the capsule's middle section and half a radius at each end. Only tasks whose bodies
consist of one capsule each are supported: Hopper-v3 and Walker2d-v3.

Each agent plays the same 30 episodes with the masses of the installed version and with the older
ones. The default is the tasks' agents in results/agents.

With --train, an agent is trained in FOLDER for 1,000,000 steps with the older masses, in one thread
and otherwise like the archived runs. If FOLDER contains an unfinished run, this run is resumed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
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


def older(task: str) -> gymnasium.Env[Any, Any]:
    """Create a task with the older masses."""
    environment = make_task(task, None, "zero", None)
    simulated: Any = environment.unwrapped
    use_older_masses(simulated.model)
    mujoco.mj_setConst(simulated.model, simulated.data)
    return environment


def train(method: str, task: str, seed: int, folder: Path) -> None:
    """Train an agent with the older masses, or resume its training."""
    make = partial(older, task)
    if (folder / CONFIG).exists():
        sparl.resume(folder, env=make)
    else:
        sparl.train(method, make, seed=seed, steps=1_000_000, threads=1, run_dir=str(folder))


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
            older_ones = masses == "older"
            environment = older(task) if older_ones else make_task(task, None, "zero", None)
            simulated: Any = environment.unwrapped
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
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path, default=agents, metavar="RUN")
    parser.add_argument("--train", nargs=4, metavar=("METHOD", "TASK", "SEED", "FOLDER"))
    options = parser.parse_args()
    if options.train:
        method, task, seed, folder = options.train
        if task not in TASKS or not seed.isdecimal():
            parser.error(
                f"--train: TASK is {task} and SEED is {seed}, but TASK must be one of "
                f"{', '.join(TASKS)} and SEED an integer"
            )
        train(method, task, int(seed), Path(folder))
    else:
        main(options.runs)
