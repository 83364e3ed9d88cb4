"""Test that access to a result blocks until pending work has finished."""

from __future__ import annotations

import gc
import itertools
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from layouts import layout_of
from sparl import _native
from sparl.networks.adam import Adam
from sparl.networks.initialize import uniform_fan_in
from sparl.networks.network import Network
from sparl.networks.pending import PendingArray
from sparl.networks.target import OwnPatternTarget
from sparl.random_streams import stream
from sparl.topology.initial import random_pattern

BATCH = 64


def network(threads: int, seed: int = 0) -> Network:
    sizes = (40, 200, 200, 3)
    patterns = [
        [
            random_pattern(n_in, n_out, n_in * n_out // 3, stream(seed, f"{member} {n_in}"))
            for n_in, n_out in itertools.pairwise(sizes)
        ]
        for member in range(2)
    ]
    layout = layout_of(patterns, ensemble=True)
    parameters = uniform_fan_in(layout, stream(seed, "weights"))
    return Network(layout, parameters, _native.Pool(threads))


def learn(net: Network, adam: Adam, seed: int) -> None:
    x = stream(seed, "x").standard_normal((BATCH, 40), dtype=np.float32)
    output, trace = net.forward(x)
    adam.step(net, trace, output)


def steps_and_targets(threads: int) -> list[bytes]:
    """Access every result as soon as its computation has begun, in a different order each time."""
    net = network(threads)
    adam, target = Adam(net.layout, 1e-3, 1e-4, "mean"), OwnPatternTarget(net)
    found: list[bytes] = []

    def note(state: dict[str, Any]) -> None:
        found.extend(np.asarray(value).tobytes() for value in state.values())

    for k in range(12):
        learn(net, adam, k)
        if k % 2:
            note(adam.state())
        note(net.state())
        target.soft_update(0.05)
        if k % 3:
            note(target.state())
        learn(net, adam, 100 + k)
        if k % 3 == 2:
            to = network(1, k).layout
            rewirings = net.layout.difference(to)
            net.parameters = net.layout.carry(net.parameters, to, rewirings)
            net.layout = to
            adam.rewire(to, rewirings)
        found.append(target(np.ones((5, 40), np.float32)).tobytes())
    note(target.existing())
    return found


def test_results_equal_those_of_one_thread() -> None:
    wanted = steps_and_targets(1)
    for threads in (2, 3, 2):
        assert steps_and_targets(threads) == wanted


def test_several_python_threads_may_wait_for_the_same_update() -> None:
    wanted: list[bytes] = []
    for threads in (1, 2):
        net = network(threads)
        adam = Adam(net.layout, 1e-3, 0.0, "zero")
        with ThreadPoolExecutor(3) as pool:
            for k in range(150):
                learn(net, adam, k)
                for begun in [pool.submit(getattr, net, "parameters") for _ in range(3)]:
                    begun.result()
        wanted.append(net.parameters.tobytes())
    assert wanted[0] == wanted[1]


@pytest.mark.slow
def test_arguments_are_kept_alive_until_the_update_has_finished() -> None:
    n = 50_000
    slots = np.arange(n, dtype=np.uint32)
    kept = []
    for threads in (1, 2):
        pool = _native.Pool(threads)
        for _ in range(20):
            piece = ((0, n), (0, n), slots, slots, n // 2)
            target = np.linspace(-1, 1, n, dtype=np.float32)
            updater, ones = _native.TargetUpdater([piece]), np.ones(n, np.float32)
            begun = updater.update(target, ones, 0.5, pool)
            del updater, ones
            gc.collect()
            np.zeros(n, np.float32)  # would reuse freed memory
            begun.finish()
            begun.finish()
            kept.append(target.tobytes())
    assert len(set(kept)) == 1
    assert np.count_nonzero(np.frombuffer(kept[0], np.float32)) == n // 2


def test_arguments_are_released_once_the_update_has_finished() -> None:
    target = np.zeros(50, np.float32)
    work = _native.TargetUpdater([((0, 50), (0, 50), None, None, 0)]).update(
        target, target + 1, 0.5, _native.Pool(2)
    )
    needed = weakref.ref(target)
    del target
    assert needed() is not None
    work.finish()
    assert needed() is None


def test_work_may_be_finished_again_while_its_arguments_are_released() -> None:
    target, online = np.zeros(50, np.float32), np.ones(50, np.float32)
    updater = _native.TargetUpdater([((0, 50), (0, 50), None, None, 0)])
    work = updater.update(target, online, 0.5, _native.Pool(2))
    released: list[int] = []

    def finish_again(_: object) -> None:
        work.finish()
        released.append(len(released))

    references = [weakref.ref(array, finish_again) for array in (target, online)]
    del target, online
    work.finish()
    assert released == [0, 1]
    assert [reference() for reference in references] == [None, None]


class Work:
    """Work that, like slow work, writes to an array only when it is finished."""

    def __init__(self, target: np.ndarray[Any, Any], online: np.ndarray[Any, Any]) -> None:
        self.target, self.online = target, online

    def finish(self) -> None:
        self.target[:] = self.online


def test_an_array_is_not_changed_before_all_pending_work_has_read_it() -> None:
    online = PendingArray(np.ones(3, np.float32))
    targets = [PendingArray(np.zeros(3, np.float32)) for _ in range(3)]
    for target in targets:
        work: Any = Work(target.to_write(), online.to_read())
        target.written(work, reads=online)
    online.to_write()[:] = 5
    for target in targets:
        assert target.to_read().tolist() == [1, 1, 1]


class Then(Work):
    """Work during which another thread begins the next work on the same array."""

    def __init__(self, on: PendingArray, following: Work) -> None:
        super().__init__(following.target, following.target + 1)
        self.on, self.following = on, following

    def finish(self) -> None:
        super().finish()
        following: Any = self.following
        self.on.written(following)


def test_work_that_another_thread_begins_is_not_forgotten() -> None:
    values = np.zeros(3, np.float32)
    array = PendingArray(values)
    work: Any = Then(array, Work(values, values + 5))
    array.written(work)
    assert array.to_read().tolist() == [5, 5, 5]


class Interrupted(Work):
    """Work whose first call of finish is interrupted by Ctrl-C."""

    interrupted = False

    def finish(self) -> None:
        if not self.interrupted:
            self.interrupted = True
            raise KeyboardInterrupt
        super().finish()


def test_an_interruption_does_not_make_an_array_forget_who_reads_it() -> None:
    online, target = PendingArray(np.ones(3, np.float32)), PendingArray(np.zeros(3, np.float32))
    work: Any = Interrupted(target.to_write(), online.to_read())
    target.written(work, reads=online)
    with pytest.raises(KeyboardInterrupt):
        online.to_write()
    online.to_write()[:] = 5
    assert target.to_read().tolist() == [1, 1, 1]


def test_several_targets_of_one_network_are_updated() -> None:
    found: list[list[bytes]] = []
    for threads in (1, 2, 3):
        net = network(threads)
        adam, targets = Adam(net.layout, 1e-2, 0.0, "zero"), [OwnPatternTarget(net) for _ in "abc"]
        for k in range(30):
            for target in targets:
                target.soft_update(0.3)
            learn(net, adam, k)
        found.append([target.network.parameters.tobytes() for target in targets])
    assert found[0] == found[1] == found[2]
    assert len(set(found[0])) == 1


def test_without_a_pool_the_results_are_those_of_a_pool() -> None:
    results = []
    for pool in (None, _native.Pool(1), _native.Pool(3)):
        net = network(1)
        net.pool = pool
        adam, target = Adam(net.layout, 1e-3, 1e-4, "mean"), OwnPatternTarget(net)
        for k in range(20):
            learn(net, adam, k)
            target.soft_update(0.05)
        results.append(
            (net.parameters.tobytes(), adam.v.tobytes(), target.network.parameters.tobytes())
        )
    assert results[1:] == results[:1] * 2
