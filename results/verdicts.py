"""Judge the papers' claims by the archived runs, and write VERDICTS.md.

    python results/verdicts.py

CLAIMS.md defines the quantities, the intervals and the verdicts. The script also adds links to the
first paragraph of README.md, which `sparl report` writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from claims import CLAIMS, VERDICTS, Claim, Side, has_papers_length, is_current
from quantities import QUANTITIES, Mean, Quantity, final_return, geometric_mean
from sparl.configuration import Config
from sparl.report import statistics as stat
from sparl.report.escape import in_markdown
from sparl.report.papers import printed
from sparl.report.runs import Collection, Group, collect, differences
from sparl.studies.study import read_study
from sparl.wording import counted

RESULTS = Path(__file__).parent
STUDIES = [RESULTS.parent / "studies" / f"evidence-{part}.toml" for part in (1, 2, 3)]
LEAST_RUNS = 3


@dataclass(frozen=True)
class Archive:
    """The archived runs, and the configurations of all runs that the studies plan."""

    runs: Collection
    plans: Sequence[Config]


def archived() -> Archive:
    """Read the archived runs and the studies of the evidence."""
    plans = [unit.config for study in STUDIES for unit in read_study(study).units]
    return Archive(collect([RESULTS / "runs"]), plans)


def row(
    claim: Claim, pair: tuple[Side, Side], tasks: Sequence[str], of: Archive, mean: Mean = np.mean
) -> list[str]:
    """Return the cells of a claim on a task or, if there are several, on a mean over tasks."""
    quantity = QUANTITIES[claim.quantity]
    found = [tuple(side.on(task, of.runs) for side in pair) for task in tasks]
    pairs = [(ours.runs, other.runs) for ours, other in found if ours and other]
    runs = [len(group.runs) if group else 0 for both in found for group in both]
    planned = [
        side.planned(task, group, of.plans)
        for task, both in zip(tasks, found, strict=True)
        for side, group in zip(pair, both, strict=True)
    ]
    value, verdict = "-", "undecided: too few runs"
    if min(runs) >= LEAST_RUNS:
        within = quantity.interval(pairs, mean)
        value = f"{within.value:.3f} [{within.low:.3f}, {within.high:.3f}]"
        verdict = claim.verdict(within)
        if verdict == VERDICTS[2]:
            verdict += ": the claim holds in a part of the interval"
        if runs != planned:
            verdict += " (provisional)"
    elif min(planned) < LEAST_RUNS:
        verdict = "undecided: too few runs are planned"
    if LEAST_RUNS > min(runs) >= 1:
        value = f"{quantity.mean(pairs, mean):.3f}"
    ends = [of_paper(claim, pair, tasks, mean), value, verdict]
    if len(tasks) > 1:
        return ["mean of all" if mean is np.mean else "geometric mean of all", "", "", *ends]
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
    values = quantity.values(group.runs, other.runs)
    never = int(np.isnan(values).sum())
    mean, std = stat.mean_and_std(np.nan_to_num(values, nan=1.0))
    text = format(mean, quantity.form)
    if count > 1:
        text += f" ± {std:{quantity.form}}"
    number += f"; {never} never" * bool(never)
    return f"{text} ({number})"


def of_paper(
    claim: Claim, pair: tuple[Side, Side], tasks: Sequence[str], mean: Mean = np.mean
) -> str:
    """Return the quantity that follows from a paper's printed results; "-" if none does."""
    values = []
    for task in tasks:
        ours, other = (_printed(side, claim.quantity, task) for side in pair)
        if ours is None or other is None:
            return "-"
        values.append(ours / other)
    return f"{mean(np.array(values), axis=0):.3f}"


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
                rows += [
                    row(claim, pair, claim.tasks, of, mean)
                    for pair in claim.pairs
                    for mean in (np.mean, geometric_mean)
                ]
            verdicts += [cells[-1] for cells in rows]
            sections.append(_section(claim, rows))
    counts = ", ".join(
        f"{sum(text.startswith(each) for text in verdicts)} are {each}" for each in VERDICTS
    )
    far = "\n".join(f"- {in_markdown(text)}" for text in far_from_paper(of.runs))
    return "\n".join([HEAD.format(counts=counts), *sections, FAR, far or "None.", ""])


def _section(claim: Claim, rows: Sequence[Sequence[str]]) -> str:
    """Return the section of a claim, with its rows as a table."""
    headings, names = ["method", "compared with"], ["the method", "the method it is compared with"]
    if len(claim.pairs) == 1:
        headings = names = [side.label for side in claim.pairs[0]]
    quantity = QUANTITIES[claim.quantity].text.format(*names)
    headings = ["task", *headings, "paper", "ours [95 %]", "verdict"]
    lines = [headings, ["---"] * len(headings), *rows]
    table = "\n".join(f"| {' | '.join(map(in_markdown, cells))} |" for cells in lines)
    return (
        f"### {claim.text}\n\nSource: {claim.source}. Quantity: {quantity}. The claim holds if it "
        f"is {in_markdown(claim.holds_if)}.\n\n{table}\n"
    )


HEAD = """# Verdicts on the papers' claims

Written by `python results/verdicts.py` from the [archived runs](README.md). Of the rows below,
{counts}.
[CLAIMS.md](CLAIMS.md) defines the quantities, the intervals and the verdicts. The columns of the
methods give the mean ± the standard deviation over the runs and, in parentheses, the number of
runs, "of" the planned number if it is larger; "1 never" means that one run does not reach the
return, and counts with all of its steps. With fewer than three runs of either method, there is
no interval, and the claim is undecided. A verdict that is based on an interval is provisional until
all planned runs have finished. With few runs, 95 % intervals are too narrow, and
for equal methods, the mean of ratios is on average above 1: see
[CLAIMS.md](CLAIMS.md#how-reliable-the-intervals-are). *Paper* follows from the results that the
paper prints. The numbers of connections and FLOPs follow from the settings and need no verdicts;
the table of [costs](README.md#costs) contains them.
"""
FAR = """## Means far from the paper's

The difference is more than twice the larger of the two standard deviations. The standard deviation
of a single run is unknown, so only the paper's is considered. A mean that is not in this list need
not agree with the paper's: where returns vary a lot, only a large difference is listed.
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
