"""The command `sparl play`, which shows a trained agent or records it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from sparl.arguments import episodes_and_seed
from sparl.configuration import Config
from sparl.console import PlainConsole
from sparl.errors import UsageError
from sparl.labels import method_label
from sparl.options import Argument, RunPath, parse_options
from sparl.play.camera import track_body
from sparl.play.screen import has_screen
from sparl.random_streams import integer_seed
from sparl.training.about import environment_importable, warn_if_outdated
from sparl.training.agent_file import load_agent
from sparl.training.durable import user_path
from sparl.training.environment import make_environment
from sparl.training.run_folder import RunFolder
from sparl.training.trained_agent import TrainedAgent


@dataclass(frozen=True)
class PlayOptions:
    """Watch a trained agent in its evaluation episodes, without noise."""

    run: RunPath
    """Folder of the run."""
    episodes: int | None = None
    """Number of episodes; by default as many as in each evaluation of the run."""
    seed: int | None = None
    """Evaluation seed; by default that of the run's evaluations."""
    video: Annotated[Path | None, Argument("FILE")] = None
    """Record the best and the worst episode side by side in this MP4 file instead of opening a
    window; needs sparl[video]."""


def play(args: list[str]) -> int:
    """Run `sparl play` with these arguments, and return the exit code."""
    options = parse_options(PlayOptions, args, "sparl play")
    folder = RunFolder.open(options.run)
    config = folder.config()
    agent = load_agent(options.run)
    warn_if_outdated(agent, options.run)
    episodes, seed = episodes_and_seed(config, options.episodes, options.seed)
    PlainConsole().print(f"{method_label(config)} on {config.env}, agent saved at {agent.when}")
    with environment_importable(folder, "play"):
        if options.video is None:
            _show(config, agent, episodes, seed)
        else:
            from sparl.play.video import record

            for line in record(config, agent, episodes, seed, user_path(options.video)):
                PlainConsole().print(line)
    return 0


def _show(config: Config, agent: TrainedAgent, episodes: int, seed: int) -> None:
    """Show episodes in the simulator's window.

    Raises:
        UsageError: if there is no screen, or the environment cannot open a window.
    """
    named = [name for name in ("DISPLAY", "WAYLAND_DISPLAY") if name in os.environ]
    if sys.platform == "linux" and not named:
        raise UsageError(
            "play: there is no screen (neither DISPLAY nor WAYLAND_DISPLAY is set); record with "
            "--video FILE.mp4"
        )
    environment = make_environment(config, "human")
    if hasattr(environment.gym.unwrapped, "mujoco_renderer") and not has_screen():
        environment.close()
        displays = " and ".join(f"{name}={os.environ[name]}" for name in named)
        raise UsageError(
            f"play: the screen cannot be opened ({displays}); record with --video FILE.mp4"
        )
    track_body(environment)
    try:
        for episode in range(episodes):
            observation = environment.reset(seed=integer_seed(seed, episode))
            total, over = 0.0, False
            while not over:
                step = environment.step(agent.policy(observation[np.newaxis])[0])
                observation, over = step.observation, step.terminated or step.truncated
                total += step.reward
            PlainConsole().print(f"episode {episode}: return {total:,.3f}")
    finally:
        environment.close()
