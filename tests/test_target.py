"""Compare target networks with their rules, computed densely in float64.

If a test requires equality, weights are multiples of 1/256 and tau is 1/2, so that every number is
exact in float32, ties are frequent, and rounding cannot hide a difference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import Generator
from numpy.typing import NDArray

from layouts import layout_of
from sparl import _native
from sparl.networks.layout import Place
from sparl.networks.network import Network
from sparl.networks.target import OwnPatternTarget, SharedPatternTarget
from sparl.sparse.pattern import Pattern
from sparl.sparse.rewiring import Rewiring

Float = NDArray[np.float64]
Draw = Callable[[int], NDArray[np.float32]]
Sizes = tuple[tuple[int, int, int], ...]  # n_in, n_out, connections of each layer

SMALL: Sizes = ((6, 7, 17), (7, 5, 12), (5, 2, 10))  # the last layer is dense
MEDIUM: Sizes = ((23, 40, 300), (40, 30, 500), (30, 3, 90))


def exact(rng: Generator) -> Draw:
    """Return numbers that halve exactly, with many zeros and equal magnitudes."""
    return lambda count: (rng.integers(-16, 17, count) / 256).astype(np.float32)


def normal(rng: Generator) -> Draw:
    return lambda count: rng.standard_normal(count, dtype=np.float32)


def random_positions(free: NDArray[np.int64], count: int, rng: Generator) -> NDArray[np.int64]:
    return np.sort(rng.choice(free, count, replace=False))


def new_network(sizes: Sizes, rng: Generator, draw: Draw, members: int = 2) -> Network:
    patterns = [
        [
            Pattern(n_in, n_out, random_positions(np.arange(n_in * n_out), count, rng))
            for n_in, n_out, count in sizes
        ]
        for _ in range(members)
    ]
    layout = layout_of(patterns, ensemble=members > 1)
    return Network(layout, draw(layout.parameters))


def rewire(network: Network, rng: Generator, fraction: float = 0.3) -> None:
    """Drop some connections of each layer that is not full, and grow the same number at 0."""
    rewirings = {}
    for place, pattern in network.layout:
        if pattern.connections == pattern.size:
            continue
        kept = random_positions(
            pattern.positions, pattern.connections - int(fraction * pattern.connections), rng
        )
        free = np.setdiff1d(np.arange(pattern.size), kept)
        grown = random_positions(free, pattern.connections - kept.size, rng)
        new = Pattern(pattern.n_in, pattern.n_out, np.union1d(kept, grown))
        rewirings[place] = Rewiring(pattern, new)
    old, new_layout = network.layout, network.layout.rewired(rewirings)
    network.parameters = old.carry(network.parameters, new_layout, rewirings)
    network.layout = new_layout


def learn(network: Network, draw: Draw) -> None:
    """Change the parameters at random."""
    network.parameters += draw(network.parameters.size)


# --- The rules, densely ------------------------------------------------------------------------


def dense(state: dict[str, Any], place: Place, size: int) -> tuple[Float, Float]:
    """Return the weights at all positions, flat, and the biases."""
    key = "member{}.layer{}".format(*place)
    w = np.zeros(size)
    w[state[f"{key}.positions"]] = state[f"{key}.weight"]
    return w, state[f"{key}.bias"].astype(np.float64)


class DenseTarget:
    """Both target rules, computed on dense matrices."""

    def __init__(self, online: Network, rule: str) -> None:
        self.online, self.rule = online, rule
        self.layers = {
            place: dense(online.state(), place, pattern.size) for place, pattern in online.layout
        }

    def soft_update(self, tau: float) -> None:
        state = self.online.state()
        for place, pattern in self.online.layout:
            w, b = dense(state, place, pattern.size)
            old_w, old_b = self.layers[place]
            if self.rule == "shared":
                exists = np.zeros(pattern.size, bool)
                exists[pattern.positions] = True
                old_w = np.where(exists, old_w, 0)
            new_w = tau * w + (1 - tau) * old_w
            # Algorithm 3: drop the smallest magnitudes above the budget; of equal ones the first.
            surplus = max(int((new_w != 0).sum()) - pattern.connections, 0)
            existing = np.flatnonzero(new_w)
            order = existing[np.argsort(np.abs(new_w[existing]), kind="stable")]
            new_w[order[:surplus]] = 0
            self.layers[place] = new_w, tau * b + (1 - tau) * old_b

    def output(self, x: Float) -> Float:
        """[E, B, n_out]."""
        outputs = []
        layout = self.online.layout
        for member in range(layout.spec.members):
            y = x
            for place, pattern in layout:
                if place[0] != member:
                    continue
                w, b = self.layers[place]
                z = y @ w.reshape(pattern.n_out, pattern.n_in).T + b
                y = np.maximum(z, 0) if place[1] < len(layout.spec.layers) - 1 else z
            outputs.append(y)
        return np.stack(outputs)


def assert_equals(
    target: OwnPatternTarget | SharedPatternTarget, wanted: DenseTarget, tolerance: float = 0.0
) -> None:
    existing = target.existing()
    for place, pattern in target.online.layout:
        w, b = dense(existing, place, pattern.size)
        positions = existing["member{}.layer{}.positions".format(*place)]
        assert np.size(positions) <= pattern.connections, f"over budget at {place}"
        if wanted.rule == "own":
            np.testing.assert_array_equal(positions, np.flatnonzero(wanted.layers[place][0]))
        wanted_w, wanted_b = wanted.layers[place]
        np.testing.assert_allclose(w, wanted_w, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(b, wanted_b, rtol=tolerance, atol=tolerance)
    x = np.linspace(-1, 1, 4 * target.online.layout.spec.n_in, dtype=np.float32).reshape(4, -1)
    np.testing.assert_allclose(target(x), wanted.output(x.astype(np.float64)), atol=1e-4, rtol=1e-4)


# --- Own pattern: algorithm 3 ------------------------------------------------------------------

EVENTS = st.lists(st.sampled_from(["learn", "rewire", "soft_update", "restore"]), max_size=30)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), events=EVENTS)
def test_own_pattern_is_algorithm_3(seed: int, events: list[str]) -> None:
    """Both agree exactly for any order of learning, rewiring, soft updates and restoring."""
    rng = np.random.default_rng(seed)
    draw = exact(rng)
    online = new_network(SMALL, rng, draw)
    target = OwnPatternTarget(online)
    wanted = DenseTarget(online, "own")
    follows = 0
    for event in events:
        if event == "learn":
            learn(online, draw)
        elif event == "rewire":
            rewire(online, rng)
        elif event == "restore":
            online, target = continued(online, target)
            wanted.online = online
        elif follows < 12:  # because each soft update needs one more bit
            follows += 1
            target.soft_update(0.5)
            wanted.soft_update(0.5)
        assert_equals(target, wanted)


@pytest.mark.parametrize("tau", [0.005, 0.1])
@pytest.mark.parametrize("seed", [0, 1])
def test_own_pattern_over_a_long_run(seed: int, tau: float) -> None:
    rng = np.random.default_rng(seed)
    online = new_network(MEDIUM, rng, normal(rng))
    target = OwnPatternTarget(online)
    wanted = DenseTarget(online, "own")
    leftovers = 0
    for step in range(60):
        learn(online, lambda count: 0.1 * rng.standard_normal(count, dtype=np.float32))
        if step % 12 == 1:
            rewire(online, rng, 0.1)
        target.soft_update(tau)
        wanted.soft_update(tau)
        assert_equals(target, wanted, tolerance=1e-5)
        leftovers += leftover(target)
    assert leftovers > 100


def leftover(target: OwnPatternTarget) -> int:
    """Return how many of the target's connections the online network lacks."""
    existing = target.existing()
    return sum(
        np.setdiff1d(existing["member{}.layer{}.positions".format(*place)], pattern.positions).size
        for place, pattern in target.online.layout
    )


def test_a_leftover_fades_until_the_new_connection_is_larger() -> None:
    """Compare with a case computed by hand: one output, four inputs, two connections, tau = 1/8.

    The online network drops input 1 at -0.25 and grows input 2, whose target is 1. Each soft update
    multiplies the leftover by 7/8. The new connection is the smallest and restarts at 1/8 each
    time, until the leftover is smaller: (7/8)^6 / 4 = 0.112.
    """
    layout = layout_of([[Pattern(4, 1, np.array([0, 1]))]], "linear")
    online = Network(layout, np.zeros(3, np.float32))
    online.restore(state_of([0, 1], [0.5, -0.25]))
    target = OwnPatternTarget(online)
    online.restore(state_of([0, 2], [0.5, 1.0]))
    for step in range(1, 6):
        target.soft_update(0.125)
        assert_holds(target, [0, 1], [0.5, -0.25 * 0.875**step])
    for step in range(1, 4):
        target.soft_update(0.125)
        assert_holds(target, [0, 2], [0.5, 1 - 0.875**step])


def assert_holds(target: OwnPatternTarget, positions: list[int], weights: list[float]) -> None:
    existing: dict[str, Any] = dict(target.existing())
    np.testing.assert_array_equal(existing["member0.layer0.positions"], positions)
    np.testing.assert_array_equal(existing["member0.layer0.weight"], np.array(weights, np.float32))


def state_of(positions: list[int], weights: list[float]) -> dict[str, Any]:
    """Return the state of a network that has one layer with one output."""
    return {
        "member0.layer0.positions": np.array(positions),
        "member0.layer0.weight": np.array(weights, np.float32),
        "member0.layer0.bias": np.zeros(1, np.float32),
    }


def test_leftovers_vanish_when_the_online_network_rests() -> None:
    rng = np.random.default_rng(3)
    draw = normal(rng)
    online = new_network(MEDIUM, rng, draw)
    target = OwnPatternTarget(online)
    rewire(online, rng)
    learn(online, draw)
    target.soft_update(0.1)
    before = leftover(target)
    for _ in range(100):
        target.soft_update(0.1)
    assert before > 100
    assert leftover(target) == 0
    existing = target.existing()
    for place, pattern in online.layout:
        got, wanted = (dense(s, place, pattern.size)[0] for s in (existing, online.state()))
        np.testing.assert_array_equal(np.flatnonzero(got), pattern.positions)
        np.testing.assert_allclose(got, wanted, atol=1e-3)


@pytest.mark.parametrize("budget", [0, 1, 4000, 5119, 5120, 6000])
@pytest.mark.parametrize("kind", ["normal", "ties", "zeros", "misleading sample"])
def test_pruning_to_the_budget_equals_a_full_sort(kind: str, budget: int) -> None:
    """For many entries, the engine estimates the limit from a sample, which can be misleading."""
    rng = np.random.default_rng(8)
    n = 5120
    values = {
        "normal": rng.standard_normal(n),
        "ties": rng.integers(-3, 4, n) / 4,
        "zeros": np.zeros(n),
        "misleading sample": np.where(np.arange(n) % 5 == 0, 1e-6, 1.0) * rng.uniform(1, 2, n),
    }[kind].astype(np.float32)
    canonical = rng.permutation(n).astype(np.uint32)
    target = values.copy()
    source = np.arange(n, dtype=np.uint32)
    updater = _native.TargetUpdater([((0, n), (0, n), source, canonical, budget)])
    for scale in (1, 1000, 0.001, 1):  # the previous limit is also misleading
        updater.update(target, values * np.float32(scale), 1.0)
        wanted = values * np.float32(scale)
        wanted[np.lexsort((canonical, np.abs(wanted)))[: max(n - budget, 0)]] = 0
        np.testing.assert_array_equal(target, wanted)


@pytest.mark.parametrize("rule", [OwnPatternTarget, SharedPatternTarget])
def test_tau_1_copies(rule: type[OwnPatternTarget] | type[SharedPatternTarget]) -> None:
    """Copies are exact, also after a topology update and with weights of very unequal size."""
    rng = np.random.default_rng(4)
    online = new_network(MEDIUM, rng, normal(rng))
    target = rule(online)
    for _ in range(3):
        rewire(online, rng)
        online.parameters = np.float32(10) ** rng.uniform(-12, 2, online.parameters.size).astype(
            np.float32
        )
        target.soft_update(1.0)
        existing, wanted = target.existing(), online.state()
        for name, value in wanted.items():
            np.testing.assert_array_equal(existing[name], value, err_msg=name)


def test_tau_0_changes_nothing() -> None:
    rng = np.random.default_rng(5)
    online = new_network(MEDIUM, rng, normal(rng))
    target = OwnPatternTarget(online)
    before = target.existing()
    rewire(online, rng)
    learn(online, normal(rng))
    target.soft_update(0.0)
    assert_same_state(target.existing(), before)


# --- Shared pattern ----------------------------------------------------------------------------


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), events=EVENTS)
def test_shared_pattern_equals_the_online_pattern(seed: int, events: list[str]) -> None:
    rng = np.random.default_rng(seed)
    draw = exact(rng)
    online = new_network(SMALL, rng, draw)
    target = SharedPatternTarget(online)
    wanted = DenseTarget(online, "shared")
    pattern = positions(online)
    follows = 0
    for event in events:
        if event == "learn":
            learn(online, draw)
        elif event == "rewire":
            rewire(online, rng)
        elif event == "restore":
            online, target = continued(online, target)
            wanted.online = online
        elif follows < 12:
            follows += 1
            target.soft_update(0.5)
            wanted.soft_update(0.5)
            pattern = positions(online)  # read at the soft update, not before
        assert_equals(target, wanted)
        assert_same_state(positions(target.network), pattern)


def test_shared_pattern_adds_grown_connections_at_tau_times_their_weight() -> None:
    rng = np.random.default_rng(6)
    online = new_network(SMALL, rng, normal(rng))
    target = SharedPatternTarget(online)
    before = dict(online.layout)
    rewire(online, rng)
    learn(online, normal(rng))
    target.soft_update(0.25)
    total = 0
    for place, pattern in online.layout:
        grown = Rewiring(before[place], pattern).grown
        key = "member{}.layer{}.weight".format(*place)
        got, online_weight = target.existing()[key], online.state()[key]
        np.testing.assert_array_equal(
            np.asarray(got)[grown], np.float32(0.25) * np.asarray(online_weight)[grown]
        )
        total += grown.size
    assert total > 5


def positions(network: Network) -> dict[str, Any]:
    return {k: v for k, v in network.state().items() if k.endswith("positions")}


# --- Continuing from a state -------------------------------------------------------------------


T = TypeVar("T", bound=OwnPatternTarget | SharedPatternTarget)


def continued(online: Network, target: T) -> tuple[Network, T]:
    """Restore both states into networks that were initialised differently."""
    rng = np.random.default_rng(99)
    sizes = tuple((p.n_in, p.n_out, p.connections) for (m, _), p in online.layout if m == 0)
    other = new_network(sizes, rng, normal(rng))
    other_target = type(target)(other)
    rewire(other, rng)
    other_target.soft_update(0.5)
    other.restore(online.state())
    other_target.restore(target.state())
    return other, other_target


def assert_same_state(got: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(got[name], value, err_msg=name)


@pytest.mark.parametrize("rule", [OwnPatternTarget, SharedPatternTarget])
@pytest.mark.parametrize("behind", [False, True], ids=["just updated", "rewired since the update"])
def test_a_target_continues_from_its_state_bit_for_bit(
    rule: type[OwnPatternTarget] | type[SharedPatternTarget], behind: bool
) -> None:
    rng = np.random.default_rng(7)
    online = new_network(MEDIUM, rng, normal(rng))
    target = rule(online)
    for _ in range(3):
        rewire(online, rng)
        learn(online, normal(rng))
        target.soft_update(0.1)
    if behind:
        rewire(online, rng)
        rewire(online, rng)
    other, other_target = continued(online, target)
    for step in range(12):
        target.soft_update(0.1)
        other_target.soft_update(0.1)
        assert_same_state(other_target.existing(), target.existing())
        assert_same_state(other_target.state(), target.state())
        x = rng.standard_normal((3, online.layout.spec.n_in), dtype=np.float32)
        np.testing.assert_array_equal(other_target(x), target(x))
        seed = 100 + step
        for network in (online, other):
            if step % 5 == 2:
                rewire(network, np.random.default_rng(seed))
            learn(network, normal(np.random.default_rng(seed)))


@pytest.mark.parametrize("seed", range(3))
def test_after_copies_a_target_with_its_own_pattern_equals_one_that_shares_it(seed: int) -> None:
    """Algorithm 3 of Sokar et al. therefore has no effect in DS-SAC."""
    rng = np.random.default_rng(seed)
    online = new_network(SMALL, rng, exact(rng))
    own, shared = OwnPatternTarget(online), SharedPatternTarget(online)
    observations = exact(rng)(6 * 8).reshape(8, 6)
    for _ in range(4):
        rewire(online, rng)
        learn(online, exact(rng))
        own.soft_update(1.0)
        shared.soft_update(1.0)
        np.testing.assert_array_equal(own(observations), shared(observations))
    rewire(online, rng)
    own.soft_update(0.5)
    shared.soft_update(0.5)
    assert (own(observations) != shared(observations)).any()  # with soft updates, it has one
