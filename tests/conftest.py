"""Define fixtures that several test files use."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings
from rich.live import Live

import sparl.report
from sparl import user_modules
from terminals import MakeTerminal, Terminal

# The speed of the machine must not decide whether a test passes.
settings.register_profile("sparl", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sparl")


@pytest.fixture
def waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder whose removal ends the waiting of runs in bad_environments:Waits-v0."""
    folder = tmp_path / "waits"
    folder.mkdir()
    monkeypatch.setenv("WAITS", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    return folder


@pytest.fixture(autouse=True)
def _do_not_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace fsync by a function that does nothing, to save time; some tests use their own."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(autouse=True)
def _forget_imported_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the modules named by `--import` after each test, so that messages omit them."""
    monkeypatch.setattr(user_modules, "_imported", [])


@pytest.fixture
def empty_drawings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace drawings with empty ones, which need no optional package."""
    module = ModuleType("sparl.report.charts")
    vars(module).update(
        page_spec=lambda *_: {}, page_config=dict, javascript=str,
        svg=lambda *_: "<svg/>", png=lambda _: b"",
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(sparl.report, "charts", module, raising=False)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> MakeTerminal:
    """Return a function that makes standard output a terminal of a given width."""

    def of_width(width: int) -> Terminal:
        screen = Terminal()
        monkeypatch.setattr(sys, "stdout", screen)
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("TERM", "xterm")
        # A live line is written with control sequences; its text is tested separately.
        monkeypatch.setattr(Live, "start", lambda self, refresh=False: None)
        return screen

    return of_width
