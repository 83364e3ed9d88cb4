"""The number of threads that the engine uses, on a clock of the test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sparl import _native
from sparl.training.team import EVERY, Team


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = _native.threads()
    yield
    _native.set_threads(before)


class Machine:
    """Seconds that an update takes with each number of threads."""

    def __init__(self, **seconds: float) -> None:
        self.seconds = {int(count.strip("t")): each for count, each in seconds.items()}
        self.now = 0.0
        self.used: list[int] = []

    def update(self, team: Team) -> None:
        self.now += 100.0  # of something else
        with team:
            self.used.append(_native.threads())
            self.now += self.seconds[self.used[-1]]


def test_the_faster_number_of_threads_is_used_and_a_change_is_noticed() -> None:
    machine = Machine(t1=3.0, t2=2.0)
    team = Team(2, clock=lambda: machine.now)
    for _ in range(EVERY):
        machine.update(team)
    assert set(machine.used[-(EVERY - 100) :]) == {2}
    assert machine.used.count(1) < 0.02 * EVERY  # the comparison itself
    machine.seconds = {1: 2.0, 2: 2.1}
    for _ in range(EVERY):
        machine.update(team)
    assert set(machine.used[-(EVERY - 100) :]) == {1}
    machine.seconds = {1: 2.0, 2: 1.9}
    for _ in range(EVERY):
        machine.update(team)
    assert set(machine.used[-(EVERY - 100) :]) == {2}


def test_one_slow_update_does_not_decide() -> None:
    machine = Machine(t1=3.0, t4=2.0)
    team = Team(4, clock=lambda: machine.now)
    for i in range(200):
        machine.seconds[4] = 1000.0 if i == 3 else 2.0
        machine.update(team)
    assert machine.used[-1] == 4


def test_one_thread_is_never_compared() -> None:
    machine = Machine(t1=1.0)
    team = Team(1, clock=lambda: pytest.fail("looked at the clock"))
    for _ in range(EVERY + 100):
        machine.update(team)
    assert set(machine.used) == {1}
