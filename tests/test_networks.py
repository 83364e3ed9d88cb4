"""Test networks and layouts: activations, blocks, valid traces and shared layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from layouts import layout_of
from sparl import _native
from sparl.agents.action_head import ActionHead
from sparl.errors import UsageError
from sparl.export.policy import Policy
from sparl.learner import SparseLearner
from sparl.networks.adam import Adam
from sparl.networks.initialize import uniform_fan_in
from sparl.networks.layout import Layout
from sparl.networks.network import Network, PackedInput, Trace
from sparl.networks.spec import Activation, Layer, Linear, NetworkSpec, mlp
from sparl.networks.target import OwnPatternTarget, SharedPatternTarget, Target
from sparl.sparse.pattern import Pattern
from sparl.sparse.rewiring import Rewiring
from sparl.topology.drop import drop_smallest
from sparl.topology.grow import grow_random
from sparl.topology.initial import random_pattern
from sparl.topology.propose import TopologyMethod
from sparl.topology.schedule import Schedule
from sparl.types import Array

BATCH = 8
ONES = np.ones((BATCH, 1), np.float32)


def new_network(rng: np.random.Generator) -> Network:
    sizes = ((4, 6, 12), (6, 1, 4))
    patterns = [
        Pattern(n_in, n_out, np.sort(rng.choice(n_in * n_out, count, replace=False)))
        for n_in, n_out, count in sizes
    ]
    layout = layout_of([patterns])
    return Network(layout, rng.standard_normal(layout.parameters, dtype=np.float32))


def new_learner(network: Network, rng: np.random.Generator) -> SparseLearner:
    """Return a learner that updates the topology at its second step."""
    return SparseLearner(
        network,
        Adam(network.layout, 1e-3, 0.0, "zero"),
        TopologyMethod(drop_smallest, grow_random),
        Schedule(first=2, every=100, last=1000, fraction=0.5),
        rng,
    )


def adam_step(learner: SparseLearner, trace: Trace) -> None:
    learner.adam.step(learner.network, trace, ONES)


def gradient_factors(learner: SparseLearner, trace: Trace) -> None:
    learner.network.gradient_factors(trace, ONES, (0, 0))


USES = [adam_step, gradient_factors]


def everything(learner: SparseLearner) -> list[Array]:
    adam = learner.adam
    return [learner.network.parameters, adam.m, adam.v, np.array(adam.steps)]


def topology_update(learner: SparseLearner) -> None:
    layout = learner.network.layout
    old = layout.pattern((0, 0))
    rewirings = {(0, 0): Rewiring(old, Pattern(4, 6, np.arange(old.connections)))}
    new = layout.rewired(rewirings)
    learner.network.parameters = layout.carry(learner.network.parameters, new, rewirings)
    learner.network.layout = new
    learner.adam.rewire(new, rewirings)


def optimiser_step(learner: SparseLearner) -> None:
    network = learner.network
    _, trace = network.forward(np.ones((BATCH, 4), np.float32))
    learner.adam.step(network, trace, ONES)


def restored(learner: SparseLearner) -> None:
    learner.network.restore(learner.network.state())


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("change", [topology_update, optimiser_step, restored])
def test_a_trace_from_before_a_change_of_the_network_is_an_error(
    use: Callable[[SparseLearner, Trace], None], change: Callable[[SparseLearner], None]
) -> None:
    rng = np.random.default_rng(0)
    network = new_network(rng)
    learner = new_learner(network, rng)
    x = rng.standard_normal((BATCH, 4), dtype=np.float32)
    _, trace = network.forward(x)
    change(learner)
    before = [values.copy() for values in everything(learner)]
    with pytest.raises(ValueError, match="older than a topology update, an optimiser step or"):
        use(learner, trace)
    for now, then in zip(everything(learner), before, strict=True):
        np.testing.assert_array_equal(now, then)
    use(learner, network.forward(x)[1])


@pytest.mark.parametrize("kind", [SharedPatternTarget, OwnPatternTarget])
def test_a_trace_from_before_a_soft_update_is_an_error(kind: type[Target]) -> None:
    rng = np.random.default_rng(0)
    online = new_network(rng)
    target = kind(online)
    x = rng.standard_normal((BATCH, 4), dtype=np.float32)
    _, trace = target.network.forward(x)
    target.soft_update(0.5)
    with pytest.raises(ValueError, match="an optimiser step or a soft update; call forward again"):
        target.network.gradient_factors(trace, ONES, (0, 0))
    target.network.gradient_factors(target.network.forward(x)[1], ONES, (0, 0))
    _, trace = online.forward(x)
    target.soft_update(0.5)  # only reads the online network
    online.gradient_factors(trace, ONES, (0, 0))


def test_a_rejected_step_leaves_the_trace_valid() -> None:
    rng = np.random.default_rng(0)
    network = new_network(rng)
    learner = new_learner(network, rng)
    _, trace = network.forward(rng.standard_normal((BATCH, 4), dtype=np.float32))
    before = network.parameters.copy()
    with pytest.raises(ValueError, match="output_gradient must have shape"):
        learner.adam.step(network, trace, ONES[1:])
    np.testing.assert_array_equal(network.parameters, before)
    learner.adam.step(network, trace, ONES)
    assert learner.adam.steps == 1


@pytest.mark.parametrize("use", USES)
def test_a_trace_of_another_network_is_an_error(
    use: Callable[[SparseLearner, Trace], None],
) -> None:
    rng = np.random.default_rng(0)
    network = new_network(rng)
    x = rng.standard_normal((BATCH, 4), dtype=np.float32)
    for other in (new_network(rng), network.copy()):  # even one with the same layout
        _, trace = other.forward(x)
        with pytest.raises(ValueError, match="the trace comes from a different network"):
            use(new_learner(network, rng), trace)


def test_a_packed_input_gives_the_same_bits() -> None:
    rng = np.random.default_rng(0)
    network = new_network(rng)
    for batch in (1, 7, 16, 40):
        x = rng.standard_normal((batch, 4), dtype=np.float32)
        left, right = np.ascontiguousarray(x[:, :3]), np.ascontiguousarray(x[:, 3:])
        d = rng.standard_normal((batch, 1), dtype=np.float32)
        wanted, trace = network.forward(x)
        gradients = network.gradient_factors(trace, d, (0, 0))
        value = network.value_and_input_gradient(x, weight=0.5)
        for inputs in ((PackedInput(x),), (PackedInput(left), right), (left, PackedInput(right))):
            got, trace = network.forward(*inputs)
            np.testing.assert_array_equal(got, wanted)
            np.testing.assert_array_equal(network(*inputs), wanted)
            for g, w in zip(network.gradient_factors(trace, d, (0, 0)), gradients, strict=True):
                np.testing.assert_array_equal(g, w)
            for g, w in zip(
                network.value_and_input_gradient(*inputs, weight=0.5), value, strict=True
            ):
                np.testing.assert_array_equal(g, w)


def test_inputs_of_different_batches_are_an_error() -> None:
    network = new_network(np.random.default_rng(0))
    x = np.ones((BATCH, 2), np.float32)
    with pytest.raises(ValueError, match=r"the first has \(8, 2\) and input 1 has \(7, 2\)"):
        network(x, PackedInput(x[:-1]))
    with pytest.raises(ValueError, match="2 features, but the network has 4"):
        network(PackedInput(x))
    with pytest.raises(ValueError, match="packed input"):
        PackedInput(x[0])


def test_a_packed_input_with_too_many_features_is_an_error(tmp_path: Path) -> None:
    features = 2**32 + 3  # 3, if truncated to 32 bits
    with (tmp_path / "samples").open("wb") as file:
        file.truncate(4 * features)  # occupies no disk space
    samples = np.memmap(file.name, np.float32, "r+", shape=(1, features))
    with pytest.raises(ValueError, match=r"fewer than 2\^28 features, but have \(1, 4294967299\)"):
        PackedInput(samples)


@pytest.mark.parametrize("hidden", ["linear", "relu", "tanh"])
@pytest.mark.parametrize("output", ["linear", "relu", "tanh"])
def test_any_activation_may_follow_any_layer(hidden: Activation, output: Activation) -> None:
    """Compare with finite differences of the network's own output."""
    rng = np.random.default_rng(1)
    layers = Linear(4, 6, hidden, 24), Linear(6, 5, hidden, 30), Linear(5, 2, output, 10)
    spec = NetworkSpec(layers)
    patterns = {(0, k): Pattern.dense(layer.n_in, layer.n_out) for k, layer in enumerate(layers)}
    layout = Layout(spec, patterns)
    network = Network(layout, rng.standard_normal(layout.parameters, dtype=np.float32) / 2)
    x = rng.standard_normal((BATCH, 4), dtype=np.float32)
    d = rng.standard_normal((BATCH, 2), dtype=np.float32)

    def loss(parameters: Array) -> float:
        """Compute the output with a dense network in double precision."""
        y = x.astype(np.float64)
        for place, pattern in layout:
            w = layout.read(parameters, place).reshape(pattern.n_out, pattern.n_in)
            y = y @ w.T.astype(np.float64) + layout.read(parameters, place, "bias")
            name = layers[place[1]].activation
            y = np.tanh(y) if name == "tanh" else np.maximum(y, 0) if name == "relu" else y
        return float((y * d).sum())

    parameters = network.parameters
    output_, trace = network.forward(x)
    assert abs(float((output_.astype(np.float64) * d).sum()) - loss(parameters)) < 1e-4
    for place, _ in layout:
        dy, inputs = network.gradient_factors(trace, d, place)
        got = (dy @ inputs.T).reshape(-1)
        for k in range(got.size):
            weights = layout.read(parameters, place)
            above, below = parameters.copy(), parameters.copy()
            for changed, step in ((above, 2**-10), (below, -(2**-10))):
                moved = weights.copy()
                moved[k] += np.float32(step)
                layout.write(changed, place, moved)
            wanted = (loss(above) - loss(below)) / 2**-9
            assert abs(got[k] - wanted) < 2e-2


def test_patterns_that_do_not_fit_the_spec_are_an_error() -> None:
    spec = NetworkSpec(mlp((4, 6, 1)))
    fits = Pattern.dense(4, 6)
    with pytest.raises(ValueError, match="needs a pattern with 6 inputs and 1 outputs but has 5"):
        Layout(spec, {(0, 0): fits, (0, 1): Pattern.dense(5, 1)})
    with pytest.raises(ValueError, match="has none"):
        Layout(spec, {(0, 0): fits})


def test_parameters_are_named_blocks_of_which_some_have_patterns() -> None:
    network = new_network(np.random.default_rng(0))
    blocks = network.layout.blocks
    assert list(blocks) == [
        f"member0.layer{k}.{name}" for k in (0, 1) for name in ("weight", "bias")
    ]
    assert [block.pattern is not None for block in blocks.values()] == [True, False] * 2
    ends = [0, *(block.where.stop for block in blocks.values())]
    assert [block.where.start for block in blocks.values()] == ends[:-1]
    assert ends[-1] == network.layout.parameters
    assert set(blocks) <= set(network.state())


def test_a_rewired_layout_shares_the_layers_that_did_not_change() -> None:
    layout = new_network(np.random.default_rng(0)).layout
    old = layout.pattern((0, 0))
    changed = layout.rewired({(0, 0): Rewiring(old, Pattern(4, 6, np.arange(old.connections)))})
    assert changed.native((0, 1)) is layout.native((0, 1))
    assert changed.native((0, 0)) is not layout.native((0, 0))


@pytest.mark.parametrize("first", [0, 1, 4])
def test_inputs_before_the_first_gradient_input_have_no_gradient(first: int) -> None:
    rng = np.random.default_rng(0)
    patterns = [[pattern for _, pattern in new_network(rng).layout]]
    x = rng.standard_normal((BATCH, 4), dtype=np.float32)
    parameters = rng.standard_normal(layout_of(patterns).parameters, dtype=np.float32)
    (value, some), (same, every) = (
        Network(layout_of(patterns, first_gradient_input=f), parameters).value_and_input_gradient(
            x, weight=1.0
        )
        for f in (first, 0)
    )
    np.testing.assert_array_equal(value, same)
    np.testing.assert_allclose(some, every[:, first:], rtol=1e-6)
    assert some.shape == (BATCH, 4 - first)


def test_the_layers_of_a_spec_determine_its_sizes() -> None:
    spec = NetworkSpec(mlp((4, 6, 1), "tanh"), members=2).with_connections((12, 4))
    assert [layer.activation for layer in spec.layers] == ["relu", "tanh"]
    assert [(layer.connections, layer.size) for layer in spec.layers] == [(12, 24), (4, 6)]
    assert (spec.n_in, spec.n_out, spec.connections, spec.of_all_members) == (4, 1, 16, 32)
    assert (spec.deep_connections, spec.of_inputs(2)) == (4, 6)
    assert [place for place, _ in spec.places()] == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_a_head_has_one_activation() -> None:
    assert ActionHead("tanh", 1, "linear", "outputs").of_sums == "tanh"
    assert ActionHead("linear", 2, "tanh", "tanh(outputs[:n_act])").of_sums == "tanh"
    with pytest.raises(ValueError, match="one of the two must be linear"):
        ActionHead("tanh", 1, "tanh", "tanh(outputs)")


@dataclass(frozen=True)
class Unpruned(Layer):
    """A kind of layer without a pattern: a dense matrix that no topology update changes."""

    @property
    def blocks(self) -> dict[str, int]:
        return {"matrix": self.n_in * self.n_out, "offset": self.n_out}

    def native(self, pattern: Pattern | None, first_gradient_input: int) -> _native.Layer:
        assert pattern is None
        every = np.arange(self.n_in * self.n_out)
        return _native.Linear(self.n_in, self.n_out, every, first_gradient_input)

    def entry(self) -> dict[str, Any]:
        return {"kind": "unpruned", "outputs": self.n_out}


def unpruned_network(rng: np.random.Generator) -> Network:
    layers = Linear(4, 6, "relu", 12), Unpruned(6, 6, "tanh"), Linear(6, 1, "linear", 4)
    spec = NetworkSpec(layers, members=2, ensemble=True)
    assert spec.with_connections([12, 4]) == spec
    patterns = {
        place: random_pattern(layer.n_in, layer.n_out, layer.connections, rng)
        for place, layer in spec.places()
        if layer.size
    }
    layout = Layout(spec, patterns)
    return Network(layout, uniform_fan_in(layout, rng))


def test_a_layer_without_a_pattern_needs_no_other_code() -> None:
    """Optimiser, topology updates, targets and states treat its blocks like all others."""
    rng = np.random.default_rng(0)
    network = unpruned_network(rng)
    learner, target = new_learner(network, rng), OwnPatternTarget(network)
    x = rng.standard_normal((BATCH, 4), dtype=np.float32)
    d = np.ones((2, BATCH, 1), np.float32)
    start = network.state()
    for update in range(1, 5):
        learner.step(network.forward(x)[1], d, update)
        target.soft_update(0.5)
    assert {update.layer for update in learner.topology_updates} == {0, 2}
    state = network.state()
    for name in ("matrix", "offset"):
        key = f"member1.layer1.{name}"
        moved = state[key] != start[key]
        assert moved.any()
        assert np.shape(learner.state()[f"adam.v.{key}"]) == np.shape(state[key])
        of_target = target.existing()[key]
        assert (of_target[moved] != start[key][moved]).all()
        assert (of_target[moved] != state[key][moved]).all()
    assert "member1.layer1.positions" not in state

    other = unpruned_network(rng)
    twin, other_target = new_learner(other, rng), OwnPatternTarget(other)
    other.restore(state)
    twin.restore(learner.state())
    other_target.restore(target.state())
    for each in (learner, twin):
        each.step(each.network.forward(x)[1], d, 5)
    for each in (target, other_target):
        each.soft_update(0.5)
    np.testing.assert_array_equal(network.parameters, other.parameters)
    np.testing.assert_array_equal(target(x), other_target(x))


def test_a_policy_with_an_unknown_kind_of_layer_is_not_exported() -> None:
    agent: Any = SimpleNamespace(actor=unpruned_network(np.random.default_rng(0)))
    with pytest.raises(UsageError, match="layer 1 of the policy is of kind Unpruned"):
        Policy.of(agent)
