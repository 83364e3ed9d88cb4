"""Copy the best archived agent of each method and task to agents/, and write its card.

    python results/zoo.py

The best agent is that of the run with the highest final return. These runs are omitted: runs whose
settings differ from their method's preset or whose length differs from the paper's, runs of older
versions of the results, and runs that were archived without their agent.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import sparl
from claims import has_papers_length, is_current
from sparl.archive.finished_run import FinishedRun
from sparl.methods import find_method
from sparl.report.final_returns import final_as_in_paper
from sparl.report.runs import collect, differences
from sparl.training.run_folder import AGENT, AGENT_MANIFEST, CONFIG

RESULTS = Path(__file__).parent
RETURN = "return over {episodes} episodes (mean ± standard deviation)"
FILES = (AGENT, AGENT_MANIFEST, CONFIG)


def chosen() -> tuple[list[tuple[FinishedRun, float, int]], list[str]]:
    """Return the run with the best agent of each method and task.

    Returns:
        Each run, its final return, and the number of runs from which it was chosen; and the names
        of the methods and tasks all of whose runs were archived without their agents.
    """
    found, omitted = [], []
    for group in collect([RESULTS / "runs"]).groups:
        if differences(group.config) or not (has_papers_length(group.config) and is_current(group)):
            continue
        finals = zip(group.runs, final_as_in_paper(group), strict=True)
        with_agent = [(run, float(value)) for run, value in finals if (run.path / AGENT).exists()]
        if with_agent:
            found.append((*max(with_agent, key=lambda each: each[1]), len(with_agent)))
        else:
            omitted.append(f"{group.label} on {group.env}")
    return found, omitted


def write(run: FinishedRun, final: float, runs: int) -> None:
    """Write an agent's folder.

    Args:
        run: the run that trained the agent.
        final: the run's final return.
        runs: the number of runs from which it was chosen.
    """
    config, about, actor = run.config, run.about, run.about["actor"]
    name = f"{config.method}_{config.env}"
    into = RESULTS / "agents" / name
    into.mkdir(exist_ok=True)
    for file in FILES:
        shutil.copyfile(run.path / file, into / file)
    layers = sparl.load(into).actor.layout.spec.layers
    connections = f"{sum(e.connections for e in layers):,} of {sum(e.size for e in layers):,}"
    returns = f"{actor['mean']:,.0f} ± {actor['std']:,.0f}"
    papers = find_method(config.method).papers
    card = CARD.format(
        method=config.method, env=config.env, connections=connections, returns=returns,
        papers="; ".join(f"[{each.authors} {each.year}]({each.link})" for each in papers),
        return_over=RETURN.format(episodes=actor["episodes"]), steps=run.env_steps[-1],
        seed=config.seed, final=final,
        runs=f"the best of {runs} archived agents" if runs > 1 else "the only archived agent",
        archived=f"results/{run.path.relative_to(RESULTS)}", agent=f"results/agents/{name}",
        commit=about["versions"]["commit"][:10], gymnasium=about["versions"]["gymnasium"],
        mujoco=about["versions"]["mujoco"], isa=about["machine"]["instruction_set"],
    )  # fmt: skip
    (into / "README.md").write_text(card)


def row(folder: Path) -> str:
    """Return an agent's row in the overview, with the figures of its card."""
    card = dict(re.findall(r"^\| (.+?) \| (.+) \|$", (folder / "README.md").read_text(), re.M))
    shown = card["connections of the actor"], card[RETURN.format(episodes=100)]
    link = f"[{folder.name}]({folder.name}/README.md)"
    return f"| {link} | {sparl.load(folder).env_step:,} | {' | '.join(shown)} |\n"


CARD = """# {method} on {env}

| | |
|---|---|
| method | {method}: {papers} |
| connections of the actor | {connections} |
| {return_over} | {returns} |
| training | {steps:,.0f} steps, seed {seed}; final return {final:,.0f} ({runs}) |
| archived run | `{archived}` |
| trained and evaluated with | commit {commit}, Gymnasium {gymnasium}, MuJoCo {mujoco}, {isa} |

```sh
sparl evaluate {agent} --episodes 100
sparl play {agent}
sparl export {agent} --format c
sparl train --config {agent}/config.toml   # trains it again
```
"""
OVERVIEW = """# Trained agents

Each folder contains an actor and its configuration, but no critics and no targets. The agents can
be evaluated (`sparl evaluate`), played (`sparl play`), exported (`sparl export`) and used with
`--warm-start`. `python results/zoo.py` writes all cards but that of SET-TD3-95_HalfCheetah-v5.

| agent | training steps | actor's connections | {return_over} |
|---|---|---|---|
{rows}
{omitted}
With another instruction set or build, sums are computed in another order, and the returns of
HalfCheetah agents differ by some tens.
"""

if __name__ == "__main__":
    agents, without = chosen()
    for each in agents:
        write(*each)
    rows = [row(folder) for folder in sorted((RESULTS / "agents").glob("*/"))]
    omitted = f"Runs without archived agents: {', '.join(without)}.\n" if without else ""
    (RESULTS / "agents" / "README.md").write_text(
        OVERVIEW.format(
            rows="".join(rows), omitted=omitted, return_over=RETURN.format(episodes=100)
        )
    )
