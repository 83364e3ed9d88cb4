"""Compare the results that reports show as the papers' with the papers' tables."""

from __future__ import annotations

import pytest

from sparl.methods import preset
from sparl.report.papers import printed

# Mean and standard deviation of the final return (version 1 of the paper, or the longer version for
# SAC). The two columns of SAC have soft and hard target updates.
DS_RETURNS = """
task         TD3        Static-TD3 DS-TD3     SAC        SAC-hard   DS-SAC
HalfCheetah  11153±473  10584±307  11460±483  11415±357  11645±426  11084±445
Walker2d     4042±577   3951±444   4871±525   4566±448   3858±690   4217±236
Hopper       2185±1224  3571±44    3587±71    3387±149   3100±374   3229±136
Ant          4288±1081  4132±967   4715±691   5849±386   5899±197   5944±170
Humanoid     3516±1370  5174±25    5230±167   5519±97    5426±196   5585±109
"""
DS_AREAS = """
task         TD3    Static-TD3  DS-TD3
HalfCheetah  1.769  1.767       1.956
Walker2d     .526   .517        .696
Hopper       .479   .498        .544
Ant          .552   .581        .662
Humanoid     .364   .518        .609
"""
RLX2_PERCENT_OF_DENSE = """
task             Tiny  SS    SET    RigL   RLx2
TD3-HalfCheetah  86.3  77.1  92.6   90.8   99.8
TD3-Hopper       64.5  67.7  66.5   90.6   97.0
TD3-Walker2d     60.8  42.9  39.3   35.7   98.1
TD3-Ant          16.5  49.6  62.5   68.5   103.9
SAC-HalfCheetah  95.0  75.4  94.8   89.8   102.2
SAC-Hopper       89.1  81.6  103.9  110.0  109.7
SAC-Walker2d     73.8  83.4  95.8   81.9   103.2
SAC-Ant          49.6  49.3  79.8   90.9   105.6
"""


def cells(table: str) -> list[tuple[str, str, str]]:
    """Return the row's name, the column's name and the text of each cell."""
    (_, *columns), *rows = (line.split() for line in table.strip().splitlines())
    return [
        (name, column, text)
        for name, *texts in rows
        for column, text in zip(columns, texts, strict=True)
    ]


@pytest.mark.parametrize(("task", "method", "text"), cells(DS_RETURNS))
def test_returns_of_the_ds_family(task: str, method: str, text: str) -> None:
    hard = 1000 if method == "SAC-hard" else 0
    fields = {"hard_target_every": hard} if method.startswith("SAC") else {}
    config = preset(method.removesuffix("-hard"), f"{task}-v5", **fields)
    mean, std = map(float, text.split("±"))
    assert (printed(config).mean, printed(config).std) == (mean, std)


@pytest.mark.parametrize(("task", "method", "text"), cells(DS_AREAS))
def test_areas_of_the_ds_family(task: str, method: str, text: str) -> None:
    assert printed(preset(method, f"{task}-v5")).area == float(text)


@pytest.mark.parametrize(("row", "family", "text"), cells(RLX2_PERCENT_OF_DENSE))
def test_percentages_of_the_rlx2_family(row: str, family: str, text: str) -> None:
    agent, task = row.split("-")
    assert printed(preset(f"{family}-{agent}", f"{task}-v5")).percent == float(text)
