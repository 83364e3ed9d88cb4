"""The speed and the remaining time that a run prints."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest

from sparl.console import PlainConsole
from sparl.training.console import RunConsole
from sparl.training.evaluate import Evaluation


def test_speed_is_that_of_late_and_the_time_left_waits_for_the_warm_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A warm-up of 1,000 steps/s, then 100; evaluations of 5 s every 1,000 steps."""
    clock = 50.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    console = RunConsole(20_000, "7 of 7 connections", 2_000)

    def evaluate(env_step: int) -> tuple[str, str]:
        nonlocal clock
        clock += 5
        console.evaluated(env_step, Evaluation((1.0,), (1,), np.zeros((1, 3), np.float32)))
        found = re.search(r"(\S+) steps/s +(\S+) left", capsys.readouterr().out)
        assert found
        return found[1], found[2]

    assert evaluate(0) == ("-", "-:--")
    console.begin(0)
    seen = {}
    for env_step in range(1, 20_001):
        clock += 0.001 if env_step <= 2_000 else 0.01
        if env_step % 1_000 == 0:
            seen[env_step] = evaluate(env_step)
        console.stepped(env_step)
    assert 155 <= int(seen[1_000][0]) <= 167  # 6 s, including the evaluation
    assert seen[1_000][1] == "-:--"
    assert seen[2_000] == ("-", "-:--")
    for env_step in range(3_000, 20_001, 1_000):
        speed, left = seen[env_step]
        assert 60 <= int(speed) <= 68  # 15 s with the evaluation
        minutes, seconds = map(int, left.split(":"))
        assert 60 * minutes + seconds == pytest.approx((20_000 - env_step) * 0.015, rel=0.07, abs=2)


def test_a_resumed_run_does_not_count_earlier_steps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    console = RunConsole(20_000, "", 2_000)
    console.begin(10_000)
    clock = 10.0
    console.evaluated(11_000, Evaluation((1.0,), (1,), np.zeros((1, 3), np.float32)))
    assert "    100 steps/s     1:30 left" in capsys.readouterr().out


def test_text_that_looks_like_markup_is_printed_unchanged(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The name of a folder can contain any character."""
    PlainConsole().print("runs/[t]1 [/x] :warning: of 1,000")
    assert capsys.readouterr().out == "runs/[t]1 [/x] :warning: of 1,000\n"
