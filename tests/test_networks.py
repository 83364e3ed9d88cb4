"""Networks and layouts: which traces may be used, and which native layers are shared."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sparl.learner import SparseLearner
from sparl.networks.adam import Adam
from sparl.networks.mlp import Array, Layout, Network, Trace
from sparl.sparse.pattern import Pattern
from sparl.topology.drop import drop_smallest
from sparl.topology.grow import grow_random
from sparl.topology.propose import TopologyMethod
from sparl.topology.schedule import Schedule

BATCH = 8
ONES = np.ones((BATCH, 1), np.float32)


def new_network(rng: np.random.Generator) -> Network:
    sizes = ((4, 6, 12), (6, 1, 4))
    patterns = [
        Pattern(n_in, n_out, np.sort(rng.choice(n_in * n_out, count, replace=False)))
        for n_in, n_out, count in sizes
    ]
    layout = Layout([patterns], "linear")
    return Network(layout, rng.standard_normal(layout.parameters, dtype=np.float32))


def new_learner(network: Network, rng: np.random.Generator) -> SparseLearner:
    """A learner that updates the topology at its second step."""
    return SparseLearner(
        network,
        Adam(network.layout, 1e-3, 0.0, "zero"),
        TopologyMethod(drop_smallest, grow_random),
        Schedule(first=2, every=100, last=1000, fraction=0.5),
        rng,
    )


def gradient(learner: SparseLearner, trace: Trace) -> None:
    network = learner.network
    network.gradient(trace, ONES, np.zeros_like(network.parameters))


def adam_step(learner: SparseLearner, trace: Trace) -> None:
    learner.adam.step(learner.network, trace, ONES)


def gradient_factors(learner: SparseLearner, trace: Trace) -> None:
    learner.network.gradient_factors(trace, ONES, (0, 0))


USES = [gradient, adam_step, gradient_factors]


def everything(learner: SparseLearner) -> list[Array]:
    adam = learner.adam
    return [learner.network.parameters, adam.m, adam.v, np.array(adam.steps)]


@pytest.mark.parametrize("use", USES)
def test_a_trace_from_before_a_topology_update_is_an_error(
    use: Callable[[SparseLearner, Trace], None],
) -> None:
    rng = np.random.default_rng(0)
    network = new_network(rng)
    learner = new_learner(network, rng)
    x = rng.standard_normal((BATCH, 4), dtype=np.float32)
    for update in (1, 2):
        _, trace = network.forward(x)
        use(learner, trace)  # before the update it may be used
        learner.step(trace, ONES, update)
    assert learner.topology_updates
    before = [values.copy() for values in everything(learner)]
    with pytest.raises(ValueError, match=r"another network or .*topology"):
        use(learner, trace)
    for now, then in zip(everything(learner), before, strict=True):
        np.testing.assert_array_equal(now, then)
    use(learner, network.forward(x)[1])


@pytest.mark.parametrize("use", USES)
def test_a_trace_of_another_network_is_an_error(
    use: Callable[[SparseLearner, Trace], None],
) -> None:
    rng = np.random.default_rng(0)
    network, other = new_network(rng), new_network(rng)
    _, trace = other.forward(rng.standard_normal((BATCH, 4), dtype=np.float32))
    with pytest.raises(ValueError, match="the trace comes from another network"):
        use(new_learner(network, rng), trace)


@pytest.mark.parametrize(("first", "shared_first"), [(0, 2), (2, 0), (1, 3)])
def test_a_layout_shares_no_layer_that_differentiates_other_inputs(
    first: int, shared_first: int
) -> None:
    rng = np.random.default_rng(0)
    patterns = new_network(rng).layout.patterns
    other = Layout(patterns, "linear", shared_first)
    sharing, alone = (
        Layout(patterns, "linear", first, share=other),
        Layout(patterns, "linear", first),
    )
    x = rng.standard_normal((BATCH, 4), dtype=np.float32)
    parameters = rng.standard_normal(alone.parameters, dtype=np.float32)
    got, wanted = (
        Network(layout, parameters).value_and_input_gradient(x, weight=1.0)
        for layout in (sharing, alone)
    )
    np.testing.assert_array_equal(got[0], wanted[0])
    np.testing.assert_array_equal(got[1], wanted[1])
    assert got[1].shape == (BATCH, 4 - first)
    assert sharing.native((0, 1)) is other.native((0, 1))  # the second layer is the same
