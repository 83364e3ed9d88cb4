"""The command `sparl evaluate`, which repeats the evaluation of a trained agent."""

from __future__ import annotations

import json
from dataclasses import dataclass

from sparl.arguments import episodes_and_seed
from sparl.console import PlainConsole
from sparl.errors import DataError, UsageError
from sparl.labels import method_label
from sparl.options import RunPath, parse_options
from sparl.training.about import environment_importable, warn_if_outdated
from sparl.training.agent_file import BEST, LAST, load_agent
from sparl.training.environment import make_environment
from sparl.training.evaluate import Evaluator
from sparl.training.run_folder import RunFolder


@dataclass(frozen=True)
class EvaluateOptions:
    """Repeat a trained agent's evaluation episodes, without noise."""

    run: RunPath
    """Folder of the run."""
    episodes: int | None = None
    """Number of episodes; by default as many as in each evaluation of the run."""
    seed: int | None = None
    """Evaluation seed; by default that of the run's evaluations, which gives the same returns."""
    best: bool = False
    """Evaluate the agent of the best evaluation instead of the last agent."""
    json: bool = False
    """Print JSON."""


def evaluate(args: list[str]) -> int:
    """Run `sparl evaluate` with these arguments, and return the exit code."""
    options = parse_options(EvaluateOptions, args, "sparl evaluate")
    folder = RunFolder.open(options.run)
    config = folder.config()
    agent = load_agent(options.run, BEST if options.best else LAST)
    if not options.best:
        warn_if_outdated(agent, options.run)
    try:
        with environment_importable(folder, "evaluate"):
            environment = make_environment(config)
    except UsageError as error:
        raise DataError(f"{options.run}: {error}") from None
    environment.close()
    if (environment.n_obs, environment.n_act) != (agent.n_obs, agent.n_act):
        raise UsageError(
            f"{options.run}: the agent expects observations of length {agent.n_obs} and actions of "
            f"length {agent.n_act}, but those of {config.env} have lengths {environment.n_obs} and "
            f"{environment.n_act}; use the version of the environment that the agent was trained in"
        )
    episodes, seed = episodes_and_seed(config, options.episodes, options.seed)
    evaluator = Evaluator(lambda: make_environment(config), episodes, seed)
    try:
        result = evaluator.evaluate(agent.policy)
    finally:
        evaluator.close()
    console = PlainConsole()
    say = console.print
    if options.json:
        content = {
            "env_step": agent.env_step, "mean": result.mean, "std": result.std,
            "returns": result.returns, "lengths": result.lengths,
        }  # fmt: skip
        console.copyable(json.dumps(content, indent=2))
        return 0
    for i, (total, length) in enumerate(zip(result.returns, result.lengths, strict=True)):
        say(f"episode {i}: return {total:,.3f}, {length} steps")
    say(
        f"{method_label(config)} on {config.env}, agent saved at {agent.when}: "
        f"mean return {result.mean:,.3f}, standard deviation {result.std:,.3f}"
    )
    return 0
