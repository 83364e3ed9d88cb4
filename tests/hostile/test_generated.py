"""Run commands on generated hostile files; see campaign.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS and /proc")
def test_no_generated_file_reaches_beyond_its_folder() -> None:
    """Run 30 cases of each kind in a separate process, since an audit hook cannot be removed."""
    campaign = Path(__file__).with_name("campaign.py")
    words = [sys.executable, str(campaign), "--cases", "210", "--seconds", "900"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "210 cases, 0 kinds of trouble"
