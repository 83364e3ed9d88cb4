"""Evaluation: the same episodes on one core and, in copies of the process, on several."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparl.errors import Diverged, EnvironmentFault
from sparl.methods import preset
from sparl.training.environment import Environment
from sparl.training.evaluate import Evaluation, Evaluator
from sparl.training.fork import Fork, shared_zeros
from sparl.training.run_folder import RunFolder


def hop(x: Any) -> Any:
    """A policy of Hopper's three actions."""
    return np.tanh(x[:, :3])


def hopper() -> Environment:
    return Environment("Hopper-v5")


@pytest.fixture(autouse=True)
def no_process_left() -> Any:
    before = our_children()
    yield
    assert our_children() <= before  # earlier tests may have left multiprocessing's tracker


def our_children() -> set[str]:
    """Processes that this one started and that exist, ended or not."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if status.read_text().rpartition(")")[2].split()[1] == str(os.getpid()):
                found.add(status.parent.name)
    return found


def test_evaluation_episodes_do_not_depend_on_what_is_played_beside_or_before() -> None:
    """On MuJoCo, whose episodes here end at different times."""

    def evaluation(episodes: int, seed: int, times: int = 1, cores: int = 1) -> Evaluation:
        evaluator = Evaluator(lambda: Environment("Hopper-v5"), episodes, seed)
        for _ in range(times):
            result = evaluator.evaluate(hop, cores)
        evaluator.close()
        return result

    many = evaluation(13, seed=100)  # more than play side by side
    assert len(set(many.lengths)) > 3
    assert evaluation(13, seed=100, times=2) == many
    for cores in (2, 3, 20):
        assert evaluation(13, seed=100, cores=cores) == many
    for episodes in (1, 2, 5):
        alone = evaluation(episodes, seed=100)
        assert alone.returns == many.returns[:episodes]
        assert alone.lengths == many.lengths[:episodes]
    assert evaluation(2, seed=101).returns != many.returns[:2]
    assert many.mean == pytest.approx(sum(many.returns) / 13)
    assert many.std == pytest.approx(np.std(many.returns))


def test_a_copy_that_dies_is_played_again_here() -> None:
    evaluator = Evaluator(hopper, 5, seed=0)
    alone = evaluator.evaluate(hop)
    here = os.getpid()

    def dies(x: Any) -> Any:
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return hop(x)

    assert evaluator.evaluate(dies, cores=3) == alone
    evaluator.close()


def test_where_no_process_is_to_be_had_this_one_plays(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = Evaluator(hopper, 5, seed=0)
    alone = evaluator.evaluate(hop)
    tried = []

    def fork() -> int:
        tried.append(1)
        raise BlockingIOError("no process is to be had")

    monkeypatch.setattr(os, "fork", fork)
    assert evaluator.evaluate(hop, cores=3) == alone
    assert len(tried) == 2
    evaluator.close()


def test_what_a_copy_meets_reaches_the_caller() -> None:
    made: list[Environment] = []

    def make() -> Environment:
        made.append(hopper())
        return made[-1]

    evaluator = Evaluator(make, 4, seed=0)
    evaluator.evaluate(hop, cores=2)
    with pytest.raises(Diverged, match="not finite"):
        evaluator.evaluate(lambda x: hop(x) * np.nan, cores=2)
    made[0].gym.reset = lambda seed: (np.full(11, np.nan), {})  # type: ignore
    with pytest.raises(EnvironmentFault, match=r"Hopper-v5: reset returned observation\[0\] = nan"):
        evaluator.evaluate(hop, cores=2)
    evaluator.close()


def test_ctrl_c_ends_the_copies_too() -> None:
    """Their episodes would be long."""
    evaluator = Evaluator(lambda: Environment("HalfCheetah-v5", 1_000_000), 2, seed=0)
    here = os.getpid()
    steps = 0

    def policy(x: Any) -> Any:
        nonlocal steps
        steps += 1
        if os.getpid() == here and steps == 5:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        return np.zeros((len(x), 6), np.float32)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            evaluator.evaluate(policy, cores=2)
    finally:
        signal.signal(signal.SIGINT, before)
    assert steps == 5
    evaluator.close()


def test_a_copy_holds_no_file_and_no_ctrl_c_of_this_process(tmp_path: Path) -> None:
    """A run that is killed while it evaluates can be resumed at once."""
    seen = shared_zeros(1, 2)
    goes_on, go_on = os.pipe()
    folder = RunFolder.create(preset("DS-TD3", "Hopper-v5", run_dir=str(tmp_path / "run")))

    def work() -> None:
        seen[0, 0] = len(list(Path("/proc/self/fd").iterdir()))
        seen[0, 1] = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        signal.pause()

    copy = Fork(work)
    while not seen.all():
        pass
    assert seen.tolist() == [[4, 1]]  # the standard ones, and the listing itself
    folder.close()
    again = RunFolder.open(folder.path)
    again.lock()
    again.close()
    copy.close()
    os.close(goes_on)
    os.close(go_on)


def test_a_copy_may_print() -> None:
    here, calls = os.getpid(), 0

    def prints(x: Any) -> Any:
        nonlocal calls
        calls += os.getpid() == here
        print("something", flush=True)
        return np.zeros((len(x), 6), np.float32)

    evaluator = Evaluator(lambda: Environment("HalfCheetah-v5", 50), 2, seed=0)
    evaluator.evaluate(prints, cores=2)
    assert calls == 50  # the copy's episode was not played again
    evaluator.close()


def test_a_copy_ends_with_its_process() -> None:
    script = (
        "import os, signal\n"
        "from sparl.training.fork import Fork, shared_zeros\n"
        "seen = shared_zeros(1, 1)\n"
        "copy = Fork(lambda: (seen.fill(os.getpid()), signal.pause()))\n"
        "while not seen[0, 0]: pass\n"
        "print(int(seen[0, 0]), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    stat = Path(f"/proc/{int(done.stdout)}/stat")
    deadline = time.monotonic() + 10
    while stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z":
        assert time.monotonic() < deadline


def test_where_nobody_hears_of_a_copys_end_this_process_plays() -> None:
    evaluator = Evaluator(hopper, 3, seed=0)
    alone = evaluator.evaluate(hop)
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert evaluator.evaluate(hop, cores=2) == alone
    finally:
        signal.signal(signal.SIGCHLD, before)
    evaluator.close()


def test_whether_work_was_done() -> None:
    done = shared_zeros(1, 1)
    copy = Fork(lambda: done.fill(1))
    assert copy.succeeded()
    copy.close()  # nothing any more
    assert done.tolist() == [[1]]
    copy = Fork(lambda: 1 / 0)
    assert not copy.succeeded()
