"""Evaluation: the same episodes in this process alone and with worker processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv

import bad_environments as bad
import sparl
from children import command, wait_until
from resuming import results
from sparl import _native, user_modules
from sparl.configuration import Config
from sparl.errors import Diverged, EnvironmentFault
from sparl.methods import architecture, preset
from sparl.training import evaluation_workers
from sparl.training.agent_file import pack_agent
from sparl.training.environment import Environment, make_environment
from sparl.training.evaluate import Evaluation, Evaluator
from sparl.training.evaluation_workers import ParallelEvaluator, serve
from sparl.training.machine import cpu_seconds
from sparl.training.rewire import build_agent
from sparl.training.run_folder import RunFolder
from waiting_for_workers import SMALL


def hop(x: Any) -> Any:
    """A policy of Hopper's three actions."""
    return np.tanh(x[:, :3])


@pytest.fixture(autouse=True)
def no_process_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(evaluation_workers, "WORTH_STARTING_SECONDS", 0.0)
    before = our_children()
    yield
    assert our_children() <= before  # earlier tests may have left multiprocessing's tracker


def our_children() -> set[int]:
    """Processes that this one started and that exist, ended or not."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if status.read_text().rpartition(")")[2].split()[1] == str(os.getpid()):
                found.add(int(status.parent.name))
    return found


class Played:
    """An evaluator with the agent that it evaluates.

    Args:
        config: of both.
        cores: of the evaluator.
    """

    def __init__(self, config: Config, cores: int = 2) -> None:
        before = our_children()
        environment = make_environment(config)
        agent = build_agent(config, architecture(config, environment.n_obs, environment.n_act))
        environment.close()
        self.agent = agent
        self.calls = 0  # passes of the policy in this process
        self.on_call: Callable[[int], None] = lambda call: None
        self.evaluator = ParallelEvaluator(
            config,
            lambda: pack_agent(
                {"actor": agent.actor.state()},
                environment,
                {"env_step": 0},
                squashed=config.agent == "SAC",
            ),
            cores,
        )
        alone = Evaluator(
            lambda: make_environment(config), config.evaluation_episodes, config.evaluation_seed
        )
        self.wanted = alone.evaluate(self.policy)
        alone.close()
        self.calls_alone, self.calls = self.calls, 0
        self.workers: Callable[[], set[int]] = lambda: our_children() - before

    def policy(self, observation: Any) -> Any:
        self.calls += 1
        self.on_call(self.calls)
        return self.agent.policy(observation)

    def evaluate(self) -> Evaluation:
        """Evaluate, and compare with what one process gives."""
        self.calls = 0
        found = self.evaluator.evaluate(self.policy)
        assert found == self.wanted
        assert np.array_equal(found.observations, self.wanted.observations)
        return found

    def evaluate_until_workers_play(self) -> None:
        """Until they are proven, and so fast that this process plays little more than its part."""

        def some_played() -> bool:
            self.on_call = lambda call: time.sleep(0.002)  # they shall be first
            self.evaluate()
            self.on_call = lambda call: None
            return self.calls < self.passes_without_help()

        wait_until(some_played)

    def passes_without_help(self) -> int:
        """How often the policy is asked here where no worker answers: part after part."""
        lengths = self.wanted.lengths
        count = len(self.workers()) + 1
        return sum(max(lengths[i::count]) for i in range(count))


@contextmanager
def playing(
    method: str = "DS-TD3", env: str = "Hopper-v5", cores: int = 2, **fields: Any
) -> Iterator[Played]:
    small: dict[str, Any] = {"hidden": (16, 16), "evaluation_episodes": 5} | fields
    played = Played(preset(method, env, **small), cores)
    with closing(played.evaluator):
        yield played


# ------------------------------------------------------------------ one process


def test_evaluation_episodes_do_not_depend_on_what_is_played_beside_or_before() -> None:
    """On MuJoCo, whose episodes here end at different times."""

    def evaluation(episodes: int, seed: int, times: int = 1) -> Evaluation:
        evaluator = Evaluator(lambda: Environment("Hopper-v5"), episodes, seed)
        for _ in range(times):
            result = evaluator.evaluate(hop)
        evaluator.close()
        return result

    many = evaluation(13, seed=100)  # more than play side by side
    assert len(set(many.lengths)) > 3
    assert evaluation(13, seed=100, times=2) == many
    for episodes in (1, 2, 5):
        alone = evaluation(episodes, seed=100)
        assert alone.returns == many.returns[:episodes]
        assert alone.lengths == many.lengths[:episodes]
    assert evaluation(2, seed=101).returns != many.returns[:2]
    assert many.mean == pytest.approx(sum(many.returns) / 13)
    assert many.std == pytest.approx(np.std(many.returns))


def test_any_part_of_the_episodes_can_be_played_and_stopped() -> None:
    evaluator = Evaluator(lambda: Environment("Hopper-v5"), 13, seed=100)
    with closing(evaluator):
        whole = evaluator.evaluate(hop)
        parts = evaluator.play(hop, range(1, 13, 2)) | evaluator.play(hop, range(0, 13, 2))
        again = Evaluation.of(parts)
        assert again == whole
        assert np.array_equal(again.observations, whole.observations)

        steps = iter([False] * (min(whole.lengths[:10]) + 1))
        some = evaluator.play(hop, range(10), stop=lambda: next(steps, True))
        assert 0 < len(some) < 10
        assert all(each.total == whole.returns[number] for number, each in some.items())
        assert evaluator.evaluate(hop) == whole


# ------------------------------------------------------------------ with workers


@pytest.mark.parametrize("isa", _native.available_isas())
def test_workers_use_the_kernels_of_this_process(isa: str) -> None:
    before = _native.isa()
    _native.use_isa(isa)
    try:
        with playing() as played:
            played.evaluate_until_workers_play()
    finally:
        _native.use_isa(before)


@pytest.mark.parametrize(("episodes", "cores", "workers"), [(1, 4, 0), (3, 8, 2), (13, 3, 2)])
def test_any_number_of_cores_and_episodes(episodes: int, cores: int, workers: int) -> None:
    with playing(evaluation_episodes=episodes, cores=cores) as played:
        if workers:
            played.evaluate_until_workers_play()
        played.evaluate()
        assert len(played.workers()) == workers


def test_workers_follow_the_policy_as_it_learns() -> None:
    with playing("DS-SAC") as played:
        played.evaluate_until_workers_play()
        before = played.wanted
        played.agent.actor.parameters = played.agent.actor.parameters * np.float32(1.5)
        alone = Evaluator(lambda: Environment("Hopper-v5"), 5, seed=100)
        played.wanted = alone.evaluate(played.agent.policy)
        alone.close()
        assert played.wanted != before
        played.evaluate_until_workers_play()


def test_no_worker_is_started_before_it_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_workers, "WORTH_STARTING_SECONDS", 1e9)
    with playing() as played:
        played.evaluate()
        played.evaluate()
        assert not played.workers()


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_dies_or_freezes_is_replaced_by_this_process(
    by: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    with playing(env="HalfCheetah-v5", max_episode_steps=300) as played:
        played.evaluate_until_workers_play()
        (worker,) = played.workers()
        played.on_call = lambda call: os.kill(worker, by) if call == 2 else None
        played.evaluate()
        assert played.calls == played.passes_without_help()
        played.on_call = lambda call: None
        played.evaluate()
        assert played.calls == played.calls_alone
        monkeypatch.setattr(evaluation_workers, "_GRACE_SECONDS", -1)


def test_where_no_process_can_be_started_this_one_plays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    with playing() as played:
        for _ in range(3):
            played.evaluate()
            assert played.calls == played.calls_alone


def test_where_no_thread_can_be_started_this_process_plays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with playing() as played:
        for _ in range(3):
            played.evaluate()


def test_an_application_that_is_not_python_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with playing() as played:
        played.evaluate()
        assert not played.workers()


def test_workers_play_whatever_this_process_has_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody hears of their end, sockets have a short timeout, and a file is named as a library."""
    (tmp_path / "gymnasium.py").write_text("raise SystemExit('must not be imported')")
    monkeypatch.chdir(tmp_path)
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    socket.setdefaulttimeout(0.001)
    try:
        with playing() as played:
            played.evaluate_until_workers_play()
    finally:
        socket.setdefaulttimeout(None)
        signal.signal(signal.SIGCHLD, before)


# ------------------------------------------------------------------ environments


def test_an_environment_that_is_registered_here_alone_is_evaluated_here() -> None:
    gymnasium.register("Here-v0", bad.Good, max_episode_steps=bad.LIMIT)
    try:
        with playing(env="Here-v0") as played:
            played.evaluate()
            played.evaluate()
            assert not played.workers()
    finally:
        gymnasium.registry.pop("Here-v0")


def test_an_environment_that_a_worker_does_not_know_is_evaluated_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(user_modules, "_imported", ["children"])  # which registers nothing
    gymnasium.register("Here-v0", bad.Good, max_episode_steps=bad.LIMIT)
    try:
        with playing(env="Here-v0") as played:
            played.evaluate()
            assert played.workers()

            def dropped() -> bool:
                played.evaluate()
                return not played.workers()

            wait_until(dropped)
    finally:
        gymnasium.registry.pop("Here-v0")


def test_a_worker_whose_environment_is_another_one_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A notebook may have changed a class; the worker has the original one."""
    original: Any = HopperEnv.step

    def step(self: Any, action: Any) -> Any:
        observation, reward, *rest = original(self, action)
        return observation, reward - 1, *rest

    monkeypatch.setattr(HopperEnv, "step", step)
    with playing() as played:
        played.evaluate()
        assert played.workers()

        def dropped() -> bool:
            played.evaluate()
            return not played.workers()

        wait_until(dropped)


def test_what_an_environment_prints_or_reads_is_lost() -> None:
    with playing(env="bad_environments:Prints-v0", max_episode_steps=5) as played:
        played.evaluate_until_workers_play()


def test_the_environments_of_a_module_that_was_imported_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "registering.py").write_text(
        "import gymnasium, bad_environments\n"
        "gymnasium.register('Registered-v0', bad_environments.Good, max_episode_steps=20)\n"
    )
    monkeypatch.chdir(tmp_path)
    user_modules.import_user_module("registering")
    try:
        with playing(env="Registered-v0") as played:
            played.evaluate_until_workers_play()
    finally:
        gymnasium.registry.pop("Registered-v0")
        del sys.modules["registering"]


def test_faults_are_reported_as_without_workers() -> None:
    with playing() as played:
        played.evaluate_until_workers_play()
        parameters = played.agent.actor.parameters
        played.agent.actor.parameters = parameters * np.float32(np.nan)
        with pytest.raises(Diverged, match="not finite"):
            played.evaluate()
        played.agent.actor.parameters = parameters
        played.evaluate()
        assert not played.workers()
    with (
        playing(env="bad_environments:Walks-v0") as played,
        pytest.MonkeyPatch.context() as patch,
    ):
        played.evaluate_until_workers_play()
        patch.setattr(bad.Walks, "step", lambda self, action: 1 / 0, raising=False)
        with pytest.raises(EnvironmentFault, match=r"ZeroDivision.* step 1 of episode 1 "):
            played.evaluate()


# ------------------------------------------------------------------ ends and signals


def test_ctrl_c_during_a_long_episode_ends_the_workers_too() -> None:
    with playing(env="HalfCheetah-v5", evaluation_episodes=2, max_episode_steps=300) as played:
        played.on_call = lambda call: signal.raise_signal(signal.SIGINT) if call == 5 else None
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                played.evaluate()
        finally:
            signal.signal(signal.SIGINT, before)
        assert played.calls == 5
        assert not played.workers()


def test_a_worker_holds_no_file_of_this_process(tmp_path: Path) -> None:
    folder = RunFolder.create(preset("DS-TD3", "Hopper-v5", run_dir=str(tmp_path / "run")))
    with closing(folder), playing() as played:
        played.evaluate_until_workers_play()
        (worker,) = played.workers()
        held = [str(fd.readlink()) for fd in Path(f"/proc/{worker}/fd").iterdir()]
        assert not [path for path in held if path.startswith(str(tmp_path))]
        assert not os.get_inheritable(played.evaluator._workers[0]._connection.fileno())


SCRIPT = """
import os, signal, sys
from sparl.training import evaluation_workers as w
from sparl.training.loop import Training
from sparl.methods import preset
w.WORTH_STARTING_SECONDS = 0.0
config = preset(
    "DS-TD3", "HalfCheetah-v5", run_dir=sys.argv[1], threads=2, max_episode_steps=1_000_000,
    evaluation_episodes=2, evaluate_every_env_steps=50,
)
training = Training(config, quiet=True)
calls = 0
original = training.agent.policy
def policy(x):
    global calls
    calls += 1
    if calls == 100:
        if not os.fork():  # as an environment may do
            os.close(1)
            os.close(2)
            signal.pause()
        print(training.evaluator._workers[0]._process.pid, flush=True)
    return original(x)
training.agent.policy = policy
training.evaluator.evaluate(policy)
"""


def is_running(process: int) -> bool:
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGINT])
def test_a_worker_ends_with_its_process(by: signal.Signals, tmp_path: Path) -> None:
    """In the middle of an episode that would take minutes; a child of the process lives on."""
    with command(sys.executable, "-c", SCRIPT, str(tmp_path / "run"), stderr=None) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        assert is_running(worker)
        process.send_signal(by)
        assert process.wait(60) == -by
        wait_until(lambda: not is_running(worker))


def test_the_ctrl_c_of_a_terminal_is_for_the_training_alone(tmp_path: Path) -> None:
    """The terminal sends it to all processes of the group."""
    with command(
        sys.executable, "-c", SCRIPT, str(tmp_path / "run"), start_new_session=True
    ) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        assert os.getpgid(worker) != os.getpgid(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        assert "KeyboardInterrupt" in process.communicate(timeout=60)[0]
        assert not is_running(worker)


# ------------------------------------------------------------------ wherever training runs

CALL = "print(train(sys.argv[1], 2)['workers'])"
IMPORT = "import sys; from waiting_for_workers import train"
WHERE = {
    "script without a main guard": f"{IMPORT}\n{CALL}\n",
    "daemonic pool": f"""{IMPORT}
import multiprocessing
with multiprocessing.get_context("fork").Pool(1) as pool:
    print(pool.apply(train, (sys.argv[1], 2))["workers"])
""",
    "threads": f"""{IMPORT}
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(2) as pool:
    runs = list(pool.map(lambda n: train(f"{{sys.argv[1]}}{{n}}", 2), range(2)))
print(runs[0]["workers"] and runs[1]["workers"])
import shutil
shutil.move(f"{{sys.argv[1]}}0", sys.argv[1])
""",
}
NOTEBOOK = f"""
import code, sys
notebook = code.InteractiveInterpreter({{"__name__": "__main__"}})
del sys.modules["__main__"].__file__
sys.path[0] = ""
for cell in {IMPORT!r}, {CALL!r}:
    notebook.runsource(cell, "<cell>", "exec")
"""


@pytest.fixture(scope="module")
def without_workers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("one") / "run"
    sparl.train("DS-TD3", "Hopper-v5", run_dir=path, threads=1, **SMALL)
    return results(path)


@pytest.mark.parametrize("script", [*WHERE.values(), NOTEBOOK], ids=[*WHERE, "notebook"])
def test_workers_play_wherever_training_runs(
    script: str, without_workers: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "script.py").write_text(script)
    tests = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py", tmp_path / "two"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([tests, *sys.path])},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.stdout == "1\n", done.stderr
    assert results(tmp_path / "two") == without_workers


# ------------------------------------------------------------------ CPU time


def test_the_cpu_time_of_workers_counts_while_they_run_and_after() -> None:
    with playing(env="HalfCheetah-v5", max_episode_steps=200) as played:
        before = cpu_seconds(), time.process_time()
        played.evaluate_until_workers_play()
        theirs = cpu_seconds() - before[0] - (time.process_time() - before[1])
        assert theirs > 0.2
        total = cpu_seconds()
    assert cpu_seconds() >= total


# ------------------------------------------------------------------ the worker


def test_a_worker_answers_until_the_other_end_is_closed() -> None:
    """Here in a thread of this process."""
    with playing() as played:
        manifest, actor = played.evaluator._pack_actor()
        ours, theirs = socket.socketpair()
        ended, threads = threading.Event(), _native.threads()
        server = threading.Thread(target=serve, args=(theirs, ended), daemon=True)
        server.start()
        start = {
            "instruction_set": _native.isa(), "modules": ["children"], "env_id": "Hopper-v5",
            "max_episode_steps": None, "contact_forces": "zero", "episodes": 5, "seed": 100,
        }  # fmt: skip
        evaluation_workers._send(ours, start)
        for part in ([0, 3], [4]):
            evaluation_workers._send(ours, {"part": part, "manifest": manifest}, actor)
            about, data = evaluation_workers._receive(ours)
            episodes = evaluation_workers._unpack(data, part, 11)
            assert about["cpu_seconds"] > 0
            assert list(episodes) == part
            for number, episode in episodes.items():
                assert episode.total == played.wanted.returns[number]
                assert episode.length == played.wanted.lengths[number]
        ours.close()
        server.join(60)
        assert ended.is_set()
        theirs.close()
        _native.set_threads(threads)


def test_a_worker_that_is_told_nothing_ends() -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    serve(theirs, threading.Event())
    theirs.close()
