"""Shortened examples of docs/ and examples/ that use PyTorch or Stable-Baselines3."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

REPOSITORY = Path(__file__).parents[3]
SHORTER = {
    "CheckpointCallback(10_000": "CheckpointCallback(40", "60000_steps": "80_steps",
    "100_000": "160", "40_000": "60", "1_000_000": "160", "20_000": "160", "10_000": "100",
    "1_000": "60", "2_000": "220", "first=500, every=500": "first=20, every=20",
}  # fmt: skip
CHAPTERS = ["pytorch.md", "stable-baselines3.md"]


def examples() -> Iterator[Any]:
    for chapter in CHAPTERS:
        text = (REPOSITORY / "docs" / chapter).read_text()
        for number, code in enumerate(re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)):
            yield pytest.param(text, code, id=f"{chapter}-{number}")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("text", "code"), list(examples()))
def test_examples_of_the_docs_run(
    text: str,
    code: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for long, short in SHORTER.items():
        code = code.replace(long, short)
    names: dict[str, Any] = {}
    exec(compile(code, "docs", "exec"), names)
    printed = capsys.readouterr().out
    if "SAC" not in names and "DDPG" not in names and "densify" not in names:  # tables are shown
        shown = [line for line in printed.splitlines() if " -> " in line and "qf" not in line]
        assert len(shown) == 3
        assert "\n".join(shown) in text
    if "model" in names and hasattr(names["model"], "sparse_topology"):
        for name in ("actor", "critic"):
            assert len(names["model"].sparse_topology[name]["positions"]) >= 3
            assert names["model"].sparse_topology[name]["topology_updates"] > 0
    elif "schedule" in names:
        assert names["sparsity"].topology_updates == 2
        model, optimizer, sparsity = torch.load("checkpoint.pt", weights_only=True)
        names["model"].load_state_dict(model)
        names["optimizer"].load_state_dict(optimizer)
        names["sparsity"].load_state_dict(sparsity)


def test_sparse_sb3(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", REPOSITORY / "examples" / "sparse_sb3.py", "120"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PATH": "", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"return -[\d,.]+ ± [\d.]+$", done.stdout, re.M)
    left = re.search(r"^([\d,]+) weights of the loaded actor", done.stdout, re.M)
    total = re.search(r"^RigL: ([\d,]+) of 121,500 connections, 10.0%", done.stdout, re.M)
    assert left is not None
    assert total is not None
    # A connection that has just grown may still be zero.
    assert 0 < int(left[1].replace(",", "")) <= int(total[1].replace(",", ""))
