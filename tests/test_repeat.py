"""Test results/repeat.py, which checks archived runs."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest

import repeat
import sparl

STEPS = ("--steps", "70")  # its last evaluation, at step 70, is not one of the archived run


@pytest.fixture
def archived(tmp_path: Path) -> Path:
    """A finished run whose evaluations are at steps 0, 20, 40, 60, 80 and 100."""
    run = sparl.train(
        "DS-TD3", "Pendulum-v1", steps=100, warmup_env_steps=30, evaluate_every_env_steps=20,
        evaluation_episodes=2, hidden=(8, 8), run_dir=str(tmp_path / "run"), quiet=True,
    )  # fmt: skip
    return run.path


def test_an_unchanged_run_is_equal(archived: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert repeat.main([str(archived), *STEPS]) == 0
    assert "equal: 4 evaluations" in capsys.readouterr().out


def test_a_changed_value_is_found(archived: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = archived / "evaluations.csv"
    lines = file.read_text().splitlines(keepends=True)
    mean = lines[3].split(",")[4]  # of the evaluation at step 40
    lines[3] = lines[3].replace(mean, str(float(mean) + 1e-9))
    file.write_text("".join(lines))
    assert repeat.main([str(archived), *STEPS]) == 1
    out = capsys.readouterr().out
    assert "1 of 4 evaluations differ, first at step 40" in out
    assert mean in out
    assert str(float(mean) + 1e-9) in out
    about = json.loads((archived / "run.json").read_text())
    about["versions"]["mujoco"] = "2.0.0"
    about["machine"]["subnormals"] = "rounded"
    (archived / "run.json").write_text(json.dumps(about))
    assert repeat.main([str(archived), *STEPS]) == 2
    out = capsys.readouterr().out
    assert "not comparable: mujoco is" in out
    assert re.search("; the treatment of subnormal numbers is '.*', but was 'rounded'", out)
    del about["versions"], about["bit_exact"]
    about["machine"]["system"] = 6
    (archived / "run.json").write_text(json.dumps(about))
    assert repeat.main([str(archived), *STEPS]) == 2
    assert "but was 'unknown'" in capsys.readouterr().out


def test_an_interrupted_repetition_compares_nothing(
    archived: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(repeat.Progress, "on_evaluation", interrupt)
    assert repeat.main([str(archived), *STEPS]) == 130
    assert "equal" not in capsys.readouterr().out


def test_invalid_input_is_reported_in_one_line(
    archived: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for steps in ("49", "101"):
        assert repeat.main([str(archived), "--steps", steps]) == 2
        assert f"--steps is {steps} but must be in [50, 100]" in capsys.readouterr().err
    assert repeat.main([str(tmp_path / "nothing")]) == 3
    assert capsys.readouterr().err.count("\n") == 1
