"""A study on Ray imports nothing from the folder where it is started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray")

STUDY = """
methods = ["TD3"]
environments = ["Pendulum-v1"]
seeds = 1
[fields]
steps = 20
hidden = [4]
batch_size = 4
warmup_env_steps = 10
evaluation_episodes = 1
evaluate_every_env_steps = 20
"""


def test_a_study_on_ray_imports_nothing_from_the_folder_where_it_is_started(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(STUDY)
    executed = tmp_path / "executed"
    for name in ("google", "numpy", "psutil", "sparl", "rich"):
        (tmp_path / f"{name}.py").write_text(f"open({str(executed)!r}, 'w').close()\n")
    words = [sys.executable, "-P", "-m", "sparl", "study", "run", "study.toml", "--ray"]
    done = subprocess.run([*words, "--processes", "1"], cwd=tmp_path, check=False, timeout=180)
    assert not executed.exists()
    assert done.returncode == 0
