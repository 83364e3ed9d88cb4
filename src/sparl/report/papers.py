"""The results printed in the papers, for comparison with sparl's runs.

DS: Sokar et al., Dynamic Sparse Training for Deep Reinforcement Learning (arXiv 2106.04217 v1, or
the longer version for results that v1 does not contain). The results are the mean and the standard
deviation of the last 10 evaluations of runs of 1M steps on the -v3 tasks, and the learning-curve
area. RLx2: Tan et al. (ICLR 2023), main table. The results are in percent of the dense agent's
return, over the last 30 evaluations of runs of 3M steps.
"""

from __future__ import annotations

from typing import NamedTuple

from sparl.configuration import Config


class Printed(NamedTuple):
    """The results that a paper prints for one method in one task; missing ones are None.

    Attributes:
        mean, std: mean and standard deviation of the final return over the runs.
        area: learning-curve area; see `statistics.learning_curve_area`.
        percent: mean final return in percent of the dense agent's.
    """

    mean: float | None = None
    std: float | None = None
    area: float | None = None
    percent: float | None = None


# For each method and task: mean, standard deviation and area.
_DS: dict[str, dict[str, Printed]] = {
    "TD3": {
        "HalfCheetah": Printed(11153, 473, 1.769), "Walker2d": Printed(4042, 577, 0.526),
        "Hopper": Printed(2185, 1224, 0.479), "Ant": Printed(4288, 1081, 0.552),
        "Humanoid": Printed(3516, 1370, 0.364),
    },
    "Static-TD3": {
        "HalfCheetah": Printed(10584, 307, 1.767), "Walker2d": Printed(3951, 444, 0.517),
        "Hopper": Printed(3571, 44, 0.498), "Ant": Printed(4132, 967, 0.581),
        "Humanoid": Printed(5174, 25, 0.518),
    },
    "DS-TD3": {
        "HalfCheetah": Printed(11460, 483, 1.956), "Walker2d": Printed(4871, 525, 0.696),
        "Hopper": Printed(3587, 71, 0.544), "Ant": Printed(4715, 691, 0.662),
        "Humanoid": Printed(5230, 167, 0.609),
    },
    "SAC, soft target": {
        "HalfCheetah": Printed(11415, 357), "Walker2d": Printed(4566, 448),
        "Hopper": Printed(3387, 149), "Ant": Printed(5849, 386), "Humanoid": Printed(5519, 97),
    },
    "SAC, hard target": {
        "HalfCheetah": Printed(11645, 426), "Walker2d": Printed(3858, 690),
        "Hopper": Printed(3100, 374), "Ant": Printed(5899, 197), "Humanoid": Printed(5426, 196),
    },
    "DS-SAC": {
        "HalfCheetah": Printed(11084, 445), "Walker2d": Printed(4217, 236),
        "Hopper": Printed(3229, 136), "Ant": Printed(5944, 170), "Humanoid": Printed(5585, 109),
    },
}  # fmt: skip

_RLX2_METHODS = ("Tiny-", "SS-", "SET-", "RigL-", "RLx2-")
_RLX2 = {
    ("TD3", "HalfCheetah"): (86.3, 77.1, 92.6, 90.8, 99.8),
    ("TD3", "Hopper"): (64.5, 67.7, 66.5, 90.6, 97.0),
    ("TD3", "Walker2d"): (60.8, 42.9, 39.3, 35.7, 98.1),
    ("TD3", "Ant"): (16.5, 49.6, 62.5, 68.5, 103.9),
    ("SAC", "HalfCheetah"): (95.0, 75.4, 94.8, 89.8, 102.2),
    ("SAC", "Hopper"): (89.1, 81.6, 103.9, 110.0, 109.7),
    ("SAC", "Walker2d"): (73.8, 83.4, 95.8, 81.9, 103.2),
    ("SAC", "Ant"): (49.6, 49.3, 79.8, 90.9, 105.6),
}
# Length of the papers' runs [environment steps], by settings.
PAPER_STEPS = {"ds": 1_000_000, "rlx2": 3_000_000}
# Number of last evaluations that the papers average for the final return, by settings.
PAPER_LAST = {"ds": 10, "rlx2": 30}


def printed(config: Config) -> Printed:
    """Return the results that a paper prints for a run's method and task, for any task version.

    All fields are None if the paper prints no results for this method and task.
    """
    task = config.env.rpartition("-")[0]
    if config.settings == "ds":
        # For dense SAC, the paper distinguishes hard and soft target updates.
        target = "hard" if config.hard_target_every else "soft"
        figures = _DS.get(config.method) or _DS.get(f"{config.method}, {target} target", {})
        return figures.get(task, Printed())
    row = _RLX2.get((config.agent, task), ())
    percents = dict(zip(_RLX2_METHODS, row, strict=False))
    return Printed(percent=percents.get(config.method.removesuffix(config.agent)))
