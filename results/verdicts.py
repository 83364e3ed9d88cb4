"""Judge the papers' claims by the archived runs, and write VERDICTS.md.

    python results/verdicts.py

CLAIMS.md defines the quantities, the intervals and the verdicts.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from sparl.archive.finished_run import FinishedRun
from sparl.configuration import Config
from sparl.methods import TASKS, preset
from sparl.random_streams import stream
from sparl.report import statistics as stat
from sparl.report.escape import in_markdown
from sparl.report.papers import PAPER_LAST, printed
from sparl.report.runs import Collection, Group, collect, differences, label
from sparl.wording import counted

RESULTS = Path(__file__).parent
FIVE = tuple(f"{task}-v3" for task in TASKS)
CHEETAH, CHEETAH_AND_HOPPER = FIVE[:1], FIVE[:2]
LEAST_RUNS, RESAMPLES = 3, 10_000
COMPARISONS = {"≥": operator.ge, ">": operator.gt, "≤": operator.le, "<": operator.lt}
VERDICTS = ("reproduced", "not reproduced", "undecided")


@cache
def final_return(run: FinishedRun) -> float:
    """Return the mean of the run's last evaluations, as many as its paper averages."""
    return stat.final_return(run.trained_returns, PAPER_LAST[run.config.settings])


@cache
def area(run: FinishedRun) -> float:
    """Return the area under the run's learning curve."""
    return stat.learning_curve_area(run.returns)


def ratio(value: Callable[[FinishedRun], float]) -> Quantity:
    """Return the quantity that divides the means of a value over the runs of two methods."""

    def divided(ours: Sequence[FinishedRun], other: Sequence[FinishedRun]) -> float:
        return float(np.mean([value(run) for run in ours]) / np.mean([value(run) for run in other]))

    return divided


def steps_to_reach(ours: Sequence[FinishedRun], other: Sequence[FinishedRun]) -> float:
    """Return the mean fraction of a run after which the first method reaches the other's return."""
    goal = float(np.mean([final_return(run) for run in other]))
    fractions = []
    for run in ours:
        trained = run.updates > 0
        steps = run.env_steps[trained].astype(int).tolist()
        reached = stat.steps_to_reach(steps, run.returns[trained], goal)
        fractions.append((reached or run.config.end) / run.config.end)
    return float(np.mean(fractions))


Quantity = Callable[[Sequence[FinishedRun], Sequence[FinishedRun]], float]
QUANTITIES: dict[str, Quantity] = {
    "final return": ratio(final_return), "area": ratio(area), "steps to reach": steps_to_reach,
}  # fmt: skip
TEXTS = {
    "final return": "final return of {} / {}", "area": "area of {} / {}",
    "steps to reach": "steps of {} to the final return of {} / steps of the run",
}  # fmt: skip


@dataclass(frozen=True)
class Side:
    """One side of a comparison: a method, and the fields that differ from its preset."""

    method: str
    settings: str = "ds"
    changed: dict[str, Any] = field(default_factory=dict)

    def config(self, task: str) -> Config:
        """Return the configuration of these runs on a task."""
        return preset(self.method, task, settings=self.settings, **self.changed)

    def on(self, task: str, runs: Collection) -> Group | None:
        """Return the group of these runs on a task, or None if there is none."""
        for group in runs.of_environment(task):
            config = group.config
            changed = {name: getattr(config, name) for name in differences(config)}
            if Side(config.method, config.settings, changed) == self:
                return group
        return None


@dataclass(frozen=True)
class Claim:
    """A claim of a paper about two methods.

    Attributes:
        ours: the method in the numerator of the quantity.
        other: the method with which it is compared.
        quantity: a name in QUANTITIES.
        holds_if: the values for which the claim holds, such as "≥ 0.97".
        tasks: the tasks.
        together: whether the mean over all tasks is judged too.
    """

    ours: Side
    other: Side
    quantity: str
    holds_if: str
    tasks: Sequence[str] = CHEETAH
    together: bool = False

    def holds(self, value: float) -> bool:
        """Return whether the claim holds for a value of the quantity."""
        comparison, bound = self.holds_if.split()
        return bool(COMPARISONS[comparison](value, float(bound)))

    def verdict(self, within: stat.Interval) -> str:
        """Return whether the claim holds on the whole interval, on none of it or on a part."""
        at_ends = [self.holds(within.low), self.holds(within.high)]  # one bound, so both suffice
        return VERDICTS[2] if any(at_ends) != all(at_ends) else VERDICTS[not all(at_ends)]


DS, TD3 = Side("DS-TD3"), Side("TD3")
RLX2, OTHERS = Side("RLx2-TD3", "rlx2"), ("Tiny-TD3", "SS-TD3", "SET-TD3", "RigL-TD3")


def with_period(e: int) -> Side:
    """Return DS-TD3 with e updates between topology updates."""
    return Side("DS-TD3", changed={"rewire_every_updates": e})


def with_sparsity(sparsity: float) -> Side:
    """Return DS-TD3 with another sparsity."""
    return Side("DS-TD3", changed={"actor_sparsity": sparsity, "critic_sparsity": sparsity})


CLAIMS = {
    "Sokar et al.": [
        Claim(DS, TD3, "final return", "≥ 0.97", FIVE, together=True),
        Claim(DS, Side("Static-TD3"), "final return", "> 1", FIVE, together=True),
        Claim(DS, TD3, "area", "> 1", FIVE),
        Claim(DS, TD3, "steps to reach", "≤ 0.5"),
        *(Claim(with_period(e), DS, "final return", "≥ 0.97") for e in (200, 500, 2000)),
        Claim(with_sparsity(0.25), TD3, "final return", "≥ 0.97"),
        Claim(with_sparsity(0.8), TD3, "final return", "< 0.97"),
        Claim(Side("DS-SAC"), Side("SAC"), "final return", "≥ 0.97"),
    ],
    "Tan et al.": [
        Claim(RLX2, Side("TD3", "rlx2"), "final return", "≥ 0.97", CHEETAH_AND_HOPPER),
        *(Claim(RLX2, Side(o, "rlx2"), "final return", "> 1", CHEETAH_AND_HOPPER) for o in OTHERS),
    ],
}


def interval(quantity: Quantity, pairs: Sequence[tuple[Group, Group]]) -> stat.Interval:
    """Return the mean of a quantity over tasks with its 95 % bootstrap interval.

    Args:
        quantity: compares the runs of two methods on one task.
        pairs: the groups of both methods on each task.
    """
    groups = [group for pair in pairs for group in pair]

    def mean(draws: stat.Scores) -> float:
        drawn = [
            [group.runs[int(place)] for place in places]
            for group, places in zip(groups, draws, strict=True)
        ]
        values = [quantity(drawn[k], drawn[k + 1]) for k in range(0, len(drawn), 2)]
        return float(np.mean(values))

    places = [np.arange(len(group.runs), dtype=np.float64) for group in groups]
    return stat.stratified_bootstrap(mean, places, stream(0, "verdicts"), resamples=RESAMPLES)


def row(claim: Claim, tasks: Sequence[str], runs: Collection) -> list[str]:
    """Return the cells of a claim on a task or, if there are several, on the mean over tasks."""
    found = [(claim.ours.on(task, runs), claim.other.on(task, runs)) for task in tasks]
    pairs = [(ours, other) for ours, other in found if ours and other]
    counts = [[len(group.runs) if group else 0 for group in pair] for pair in found]
    fewest = [min(side) for side in zip(*counts, strict=True)]
    quantity = QUANTITIES[claim.quantity]
    value, verdict = "-", VERDICTS[2]
    if min(fewest) >= LEAST_RUNS:
        within = interval(quantity, pairs)
        value = f"{within.value:.3f} [{within.low:.3f}, {within.high:.3f}]"
        verdict = claim.verdict(within)
    elif min(fewest) >= 1:
        value = f"{np.mean([quantity(ours.runs, other.runs) for ours, other in pairs]):.3f}"
    names = [label(side.config(tasks[0])) for side in (claim.ours, claim.other)]
    return [
        f"{TEXTS[claim.quantity].format(*names)} {claim.holds_if}",
        tasks[0] if len(tasks) == 1 else "mean of all", " and ".join(map(str, fewest)),
        of_paper(claim, tasks), value, verdict,
    ]  # fmt: skip


HEADINGS = ("claim", "task", "runs", "paper", "ours [95 %]", "verdict")


def of_paper(claim: Claim, tasks: Sequence[str]) -> str:
    """Return the quantity that follows from a paper's printed results; "-" if none does."""
    values = []
    for task in tasks:
        ours, other = (_printed(side, claim.quantity, task) for side in (claim.ours, claim.other))
        if ours is None or other is None:
            return "-"
        values.append(ours / other)
    return f"{np.mean(values):.3f}"


def _printed(side: Side, quantity: str, task: str) -> float | None:
    """Return the result that a paper prints for one side, in its own unit."""
    if side.changed:
        return None
    paper = printed(side.config(task))
    if quantity == "final return" and side.settings == "rlx2":
        return 100.0 if side.method == "TD3" else paper.percent
    return {"final return": paper.mean, "area": paper.area}.get(quantity)


def far_from_paper(runs: Collection) -> list[str]:
    """Describe the means that differ from a paper's by more than twice the larger deviation."""
    found = []
    for group in runs.groups:
        paper = printed(group.config)
        if differences(group.config) or paper.mean is None or paper.std is None:
            continue
        mean, std = stat.mean_and_std([final_return(run) for run in group.runs])
        if abs(mean - paper.mean) > 2 * max(paper.std, 0 if np.isnan(std) else std):
            found.append(
                f"{group.label} on {group.env}: {mean:,.0f} in {counted(len(group.runs), 'run')}; "
                f"paper: {paper.mean:,.0f} ± {paper.std:,.0f}"
            )
    return found


def document(runs: Collection) -> str:
    """Return the content of VERDICTS.md."""
    sections, verdicts = [], []
    for source, claims in CLAIMS.items():
        rows = []
        for claim in claims:
            rows += [row(claim, [task], runs) for task in claim.tasks]
            if claim.together:
                rows.append(row(claim, claim.tasks, runs))
        verdicts += [cells[-1] for cells in rows]
        lines = [HEADINGS, ["---"] * len(HEADINGS), *rows]
        table = "\n".join(f"| {' | '.join(map(in_markdown, cells))} |" for cells in lines)
        sections.append(f"## {source}\n\n{table}\n")
    counts = ", ".join(f"{verdicts.count(each)} {each}" for each in VERDICTS)
    far = "\n".join(f"- {in_markdown(text)}" for text in far_from_paper(runs))
    return "\n".join([HEAD.format(counts=counts), *sections, FAR, far or "None.", ""])


HEAD = """# Verdicts on the papers' claims

Written by `python results/verdicts.py` from the archived runs: {counts}.
[CLAIMS.md](CLAIMS.md) defines the quantities, the intervals and the verdicts. *Runs* counts those
of the two methods, on the task with the fewest runs; with fewer than three runs of either, there is
no interval, and the claim is undecided. *Paper* follows from the results that the paper prints.
"""
FAR = """## Means far from the paper's

The difference is more than twice the larger of the two standard deviations. The standard deviation
of a single run is unknown, so only the paper's is considered.
"""

if __name__ == "__main__":
    (RESULTS / "VERDICTS.md").write_text(document(collect([RESULTS / "runs"])))
