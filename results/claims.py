"""The papers' claims that verdicts.py judges; CLAIMS.md explains them."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sparl.configuration import Config
from sparl.identity import results_version
from sparl.methods import TASKS, preset
from sparl.report import statistics as stat
from sparl.report.papers import PAPER_STEPS
from sparl.report.runs import Collection, Group, differences, label

FIVE = tuple(f"{task}-v3" for task in TASKS)
CHEETAH, CHEETAH_AND_HOPPER = FIVE[:1], FIVE[:2]
COMPARISONS = {"≥": operator.ge, ">": operator.gt, "≤": operator.le, "<": operator.lt}
VERDICTS = ("reproduced", "not reproduced", "undecided")


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
        quantity: a name in quantities.QUANTITIES.
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
            "DS-SAC is as good as dense SAC with soft target updates, or better", "longer version",
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
