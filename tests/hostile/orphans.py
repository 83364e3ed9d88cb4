"""Check that child processes that an environment leaves behind hold no files of the run."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import gymnasium
import pytest

import bad_environments as bad
from resuming import stopped_at
from sparl.cli import main
from sparl.training.run_folder import RunFolder


class Orphans(bad.Good):
    """Forks, during an episode, a child that keeps the inherited descriptors open."""

    def step(self, action: Any) -> Any:
        if self.steps == 5:
            child = os.fork()
            if not child:
                try:
                    signal.alarm(60)
                    signal.pause()
                finally:
                    os._exit(0)
            with Path(os.environ["MARK"]).open("a") as mark:
                mark.write(f"{child} ")
        return super().step(action)


gymnasium.register("Orphans-v0", Orphans, max_episode_steps=bad.LIMIT)


def check_that_children_hold_no_files(run: Path, *flags: str) -> None:
    """Train with surviving children until step 25, check their files, and resume the run."""
    mark = run.with_name("mark")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MARK", str(mark))
        with stopped_at(25):
            assert main(["train", "--env", "Orphans-v0", "--run-dir", str(run), *flags]) == 143
        children = [int(pid) for pid in mark.read_text().split()]
        try:
            assert children
            assert not RunFolder.open(run).in_use()
            for child in children:
                held = [str(fd.readlink()) for fd in Path(f"/proc/{child}/fd").iterdir()]
                assert not [path for path in held if path.startswith(str(run))]
            assert main(["resume", str(run)]) == 0
        finally:
            for child in [int(pid) for pid in mark.read_text().split()]:
                os.kill(child, signal.SIGTERM)  # they must not have inherited sparl's handler
                assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM
