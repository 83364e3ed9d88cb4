"""Run the fuzzer of all file loaders for a few seconds; see fuzz/loaders.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS and /proc")
def test_damaged_and_hostile_files_are_rejected_or_usable() -> None:
    """Run all stored cases and 250 new ones, in a process with limited memory."""
    fuzzer = Path(__file__).parent / "fuzz" / "loaders.py"
    words = [sys.executable, str(fuzzer), "--cases", "250", "--seconds", "280"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "250 cases, 0 kinds of trouble"
