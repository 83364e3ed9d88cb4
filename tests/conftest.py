"""What tests in several files need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sparl import user_modules


@pytest.fixture
def waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that runs on bad_environments:Waits-v0 wait for to go."""
    folder = tmp_path / "waits"
    folder.mkdir()
    monkeypatch.setenv("WAITS", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    return folder


@pytest.fixture(autouse=True)
def _nothing_imported_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the modules of `--import` after each test, so that messages do not name them."""
    monkeypatch.setattr(user_modules, "_imported", [])
