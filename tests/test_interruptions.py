"""Test the engine when Python is interrupted, forks, or calls it from several threads."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sparl
from resuming import results
from sparl import _native, learner
from sparl.architecture import architecture
from sparl.build import build_agent
from sparl.methods import preset
from sparl.networks.adam import Adam
from sparl.networks.network import Network
from sparl.networks.target import OwnPatternTarget, SharedPatternTarget
from sparl.replay.batch import Batch

FIELDS: dict[str, Any] = {
    "hidden": (40, 40), "batch_size": 32, "rewire_every_updates": 3, "steps": 1000,
    "actor_densities": (0.3, 0.3, 1.0), "critic_densities": (0.3, 0.3, 1.0),
}  # fmt: skip
CALLS: list[tuple[Any, str]] = [
    (Network, "forward"), (Network, "__call__"), (Network, "value_and_input_gradient"),
    (Adam, "step"), (SharedPatternTarget, "soft_update"), (OwnPatternTarget, "soft_update"),
    (learner, "propose"), (Network, "rewire"), (Adam, "rewire"),
]  # fmt: skip


def new_agent(method: str, pool: _native.Pool | None = None) -> Any:
    config = preset(method, "HalfCheetah-v5", **FIELDS)
    return build_agent(config, architecture(config, 17, 6), pool or _native.Pool(2))


def batches(count: int) -> list[Batch]:
    rng = np.random.default_rng(0)

    def normal(features: int) -> Any:
        return rng.standard_normal((32, features), dtype=np.float32)

    return [
        Batch(normal(17), normal(6), normal(1), 0 * normal(1) + 0.99, normal(17))
        for _ in range(count)
    ]


def flat(agent: Any) -> list[Any]:
    """Return the complete state of an agent, for comparison."""

    def leaves(tree: Any) -> Iterator[Any]:
        for name, value in sorted(tree.items()):
            if isinstance(value, dict):
                yield from leaves(value)
            else:
                yield name, value.tobytes() if isinstance(value, np.ndarray) else value

    return list(leaves(agent.state()))


@pytest.mark.parametrize("method", ["DS-TD3", "DS-SAC"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, FloatingPointError, MemoryError])
def test_an_exception_before_or_after_any_call_of_an_update_corrupts_nothing(
    method: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Update 6 updates the topology; interrupt it at each of its calls and repeat it."""
    agent, wanted = new_agent(method), new_agent(method)
    before: dict[str, Any] = {}
    for number, batch in enumerate(batches(7), 1):
        if number == 6:
            before = agent.state()
        agent.update(batch)
        wanted.update(batch)
    countdown = [-1]

    def stopping(call: Any) -> Any:
        def stop(*args: Any, **kwargs: Any) -> Any:
            countdown[0] -= 1
            if countdown[0] == 0:
                raise error
            result = call(*args, **kwargs)
            countdown[0] -= 1
            if countdown[0] == 0:
                raise error
            return result

        return stop

    for owner, name in CALLS:
        monkeypatch.setattr(owner, name, stopping(getattr(owner, name)))
    stops = 0
    while True:
        agent.restore(before)
        stops += 1
        countdown[0] = stops
        try:
            agent.update(batches(7)[5])
        except error:
            countdown[0] = -1
            assert np.isfinite(agent.policy(np.ones((2, 17), np.float32))).all()
            continue
        break
    assert stops > 12
    countdown[0] = -1
    agent.update(batches(7)[6])
    assert flat(agent) == flat(wanted)


def test_ctrl_c_at_any_instant_corrupts_nothing() -> None:
    """Interrupt updates repeatedly, with Python's own handler."""
    agent, wanted = new_agent("DS-TD3"), new_agent("DS-TD3")
    todo = batches(40)
    for batch in todo:
        wanted.update(batch)
    interrupted = done = attempts = 0
    state = agent.state()
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        while done < len(todo):
            try:
                attempts += 1  # every eighth attempt is not interrupted
                signal.setitimer(signal.ITIMER_REAL, 3e-5 * (attempts % 8) or 10)
                agent.update(todo[done])
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupted += 1
                agent.restore(state)
                continue
            done += 1
            state = agent.state()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert interrupted >= 5
    assert flat(agent) == flat(wanted)


def test_agents_that_learn_in_separate_threads_do_not_disturb_each_other() -> None:
    methods = ["DS-TD3", "DS-SAC", "DS-TD3"]
    todo, pool = batches(30), _native.Pool(2)
    wanted, agents = [new_agent(m) for m in methods], [new_agent(m, pool) for m in methods]
    for agent in wanted:
        for batch in todo:
            agent.update(batch)

    def learn(agent: Any) -> None:
        for batch in todo:
            agent.update(batch)

    threads = [threading.Thread(target=learn, args=(agent,)) for agent in agents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [flat(agent) for agent in agents] == [flat(agent) for agent in wanted]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_forked_child_trains_like_its_parent(tmp_path: Path) -> None:
    """Fork after using the engine; both processes must train the same run."""
    fields = {**FIELDS, "steps": 80, "warmup_env_steps": 20, "evaluation_episodes": 1,
              "evaluate_every_env_steps": 40, "quiet": True, "threads": 2}  # fmt: skip
    wanted = sparl.train("DS-TD3", "Hopper-v5", run_dir=tmp_path / "wanted", **fields)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(60)
            sparl.train("DS-TD3", "Hopper-v5", run_dir=tmp_path / "child", **fields)
            status = 0
        finally:
            os._exit(status)
    sparl.train("DS-TD3", "Hopper-v5", run_dir=tmp_path / "parent", **fields)
    assert os.waitpid(child, 0)[1] == 0
    assert results(tmp_path / "child") == results(tmp_path / "parent") == results(wanted.path)
