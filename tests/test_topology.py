"""Test when topology updates happen, and which connections they drop, grow and keep."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
import re
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import Generator
from numpy.typing import NDArray

from layouts import layout_of, schedule_of, sizes_of
from sparl.architecture import architecture
from sparl.build import build_agent
from sparl.errors import UsageError
from sparl.methods import preset
from sparl.networks.adam import Adam, GrownMoments
from sparl.networks.initialize import uniform_fan_in
from sparl.networks.layout import Layout, Place
from sparl.networks.network import Network
from sparl.sparse.pattern import Pattern, Positions
from sparl.sparse.rewiring import Rewiring
from sparl.topology.density import round_half_up
from sparl.topology.drop import drop_nearest_zero_of_each_sign, drop_smallest
from sparl.topology.grow import distinct_integers, grow_random, random_free_positions
from sparl.topology.initial import random_pattern
from sparl.topology.layer_view import LayerView
from sparl.topology.propose import Proposal, TopologyMethod, propose
from sparl.topology.rules import DropRule, GrowRule, Indices, drop_rule
from sparl.topology.schedule import NEVER, Schedule

many = settings(derandomize=True, max_examples=200)
Values = NDArray[np.float32]
SET = TopologyMethod(drop_nearest_zero_of_each_sign, grow_random)


def rng(seed: int = 0) -> Generator:
    return np.random.default_rng(seed)


def row(weights: list[float], free: int = 8) -> LayerView:
    """Return a layer of one output whose first inputs have these weights."""
    n = len(weights)
    pattern = Pattern(n + free, 1, np.arange(n, dtype=np.int64))
    return LayerView(pattern, np.array(weights, np.float32))


@st.composite
def layers(draw: st.DrawFn) -> LayerView:
    """Draw small layers, including empty and full ones, with ties and exact zeros of both signs."""
    n_in, n_out = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    count = draw(st.integers(0, n_in * n_out))
    pattern = random_pattern(n_in, n_out, count, rng(draw(st.integers(0, 99))))
    values = st.sampled_from([-2.5, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 2.5])
    weights = draw(st.lists(values, min_size=count, max_size=count))
    return LayerView(pattern, np.array(weights, np.float32))


def live_part(layer: LayerView) -> LayerView:
    """Return the connections whose weight is not 0."""
    alive, p = layer.weights != 0, layer.pattern
    return LayerView(Pattern(p.n_in, p.n_out, p.positions[alive]), layer.weights[alive])


# --- Dropping --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "count", "dropped"),
    [
        ([1, 2, 3, 4, 5, 6, -7, -8], 4, [0, 1, 2, 6]),  # 6 and 2: three and one
        ([-9, 1, -8, 2, -7, 3], 2, [1, 4]),  # by magnitude alone: 1 and 3
        ([3, 1, 2], 2, [1, 2]),  # only one sign
        ([-3, -1, -2], 2, [1, 2]),
        ([1, 1, 1, -1, -1, -1], 2, [0, 3]),  # ties: the first of each sign
        ([5, -5, 1e-40, -1e-40], 2, [2, 3]),  # subnormals are alive
        ([4, -1, 3], 3, [0, 1, 2]),
    ],
)
def test_set_drops_the_weights_nearest_zero_of_each_sign(
    weights: list[float], count: int, dropped: list[int]
) -> None:
    assert sorted(drop_nearest_zero_of_each_sign(row(weights), count, rng())) == dropped


@pytest.mark.parametrize(
    ("weights", "count", "dropped"),
    [
        ([3, -1, 2, -2, 1], 1, [1]),
        ([3, -1, 2, -2, 1], 3, [1, 2, 4]),  # the first of 2 and -2
        ([-7, -8, 1, 2, 3], 3, [2, 3, 4]),  # regardless of the sign
        ([1, -0.0, 0, 1], 2, [1, 2]),
    ],
)
def test_the_weights_of_smallest_magnitude_are_dropped(
    weights: list[float], count: int, dropped: list[int]
) -> None:
    assert sorted(drop_smallest(row(weights), count, rng())) == dropped


@many
@given(layers(), st.data())
def test_drop_rules_equal_a_full_sort(layer: LayerView, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, layer.pattern.connections))
    w = layer.weights
    order = np.argsort(np.abs(w), kind="stable")
    assert set(drop_smallest(layer, count, rng())) == set(order[:count])

    live = live_part(layer)
    w, count = live.weights, min(count, live.pattern.connections)
    order = np.argsort(np.abs(w), kind="stable")
    dropped = drop_nearest_zero_of_each_sign(live, count, rng())
    assert dropped.size == count == len(set(dropped))
    for sign in (-1, 1):
        mine = [i for i in order if np.sign(w[i]) == sign]
        gone = [i for i in dropped if np.sign(w[i]) == sign]
        assert set(gone) == set(mine[: len(gone)])
        if count:
            assert abs(len(gone) - count * len(mine) / w.size) < 1


# --- Numbers ---------------------------------------------------------------------------------


@many
@given(layers(), st.floats(0, 1), st.integers(0, 9))
def test_smallest_counts_all_connections_and_rounds_down(
    layer: LayerView, fraction: float, seed: int
) -> None:
    n = layer.pattern.connections
    k = math.floor(round(fraction * n, 9))
    proposal = propose(TopologyMethod(drop_smallest, grow_random), layer, fraction, rng(seed))
    if k == 0 or n == layer.pattern.size:
        assert proposal is None
        return
    dropped = set(drop_smallest(layer, k, rng()).tolist())
    dead = sum(layer.weights[i] == 0 for i in dropped)
    assert_proposal(proposal, layer, dropped, live=k - dead, dead=dead)


@many
@given(layers(), st.floats(0, 1), st.integers(0, 9))
def test_ds_drops_all_dead_links_and_a_fraction_of_the_live_ones(
    layer: LayerView, fraction: float, seed: int
) -> None:
    live = live_part(layer)
    dead = np.flatnonzero(layer.weights == 0)
    k = round_half_up(fraction * live.pattern.connections)
    proposal = propose(SET, layer, fraction, rng(seed))
    if k + dead.size == 0 or layer.pattern.connections == layer.pattern.size:
        assert proposal is None
        return
    alive = np.flatnonzero(layer.weights)
    chosen = alive[drop_nearest_zero_of_each_sign(live, k, rng())]
    assert_proposal(
        proposal, layer, set(chosen.tolist()) | set(dead.tolist()), live=k, dead=dead.size
    )


def assert_proposal(
    proposal: Proposal | None, layer: LayerView, dropped: set[int], *, live: int, dead: int
) -> None:
    """Check that these connections were dropped and the same number grew."""
    assert proposal is not None
    assert (proposal.dropped_live, proposal.dropped_dead) == (live, dead)
    new = set(proposal.rewiring.new.positions.tolist())
    kept = set(np.delete(layer.pattern.positions, sorted(dropped)).tolist())
    assert proposal.rewiring.old is layer.pattern
    assert len(new) == proposal.rewiring.new.connections == layer.pattern.connections
    assert kept <= new
    assert len(kept) == layer.pattern.connections - live - dead == len(new) - proposal.dropped


@pytest.mark.parametrize(
    ("weights", "fraction", "live", "dead"),
    [
        ([-3, -1, 0, 2, 5, 0, -2, 4], 0.0, 0, 2),  # dead links are dropped for any fraction
        ([-3, -1, 0, 2, 5, 0, -2, 4], 0.3, 2, 2),  # 0.3 of the 6 live ones is 1.8
        ([-3, -1, 0, 2, 5, 0, -2, 4], 1.0, 6, 2),
        ([5, -5, -0.0, 1e-40, -1e-40], 0.5, 2, 1),  # minus zero is zero, a subnormal is not
        ([0, 0, 0, 0], 0.5, 0, 4),
        ([1, 2, 3, 4, 5, 6, 7, 8], 0.05, 0, 0),  # 0.4 is rounded to no connection
        ([1.0] * 10, 0.05, 1, 0),  # 0.5 is rounded up
    ],
)
def test_dead_links_are_dropped_in_addition_to_the_fraction_of_live_ones(
    weights: list[float], fraction: float, live: int, dead: int
) -> None:
    proposal = propose(SET, row(weights, free=10**6), fraction, rng())
    if live + dead == 0:
        assert proposal is None
        return
    assert proposal is not None
    assert (proposal.dropped_live, proposal.dropped_dead) == (live, dead)
    # Connections that return by chance cannot explain so few.
    assert proposal.rewiring.grown.size == live + dead


@pytest.mark.parametrize(
    ("connections", "fraction", "moved"),
    [
        (117, 0.05, 5),  # 5.85
        (117, 0.5, 58),  # 58.5
        (19, 0.05, 0),  # 0.95
        (20, 0.05, 1),
        (100, 0.57, 57),  # 56.99999999999999 in binary
        (100, 0.29, 29),  # 28.999999999999996
        (3573, 0.25, 893),  # 893.25
        (3575, 0.25, 893),  # 893.75
        (10, 1.0, 10),
        (10, 0.0, 0),
    ],
)
def test_smallest_moves_the_fraction_rounded_down_dead_links_included(
    connections: int, fraction: float, moved: int
) -> None:
    weights = [0.0] * (connections // 2) + [1.0] * (connections - connections // 2)
    layer = row(weights, free=10**6)
    proposal = propose(TopologyMethod(drop_smallest, grow_random), layer, fraction, rng())
    assert (proposal.dropped if proposal else 0) == moved
    assert (proposal is None) == (moved == 0)
    assert proposal is None or proposal.dropped_dead == min(moved, connections // 2)


@pytest.mark.parametrize("method", [SET, TopologyMethod(drop_smallest, grow_random)])
def test_weights_that_are_not_finite_are_reported_before_a_rule_reads_them(
    method: TopologyMethod,
) -> None:
    with pytest.raises(FloatingPointError, match="a weight is not finite"):
        propose(method, row([1.0, np.nan, -2.0], free=5), 0.5, rng())


def test_a_rule_that_declares_nothing_counts_all_connections_and_rounds_to_the_nearest() -> None:
    def drop_random(layer: LayerView, count: int, rng: Generator) -> Indices:
        return rng.choice(layer.pattern.connections, size=count, replace=False)

    layer = row([0.0] * 5 + [1.0] * 6, free=10**6)
    proposal = propose(TopologyMethod(DropRule(drop_random), grow_random), layer, 0.5, rng())
    assert proposal is not None
    assert proposal.dropped == 6  # 5.5, rounded to the nearest


# --- Registered rules ------------------------------------------------------------------------


@pytest.fixture
def no_new_rules() -> Iterator[None]:
    """Unregister the rules that a test registers."""
    registries = DropRule.registry, GrowRule.registry
    before = [dict(registry) for registry in registries]
    yield
    for registry, rules in zip(registries, before, strict=True):
        registry.clear()
        registry.update(rules)


@pytest.mark.usefixtures("no_new_rules")
def test_a_registered_rule_trains_by_its_name_and_gets_the_gradient_it_needs() -> None:
    asked: list[bool] = []

    @drop_rule("flattest", needs={"gradient"})
    def drop_flattest(layer: LayerView, count: int, rng: Generator) -> Indices:
        asked.append(layer.gradient is not None)
        assert layer.gradient is not None
        flat = np.abs(layer.gradient[0 : layer.pattern.n_out]).reshape(-1)
        return np.argsort(flat[layer.pattern.positions], kind="stable")[:count]

    method = TopologyMethod.named("flattest", "random")
    assert method.needs == {"gradient"}
    layer = row([1, 2, 3, 4])
    gradient = np.arange(12, dtype=np.float32)[::-1].reshape(1, 12)
    proposal = propose(method, replace(layer, gradient=gradient), 0.5, rng())
    assert proposal is not None
    assert {0, 1} <= set(
        proposal.rewiring.new.positions.tolist()
    )  # the connections of largest gradient are kept
    config = preset("SET-TD3", "Pendulum-v1", drop="flattest", rewire_every_updates=1)
    agent = build_agent(config, architecture(config, 3, 1))
    trace = agent.actor.forward(np.ones((2, 3), np.float32))[1]
    agent.actor_learner.step(trace, np.ones((2, 1), np.float32), 1)
    assert asked == [True] * len(asked)
    assert len(asked) > 1


@pytest.mark.usefixtures("no_new_rules")
@pytest.mark.parametrize(
    ("name", "needs", "message"),
    [
        ("smallest", (), "'smallest' is already registered"),
        ("a b", (), "letters, digits and underscores"),
        ("x*/", (), "letters, digits and underscores"),
        ("mine", ("hessian",), "requires hessian, but a rule can require only gradient"),
    ],
)
def test_registering_an_invalid_rule_raises_an_error_with_the_reason(
    name: str, needs: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):

        @drop_rule(name, needs=needs)
        def mine(layer: LayerView, count: int, rng: Generator) -> Indices:
            return np.arange(count)


def test_a_registered_rule_is_copied_and_pickled_by_its_name() -> None:
    method = TopologyMethod.named("smallest", "gradient")
    again = pickle.loads(pickle.dumps(copy.deepcopy(method)))
    assert again.drop is method.drop
    assert again.grow is method.grow


def _first(layer: LayerView, count: int, rng: Generator) -> Indices:
    return np.arange(count)


def _first_free(layer: LayerView, kept: Pattern, count: int, rng: Generator) -> Indices:
    return np.setdiff1d(np.arange(kept.size), kept.positions)[:count]


def test_a_rule_without_registration_is_copied_with_its_function() -> None:
    for rule in (DropRule(_first, needs=frozenset({"gradient"})), GrowRule(_first_free)):
        again = pickle.loads(pickle.dumps(rule))
        assert again == rule
        assert again is not rule


@pytest.mark.parametrize(
    "positions",
    [np.zeros((1, 1), np.int64), np.zeros(1, np.int32), np.array([1, 1]), np.array([2, 1]),
     np.array([-1, 0]), np.array([0, 12]), np.array([0, 2**62 + 2**61, -(2**62), 5])],
    ids=str,
)  # fmt: skip
def test_positions_of_a_pattern_ascend_within_the_layer(positions: Any) -> None:
    with pytest.raises(ValueError, match="pattern: positions must"):
        Pattern(3, 4, positions)


def test_a_rule_that_is_not_registered_is_rejected_with_how_to_register_it() -> None:
    config = preset("SET-TD3", "Pendulum-v1", grow="neglected_inputs")
    with pytest.raises(UsageError, match=r"grow is 'neglected_inputs'.*sparl --import MODULE"):
        build_agent(config, architecture(config, 3, 1))


@pytest.mark.parametrize(
    "pattern", [Pattern.dense(4, 3), Pattern(4, 3, np.empty(0, np.int64))], ids=["full", "empty"]
)
def test_dense_and_empty_layers_do_not_change(pattern: Pattern) -> None:
    layer = LayerView(pattern, np.zeros(pattern.connections, np.float32))
    assert propose(SET, layer, 1.0, rng()) is None


@pytest.mark.parametrize("fraction", [-0.01, 1.01, float("nan")])
def test_a_fraction_outside_0_to_1_is_rejected(fraction: float) -> None:
    with pytest.raises(ValueError, match="fraction"):
        propose(SET, row([1, 2]), fraction, rng())


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        (np.array([0]), "returned 1 connection, 1 of them distinct, but must return 2 distinct"),
        (np.array([0, 1, 2]), "returned 3 connections, 3 of them distinct, but must return 2"),
        (np.array([1, 1]), "returned 2 connections, 1 of them distinct, but must return 2"),
        (np.array([0, 4]), "returned values from 0 to 4, but must return a one-dimensional"),
        (np.array([-1, 0]), "returned values from -1 to 0, but must return a one-dimensional"),
        (np.array([0.0, 1.0]), "returned an array of float64 [2], but must return"),
        (np.array([True, True, False, False]), "returned an array of bool [4], but must return"),
        (np.array([[0, 1]]), "returned an array of int64 [1 x 2], but must return"),
        ([0, 1], "returned [0, 1], but must return a one-dimensional NumPy array of integers"),
        (None, "returned None, but must return a one-dimensional NumPy array of integers in [0, 4"),
    ],
)
def test_a_drop_rule_that_returns_an_invalid_value_is_named(result: Any, problem: str) -> None:
    rule = DropRule(lambda layer, count, rng: result, "mine")
    with pytest.raises(UsageError, match=re.escape(f"drop rule 'mine' {problem}")):
        propose(TopologyMethod(rule, grow_random), row([4, 3, 2, 1]), 0.5, rng())


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        (np.array([5]), "returned 1 position, 1 of them distinct and free, but must return 2"),
        (np.array([5, 6, 7]), "returned 3 positions, 3 of them distinct and free, but must"),
        (np.array([5, 5]), "returned 2 positions, 1 of them distinct and free, but must return 2"),
        (np.array([0, 5]), "returned 2 positions, 1 of them distinct and free, but must return 2"),
        (np.array([5, 12]), "returned values from 5 to 12, but must return a one-dimensional"),
        (np.array([5.0, 6.0]), "returned an array of float64 [2], but must return"),
        ([5, 6], "returned [5, 6], but must return a one-dimensional NumPy array"),
    ],
)
def test_a_grow_rule_that_returns_an_invalid_value_is_named(result: Any, problem: str) -> None:
    rule = GrowRule(lambda layer, kept, count, rng: result, "mine")
    with pytest.raises(UsageError, match=re.escape(f"grow rule 'mine' {problem}")):
        propose(TopologyMethod(drop_smallest, rule), row([4, 3, 2, 1]), 0.5, rng())


@pytest.mark.parametrize(
    "rounding",
    [np.floor, lambda x: None, lambda x: -1, lambda x: 5],
    ids=["float64", "None", "negative", "too many"],
)
def test_a_rounding_that_returns_an_invalid_value_is_named(rounding: Any) -> None:
    rule = DropRule(_first, "mine", rounding=rounding)
    message = (
        f"drop rule 'mine' has a function `rounding` that returned {rounding(2.0)!r} for 2 but "
        "must return an integer in [0, 4]"
    )
    with pytest.raises(UsageError, match=re.escape(message)):
        propose(TopologyMethod(rule, grow_random), row([4, 3, 2, 1]), 0.5, rng())


def test_an_exception_in_a_rounding_names_the_rule() -> None:
    rule = DropRule(_first, "mine", rounding=lambda x: 1 // 0)
    message = "drop rule 'mine' has a function `rounding` that raised ZeroDivisionError"
    with pytest.raises(UsageError, match=message):
        propose(TopologyMethod(rule, grow_random), row([4, 3, 2, 1]), 0.5, rng())


def test_an_exception_in_a_rule_names_the_rule() -> None:
    def drop_by_gradient(layer: LayerView, count: int, rng: Generator) -> Indices:
        gradient: Any = layer.gradient  # None, because the rule does not declare that it needs it
        return np.argsort(gradient[:])[:count]

    method = TopologyMethod(DropRule(drop_by_gradient, "mine"), grow_random)
    with pytest.raises(UsageError, match="drop rule 'mine' raised TypeError: 'NoneType'") as raised:
        propose(method, row([4, 3, 2, 1]), 0.5, rng())
    assert isinstance(raised.value.__cause__, TypeError)


def test_a_rule_cannot_change_the_weights() -> None:
    def drop_with_noise(layer: LayerView, count: int, rng: Generator) -> Indices:
        layer.weights[0] = 9
        return np.arange(count)

    weights = np.array([4, 3, 2, 1], np.float32)
    layer = LayerView(Pattern(8, 1, np.arange(4)), weights)
    with pytest.raises(UsageError, match="read-only"):
        propose(TopologyMethod(DropRule(drop_with_noise), grow_random), layer, 0.5, rng())
    assert weights.tolist() == [4, 3, 2, 1]


# --- Growing ---------------------------------------------------------------------------------


def chi_square(observed: list[int]) -> float:
    expected = sum(observed) / len(observed)
    return sum((o - expected) ** 2 for o in observed) / expected


def test_growth_is_uniform_over_all_free_positions_and_those_just_dropped() -> None:
    """With 12 of 30 connected and 4 dropped, all 22 free positions are equally likely."""
    pattern = random_pattern(6, 5, 12, rng(1))
    layer = LayerView(pattern, np.arange(1, 13, dtype=np.float32))
    kept = set(pattern.positions[4:].tolist())
    counts: Counter[int] = Counter()
    stream = rng(2)
    for _ in range(4000):
        proposal = propose(TopologyMethod(drop_smallest, grow_random), layer, 1 / 3, stream)
        assert proposal is not None
        counts.update(set(proposal.rewiring.new.positions.tolist()) - kept)
    assert set(counts) == set(range(30)) - kept
    assert chi_square(list(counts.values())) < 60  # 21 degrees of freedom


@pytest.mark.parametrize("count", [1, 3, 4, 6], ids=lambda c: f"{c} of 6")
def test_distinct_integers_are_uniform_over_subsets(count: int) -> None:
    """Up to half are drawn; for more, the complement is drawn. Test both."""
    stream = rng(3)
    drawn = Counter(tuple(distinct_integers(6, count, stream).tolist()) for _ in range(6000))
    subsets = list(itertools.combinations(range(6), count))
    assert set(drawn) <= set(subsets)
    assert chi_square([drawn[s] for s in subsets]) < 60  # at most 19 degrees of freedom


@many
@given(st.integers(0, 400), st.data())
def test_distinct_integers_have_the_requested_number_and_ascend(
    population: int, data: st.DataObject
) -> None:
    count = data.draw(st.integers(0, population))
    drawn = distinct_integers(population, count, rng(population))
    assert drawn.size == count
    assert (np.diff(drawn) > 0).all()
    assert ((drawn >= 0) & (drawn < population)).all()
    with pytest.raises(ValueError, match=f"{population + 1} distinct integers cannot be drawn"):
        distinct_integers(population, population + 1, rng())


@many
@given(layers(), st.data())
def test_random_positions_are_free(layer: LayerView, data: st.DataObject) -> None:
    kept = layer.pattern
    count = data.draw(st.integers(0, kept.size - kept.connections))
    grown = random_free_positions(kept, count, rng(count))
    union = set(grown.tolist()) | set(kept.positions.tolist())
    assert len(union) == count + kept.connections
    assert union <= set(range(kept.size))


def peak_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_drawing_does_not_list_the_population() -> None:
    """One byte for each of 20,000 x 20,000 positions would take 400 MB."""
    assert peak_bytes(lambda: distinct_integers(400_000_000, 1000, rng())) < 1e6
    kept = random_pattern(20_000, 20_000, 1000, rng())
    assert peak_bytes(lambda: random_free_positions(kept, 1000, rng())) < 1e6
    layer = LayerView(kept, np.ones(1000, np.float32))
    assert peak_bytes(lambda: propose(SET, layer, 0.5, rng())) < 1e6


# --- Kept values -----------------------------------------------------------------------------


def pattern_of(positions: list[int], n_in: int = 4, n_out: int = 3) -> Pattern:
    return Pattern(n_in, n_out, np.array(positions, np.int64))


def test_kept_values_are_bit_equal_and_grown_ones_get_the_given_value() -> None:
    rewiring = Rewiring(pattern_of([1, 4, 6, 9]), pattern_of([4, 6, 7, 11]))
    carried = rewiring.carry(np.array([10, -0.0, 1e-45, 40], np.float32), grown=7.0)
    expected = np.array([-0.0, 1e-45, 7, 7], np.float32)
    assert carried.dtype == np.float32
    np.testing.assert_array_equal(carried.view(np.int32), expected.view(np.int32))
    np.testing.assert_array_equal(rewiring.grown, [2, 3])  # slots in the new pattern


def test_patterns_may_be_empty_or_of_other_sizes() -> None:
    none, three = pattern_of([]), pattern_of([0, 5, 11])
    np.testing.assert_array_equal(
        Rewiring(none, three).carry(np.empty(0, np.float32), 2.0), [2, 2, 2]
    )
    assert Rewiring(three, none).carry(np.ones(3, np.float32)).size == 0
    with pytest.raises(
        ValueError, match=r"carry: values has shape \(4,\) but must have shape \(3,\)"
    ):
        Rewiring(three, none).carry(np.ones(4, np.float32))


def regrow_first(layer: LayerView, kept: Pattern, count: int, rng: Generator) -> Positions:
    """Grow the lowest free position, which was just dropped, and the highest ones."""
    free = np.setdiff1d(np.arange(kept.size), kept.positions)
    return np.concatenate([free[:1], free[free.size - count + 1 :]])


def values(layout: Layout, flat: Values, place: Place) -> dict[int, float]:
    """Return a layer's values by position."""
    positions = layout.pattern(place).positions.tolist()
    return dict(zip(positions, layout.read(flat, place).tolist(), strict=True))


def two_members() -> tuple[Layout, Values]:
    stream = rng(4)
    patterns = [
        [random_pattern(9, 8, 40, stream), random_pattern(8, 5, 20, stream)] for _ in range(2)
    ]
    layout = layout_of(patterns)
    return layout, stream.standard_normal(layout.parameters, dtype=np.float32)


@pytest.mark.parametrize("moments", ["mean", "zero"])
def test_weights_and_moments_move_together(moments: GrownMoments) -> None:
    layout, parameters = two_members()
    adam = Adam(layout, 1e-3, 0.0, moments)
    adam.m, adam.v = rng(5).random((2, layout.parameters), dtype=np.float32)
    adam.steps = 17
    before = {"w": parameters, "m": adam.m, "v": adam.v}
    place = (1, 0)
    old = layout.pattern(place)
    first = np.setdiff1d(np.arange(old.size), old.positions)[0]
    weights = layout.read(parameters, place).copy()
    returning = int(np.flatnonzero(old.positions < first)[0])
    weights[returning] = 1e-6  # so that it is dropped first
    layout.write(parameters, place, weights)

    method = TopologyMethod(drop_smallest, GrowRule(regrow_first))
    proposal = propose(method, LayerView(old, weights), 0.2, rng())
    assert proposal is not None
    rewiring = proposal.rewiring
    assert (proposal.dropped, proposal.returned) == (8, 1)
    assert rewiring.grown.size == 7
    assert rewiring.new.connections == old.connections
    new_layout = layout.rewired({place: rewiring})
    after = {"w": layout.carry(parameters, new_layout, {place: rewiring})}
    adam.rewire(new_layout, {place: rewiring})
    after |= {"m": adam.m, "v": adam.v}

    mean_v = float(np.float32(layout.read(before["v"], place).mean(dtype=np.float64)))
    of_grown = {"w": 0.0, "m": 0.0, "v": mean_v if moments == "mean" else 0.0}
    grown = set(new_layout.pattern(place).positions[rewiring.grown].tolist())
    assert adam.steps == 17
    assert adam.layout is new_layout
    for name, flat in after.items():
        for other, _ in layout:
            was, now = values(layout, before[name], other), values(new_layout, flat, other)
            if other == place:
                assert {now.pop(p) for p in grown} == {of_grown[name]}
                assert int(old.positions[returning]) in now
                assert len(now) == old.connections - 7
                assert now.items() <= was.items()
            else:
                assert now == was
            np.testing.assert_array_equal(
                flat[new_layout.block(other, "bias").where],
                before[name][layout.block(other, "bias").where],
            )


@pytest.mark.parametrize(
    ("positions", "v", "wanted"),
    [
        # outputs x inputs, of [[1, 3, .], [2, ., .]]: the mean is 2
        ([0, 1, 3], [1, 3, 2], {2: 2 * 2 / 2, 4: 2 * 3 / 2, 5: 2 * 2 / 2}),
        # [[1, 3, 5], [., ., .]]: the second output has no connections, the layer's mean is 3
        ([0, 1, 2], [1, 3, 5], {3: 1 * 3 / 3, 4: 3 * 3 / 3, 5: 5 * 3 / 3}),
        # one output has v = 0, so its new connections also get 0
        ([0, 1, 3], [1, 3, 0], {4: 0, 5: 0}),
        ([0, 1, 3], [0, 0, 0], {2: 0, 4: 0}),
        ([], [], {0: 0, 5: 0}),
    ],
)
def test_second_moments_of_grown_connections_are_estimated_from_their_neurons(
    positions: list[int], v: list[float], wanted: dict[int, float]
) -> None:
    old = Pattern(3, 2, np.array(positions, np.int64))
    new = Pattern(3, 2, np.union1d(old.positions, np.array(list(wanted), np.int64)))
    layout = layout_of([[old]])
    adam = Adam(layout, 1e-3, 0.0, "factored")
    layout.write(adam.v, (0, 0), np.array(v, np.float32))
    rewirings = {(0, 0): Rewiring(old, new)}
    adam.rewire(layout.rewired(rewirings), rewirings)
    after = dict(zip(new.positions.tolist(), adam.layout.read(adam.v, (0, 0)), strict=True))
    assert after == {**dict(zip(positions, v, strict=True)), **wanted}


def test_a_weight_of_zero_is_a_connection_that_learns() -> None:
    """A weight of zero is stored, differentiated and updated; absent connections stay absent."""
    layout = layout_of([[pattern_of([0, 3], n_in=2, n_out=2)]])
    network = Network(layout, np.zeros(layout.parameters, np.float32))
    adam = Adam(layout, 0.5, 0.0, "mean")
    output, trace = network.forward(np.ones((1, 2), np.float32))
    adam.step(network, trace, np.ones_like(output))
    state = network.state()
    np.testing.assert_array_equal(state["member0.layer0.positions"], [0, 3])
    weights = layout.read(network.parameters, (0, 0)).tolist()
    assert weights == pytest.approx([-0.5, -0.5], rel=1e-4)  # a step of the learning rate


# --- Schedule ---------------------------------------------------------------------------------


@many
@given(
    first=st.integers(1, 20), every=st.integers(0, 7), last=st.integers(-3, 60),
    now=st.integers(-3, 80),
)  # fmt: skip
def test_a_schedule_counts_its_topology_updates(
    first: int, every: int, last: int, now: int
) -> None:
    planned = list(range(first, last + 1, every)) if every else []
    plan = Schedule(first, every, last, 0.1)
    assert plan.due_until(now) == sum(update <= now for update in planned)
    assert plan.total == len(planned)
    assert plan.last_due == (planned[-1] if planned else None)


def test_ds_updates_topology_at_update_2_and_every_1000_until_the_last_twentieth() -> None:
    config = preset("DS-TD3", "HalfCheetah-v3")
    for network in ("actor", "critics"):
        plan = schedule_of(config, network)
        assert [u for u in range(3100) if plan.due_until(u) > plan.due_until(u - 1)] == [
            2, 1002, 2002, 3002,
        ]  # fmt: skip
        assert (plan.total, plan.last_due, plan.clock) == (925, 924_002, "agent")
        assert plan.due_until(10**9) == 925
        assert plan.fraction == 0.05
    assert config.warmup_env_steps + 924_002 <= 950_000 < config.warmup_env_steps + 925_002
    assert schedule_of(preset("Static-TD3", "HalfCheetah-v3"), "actor") == NEVER
    assert NEVER.total == 0


def test_a_longer_horizon_gives_the_schedule_of_the_longer_run() -> None:
    part = schedule_of(preset("DS-TD3", "Hopper-v3", horizon_env_steps=3_000_000), "actor")
    assert part == schedule_of(preset("DS-TD3", "Hopper-v3", steps=3_000_000), "actor")
    assert part.last_due == 2_825_000 - 998


@pytest.mark.parametrize(
    ("fields", "total"),
    [
        ({}, 93),
        ({"rewire_every_updates": 50}, 185),
        ({"freeze_fraction": 0.0}, 98),
        ({"freeze_fraction": 1.0}, 0),
        ({"steps": 20_000}, 188),
        ({"horizon_env_steps": 20_000}, 188),
        ({"stop_at": 5_000}, 93),  # the schedule does not depend on where a run stops
        ({"warmup_env_steps": 2_000}, 75),
        ({"updates_per_env_step": 2}, 185),
        ({"rewire_clock": "network"}, 47),
        ({"rewire_clock": "network", "policy_delay": 5}, 19),
        ({"policy_delay": 5}, 93),
        ({"rewire_every_updates": 0}, 0),
    ],
    ids=lambda x: ",".join(x) if isinstance(x, dict) else "",
)
def test_every_field_of_the_actors_schedule(fields: dict[str, Any], total: int) -> None:
    """With 10,000 steps, 250 of warm-up and 9,500 before the freeze, there are 9,250 updates.

    Every 100th update changes the topology.
    """
    base = {"steps": 10_000, "warmup_env_steps": 250, "rewire_every_updates": 100}
    config = replace(preset("DS-TD3", "HalfCheetah-v5"), **{**base, **fields})
    assert schedule_of(config, "actor").total == total


def test_the_fraction_and_the_clock_reach_the_schedule() -> None:
    config = preset("DS-TD3", "Hopper-v5", rewire_fraction=0.3, rewire_clock="network")
    assert (schedule_of(config, "critics").fraction, schedule_of(config, "critics").clock) == (
        0.3,
        "network",
    )


# --- Initial topology ------------------------------------------------------------------------


def hidden_patterns(seed: int) -> list[Pattern]:
    """Return the 256x256 patterns of actor and critics; check every layer's count."""
    config = preset("DS-TD3", "HalfCheetah-v3", seed=seed)
    nets = architecture(config, 17, 6)
    agent = build_agent(config, nets)
    for layers, layout in (
        (sizes_of(nets.networks["actor"]), agent.actor.layout),
        (sizes_of(nets.networks["critics"]), agent.critics.layout),
    ):
        for member in range(layout.spec.members):
            patterns = [p for (of, _), p in layout if of == member]
            assert [((p.n_in, p.n_out), p.connections) for p in patterns] == list(layers)
    assert agent.critics.layout.spec.members == 2
    return [
        pattern
        for layout in (agent.actor.layout, agent.critics.layout)
        for (_, layer), pattern in layout
        if layer == 1
    ]


def test_initial_patterns_are_exact_and_differ_between_members_and_seeds() -> None:
    patterns = [*hidden_patterns(0), *hidden_patterns(1)]
    for a, b in itertools.combinations(patterns, 2):
        assert 0.48 < a.overlap(b) < 0.52  # independent halves share half
    assert all(a.same_as(b) for a, b in zip(patterns, hidden_patterns(0), strict=False))


def test_initial_parameters_are_uniform_within_the_full_fan_in() -> None:
    pattern = random_pattern(400, 100, 4000, rng(6))  # 40 of 400 inputs for each output
    layout = layout_of([[pattern, Pattern.dense(100, 2000)]])
    flat = uniform_fan_in(layout, rng(7))
    bounds = {
        0.05: [layout.block((0, 0)).where, layout.block((0, 0), "bias").where],
        0.1: [layout.block((0, 1)).where, layout.block((0, 1), "bias").where],
    }
    for bound, slices in bounds.items():
        for part in slices:
            drawn = flat[part]
            assert np.abs(drawn).max() <= np.float32(bound)
            assert np.abs(drawn).max() > 0.95 * bound
            np.testing.assert_allclose(drawn.std(), bound / np.sqrt(3), rtol=0.15)
            np.testing.assert_allclose(drawn.mean(), 0, atol=4 * bound / np.sqrt(drawn.size))


def test_initial_weights_do_not_depend_on_the_kernels_order() -> None:
    """Parameters are drawn in canonical order, layer by layer, weights before biases."""
    wide = [[random_pattern(60, 8, 240, rng(1)), random_pattern(8, 5, 20, rng(1))]]
    layout = layout_of(wide)
    native = layout.native((0, 0))
    assert (
        native.canonical_index != np.arange(native.connections)
    ).any()  # otherwise the test would show nothing
    flat = uniform_fan_in(layout, rng(8))
    stream = rng(8)
    for place, pattern in layout:
        bound = pattern.n_in**-0.5
        drawn = stream.uniform(-bound, bound, pattern.connections).astype(np.float32)
        np.testing.assert_array_equal(layout.read(flat, place), drawn)
        biases = stream.uniform(-bound, bound, pattern.n_out).astype(np.float32)
        np.testing.assert_array_equal(flat[layout.block(place, "bias").where], biases)
