"""Test the scripts in results/ that no other test covers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coverage_of_intervals
import older_masses
from sparl.training.tasks import make_task

AGENTS = Path(__file__).parents[1] / "results" / "agents"


def test_intervals_of_many_runs_contain_the_true_value_in_95_percent_of_the_cases(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(coverage_of_intervals, "RUNS", (3, 100))
    monkeypatch.setattr(coverage_of_intervals, "RUNS_OF_ONE", (2, 100))
    monkeypatch.setattr(coverage_of_intervals, "REPETITIONS", 400)
    monkeypatch.setattr(coverage_of_intervals, "REPETITIONS_OF_ONE", 400)
    monkeypatch.setattr(coverage_of_intervals, "REPETITIONS_OF_EQUAL", 40)
    monkeypatch.setattr(coverage_of_intervals, "RESAMPLES", 400)
    coverage_of_intervals.main()
    of_ratio, of_mean = capsys.readouterr().out.split("runs of one method")
    few, many = within(of_ratio)
    assert 72 < few < 88
    assert 91 < many < 98
    # The interval of two runs is their range, which contains the mean in half of the cases.
    few, many = within(of_mean.partition("equal methods")[0])
    assert 42 < few < 60
    assert 91 < many < 98


def within(table: str) -> list[float]:
    """Return the first column of percentages of a printed table."""
    return [float(found) for found in re.findall(r"^ +\d+ +([\d.]+)%", table, re.M)]


def test_older_masses_of_hopper() -> None:
    model: Any = make_task("Hopper-v3", None, "zero", None).unwrapped
    before = model.model.body_inertia.copy()
    older_masses.use_older_masses(model.model)
    # The masses [kg] that Hopper has with mujoco-py.
    np.testing.assert_allclose(
        model.model.body_mass, [0, 3.53429174, 3.92699082, 2.71433605, 5.0893801], rtol=1e-7
    )
    # Inertias decrease more than masses, because the missing mass is at the ends.
    ratio = model.model.body_inertia[1:] / before[1:]
    assert (ratio < 1).all()
    assert (ratio > 0.85).all()


def test_agents_play_with_both_sets_of_masses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(older_masses, "EPISODES", 1)
    older_masses.main([AGENTS / "TD3_Hopper-v3"])
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("TD3_Hopper-v3, installed masses (15.82 kg): return 3,2")
    assert second.startswith("TD3_Hopper-v3, older masses (15.26 kg): return ")
