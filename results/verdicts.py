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
from sparl.identity import results_version
from sparl.methods import TASKS, preset
from sparl.random_streams import stream
from sparl.report import statistics as stat
from sparl.report.escape import in_markdown
from sparl.report.papers import PAPER_LAST, PAPER_STEPS, printed
from sparl.report.runs import Collection, Group, collect, differences, label
from sparl.studies.study import read_study
from sparl.types import Float64Array
from sparl.wording import counted

RESULTS = Path(__file__).parent
STUDIES = [RESULTS.parent / "studies" / f"evidence-{part}.toml" for part in (1, 2, 3)]
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


def step_that_reaches(run: FinishedRun, goal: float) -> int | None:
    """Return the first step at which the mean of 10 evaluations reaches a return, or None."""
    trained = run.updates > 0
    steps = run.env_steps[trained].astype(int).tolist()
    return stat.steps_to_reach(steps, run.returns[trained], goal)


@dataclass(frozen=True)
class Quantity:
    """A number that compares the runs of two methods on a task.

    Attributes:
        text: the quantity in words; both methods are inserted.
        values: returns the value of each run, given the runs of the second method, float [runs].
        combined: returns the quantity, given both methods' values.
        form: format of a value.
    """

    text: str
    values: Callable[[Sequence[FinishedRun], Sequence[FinishedRun]], Float64Array]
    combined: Callable[[Float64Array, Float64Array], float]
    form: str

    def of(self, ours: Sequence[FinishedRun], other: Sequence[FinishedRun]) -> float:
        """Return the quantity for the runs of both methods."""
        return self.combined(self.values(ours, other), self.values(other, other))


def steps(runs: Sequence[FinishedRun], other: Sequence[FinishedRun]) -> Float64Array:
    """Return the fraction of each run after which it reaches the other's mean final return."""
    goal = float(np.mean([final_return(run) for run in other]))
    found = [(step_that_reaches(run, goal) or run.config.end) / run.config.end for run in runs]
    return np.array(found)


def ratio(ours: Float64Array, other: Float64Array) -> float:
    """Return the ratio of the means."""
    return float(ours.mean() / other.mean())


QUANTITIES = {
    "final return": Quantity(
        "final return of {} / final return of {}",
        lambda runs, _: np.array([final_return(run) for run in runs]), ratio, ",.0f",
    ),
    "area": Quantity(
        "learning-curve area of {} / area of {}",
        lambda runs, _: np.array([area(run) for run in runs]), ratio, ".3f",
    ),
    "steps": Quantity(
        "steps of {} to the mean final return of {} / steps of the run",
        steps, lambda ours, _: float(ours.mean()), ".3f",
    ),
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

    @property
    def label(self) -> str:
        """The method and its changed fields."""
        return label(self.config(FIVE[0]))

    def matches(self, config: Config) -> bool:
        """Return whether a run with this configuration belongs to this side, on any task."""
        changed = {name: getattr(config, name) for name in differences(config)}
        return Side(config.method, config.settings, changed) == self and has_papers_length(config)

    def on(self, task: str, runs: Collection) -> Group | None:
        """Return the group of these runs on a task, or None if there is none."""
        for group in runs.of_environment(task):
            if self.matches(group.config) and is_current(group):
                return group
        return None

    def planned(self, task: str, group: Group | None, plans: Sequence[Config]) -> int:
        """Return the number of seeds that have finished or are planned on a task."""
        seeds = {run.config.seed for run in group.runs} if group else set()
        return len(seeds | {c.seed for c in plans if c.env == task and self.matches(c)})


def has_papers_length(config: Config) -> bool:
    """Return whether a run is as long as those of its paper."""
    return config.end == config.horizon == PAPER_STEPS[config.settings]


def is_current(group: Group) -> bool:
    """Return whether the results of a group are those of this version of sparl."""
    return bool(group.runs[0].about.get("preset", 1) == results_version(group.config))


@dataclass(frozen=True)
class Claim:
    """A claim of a paper about pairs of methods.

    Attributes:
        text: the claim.
        source: where the paper makes the claim.
        pairs: the methods that are compared.
        quantity: a name in QUANTITIES.
        holds_if: the values for which the claim holds, such as "≥ 0.97".
        tasks: the tasks.
        together: whether the mean over all tasks is judged too.
    """

    text: str
    source: str
    pairs: Sequence[tuple[Side, Side]]
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
RLX2 = Side("RLx2-TD3", "rlx2")
BASELINES = [Side(method, "rlx2") for method in ("Tiny-TD3", "SS-TD3", "SET-TD3", "RigL-TD3")]


def with_period(e: int) -> Side:
    """Return DS-TD3 with e updates between topology updates."""
    return Side("DS-TD3", changed={"rewire_every_updates": e})


def with_sparsity(sparsity: float) -> Side:
    """Return DS-TD3 with another sparsity."""
    return Side("DS-TD3", changed={"actor_sparsity": sparsity, "critic_sparsity": sparsity})


CLAIMS = {
    "Sokar et al.": [
        Claim(
            "DS-TD3 is as good as dense TD3, or better, with half the connections", "table 1",
            [(DS, TD3)], "final return", "≥ 0.97", FIVE, together=True,
        ),
        Claim(
            "DS-TD3 is better than dense TD3", "abstract and table 1; added later",
            [(DS, TD3)], "final return", "> 1", FIVE, together=True,
        ),
        Claim(
            "DS-TD3 is better than Static-TD3", "table 1",
            [(DS, Side("Static-TD3"))], "final return", "> 1", FIVE, together=True,
        ),
        Claim(
            "The learning-curve area of DS-TD3 is larger than that of TD3", "table of areas",
            [(DS, TD3)], "area", "> 1", FIVE,
        ),
        Claim(
            "DS-TD3 reaches the return of TD3 with 40 to 50 % fewer steps",
            "abstract; added later", [(DS, TD3)], "steps", "≤ 0.6", FIVE,
        ),
        Claim(
            "DS-TD3 reaches the return of TD3 in 40 to 50 % of the steps", "text on HalfCheetah",
            [(DS, TD3)], "steps", "≤ 0.5",
        ),
        Claim(
            "Rarer and more frequent topology updates do no harm", "figure 3",
            [(with_period(e), DS) for e in (200, 500, 2000)], "final return", "≥ 0.97",
        ),
        Claim(
            "At 25 % and 50 % sparsity, DS-TD3 is as good as dense TD3, or better", "figure 4",
            [(with_sparsity(0.25), TD3), (DS, TD3)], "final return", "≥ 0.97",
        ),
        Claim(
            "At 80 % sparsity, DS-TD3 does not reach dense TD3", "figure 4",
            [(with_sparsity(0.8), TD3)], "final return", "< 0.97",
        ),
        Claim(
            "DS-SAC is as good as dense SAC, or better", "longer version",
            [(Side("DS-SAC"), Side("SAC"))], "final return", "≥ 0.97",
        ),
    ],
    "Tan et al.": [
        Claim(
            "RLx2-TD3 loses at most 3 % of the dense return at 85 to 98 % sparsity", "main table",
            [(RLX2, Side("TD3", "rlx2"))], "final return", "≥ 0.97", CHEETAH_AND_HOPPER,
        ),
        Claim(
            "RLx2-TD3 is better than the baselines of the same size", "main table",
            [(RLX2, other) for other in BASELINES], "final return", "> 1", CHEETAH_AND_HOPPER,
        ),
    ],
}  # fmt: skip


def interval(quantity: Quantity, groups: Sequence[tuple[Group, Group]]) -> stat.Interval:
    """Return the mean of a quantity over tasks with its 95 % bootstrap interval.

    Args:
        quantity: compares the runs of two methods on one task.
        groups: the groups of both methods on each task.
    """
    both = [group for pair in groups for group in pair]

    def mean(draws: stat.Scores) -> float:
        drawn = [
            [group.runs[int(place)] for place in places]
            for group, places in zip(both, draws, strict=True)
        ]
        values = [quantity.of(drawn[k], drawn[k + 1]) for k in range(0, len(drawn), 2)]
        return float(np.mean(values))

    places = [np.arange(len(group.runs), dtype=np.float64) for group in both]
    return stat.stratified_bootstrap(mean, places, stream(0, "verdicts"), resamples=RESAMPLES)


@dataclass(frozen=True)
class Archive:
    """The archived runs, and the configurations of all runs that the studies plan."""

    runs: Collection
    plans: Sequence[Config]


def archived() -> Archive:
    """Read the archived runs and the studies of the evidence."""
    plans = [unit.config for study in STUDIES for unit in read_study(study).units]
    return Archive(collect([RESULTS / "runs"]), plans)


def row(claim: Claim, pair: tuple[Side, Side], tasks: Sequence[str], of: Archive) -> list[str]:
    """Return the cells of a claim on a task or, if there are several, on the mean over tasks."""
    quantity = QUANTITIES[claim.quantity]
    found = [tuple(side.on(task, of.runs) for side in pair) for task in tasks]
    groups = [(ours, other) for ours, other in found if ours and other]
    runs = [len(group.runs) if group else 0 for both in found for group in both]
    planned = [
        side.planned(task, group, of.plans)
        for task, both in zip(tasks, found, strict=True)
        for side, group in zip(pair, both, strict=True)
    ]
    value, verdict = "-", "undecided: too few runs"
    if min(runs) >= LEAST_RUNS:
        within = interval(quantity, groups)
        value = f"{within.value:.3f} [{within.low:.3f}, {within.high:.3f}]"
        verdict = claim.verdict(within)
        if verdict == VERDICTS[2]:
            verdict += ": the claim holds in a part of the interval"
        if runs != planned:
            verdict += " (provisional)"
    elif min(planned) < LEAST_RUNS:
        verdict = "undecided: too few runs are planned"
    if LEAST_RUNS > min(runs) >= 1:
        value = f"{np.mean([quantity.of(ours.runs, other.runs) for ours, other in groups]):.3f}"
    ends = [of_paper(claim, pair, tasks), value, verdict]
    if len(tasks) > 1:
        return ["mean of all", "", "", *ends]
    cells = [
        _runs(quantity, group, found[0][1], count)
        for group, count in zip(found[0], planned, strict=True)
    ]
    if len(claim.pairs) > 1:
        cells = [f"{side.label}: {cell}" for side, cell in zip(pair, cells, strict=True)]
    return [tasks[0], *cells, *ends]


def _runs(quantity: Quantity, group: Group | None, other: Group | None, planned: int) -> str:
    """Describe the runs of one side: the mean, the standard deviation and the number of runs."""
    count = len(group.runs) if group else 0
    number = f"{count} of {planned}" if count < planned else f"{count}"
    if group is None or other is None:
        return f"- ({number})"
    mean, std = stat.mean_and_std(quantity.values(group.runs, other.runs))
    text = format(mean, quantity.form)
    if count > 1:
        text += f" ± {std:{quantity.form}}"
    if quantity is QUANTITIES["steps"]:
        goal = float(np.mean([final_return(run) for run in other.runs]))
        never = sum(step_that_reaches(run, goal) is None for run in group.runs)
        number += f"; {never} never" * bool(never)
    return f"{text} ({number})"


def of_paper(claim: Claim, pair: tuple[Side, Side], tasks: Sequence[str]) -> str:
    """Return the quantity that follows from a paper's printed results; "-" if none does."""
    values = []
    for task in tasks:
        ours, other = (_printed(side, claim.quantity, task) for side in pair)
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
        config, paper = group.config, printed(group.config)
        if differences(config) or not has_papers_length(config) or not is_current(group):
            continue
        if paper.mean is None or paper.std is None:
            continue
        mean, std = stat.mean_and_std([final_return(run) for run in group.runs])
        if abs(mean - paper.mean) > 2 * max(paper.std, 0 if np.isnan(std) else std):
            found.append(
                f"{group.label} on {group.env}: {mean:,.0f} in {counted(len(group.runs), 'run')}; "
                f"paper: {paper.mean:,.0f} ± {paper.std:,.0f}"
            )
    return found


def document(of: Archive) -> str:
    """Return the content of VERDICTS.md."""
    sections, verdicts = [], []
    for source, claims in CLAIMS.items():
        sections.append(f"## {source}\n")
        for claim in claims:
            rows = [row(claim, pair, [task], of) for pair in claim.pairs for task in claim.tasks]
            if claim.together:
                rows += [row(claim, pair, claim.tasks, of) for pair in claim.pairs]
            verdicts += [cells[-1] for cells in rows]
            sections.append(_section(claim, rows))
    counts = ", ".join(
        f"{sum(text.startswith(each) for text in verdicts)} {each}" for each in VERDICTS
    )
    far = "\n".join(f"- {in_markdown(text)}" for text in far_from_paper(of.runs))
    return "\n".join([HEAD.format(counts=counts), *sections, FAR, far or "None.", ""])


def _section(claim: Claim, rows: Sequence[Sequence[str]]) -> str:
    """Return the section of a claim, with its rows as a table."""
    names = ["method", "compared with"]
    if len(claim.pairs) == 1:
        names = [side.label for side in claim.pairs[0]]
    quantity = QUANTITIES[claim.quantity].text.format(*names)
    headings = ["task", *names, "paper", "ours [95 %]", "verdict"]
    lines = [headings, ["---"] * len(headings), *rows]
    table = "\n".join(f"| {' | '.join(map(in_markdown, cells))} |" for cells in lines)
    return (
        f"### {claim.text}\n\nSource: {claim.source}. Quantity: {quantity}. The claim holds if it "
        f"is {in_markdown(claim.holds_if)}.\n\n{table}\n"
    )


HEAD = """# Verdicts on the papers' claims

Written by `python results/verdicts.py` from the [archived runs](README.md): {counts}.
[CLAIMS.md](CLAIMS.md) defines the quantities, the intervals and the verdicts. The columns of the
methods give the mean ± the standard deviation over the runs and, in parentheses, the number of
runs, "of" the planned number if it is larger. With fewer than three runs of either method, there is
no interval, and the claim is undecided. A verdict is provisional until all planned runs have
finished. With few runs, 95 % intervals are too narrow: see
[CLAIMS.md](CLAIMS.md#how-reliable-the-intervals-are). *Paper* follows from the results that the
paper prints. The numbers of connections and FLOPs follow from the settings and need no verdicts;
the table of [costs](README.md#costs) contains them.
"""
FAR = """## Means far from the paper's

The difference is more than twice the larger of the two standard deviations. The standard deviation
of a single run is unknown, so only the paper's is considered.
[INVESTIGATIONS.md](INVESTIGATIONS.md) compares the settings and looks for reasons.
"""
LINK = "Written by `sparl report`."
LINKED = (
    f"{LINK} See also the [verdicts on the papers' claims](VERDICTS.md), the [investigations of "
    "means far from the papers'](INVESTIGATIONS.md) and the [trained agents](agents/README.md)."
)

if __name__ == "__main__":
    (RESULTS / "VERDICTS.md").write_text(document(archived()))
    report = RESULTS / "README.md"
    if LINKED not in (text := report.read_text()):
        report.write_text(text.replace(LINK, LINKED))
