"""What tests in several files need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that runs on bad_environments:Waits-v0 wait for to go."""
    folder = tmp_path / "waits"
    folder.mkdir()
    monkeypatch.setenv("WAITS", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    return folder
