"""Test that runs whose processes are killed end with the same results after they are resumed."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

import children
import sparl
from children import has_handler, wait_until
from resuming import results
from sparl.training.checkpoint import Checkpoints, step_of

pytestmark = pytest.mark.slow

# A small run with every feature: topology updates, own patterns of the targets, windows of three
# steps. An interval of three steps between checkpoints lets most kills hit a save.
FIELDS: dict[str, Any] = {
    "method": "DS-TD3", "env": "Hopper-v5", "steps": 90, "warmup_env_steps": 20, "threads": 1,
    "hidden": (8, 8), "batch_size": 4, "evaluate_every_env_steps": 30, "evaluation_episodes": 1,
    "max_episode_steps": 25, "actor_densities": (0.5, 0.5, 1.0), "rewire_every_updates": 7,
    "critic_densities": (0.5, 0.5, 1.0), "n_step": 3, "replay_capacity": 50,
    "checkpoint_every_env_steps": 3, "resume": "auto", "quiet": True,
}  # fmt: skip
KILLS = 36
SEED = 5


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("undisturbed")
    return results(sparl.train(**{**FIELDS, "resume": "no"}, run_dir=path).path)


@pytest.fixture
def start() -> Iterator[Callable[..., BaseProcess]]:
    """Start processes that are forked from one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sparl.training.loop", "gymnasium.envs.mujoco.hopper_v5"])
    started: list[BaseProcess] = []

    def start(target: Callable[..., None], *arguments: object) -> BaseProcess:
        process = context.Process(target=target, args=arguments)
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.join()


def train(path: str) -> None:
    """Run the command that a scheduler repeats."""
    sparl.train(**FIELDS, run_dir=path)


def train_to_operation(path: str, operation: int) -> None:
    """Kill the process in the middle of a file operation of the fourth save."""
    from sparl.training.saving import CheckpointSaver

    os.fsync = lambda descriptor: None  # the data of a killed process stays in the page cache
    original = CheckpointSaver.save
    count = 0

    def counted(name: str) -> Callable[..., Any]:
        really = getattr(os, name)

        def wrapped(*arguments: Any, **folders: int) -> Any:
            nonlocal count
            count += 1
            if count == operation:
                if name == "write":
                    descriptor, data = arguments
                    really(descriptor, data[: len(data) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return None if name == "fsync" else really(*arguments, **folders)

        return wrapped

    def save(self: CheckpointSaver, env_step: int, *given: Any, last: bool) -> Path | None:
        if env_step == 12:
            for name in ("write", "fsync", "rename", "replace", "mkdir", "unlink", "rmdir"):
                setattr(os, name, counted(name))
        saved = original(self, env_step, *given, last=last)
        if env_step == 12:
            os._exit(0)
        return saved

    CheckpointSaver.save = save  # type: ignore[method-assign]
    train(path)


def newest_checkpoint(run: Path) -> int:
    """Return the step of the newest checkpoint, or -1 if there is none."""
    return max(map(step_of, Checkpoints(run).newest_first()), default=-1)


def test_runs_killed_at_random_times_end_with_the_results_of_uninterrupted_ones(
    start: Callable[..., BaseProcess], tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    """Kill a process at most a few hundredths of a second after a checkpoint or its start."""
    rng = random.Random(SEED)
    killed: list[int] = []  # the checkpoints that existed at each kill
    runs = 0
    while len(killed) < KILLS:
        runs += 1
        path, here = tmp_path / str(runs), len(killed)
        while True:
            process = start(train, str(path))
            if len(killed) < here + 20:
                checkpoint = newest_checkpoint(path) + rng.randrange(30)
                while process.is_alive() and newest_checkpoint(path) < checkpoint:
                    time.sleep(0.001)
                process.join(rng.uniform(0, 0.03))
                process.kill()
            process.join()
            if process.exitcode != -signal.SIGKILL:
                break
            killed.append(newest_checkpoint(path))
        happened = f"run {runs} of seed {SEED}, killed with checkpoints {killed[here:]}"
        assert process.exitcode == 0, happened
        assert results(path) == undisturbed, happened
        assert not list(path.glob("*.tmp*")), happened
    assert len(set(killed)) >= 10


def test_a_run_killed_in_any_file_operation_of_a_save_is_resumed(
    start: Callable[..., BaseProcess],
    tmp_path: Path,
    undisturbed: dict[str, Any],
) -> None:
    for operation in range(1, 100):
        path = tmp_path / str(operation)
        process = start(train_to_operation, str(path), operation)
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        sparl.resume(path, quiet=True, checkpoint_every_env_steps=40)
        assert results(path) == undisturbed, f"killed in operation {operation}"
    assert operation > 15


# --- Signals -----------------------------------------------------------------------------------

WORDS = [
    "train", "--method", "TD3", "--env", "Hopper-v5", "--run-dir", "run",
    "--steps", "1_000_000", "--warmup-env-steps", "1_000_000", "--max-episode-steps", "20",
    "--hidden", "8", "--evaluate-every-env-steps", "500", "--threads", "1",
]  # fmt: skip


def wait_for_line(process: subprocess.Popen[str], part: str) -> str:
    assert process.stdout
    for line in process.stdout:
        if part in line:
            return line
    raise AssertionError(f"it ended without {part!r}")


@pytest.mark.parametrize(
    ("by", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"]
)
def test_a_run_that_receives_a_signal_saves_prints_the_command_and_ends(
    by: signal.Signals, code: int, tmp_path: Path
) -> None:
    with children.sparl(*WORDS, "--evaluation-episodes", "1", cwd=tmp_path) as process:
        wait_for_line(process, "step=500 ")
        process.send_signal(by)
        line = wait_for_line(process, "stopped by")
        assert line.startswith(f"stopped by {by.name} at step ")
        wait_for_line(process, "to resume:")
        assert wait_for_line(process, "resume run") == "  sparl resume run\n"
        assert process.wait() == code
    step = int(line.split()[5].rstrip(":").replace(",", ""))
    assert (tmp_path / "run" / f"checkpoint-{step}" / "manifest.json").exists()


def test_ctrl_c_twice_ends_at_once(tmp_path: Path) -> None:
    """The signal arrives during an evaluation of a million episodes."""
    with children.sparl(*WORDS, "--evaluation-episodes", "1_000_000", cwd=tmp_path) as process:
        wait_for_line(process, "steps of warm-up")
        # After the first signal, the default handlers are active again.
        wait_until(lambda: has_handler(process.pid, signal.SIGTERM))
        process.send_signal(signal.SIGINT)
        wait_until(lambda: not has_handler(process.pid, signal.SIGTERM))
        assert process.poll() is None  # the process waits until the evaluation has ended
        process.send_signal(signal.SIGINT)
        assert process.wait() == -signal.SIGINT
    assert not list((tmp_path / "run").glob("checkpoint-*"))
