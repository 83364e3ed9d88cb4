"""Run all Python and shell blocks of the documentation, shortened, and examples/sparse_sb3.py."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import sparl
from doc_blocks import FIELDS, REPOSITORY, Block, blocks, shortened

CHAPTERS = ["guide/pytorch.md", "guide/stable-baselines3.md"]  # each block runs alone
SHORTER = {"CheckpointCallback(10_000": "CheckpointCallback(40", "60000_steps": "80_steps",
           "first=500, every=500": "first=20, every=20"}  # fmt: skip
PAGES = [
    page
    for page in sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")])
    if any(block.language in ("python", "bash") for block in blocks(page))
    and not any(page == REPOSITORY / "docs" / chapter for chapter in CHAPTERS)
]
LANGUAGES = {"", "bash", "c", "python", "text", "toml"}


def examples() -> Iterator[Any]:
    for chapter in CHAPTERS:
        page = REPOSITORY / "docs" / chapter
        for number, block in enumerate(blocks(page)):
            if block.language == "python":
                yield pytest.param(page.read_text(), block.code, id=f"{chapter}-{number}")


@pytest.mark.parametrize(
    "page", [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")],
    ids=lambda page: str(page.relative_to(REPOSITORY)),
)  # fmt: skip
def test_every_block_of_code_names_its_language(page: Path) -> None:
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{page.name}:{block.line}"
        if block.language == "":
            commands = re.search(r"^(sparl|pip|make|python|import|from) ", block.code, re.M)
            assert commands is None, f"{page.name}:{block.line}: {block.code}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the commands that shell blocks call, and with the files that pages name."""
    commands = tmp_path / "bin"
    commands.mkdir()
    script = REPOSITORY / "tests" / "doc_blocks.py"
    for name in ("sparl", "pip", "make", "tensorboard"):
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" {name} "$@"\n')
        (commands / name).chmod(0o755)
    work = tmp_path / "work"
    (work / ".venv").mkdir(parents=True)
    (work / ".venv" / "bin").symlink_to(commands)
    for name in ("studies", "results/runs", "results/agents"):
        shutil.copytree(REPOSITORY / name, work / name)
    monkeypatch.chdir(work)
    monkeypatch.setenv("PATH", str(commands), prepend=os.pathsep)
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.syspath_prepend(str(work))
    train = sparl.train
    monkeypatch.setattr(sparl, "train", lambda *names, **fields: train(*names, **FIELDS | fields))
    return work


PREPARED = {
    "RUN": "Pendulum-v1",
    "runs": "Pendulum-v1",
    "runs/DS-TD3_HalfCheetah-v5_seed0": "HalfCheetah-v5",
}


def prepare(page: Path, folder: Path) -> None:
    """Create the runs that a page uses but does not train."""
    for name, env in PREPARED.items():
        if re.search(rf"^sparl (?!train).* {name}(?= |$)", page.read_text(), re.M):
            path = folder / name / "run" if name == "runs" else folder / name
            sparl.train("DS-TD3", env, run_dir=str(path), quiet=True)


def run(block: Block, names: dict[str, Any]) -> None:
    """Write, parse or run a block."""
    code = shortened(block.code)
    if block.title:
        Path(block.title).write_text(code)
    if block.language == "toml":
        tomllib.loads(code)
    elif block.language == "python" and not block.title:
        exec(compile(code, f"line {block.line}", "exec"), names)
    elif block.language == "bash":
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", code], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"line {block.line}: {code}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_the_blocks_of_a_page_run_in_order(page: Path, folder: Path) -> None:
    prepare(page, folder)
    modules = set(sys.modules)
    names: dict[str, Any] = {}
    try:
        for block in blocks(page):
            run(block, names)
    finally:
        for module in set(sys.modules) - modules:
            if module.startswith("my_"):
                del sys.modules[module]


@pytest.mark.parametrize(("text", "code"), list(examples()))
def test_examples_in_the_docs_run(
    text: str,
    code: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for long, short in SHORTER.items():
        code = code.replace(long, short)
    code = shortened(code)
    names: dict[str, Any] = {}
    exec(compile(code, "docs", "exec"), names)
    printed = capsys.readouterr().out
    if "SAC" not in names and "DDPG" not in names and "densify" not in names:  # a table is shown
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
