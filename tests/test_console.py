"""Test the progress that a run shows on terminals of any width, in a pipe and in a notebook."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sparl.cli import main
from sparl.console import PlainConsole
from sparl.text_table import Column, table_lines, wrapped
from sparl.training.console import RunConsole
from sparl.training.evaluate import Evaluation
from sparl.training.evaluation_rows import compact, duration
from terminals import WIDTHS, MakeTerminal, check_lines


def evaluation(*returns: float) -> Evaluation:
    return Evaluation(returns, (1,) * len(returns), np.zeros((1, 3), np.float32))


def values(line: str) -> dict[str, float]:
    """Parse a line of piped output as the documentation describes."""
    return {name: float(value) for name, value in (word.split("=") for word in line.split())}


# ------------------------------------------------------------------ speed and time left


def test_the_speed_is_recent_and_the_remaining_time_is_unknown_during_the_warm_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The warm-up runs at 1,000 steps/s and training at 100; each evaluation takes 5 s."""
    clock = 50.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    console = RunConsole(20_000, warmup=2_000)

    def evaluate(env_step: int) -> tuple[float, float]:
        nonlocal clock
        clock += 5
        console.evaluated(env_step, evaluation(1.0), {}, clock)
        found = values(capsys.readouterr().out)
        assert found["elapsed_s"] == pytest.approx(clock, rel=1e-5)
        return found["steps_per_s"], found["left_s"]

    assert np.isnan(evaluate(0)).all()
    console.begin(0)
    seen = {}
    for env_step in range(1, 20_001):
        clock += 0.001 if env_step <= 2_000 else 0.01
        if env_step % 1_000 == 0:
            seen[env_step] = evaluate(env_step)
        console.stepped(env_step)
    assert 155 <= seen[1_000][0] <= 167  # 6 s, including the evaluation
    assert math.isnan(seen[1_000][1])
    assert np.isnan(seen[2_000]).all()
    for env_step in range(3_000, 20_001, 1_000):
        speed, left = seen[env_step]
        assert 60 <= speed <= 68  # 15 s with the evaluation
        assert left == pytest.approx((20_000 - env_step) * 0.015, rel=0.07, abs=2)


def test_a_resumed_run_does_not_count_earlier_steps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    console = RunConsole(20_000, warmup=2_000)
    console.begin(10_000)
    clock = 10.0
    console.evaluated(11_000, evaluation(1.0), {}, 500.0)
    found = values(capsys.readouterr().out)
    assert (found["steps_per_s"], found["left_s"], found["elapsed_s"]) == (100, 90, 500)


# ------------------------------------------------------------------ widths


TRAIN = [
    "train", "--method", "DS-TD3", "--env", "Pendulum-v1", "--steps", "300",
    "--warmup-env-steps", "100", "--hidden", "16", "16", "--batch-size", "16",
    "--evaluate-every-env-steps", "100", "--evaluation-episodes", "2", "--threads", "1",
]  # fmt: skip


@pytest.mark.parametrize("width", WIDTHS)
def test_a_run_fits_into_a_terminal_of_any_width(
    width: int, terminal: MakeTerminal, tmp_path: Path
) -> None:
    run = tmp_path / "a-folder-with-hyphens" / "and a space"  # longer than the narrow terminals
    printed = []
    for columns in (10_000, width):
        screen = terminal(columns)
        assert main([*TRAIN, "--overwrite", "--run-dir", str(run)]) == 0
        printed.append(screen.getvalue().replace(f"'{run}'", str(run)))
    check_lines(printed[1], width, printed[0], str(run))
    lines = printed[1].splitlines()
    titles = next(line for line in lines if line.lstrip().startswith("step "))
    shown = [name for name in ("std", "q", "steps/s", "elapsed", "left") if name in titles.split()]
    expected = {40: 3, 60: 4, 80: 5, 120: 5}[width]
    assert len(shown) == expected
    rows = [line for line in lines if re.match(r" *(0|100|200|300) +-", line)]
    assert len({len(row) for row in rows}) == 1  # aligned
    assert len(rows) == 4
    for fact in ("DS-TD3", "Pendulum-v1", "seed 0", "total"):
        assert sum(fact in line for line in lines) == 1, fact  # each constant fact appears once


def test_the_agents_metrics_decide_which_columns_exist(
    terminal: MakeTerminal,
) -> None:
    screen = terminal(120)
    console = RunConsole(1_000_000, ("a_loss", "own", "further"), ("own",))
    console.evaluated(5_000, evaluation(-1.0, 1.0), {"own": 0.5, "a_loss": 12.25}, 3700.0)
    above, titles, row = screen.getvalue().splitlines()
    words = [
        "step",
        "mean",
        "std",
        "return",
        "own",
        "loss",
        "further",
        "steps/s",
        "elapsed",
        "left",
    ]
    assert titles.split() == words
    assert above.split() == ["return", "episode", "a"]
    assert row.split() == ["5,000", "0.00", "1.00", "-", "0.500", "12.25", "-", *row.split()[7:]]
    assert row.split()[8] == "1h01m"


def test_titles_are_repeated_only_if_the_columns_change(
    terminal: MakeTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = terminal(80)
    console = RunConsole(1_000_000, ("critic_loss", "q"), ("critic_loss", "q"))
    for width, lines in ((80, 3), (80, 4), (60, 7), (60, 8)):
        console._console.width = width  # as when the window is resized
        console.evaluated(5_000, evaluation(1.0), {}, 1.0)
        assert len(screen.getvalue().splitlines()) == lines


@pytest.mark.parametrize("width", WIDTHS)
def test_the_progress_bar_fits_in_one_line(
    width: int, terminal: MakeTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    screen = terminal(width)
    console = RunConsole(12_000_000)
    console.begin(0)
    clock = 7_000.0
    console.stepped(6_000_000)
    PlainConsole().print(console._bar_line(6_000_000))
    (line,) = re.sub(r"\x1b\[\d*m", "", screen.getvalue()).splitlines()
    assert len(line.rstrip()) <= width
    assert " 50%  1h56m left" in line
    assert line.startswith("\N{BOX DRAWINGS HEAVY HORIZONTAL}" * 5)
    assert ("857 steps/s" in line) == (width >= 80)


def test_lines_are_wrapped_only_between_words() -> None:
    text = "note: a/path/that/is-longer-than-the-line and words\n    indented words of a line"
    assert wrapped(text, 20).splitlines() == [
        "note:", "  a/path/that/is-longer-than-the-line", "  and words",
        "    indented words", "      of a line",
    ]  # fmt: skip


def test_a_table_omits_columns_or_puts_names_on_separate_lines() -> None:
    columns = [Column("run", left=True), Column("state"), Column("steps\nso far", rank=1)]
    rows = [["a-long-name-of-a-run", "running", "1,000"], ["b", "failed", "20"]]
    assert table_lines(columns, rows, 80) == [
        "                                steps",
        "run                     state  so far",
        "a-long-name-of-a-run  running   1,000",
        "b                      failed      20",
    ]
    assert table_lines(columns, rows, 30) == [
        "run                     state", "a-long-name-of-a-run  running",
        "b                      failed",
    ]  # fmt: skip
    assert table_lines(columns, rows, 30, names=True) == [
        "run", "            steps", "    state  so far",
        "a-long-name-of-a-run", "  running   1,000", "b", "   failed      20",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"), (0.0, "0.00"), (0.00123, "1.2e-3"), (-0.0123, "-0.012"), (0.9996, "1.00"),
        (12.345, "12.35"), (-123.45, "-123.5"), (999.96, "1,000"), (-99_999.4, "-99,999"),
        (123_456.0, "1.2e5"), (-1.5e-123, "-1.5e-123"), (7, "7"), (857, "857"),
    ],
)  # fmt: skip
def test_numbers_are_compact(value: float | None, text: str) -> None:
    assert compact(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.4, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3600, "1h00m"),
     (86_399, "23h59m"), (95 * 3600, "95h00m"), (4 * 86_400, "4d00h"), (1e9, "11574d01h")],
)  # fmt: skip
def test_durations_are_compact(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


# ------------------------------------------------------------------ pipes, notebooks, modes


def test_a_pipe_gets_one_line_per_evaluation_that_can_be_parsed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main([*TRAIN, "--run-dir", str(run)]) == 0
    out = capsys.readouterr().out
    found = [values(line) for line in out.splitlines() if line.startswith("step=")]
    assert [each["step"] for each in found] == [0, 100, 200, 300]
    rows = (run / "evaluations.csv").read_text().splitlines()
    titles = rows[0].split(",")
    for each, row in zip(found, rows[1:], strict=True):
        recorded = dict(zip(titles, map(float, row.split(",")), strict=True))
        assert each["return"] == pytest.approx(recorded["mean"], rel=1e-5)
        assert each["std"] == pytest.approx(recorded["std"], rel=1e-5)
    assert list(found[0]) == [
        "step", "return", "std", "episode_return", "critic_loss", "actor_loss", "q",
        "steps_per_s", "elapsed_s", "left_s",
    ]  # fmt: skip
    assert math.isnan(found[0]["critic_loss"])
    assert found[-1]["critic_loss"] > 0
    assert f"\n{run}\n" in out
    assert f"\n  sparl evaluate {run}\n" in out


def test_a_notebook_shows_one_bar_and_a_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[dict[str, str]] = []
    handles = []

    class Handle:
        def update(self, content: dict[str, str], raw: bool) -> None:
            shown.append(content)

    def display(content: dict[str, str], raw: bool, display_id: bool) -> Handle:
        shown.append(content)
        handles.append(Handle())
        return handles[-1]

    monkeypatch.setitem(sys.modules, "IPython", type(sys)("IPython"))
    module = type(sys)("IPython.display")
    monkeypatch.setattr(module, "display", display, raising=False)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setattr("sparl.training.console.in_notebook", lambda: True)
    console = RunConsole(300, ("critic_loss",), ("critic_loss",))
    with console:
        for env_step in (0, 100, 200, 300):
            console.evaluated(env_step, evaluation(1.0), {}, 1.0)
    assert len(handles) == 1
    assert [content["text/plain"].split()[0] for content in shown[1:]] == [
        "0%",
        "33%",
        "67%",
        "100%",
    ]
    assert 'value="300" max="300"' in shown[-1]["text/html"]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 4
    assert all(len(line) <= 80 for line in lines)


def test_text_that_looks_like_markup_is_printed_unchanged(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The name of a folder can contain any character."""
    PlainConsole().print("runs/[t]1 [/x] :warning: of 1,000")
    assert capsys.readouterr().out == "runs/[t]1 [/x] :warning: of 1,000\n"


def test_output_in_a_pipe_is_plain_although_colours_are_forced(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "sparl", "train", "--env", "Pendulum-v1", "--steps", "60"]
    words += ["--warmup-env-steps", "30", "--hidden", "8", "--evaluation-episodes", "1"]
    done = subprocess.run(
        words, cwd=tmp_path, check=True, capture_output=True, text=True,
        env=os.environ | {"FORCE_COLOR": "1"},
    )  # fmt: skip
    assert "\x1b" not in done.stdout
    assert "\u2501" not in done.stdout
    assert re.search(r"^step=60 ", done.stdout, re.M)
