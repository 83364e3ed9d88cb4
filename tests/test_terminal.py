"""Test the output of all other commands on terminals of any width."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparl.bench import growth, kernels, training, update
from sparl.cli import main
from sparl.training.console import RunConsole
from sparl.training.evaluate import Evaluation
from sparl.training.machine import commit
from terminals import WIDTHS, MakeTerminal, check_lines

SMALL = [
    "--method", "DS-TD3", "--env", "Pendulum-v1", "--steps", "120", "--hidden", "16", "16",
    "--warmup-env-steps", "40", "--evaluation-episodes", "2", "--batch-size", "16",
    "--threads", "1",
]  # fmt: skip
STUDY = """
methods = ["TD3", "DS-TD3"]
environments = ["Pendulum-v1"]
seeds = 2
[fields]
steps = 40
warmup_env_steps = 20
evaluation_episodes = 1
hidden = [8]
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run, a finished study and a study that has not been started."""
    folder = tmp_path_factory.mktemp("folder")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", *SMALL, "--run-dir", "runs/a-run", "--quiet"]) == 0
        Path("study.toml").write_text(STUDY)
        Path("waiting.toml").write_text(STUDY)
        assert main(["study", "run", "study.toml", "--processes", "2"]) == 0
    return folder


COMMANDS = [
    "evaluate runs/a-run", "info", "info runs/a-run", "cost --method DS-TD3 --env HalfCheetah-v5",
    "cost --method RLx2-SAC --env HalfCheetah-v3", "export runs/a-run --format c",
    "export runs/a-run --format c --int8", "export runs/a-run --format npz",
    "study run study.toml", "study run waiting.toml --dry-run", "study status study.toml",
    "study status waiting.toml", "report --tables-only runs/study --out report",
    "archive runs/a-run --to archive", "resume runs/a-run", "--version",
]  # fmt: skip


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_fits_into_a_terminal_of_any_width(
    words: str, width: int, here: Path, terminal: MakeTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)
    if words.startswith("archive") and not commit():
        words += " --commit abcdef0"
    printed = []
    for columns in (10_000, width):
        screen = terminal(columns)
        assert main(words.replace("--to archive", f"--to archive/{width}/{columns}").split()) == 0
        printed.append(re.sub(r"\x1b\[[?\d;]*\w", "", screen.getvalue()))
    check_lines(printed[1], width, printed[0])
    for path in re.findall(r"runs/[\w./-]+|report/\S+|archive/\S+", printed[1]):
        command = rf"\s*(sparl [\w ]+ )?{re.escape(path)}"
        lines = [line for line in printed[1].splitlines() if path in line]
        if words.split()[0] not in ("info", "resume"):  # their sentences contain a command
            assert all(re.fullmatch(command, line) for line in lines), path


def test_json_is_never_wrapped(
    here: Path, terminal: MakeTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)
    for words in (["evaluate", "runs/a-run"], ["info"], ["methods"], ["cost", *SMALL]):
        printed = []
        for columns in (10_000, 40):
            screen = terminal(columns)
            assert main([*words, "--json"]) == 0
            printed.append(re.sub(r"[\d.e+-]+", "0", screen.getvalue()))
        assert printed[0] == printed[1]


@pytest.mark.parametrize("width", WIDTHS)
def test_bench_fits_into_a_terminal_of_any_width(
    width: int, terminal: MakeTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    took = dict.fromkeys((*kernels.KERNELS, "NumPy dense", "SciPy CSR"), 1234.5)
    row = {
        "inputs": 4096, "outputs": 4096, "batch": 256, "density": 0.05, "connections": 838_860,
        "microseconds": took, "roofline": dict.fromkeys(kernels.KERNELS, 321.0),
    }  # fmt: skip
    rows: list[dict[str, Any]] = [
        {
            "name": "DS-TD3, batch 100", "steps_per_second": {1: 507.0, 2: 1022.0},
            "floor_ms": {"update": 1.0, "environment": 0.1, "evaluation": 0.1},
        },
        {"name": "SB3", "steps_per_second": {1: 50.0, 2: 70.0}},
    ]  # fmt: skip
    fit = {"per_neuron": 1.0, "per_connection": 2.0, "largest_deviation": 0.05}
    sizes = {
        "rows": [{"width": 4096, "connections": 1_000_000, "milliseconds": 1.5, "bytes": 1e8}],
        "milliseconds": fit, "bytes": fit,
    }  # fmt: skip
    monkeypatch.setattr(kernels, "peak", lambda: 100.0)
    monkeypatch.setattr(kernels, "all_kernels", lambda peak, quick: [row, row])
    monkeypatch.setattr(training, "all_trainings", lambda *_, **__: rows)
    monkeypatch.setattr(growth, "all_sizes", lambda quick: sizes)
    parts = {"total": 900.0, "critics": 500.0, "actor": 200.0, "targets": 100.0, "sampling": 100.0}
    monkeypatch.setattr(update, "split", lambda *_, **__: parts)
    printed = []
    for columns in (10_000, width):
        screen = terminal(columns)
        assert main(["bench"]) == 0
        printed.append(screen.getvalue())
    check_lines(printed[1], width, printed[0])
    assert ("SciPy" in printed[1]) == (width >= 120)


@pytest.mark.parametrize("width", WIDTHS)
def test_warnings_and_errors_are_wrapped_between_words(
    width: int, terminal: MakeTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = []
    for columns in (10_000, width):
        screen = terminal(columns)
        monkeypatch.setattr("sys.stderr", screen)
        assert main(["train", "--total-timesteps", "3", "--learning_starts", "1"]) == 2
        RunConsole(10).warn("a folder cannot be written; training continues, and it is tried again")
        printed.append(screen.getvalue())
    check_lines(printed[1], width, printed[0])


def test_an_evaluation_of_large_values_keeps_its_columns(terminal: MakeTerminal) -> None:
    screen = terminal(80)
    console = RunConsole(10_000_000, ("critic_loss", "q"), ("critic_loss", "q"))
    for value in (1.0, -99_999.0, 123_456_789.0, 1e-9):
        evaluation = Evaluation((value, -value), (1, 1), np.zeros((1, 3), np.float32))
        metrics = {"critic_loss": value, "q": -value, "episode_return": value}
        console.evaluated(9_999_999, evaluation, metrics, 400_000.0)
    lines = screen.getvalue().splitlines()[2:]
    assert {len(line) for line in lines} == {len(lines[0])}
    assert len(lines[0]) <= 80
