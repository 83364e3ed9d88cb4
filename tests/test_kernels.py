"""Compare the engine on every instruction set with a NumPy oracle in float64.

Tolerances are derived, not chosen: every array of the oracle has a bound on the rounding error of
float32, nnz * eps * sum |w x| for each sum, which is propagated from layer to layer.
"""

from __future__ import annotations

import copy
import functools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.random import Generator
from numpy.typing import NDArray

import reference
from reference import Float
from sparl import _native
from sparl.sparse.pattern import Pattern

Array = NDArray[np.float32]
EPS = float(np.finfo(np.float32).eps)
ISAS = _native.available_isas()


@pytest.fixture(autouse=True)
def _restore_engine() -> Iterator[None]:
    isa = _native.isa()
    yield
    _native.use_isa(isa)


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> str:
    _native.use_isa(request.param)
    return str(request.param)


# ---------------------------------------------------------------- the oracle, with its bounds


class Rounded(NamedTuple):
    """The exact result, and a bound on float32's error."""

    exact: Float
    bound: Float

    @property
    def most(self) -> Float:
        return np.abs(self.exact) + self.bound


def exactly(array: NDArray[np.floating]) -> Rounded:
    return Rounded(array.astype(np.float64), np.zeros(array.shape))


def assert_within(got: Array, wanted: Rounded) -> None:
    assert got.dtype == np.float32
    assert got.shape == wanted.exact.shape
    excess = np.abs(got - wanted.exact) - wanted.bound
    assert np.isfinite(got).all()
    assert excess.size == 0 or excess.max() <= 0, f"{excess.max()} beyond the bound"


class Backward(NamedTuple):
    """For each layer d weights, d biases and the factors dY and X; then d input."""

    weights: list[Rounded]
    biases: list[Rounded]
    factors: list[tuple[Rounded, Rounded]]
    inputs: Rounded


@dataclass(frozen=True)
class Member:
    """An MLP with ReLU hidden layers and a linear or tanh output; weights in canonical order."""

    patterns: Sequence[Pattern]
    weights: Sequence[Float]
    biases: Sequence[Float]
    output: str

    def forward(self, x: Rounded) -> list[Rounded]:
        """Return the input, each hidden layer before its ReLU, and the activated output."""
        passed = [x]
        for layer, (pattern, bias) in enumerate(zip(self.patterns, self.biases, strict=True)):
            if layer:
                x = Rounded(reference.relu(x.exact), x.bound)
            w = reference.to_dense(pattern, self.weights[layer])
            summands = np.bincount(pattern.outputs, minlength=pattern.n_out) + 1
            sizes = reference.product(np.abs(w), np.abs(bias), x.most)
            x = Rounded(
                reference.product(w, bias, x.exact),
                summands * EPS * sizes + reference.product(np.abs(w), 0 * bias, x.bound),
            )
            passed.append(x)
        if self.output == "tanh":
            y = np.tanh(x.exact)
            passed[-1] = Rounded(y, x.bound + 4 * EPS * np.abs(y))
        return passed

    def backward(self, passed: list[Rounded], output_gradient: Rounded) -> Backward:
        """Return the gradients of sum(output * output_gradient)."""
        batch = len(output_gradient.exact)
        dy = output_gradient
        if self.output == "tanh":
            y, d = passed[-1], dy.exact
            slope_bound = y.bound * (2 * np.abs(y.exact) + y.bound) + 4 * EPS
            dy = Rounded(d * (1 - y.exact**2), np.abs(d) * slope_bound)
        weights, biases, factors = [], [], []
        for layer in reversed(range(len(self.patterns))):
            pattern, before = self.patterns[layer], passed[layer]
            x = Rounded(reference.relu(before.exact), before.bound) if layer else before
            dw = Rounded(
                reference.weight_gradient(pattern, dy.exact, x.exact),
                (batch + 5) * EPS * reference.weight_gradient(pattern, dy.most, x.most)
                + reference.weight_gradient(pattern, dy.bound, x.most)
                + reference.weight_gradient(pattern, np.abs(dy.exact), x.bound),
            )
            db = Rounded(
                dy.exact.sum(axis=0), (batch + 5) * EPS * dy.most.sum(axis=0) + dy.bound.sum(axis=0)
            )
            weights.append(dw)
            biases.append(db)
            factors.append((dy, x))
            w = reference.to_dense(pattern, self.weights[layer])
            summands = np.bincount(pattern.inputs, minlength=pattern.n_in) + 1
            dx = reference.input_gradient(w, dy.exact)
            bound = summands * EPS * reference.input_gradient(np.abs(w), dy.most)
            bound += reference.input_gradient(np.abs(w), dy.bound)
            if layer:  # the ReLU; if rounding may change its sign, the bound is the whole value
                undecided = (np.abs(before.exact) <= before.bound) & (before.bound > 0)
                is_open = before.exact > 0
                bound = np.where(undecided, np.abs(dx) + bound, np.where(is_open, bound, 0))
                dx = np.where(is_open, dx, 0)
            dy = Rounded(dx, bound)
        return Backward(weights[::-1], biases[::-1], factors[::-1], dy)


def mlp(members: list[list[_native.Linear]], output: str) -> _native.Stack:
    """Build multilayer perceptrons with ReLU between the layers."""
    depth = max((len(layers) for layers in members[:1]), default=0)
    return _native.Stack(members, ["relu"] * (depth - 1) + [output] * (depth > 0))


class Problem:
    """An ensemble in the engine and in the oracle, an input and a gradient of its output."""

    def __init__(
        self,
        patterns: Sequence[Sequence[Pattern]],
        batch: int,
        output: str,
        first_gradient_input: int,
        rng: Generator,
    ) -> None:
        self.batch, self.first_gradient_input = batch, first_gradient_input
        layers = [
            [
                _native.Linear(p.n_in, p.n_out, p.positions, 0 if i else first_gradient_input)
                for i, p in enumerate(member)
            ]
            for member in patterns
        ]
        self.layers, self.stack = layers, mlp(layers, output)
        self.parameters = np.full(self.stack.parameters, np.nan, np.float32)
        self.members = []
        for m, member in enumerate(patterns):
            weights, biases = [], []
            for i, p in enumerate(member):
                scale = np.sqrt(p.n_out / max(p.connections, p.n_out))
                w = normal(rng, p.connections) * np.float32(scale)
                b = normal(rng, p.n_out) * np.float32(0.5)
                self.write(m, i, w[layers[m][i].canonical_index], b)
                weights.append(w.astype(np.float64))
                biases.append(b.astype(np.float64))
            self.members.append(Member(list(member), weights, biases, output))
        n_in, n_out = patterns[0][0].n_in, patterns[0][-1].n_out
        self.x = normal(rng, (batch, n_in))
        self.output_gradient = normal(rng, (len(patterns), batch, n_out))
        self.pool: _native.Pool | None = None  # used by all passes

    def using(self, pool: _native.Pool) -> Problem:
        """Return this problem with another pool; `problem` returns one object to all tests."""
        other = copy.copy(self)
        other.pool = pool
        return other

    def blocks(self, member: int, layer: int) -> tuple[slice, slice]:
        """Return the slices of a layer's weights and biases in the flat array."""
        start, native = self.stack.offset(member, layer), self.layers[member][layer]
        middle = start + native.connections
        return slice(start, middle), slice(middle, middle + native.n_out)

    def write(self, member: int, layer: int, weights: Array, biases: Array) -> None:
        """Set a layer's weights, given in kernel order, and its biases."""
        for where, values in zip(self.blocks(member, layer), (weights, biases), strict=True):
            self.parameters[where] = values

    @property
    def inputs(self) -> list[Array]:
        """Return the input in several parts, if it has enough features."""
        n = self.x.shape[1]
        cuts = [] if n < 3 else [1, 1 + n // 2]
        return [np.ascontiguousarray(part) for part in np.split(self.x, cuts, axis=1)]

    @functools.cached_property
    def passed(self) -> list[list[Rounded]]:
        return [member.forward(exactly(self.x)) for member in self.members]

    @functools.cached_property
    def backward(self) -> list[Backward]:
        return [
            member.backward(passed, exactly(self.output_gradient[m]))
            for m, (member, passed) in enumerate(zip(self.members, self.passed, strict=True))
        ]

    @property
    def gradient(self) -> Rounded:
        """[parameters], in kernel order."""
        parts: list[list[Float]] = [[], []]
        for layers, backward in zip(self.layers, self.backward, strict=True):
            for layer, dw, db in zip(layers, backward.weights, backward.biases, strict=True):
                order = layer.canonical_index
                for part, w, b in zip(parts, dw, db, strict=True):
                    part += [w[order], b]
        return Rounded(*(np.concatenate(part) for part in parts))

    @property
    def input_gradient(self) -> Rounded:
        """[E, B, differentiated inputs]."""
        first = self.first_gradient_input
        parts = zip(*(backward.inputs for backward in self.backward), strict=True)
        return Rounded(*(np.stack(part)[:, :, first:] for part in parts))

    def run_forward(self) -> tuple[Array, _native.Trace]:
        return self.stack.forward(self.parameters, self.inputs, self.pool)

    def run_gradient(self, trace: _native.Trace | None = None) -> Array:
        trace = trace or self.run_forward()[1]
        out, d = np.full_like(self.parameters, np.nan), self.output_gradient
        assert self.stack.gradient(self.parameters, trace, d, out, pool=self.pool) is None
        return out

    def run_gradients(self, output_gradient: Array | None = None) -> tuple[Array, Array]:
        """Compute the gradients of the parameters and of the inputs in one pass."""
        out = np.full_like(self.parameters, np.nan)
        d = self.output_gradient if output_gradient is None else output_gradient
        _, trace = self.run_forward()
        dx = self.stack.gradient(self.parameters, trace, d, out, inputs=True, pool=self.pool)
        assert dx is not None
        return out, dx


def normal(rng: Generator, shape: int | tuple[int, ...]) -> Array:
    return rng.standard_normal(shape, dtype=np.float32)


class Case(NamedTuple):
    sizes: tuple[int, ...]
    density: float
    batch: int
    members: int = 1
    output: str = "linear"
    first_gradient_input: int = 0


CASES = [
    Case((1, 1), 1, 1),
    Case((1, 1, 1), 1, 3, output="tanh"),
    Case((3, 4, 5), 0.5, 15, members=2),
    Case((4, 4, 4, 4), 1, 16, members=2),
    Case((5, 3, 1), 0, 17, members=2),  # no connections, only biases
    Case((5, 3), 0, 16, first_gradient_input=2),
    Case((7, 16, 17, 3), 0.05, 63, output="tanh", first_gradient_input=4),
    Case((16, 31, 7), 0.5, 64, members=2, first_gradient_input=9),
    Case((17, 97, 5), 1, 65, first_gradient_input=16),
    Case((31, 256, 4), 0.05, 100, 2, "tanh", first_gradient_input=31),  # no input gradient
    Case((97, 31, 1), 0.5, 101, output="tanh"),
    Case((256, 97, 16), 0.5, 100, members=2, output="tanh"),
    Case((256, 256, 17), 0.05, 256, members=2, first_gradient_input=200),
    Case((256, 256, 1), 1, 17),
    Case((17, 256, 256, 6), 0.002, 1, members=2),  # most rows and columns are empty
    Case((70_001, 3), 0.001, 17, members=2, first_gradient_input=30_001),  # over 65,535
    Case((17, 70_001, 2), 0.005, 3),
]


@functools.cache
def problem(case: Case) -> Problem:
    """Draw patterns of exactly density * size connections; later members have fewer."""
    rng = np.random.default_rng(sum(case.sizes) + case.batch)
    patterns = []
    for m in range(case.members):
        layers = []
        for n_in, n_out in pairwise(case.sizes):
            count = round(case.density * n_in * n_out * (1 - 0.3 * m))
            drawn = rng.choice(n_in * n_out, count, replace=False).astype(np.int64)
            layers.append(Pattern(n_in, n_out, np.sort(drawn)))
        patterns.append(layers)
    return Problem(patterns, case.batch, case.output, case.first_gradient_input, rng)


def every_group() -> Problem:
    """Return every subset of a block's four rows, with 1 to 20 columns; then the same transposed.

    Up to three columns of a subset are stored as parts of smaller ones.
    """
    subsets, widest = range(1, 16), 20
    connected = np.array(
        [
            (4 * block + row, column)
            for block, (subset, columns) in enumerate(product(subsets, range(1, widest + 1)))
            for row in range(4)
            for column in range(columns)
            if subset >> row & 1
        ],
        np.int64,
    )
    tall = 4 * len(subsets) * widest
    down = Pattern(widest, tall, connected @ [widest, 1])
    up = Pattern(tall, widest, np.sort(connected @ [1, tall]))
    return Problem([[down, up]], 21, "linear", 0, np.random.default_rng(3))


def case_id(case: Case) -> str:
    return "-".join(map(str, case.sizes)) + f"_d{case.density}_b{case.batch}"


each_case = pytest.mark.parametrize("case", CASES, ids=case_id)
BIG = Case((97, 256, 256, 6), 0.25, 256, 2, "tanh", first_gradient_input=90)


# ---------------------------------------------------------------- network passes


@each_case
def test_forward(isa: str, case: Case) -> None:
    p = problem(case)
    output, trace = p.run_forward()
    assert trace.batch == case.batch
    for member, passed in zip(output, p.passed, strict=True):
        assert_within(member, passed[-1])


@each_case
def test_outputs_without_a_trace_equal_those_of_forward_bit_for_bit(isa: str, case: Case) -> None:
    p = problem(case)
    np.testing.assert_array_equal(p.stack.outputs(p.parameters, p.inputs), p.run_forward()[0])


@each_case
def test_gradient(isa: str, case: Case) -> None:
    assert_within(problem(case).run_gradient(), problem(case).gradient)


@each_case
def test_input_gradient(isa: str, case: Case) -> None:
    p = problem(case)
    gradient, dx = p.run_gradients()
    assert_within(dx, p.input_gradient)
    np.testing.assert_array_equal(gradient, p.run_gradient())


@pytest.mark.parametrize("case", [CASES[2], CASES[6], CASES[9], CASES[14]], ids=case_id)
def test_factors_of_every_layers_weight_gradient(isa: str, case: Case) -> None:
    """RigL grows connections using dY and X of every layer and member, feature by feature."""
    p = problem(case)
    _, trace = p.run_forward()
    for m, backward in enumerate(p.backward):
        for layer, factors in enumerate(backward.factors):
            got = p.stack.gradient_factors(p.parameters, trace, p.output_gradient, m, layer)
            for g, wanted in zip(got, factors, strict=True):
                assert_within(g, Rounded(wanted.exact.T, wanted.bound.T))


def test_every_group_of_rows_with_every_number_of_columns(isa: str) -> None:
    p = every_group()
    assert_within(p.run_forward()[0][0], p.passed[0][-1])
    assert_within(p.run_gradient(), p.gradient)
    assert_within(p.run_gradients()[1], p.input_gradient)


VALUES = [
    Case((1, 1), 1, 1),
    Case((5, 8, 1), 0, 17, members=2),
    Case((3, 4, 5, 1), 0.5, 15, members=3),
    Case((9, 31, 1), 0.3, 33, members=2, first_gradient_input=9),  # no input gradient
    Case((23, 256, 256, 1), 0.1, 100, members=2, first_gradient_input=17),
    Case((23, 256, 256, 1), 0.05, 256, members=2, first_gradient_input=17),
    Case((40, 2000, 300, 1), 0.01, 70, members=2, first_gradient_input=20),
]


@pytest.mark.parametrize("case", VALUES, ids=case_id)
def test_value_and_input_gradient_equal_those_of_the_smallest_member_bit_for_bit(
    isa: str, case: Case
) -> None:
    p = problem(case)
    q, _ = p.run_forward()
    least = q.min(axis=0)
    weight = np.float32(-1 / case.batch)
    for threads in (1, 2, 3):
        pool = _native.Pool(threads)
        p = p.using(pool)
        value, dx = p.stack.value_and_input_gradient(p.parameters, p.inputs, weight, pool=pool)
        np.testing.assert_array_equal(value, least)
        wanted = p.run_gradients((q == least).astype(np.float32) * weight)[1]
        np.testing.assert_array_equal(dx, wanted.sum(axis=0))
        for member in range(case.members):
            alone, dx = p.stack.value_and_input_gradient(
                p.parameters, p.inputs, weight, member, pool
            )
            np.testing.assert_array_equal(alone, q[member])
            np.testing.assert_array_equal(dx, p.run_gradients(0 * q + weight)[1][member])


def test_equal_members_share_the_input_gradient(isa: str) -> None:
    """Three members with two inputs and no hidden layer compute x, y, and 3 x + 3 y."""
    stack = _native.Stack([[_native.Linear(2, 1, np.arange(2))] for _ in range(3)], ["linear"])
    parameters = np.array([1, 0, 0, 0, 1, 0, 3, 3, 0], np.float32)  # each including its bias
    x = np.array([[1, 1], [1, 2], [2, 1], [0, 0], [-1, -1]], np.float32)
    value, dx = stack.value_and_input_gradient(parameters, [x], 6.0)
    assert value[:, 0].tolist() == [1, 1, 1, 0, -6]
    assert dx.tolist() == [[3, 3], [6, 0], [0, 6], [8, 8], [18, 18]]


@pytest.mark.parametrize("member", [0, 1])
def test_the_smallest_value_is_nan_if_any_members_value_is_nan(isa: str, member: int) -> None:
    p = problem(Case((4, 8, 1), 1, 100, members=2))
    x = np.abs(p.x)
    x[41, 2] = np.inf
    parameters = p.parameters.copy()
    for m in (0, 1):  # infinity times 0 in one member, and cut off by the ReLU in the other
        weights = parameters[p.blocks(m, 0)[0]]
        weights[:] = 0 if m == member else -1
    q, trace = p.stack.forward(parameters, [x])
    d = p.output_gradient
    assert [list(np.flatnonzero(np.isnan(member))) for member in q].count([41]) == 1
    value, dx = p.stack.value_and_input_gradient(parameters, [x], 1.0)
    assert list(np.flatnonzero(np.isnan(value))) == [41]
    assert np.isfinite(np.delete(dx, 41, axis=0)).all()
    alone, dx = p.stack.value_and_input_gradient(parameters, [x], 1.0, member)
    np.testing.assert_array_equal(alone, q[member])
    np.testing.assert_array_equal(
        dx, p.stack.gradient(parameters, trace, 0 * d + 1, np.empty_like(parameters), True)[member]
    )


def test_joined_inputs_are_one_input(isa: str) -> None:
    p = problem(CASES[11])
    assert len(p.inputs) == 3
    joined, _ = p.stack.forward(p.parameters, [p.x])
    assert np.array_equal(p.run_forward()[0], joined)


@pytest.mark.parametrize("threads", [1, 3])
def test_products_flush_subnormal_weights_and_other_code_does_not(isa: str, threads: int) -> None:
    n, pool = 64, _native.Pool(threads)
    stack = _native.Stack([[_native.Linear(n, n, np.arange(n * n), 0)]], ["linear"])
    parameters = np.full(n * n + n, 1e-40, np.float32)
    y, trace = stack.forward(parameters, [np.full((256, n), 1e10, np.float32)], pool)
    dy, out = np.full((1, 256, n), 1e10, np.float32), np.empty_like(parameters)
    dx = stack.gradient(parameters, trace, dy, out, True, pool)
    for result in (y, dx):
        assert (result == 0).all() if _native.flushes_subnormals else (result > 0).all()
    assert np.float32(1e-40) * np.float32(0.5) > 0


@pytest.mark.parametrize("output", ["linear", "tanh"])
def test_the_oracles_gradient_by_central_differences(output: str) -> None:
    """The oracle's gradient is the derivative of its forward pass."""
    p = problem(Case((5, 9, 8, 3), 0.5, 4, output=output))
    member, x, c = p.members[0], p.x.astype(np.float64), p.output_gradient[0].astype(np.float64)
    passed = member.forward(exactly(x))
    assert min(np.abs(hidden.exact).min() for hidden in passed[1:-1]) > 1e-3  # far from the kinks
    backward = member.backward(passed, exactly(c))

    def differences(at: Float, loss: Callable[[Float], float], step: float = 1e-6) -> Float:
        slope = np.empty(at.size)
        for i in range(at.size):
            move = np.zeros(at.size)
            move[i] = step
            move = move.reshape(at.shape)
            slope[i] = (loss(at + move) - loss(at - move)) / (2 * step)
        return slope.reshape(at.shape)

    def loss_of(member: Member, x: Float) -> float:
        return float((member.forward(exactly(x))[-1].exact * c).sum())

    def with_layer(parts: Sequence[Float], layer: int, part: Float) -> list[Float]:
        return [*parts[:layer], part, *parts[layer + 1 :]]

    near = {"rtol": 1e-6, "atol": 1e-8}
    by_input = differences(x, lambda at: loss_of(member, at))
    np.testing.assert_allclose(backward.inputs.exact, by_input, **near)
    for i, (dw, db) in enumerate(zip(backward.weights, backward.biases, strict=True)):
        by_weight = differences(
            member.weights[i],
            lambda w, i=i: loss_of(replace(member, weights=with_layer(member.weights, i, w)), x),
        )
        by_bias = differences(
            member.biases[i],
            lambda b, i=i: loss_of(replace(member, biases=with_layer(member.biases, i, b)), x),
        )
        np.testing.assert_allclose(dw.exact, by_weight, **near)
        np.testing.assert_allclose(db.exact, by_bias, **near)


def test_a_trace_is_not_disturbed_by_later_passes(isa: str) -> None:
    p = problem(CASES[9])
    wanted = p.run_gradient()
    _, trace = p.run_forward()
    for batch in (1, p.batch, 300):
        p.stack.forward(p.parameters, [np.full((batch, p.x.shape[1]), 7, np.float32)])
    assert np.array_equal(p.run_gradient(trace), wanted)


def test_a_trace_of_other_kernels_gives_the_gradient_of_those_kernels() -> None:
    """Kernels with fewer lanes leave less padding behind the batch than wider kernels read."""
    p = problem(Case((3, 4, 5), 1, 3))
    for hostile in (np.inf, np.nan):  # reused memory may contain such values
        p.stack.forward(p.parameters, [np.full((16, 3), hostile, np.float32)])
    _native.use_isa(ISAS[0])
    _, trace = p.run_forward()
    wanted = p.run_gradient(trace)
    _native.use_isa(ISAS[-1])
    np.testing.assert_array_equal(p.run_gradient(trace), wanted)
    assert_within(wanted, p.gradient)


def test_an_unknown_instruction_set_is_rejected_by_name() -> None:
    with pytest.raises(ValueError, match=r"'sse9'.*portable"):
        _native.use_isa("sse9")


# ---------------------------------------------------------------- NaN propagates


@pytest.mark.parametrize("density", [1, 0.3])
@pytest.mark.parametrize("output", ["linear", "tanh"])
def test_nan_in_an_input_reaches_all_connected_outputs_and_nothing_else(
    isa: str, density: float, output: str
) -> None:
    p = problem(Case((5, 17, 6, 3), density, 33, output=output))
    clean, _ = p.run_forward()
    x = p.x.copy()
    x[20, 2] = np.nan
    reached = np.arange(5) == 2
    for pattern in p.members[0].patterns:
        reached = reference.to_dense(pattern, np.ones(pattern.connections)) @ reached > 0
    assert reached.any()
    output_, trace = p.stack.forward(p.parameters, [x])
    wanted = clean.copy()
    wanted[0, 20, reached] = np.nan
    assert np.array_equal(output_, wanted, equal_nan=True)
    assert np.isnan(p.run_gradient(trace)).any()


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_nan_in_a_parameter_reaches_the_output(isa: str, layer: int) -> None:
    p = problem(Case((5, 17, 6, 3), 1, 33))
    for where in p.blocks(0, layer):
        parameters = p.parameters.copy()
        parameters[where.start] = np.nan
        output, _ = p.stack.forward(parameters, [p.x])
        assert np.isnan(output[0, :, 0]).all()


def test_nan_in_the_output_gradient_reaches_the_gradients(isa: str) -> None:
    p = problem(Case((5, 17, 6, 3), 1, 33))
    d = p.output_gradient.copy()
    d[0, 32, 1] = np.nan
    _, trace = p.run_forward()
    out = np.zeros_like(p.parameters)
    p.stack.gradient(p.parameters, trace, d, out)
    weights, biases = p.blocks(0, 2)
    assert list(np.isnan(out[biases])) == [False, True, False]
    of_output = np.empty(18, bool)
    of_output[p.layers[0][2].canonical_index] = np.isnan(out[weights])
    assert list(of_output) == [False] * 6 + [True] * 6 + [False] * 6
    dx = p.run_gradients(d)[1]
    assert list(np.isnan(dx[0]).any(axis=1)) == [False] * 32 + [True]


# ---------------------------------------------------------------- bit-for-bit equality


def everything(p: Problem) -> list[bytes]:
    """Return the bytes of every result that threads compute."""
    output, trace = p.run_forward()
    gradient = p.run_gradient(trace)
    results = [output, gradient, p.run_gradients()[1]]
    parameters, m, v = p.parameters.copy(), *np.zeros((2, gradient.size), np.float32)
    for step in (1, 2):
        p.stack.adam_step(
            parameters, trace, p.output_gradient, m, v, step, 1e-3, 0.9, 0.999, 1e-8, 2e-4, p.pool
        ).finish()
    results += [parameters, m, v]
    followed = gradient.copy()
    _native.soft_update(followed, parameters, 0.25, p.pool)
    pruned = gradient.copy()
    slots = np.arange(gradient.size, dtype=np.uint32)
    budget = gradient.size * 3 // 4
    layer = ((0, slots.size), (0, slots.size), slots[::-1].copy(), slots, budget)
    _native.TargetUpdater([layer]).update(pruned, parameters, 0.25, p.pool)
    return [result.tobytes() for result in (*results, followed, pruned)]


def test_results_do_not_depend_on_the_number_of_threads(isa: str) -> None:
    p = problem(BIG)
    assert p.parameters.size > 4 * 8192  # large enough to be divided into parts
    wanted = everything(p)
    for threads in (1, 2, 3, 4):
        other = p.using(_native.Pool(threads))
        for _ in range(5):
            assert everything(other) == wanted


def test_an_observation_gives_the_same_bits_in_any_batch(isa: str) -> None:
    p = problem(BIG)
    d = p.output_gradient

    def run(rows: NDArray[np.intp]) -> tuple[Array, Array]:
        output, trace = p.stack.forward(p.parameters, [p.x[rows]])
        given = np.ascontiguousarray(d[:, rows])
        dx = p.stack.gradient(p.parameters, trace, given, np.empty_like(p.parameters), inputs=True)
        assert dx is not None
        return output, dx

    output, dx = run(np.arange(256))
    rng = np.random.default_rng(0)
    batches = [np.array([row]) for row in (0, 15, 16, 100, 255)]
    batches += [rng.permutation(256)[:size] for size in (2, 17, 63, 64, 65, 100, 256)]
    for rows in batches:
        in_batch = run(rows)
        assert np.array_equal(in_batch[0], output[:, rows])
        assert np.array_equal(in_batch[1], dx[:, rows])


def test_two_concurrent_python_threads_get_the_results_of_one(isa: str) -> None:
    pool = _native.Pool(2)
    problems = [problem(case).using(pool) for case in (BIG, BIG._replace(batch=100))]
    wanted = [everything(p) for p in problems]
    barrier = threading.Barrier(2)
    right = [0, 0]

    def work(i: int) -> None:
        barrier.wait()
        for _ in range(10):
            right[i] += everything(problems[i]) == wanted[i]

    workers = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert right == [10, 10]


# ---------------------------------------------------------------- processes


def run_script(script: str, timeout: float = 60) -> str:
    """Return the output of a script in a separate process, since it may hang or crash."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        pytest.fail(f"hangs: still running after {timeout} s")
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stderr}"
    return done.stdout


SMALL_STACK = """
import os, sys
import numpy as np
from sparl import _native
layers = [_native.Linear(3, 8, np.arange(24)), _native.Linear(8, 2, np.arange(16))]
stack = _native.Stack([layers], ["relu"] * (len(layers) - 1) + ["linear"])
parameters = np.linspace(-1, 1, stack.parameters, dtype=np.float32)
def compute(pool, batch=256):
    x = np.linspace(-1, 1, 3 * batch, dtype=np.float32).reshape(batch, 3)
    return stack.forward(parameters, [x], pool)[0].tobytes()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_forked_after_use_computes_with_its_own_threads() -> None:
    script = """
import multiprocessing
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of every such fork
pool = _native.Pool(2)
wanted = compute(pool)

def child(connection):
    connection.send([compute(each) == wanted for each in (pool, None, _native.Pool(3))])

context = multiprocessing.get_context("fork")
for _ in range(3):
    mine, theirs = context.Pipe()
    process = context.Process(target=child, args=(theirs,))
    process.start()
    print(mine.recv() if mine.poll(20) else "the child hangs", compute(pool) == wanted)
    process.kill()
    process.join()
"""
    assert run_script(SMALL_STACK + script).splitlines() == ["[True, True, True] True"] * 3


def test_inputs_may_be_a_sequence_that_creates_its_items() -> None:
    script = """
x = np.linspace(-1, 1, 300_000, dtype=np.float32).reshape(-1, 3)

class Created:
    def __len__(self):
        return 1

    def __getitem__(self, index):
        return [_native.PackedInput(x)][index]

wanted = stack.forward(parameters, [x])[0]
for name in ("forward", "outputs"):
    result = getattr(stack, name)(parameters, Created())
    print(np.array_equal(result[0] if name == "forward" else result, wanted))
"""
    assert run_script(SMALL_STACK + script).splitlines() == ["True"] * 2


@pytest.mark.skipif(sys.platform != "linux", reason="limits address space by RLIMIT_AS")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "call",
    [
        "forward(p, [x], pool)",
        "outputs(p, [x], pool)",
        "value_and_input_gradient(p, [x], 1.0, None, pool)",
    ],
)
def test_a_pass_that_exceeds_the_memory_raises_an_error(call: str, threads: int) -> None:
    script = f"""
import os, resource
import numpy as np
from sparl import _native

pool = _native.Pool({threads})
none = np.zeros(0, np.int64)
width = 2_000_000
stack = _native.Stack(
    [[_native.Linear(4, width, none), _native.Linear(width, 1, none)]], ["relu", "linear"]
)
p, x = np.zeros(stack.parameters, np.float32), np.zeros((64, 4), np.float32)
used = int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
resource.setrlimit(resource.RLIMIT_AS, (used + 200 * 2**20,) * 2)
try:
    stack.{call}
except MemoryError:
    print("rejected")
print("alive")
"""
    assert run_script(script).splitlines() == ["rejected", "alive"]


@pytest.mark.skipif(sys.platform != "linux", reason="limits address space by RLIMIT_AS")
def test_threads_that_cannot_be_created_are_an_error_and_not_a_hang() -> None:
    script = """
import resource
used = int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
resource.setrlimit(resource.RLIMIT_AS, (used + 300 * 2**20,) * 2)
wanted = compute(None)
try:
    compute(_native.Pool(1000))
except Exception as error:
    print("rejected")
print(compute(None) == wanted, compute(_native.Pool(2)) == wanted)
"""
    assert run_script(SMALL_STACK + script, timeout=10).splitlines() == ["rejected", "True True"]


@pytest.mark.parametrize("name", ISAS)
def test_the_environment_variable_forces_an_instruction_set(name: str) -> None:
    script = f"""
import os
os.environ["SPARL_ISA"] = "{name}"
from sparl import _native
print(_native.isa())
"""
    assert run_script(script) == f"{name}\n"


def test_the_environment_variable_cannot_force_an_unknown_instruction_set() -> None:
    script = """
import os
os.environ["SPARL_ISA"] = "sse9"
try:
    import sparl._native
except ImportError as error:
    print(error)
"""
    said = run_script(script)
    assert "'sse9'" in said
    assert "portable" in said


# ---------------------------------------------------------------- the optimiser

FLAT_SIZES = [1, 3, 15, 16, 17, 8191, 8192, 8193, 20_011]


def misaligned(values: Array) -> Array:
    """Return a copy that is not aligned to a vector, since the engine accepts any slice."""
    out = np.empty(values.size + 1, np.float32)[1:]
    out[:] = values
    return out


def adam_step(p: Array, g: Array, m: Array, v: Array, *numbers: Any) -> None:
    """Update n parameters of an output layer whose only input is 1, so that dL/dw = dL/dy."""
    n = p.size
    stack = _native.Stack([[_native.Linear(1, n, np.arange(n), 1)]], ["linear"])
    whole = [misaligned(np.concatenate([part, np.zeros(n, np.float32)])) for part in (p, m, v)]
    _, trace = stack.forward(whole[0], [np.ones((1, 1), np.float32)])
    stack.adam_step(whole[0], trace, g.reshape(1, 1, n), *whole[1:], *numbers).finish()
    for part, stepped in zip((p, m, v), whole, strict=True):
        part[:] = stepped[:n]


@pytest.mark.parametrize("n", FLAT_SIZES)
@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_adam_over_twenty_steps(isa: str, n: int, decay: float) -> None:
    """The bound includes every rounding; these betas are float32 numbers with exact 1 - beta."""
    lr, epsilon = 1e-2, 1e-8
    b1, b2 = float(np.float32(0.9)), float(np.float32(0.999))
    rng = np.random.default_rng(n)
    p32 = misaligned(normal(rng, n))
    m32, v32 = misaligned(np.zeros(n, np.float32)), misaligned(np.zeros(n, np.float32))
    p, m, v = p32.astype(np.float64), np.zeros(n), np.zeros(n)
    p_bound, m_bound, v_bound = np.zeros(n), np.zeros(n), np.zeros(n)
    for step in range(1, 21):
        g32 = normal(rng, n) * np.float32(10.0 ** rng.integers(-4, 3))
        if not decay:
            g32[::5] = 0  # parameters that never move
        adam_step(p32, g32, m32, v32, step, lr, b1, b2, epsilon, decay)

        g_most = np.abs(g32) + decay * (np.abs(p) + p_bound)
        g_bound = decay * p_bound + 2 * EPS * g_most
        m_bound = b1 * m_bound + (1 - b1) * g_bound
        m_bound += 3 * EPS * (b1 * np.abs(m) + (1 - b1) * g_most)
        v_bound = b2 * v_bound + (1 - b2) * (2 * g_most + g_bound) * g_bound
        v_bound += 3 * EPS * (b2 * v + (1 - b2) * g_most**2)
        before = p
        p, m, v = reference.adam(p, g32.astype(np.float64), m, v, step, lr, decay, b1, b2, epsilon)
        root_bound = np.minimum(np.sqrt(v_bound), v_bound / np.sqrt(np.maximum(v, 1e-300)))
        root_bound /= np.sqrt(1 - b2**step)
        below = np.sqrt(v / (1 - b2**step)) + epsilon  # the denominator
        lowest = np.maximum(below - root_bound, epsilon)
        p_bound += np.abs(p - before) * (root_bound / lowest + 4 * EPS)
        p_bound += lr / (1 - b1**step) * m_bound / lowest + EPS * np.abs(p)
        assert_within(m32, Rounded(m, m_bound))
        assert_within(v32, Rounded(v, v_bound))
        assert_within(p32, Rounded(p, p_bound))
    assert np.median(p_bound) < 1e-4  # the bound is tight: steps add up to about .2


def test_adams_moments_weigh_a_gradient_by_one_minus_beta(isa: str) -> None:
    """With 1 - float32(.999) instead of float32(1 - .999), every step would be 6e-6 too long."""
    p, m, v = np.zeros((3, 1), np.float32)
    adam_step(p, np.ones(1, np.float32), m, v, 1, 1e-3, 0.9, 0.999, 1e-8, 0.0)
    np.testing.assert_allclose(m, 1 - 0.9, rtol=2 * EPS)
    np.testing.assert_allclose(v, 1 - 0.999, rtol=2 * EPS)
    np.testing.assert_allclose(p, -1e-3, rtol=8 * EPS)


def test_adam_computes_with_subnormal_numbers(isa: str) -> None:
    """Without them, neurons would stay inactive for ever; see docs/performance.md."""
    p = np.array([3e-38, -3e-38, 2e-38, 1e-42, 0], np.float32)
    m, v = np.zeros_like(p), np.zeros_like(p)
    expected = p - np.float32(2.95e-38) * np.sign(p)
    adam_step(p, np.sign(p), m, v, 1, 2.95e-38, 0.9, 0.999, 1e-8, 0.0)
    np.testing.assert_allclose(p, expected, rtol=0, atol=1e-43)
    assert 0 < p[0] < np.finfo(np.float32).smallest_normal


# ---------------------------------------------------------------- target updates


@pytest.mark.parametrize("n", FLAT_SIZES)
@pytest.mark.parametrize("tau", [0.0, 0.005, 0.5, 1.0])
def test_soft_update(isa: str, n: int, tau: float) -> None:
    rng = np.random.default_rng(n)
    target, online = normal(rng, n), normal(rng, n) * np.float32(1e3)
    got = misaligned(target)
    _native.soft_update(got, misaligned(online), tau)
    t, o = target.astype(np.float64), online.astype(np.float64)
    bound = 4 * EPS * (np.abs(t) + tau * (np.abs(t) + np.abs(o)))
    assert_within(got, Rounded(t + tau * (o - t), bound))
    if tau in (0, 1):
        assert np.array_equal(got, online if tau else target)


class Union(NamedTuple):
    """A target layer over a union of patterns, in the form that TargetUpdater expects."""

    target: Array
    online: Array
    source: NDArray[np.uint32]
    canonical: NDArray[np.uint32]

    def soft_update(self, budget: int, tau: float) -> Array:
        target = misaligned(self.target)
        pieces = ((0, target.size), (0, self.online.size), self.source, self.canonical, budget)
        _native.TargetUpdater([pieces]).update(target, self.online, tau)
        return target


def union(n: int, seed: int = 0, values: Callable[[Generator, int], Array] = normal) -> Union:
    """Create a Union in which a tenth of the entries are leftovers, absent in the online layer."""
    rng = np.random.default_rng(seed)
    n_online = n - n // 10
    source = rng.permutation(np.minimum(np.arange(n), n_online)).astype(np.uint32)
    canonical = rng.permutation(n).astype(np.uint32)
    return Union(values(rng, n), values(rng, n_online), source, canonical)


def kept(u: Union, moved: Array, budget: int) -> Array:
    """Apply the oracle's keep_largest, which uses canonical order."""
    in_order = np.empty_like(moved)
    in_order[u.canonical] = moved
    return reference.keep_largest(in_order, budget)[u.canonical]


def few_values(rng: Generator, n: int) -> Array:
    """Return values with many ties: -2, -1, 0, 1, 2."""
    return rng.integers(-2, 3, n).astype(np.float32)


UNION_SIZES = [1, 7, 64, 4095, 4096, 4097, 20_011]  # below 4,096 the limit is not estimated


@pytest.mark.parametrize("n", UNION_SIZES)
def test_a_soft_update_within_the_budget_equals_one_without_a_budget(isa: str, n: int) -> None:
    """If the budget admits all entries, leftovers move towards 0."""
    u = union(n)
    followed = np.append(u.online, np.float32(0))[u.source].astype(np.float64)
    t = u.target.astype(np.float64)
    bound = 4 * EPS * (np.abs(t) + 0.25 * (np.abs(t) + np.abs(followed)))
    for budget in (n, n + 1, 2**40):
        assert_within(u.soft_update(budget, 0.25), Rounded(t + 0.25 * (followed - t), bound))


@pytest.mark.parametrize("n", UNION_SIZES)
@pytest.mark.parametrize("values", [normal, few_values])
def test_the_budget_keeps_the_largest_and_of_equal_ones_the_later(
    isa: str, n: int, values: Callable[[Generator, int], Array]
) -> None:
    u = union(n, values=values)
    moved = u.soft_update(n, 0.25)
    for surplus in sorted({1, n // 20, n // 3, n // 2 + 1, n - 1, n} - {0}):
        budget = n - surplus
        assert np.array_equal(u.soft_update(budget, 0.25), kept(u, moved, budget)), surplus


def test_a_misleading_sample_does_not_change_the_kept_entries(isa: str) -> None:
    """The limit is estimated from every 8th of 8,192 entries; these differ from all others."""
    n = 8192
    for sampled, others in ((1e-6, 1.0), (1.0, 1e-6), (0.0, 1.0), (np.nan, 1.0)):
        u = union(n)
        u = u._replace(target=normal(np.random.default_rng(1), n) * np.float32(others))
        u.target[::8] = normal(np.random.default_rng(2), n // 8) * np.float32(sampled)
        for budget in (8000, 6000, 4500, 100):
            assert np.array_equal(
                u.soft_update(budget, 0.0), kept(u, u.target, budget), equal_nan=True
            )


def test_pruning_does_not_hide_a_nan(isa: str) -> None:
    for n in (64, 20_011):
        u = union(n)
        u.target[n // 2] = np.nan
        assert np.flatnonzero(np.isnan(u.soft_update(1, 0.25))).tolist() == [n // 2]


@pytest.mark.parametrize("n", [64, 20_011])
def test_a_soft_update_within_the_budget_copies_at_tau_1(isa: str, n: int) -> None:
    """The formula t + 1 (o - t) alone does not give o if t is large or o - t is rounded."""
    u = union(n)
    u.target[::3] *= np.float32(1e8)
    copy = np.append(u.online, np.float32(0))[u.source]
    assert np.array_equal(u.soft_update(n, 1.0), copy)
    assert np.array_equal(u.soft_update(n // 2, 1.0), kept(u, copy, n // 2))


# ---------------------------------------------------------------- argument checks


def zeros(*shape: int, dtype: Any = np.float32) -> NDArray[Any]:
    return np.zeros(shape, dtype)


def small_stack() -> tuple[_native.Stack, Array, _native.Trace]:
    """Two members of 3 -> 2, and a trace of a batch of 5; 8 parameters each."""
    layers = [[_native.Linear(3, 2, np.arange(6))] for _ in range(2)]
    stack = mlp(layers, "linear")
    return stack, zeros(16), stack.forward(zeros(16), [zeros(5, 3)])[1]


STACK, PARAMETERS, TRACE = small_stack()
VALUE_STACK = _native.Stack([[_native.Linear(3, 1, np.arange(3))] for _ in range(2)], ["linear"])
OTHER_STACK = small_stack()[0]
COLUMNS = np.asfortranarray(zeros(5, 3))
FROZEN = zeros(16)
FROZEN.flags.writeable = False


def adam(p: Any = None, g: Any = None, m: Any = None, v: Any = None, step: int = 1) -> None:
    p, m, v = (zeros(16) if a is None else a for a in (p, m, v))
    d = zeros(2, 5, 2) if g is None else g
    STACK.adam_step(p, TRACE, d, m, v, step, 1e-3, 0.9, 0.999, 1e-8, 0.0)


def within(t: Any = None, o: Any = None, s: Any = None, c: Any = None, budget: int = 1) -> None:
    t, o = (zeros(3) if a is None else a for a in (t, o))
    s, c = (np.arange(3, dtype=np.uint32) if a is None else a for a in (s, c))
    _native.TargetUpdater([((0, 3), (0, 3), s, c, budget)]).update(t, o, 0.5)


def windows(**other: Any) -> None:
    n = len(other.get("ages", [0]))
    arguments: dict[str, Any] = {
        "rows": zeros(5, 28, dtype=np.uint8), "n_obs": 3, "n_act": 2, "first": 0, "size": 4,
        "states_of": np.zeros(0, np.int64), "states": zeros(0, 3), "powers": zeros(3),
        "to": (zeros(n, 3), zeros(n, 2), zeros(n, 1), zeros(n, 1), zeros(n, 3)), **other,
    }  # fmt: skip
    arguments["ages"] = np.array(arguments.get("ages", [0]), np.int64)
    _native.gather_windows(**arguments)


def squashed_gradient(**other: Any) -> Any:
    names = ("action", "std", "noise", "slope", "d_action")
    arrays = {**{name: zeros(5, 2) for name in names}, **other}
    return _native.squashed_normal_gradient(**arrays, d_log_density=0.5)


ARGUMENT_ERRORS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "forward features": (
        lambda: STACK.forward(PARAMETERS, [zeros(5, 2), zeros(5, 2)]),
        ValueError, "4 features, but the network has 3 inputs",
    ),
    "forward no inputs": (lambda: STACK.forward(PARAMETERS, []), ValueError, (
        "0 features, but the network has 3"
    )),
    "forward batches differ": (
        lambda: STACK.forward(PARAMETERS, [zeros(5, 2), zeros(4, 1)]),
        ValueError, r"\(5, 2\) and input 1 has \(4, 1\)",
    ),
    "forward axes": (lambda: STACK.forward(PARAMETERS, [zeros(3)]), ValueError, r"\(3,\)"),
    "forward empty batch": (
        lambda: STACK.forward(PARAMETERS, [zeros(0, 3)]), ValueError, r"\(0, 3\)",
    ),
    "forward float64": (
        lambda: STACK.forward(PARAMETERS, [zeros(5, 3, dtype=np.float64)]),
        TypeError, "input must be float32 but is float64",
    ),
    "forward order": (
        lambda: STACK.forward(PARAMETERS, [COLUMNS]), ValueError, "input must be contiguous",
    ),
    "forward parameters": (
        lambda: STACK.forward(zeros(15), [zeros(5, 3)]),
        ValueError, r"parameters must have shape \(16,\) but has \(15,\)",
    ),
    "forward stride": (
        lambda: STACK.forward(zeros(32)[::2], [zeros(5, 3)]),
        ValueError, "parameters must be contiguous",
    ),
    "squashed gradient action": (
        lambda: squashed_gradient(action=zeros(5, 3)),
        ValueError, r"std must have shape \(5, 3\) but has \(5, 2\)",
    ),
    **{
        f"squashed gradient {name}": (
            functools.partial(squashed_gradient, **{name: zeros(5, 3)}),
            ValueError, rf"{name} must have shape \(5, 2\) but has \(5, 3\)",
        )
        for name in ("std", "noise", "slope", "d_action")
    },
    "squashed gradient axes": (
        lambda: squashed_gradient(action=zeros(10)), ValueError, "action must have two axes",
    ),
    "squashed gradient float64": (
        lambda: squashed_gradient(noise=zeros(5, 2, dtype=np.float64)),
        TypeError, "noise must be float32 but is float64",
    ),
    "value outputs": (
        lambda: STACK.value_and_input_gradient(PARAMETERS, [zeros(5, 3)], 1.0),
        ValueError, "value_and_input_gradient: the network has 2 outputs but must have one",
    ),
    "value tanh": (
        lambda: _native.Stack([[_native.Linear(3, 1, np.arange(3))]], ["tanh"])
        .value_and_input_gradient(zeros(4), [zeros(5, 3)], 1.0),
        ValueError, "the last layer must be linear",
    ),
    "value features": (
        lambda: VALUE_STACK.value_and_input_gradient(zeros(8), [zeros(5, 4)], 1.0),
        ValueError, "4 features, but the network has 3 inputs",
    ),
    "value parameters": (
        lambda: VALUE_STACK.value_and_input_gradient(zeros(7), [zeros(5, 3)], 1.0),
        ValueError, r"parameters must have shape \(8,\) but has \(7,\)",
    ),
    "value member": (
        lambda: VALUE_STACK.value_and_input_gradient(zeros(8), [zeros(5, 3)], 1.0, 2),
        IndexError, "of member 2 does not exist",
    ),
    "gradient output_gradient": (
        lambda: STACK.gradient(PARAMETERS, TRACE, zeros(2, 4, 2), zeros(16)),
        ValueError, r"output_gradient must have shape \(2, 5, 2\) but has \(2, 4, 2\)",
    ),
    "gradient axes": (
        lambda: STACK.gradient(PARAMETERS, TRACE, zeros(10, 2), zeros(16)),
        ValueError, r"\(2, 5, 2\) but has \(10, 2\)",
    ),
    "gradient out": (
        lambda: STACK.gradient(PARAMETERS, TRACE, zeros(2, 5, 2), zeros(17)),
        ValueError, r"out must have shape \(16,\) but has \(17,\)",
    ),
    "gradient float64 out": (
        lambda: STACK.gradient(PARAMETERS, TRACE, zeros(2, 5, 2), zeros(16, dtype=np.float64)),
        TypeError, "out must be float32 but is float64",
    ),
    "gradient frozen out": (
        lambda: STACK.gradient(PARAMETERS, TRACE, zeros(2, 5, 2), FROZEN), TypeError, "gradient",
    ),
    "gradient parameters": (
        lambda: STACK.gradient(zeros(8), TRACE, zeros(2, 5, 2), zeros(16)),
        ValueError, r"parameters must have shape \(16,\) but has \(8,\)",
    ),
    "gradient other network": (
        lambda: OTHER_STACK.gradient(PARAMETERS, TRACE, zeros(2, 5, 2), zeros(16)),
        ValueError, "another network",
    ),
    "factors member": (
        lambda: STACK.gradient_factors(PARAMETERS, TRACE, zeros(2, 5, 2), 2, 0),
        IndexError, "layer 0 of member 2 does not exist; there are 2 members with 1 layers each",
    ),
    "factors layer": (
        lambda: STACK.gradient_factors(PARAMETERS, TRACE, zeros(2, 5, 2), 0, 1),
        IndexError, "layer 1 of member 0 does not exist",
    ),
    "factors output_gradient": (
        lambda: STACK.gradient_factors(PARAMETERS, TRACE, zeros(2, 5, 3), 0, 0),
        ValueError, r"\(2, 5, 2\) but has \(2, 5, 3\)",
    ),
    "adam gradient": (
        lambda: adam(g=zeros(2, 5, 3)), ValueError, r"shape \(2, 5, 2\) but has \(2, 5, 3\)",
    ),
    "adam m": (lambda: adam(m=zeros(2)), ValueError, r"m must have shape \(16,\) but has \(2,\)"),
    "adam v": (lambda: adam(v=zeros(32)[::2]), ValueError, "v must be contiguous"),
    "adam float64": (
        lambda: adam(p=zeros(16, dtype=np.float64)), TypeError, "must be float32 but is float64",
    ),
    "adam axes": (lambda: adam(p=zeros(16, 1)), ValueError, r"has \(16, 1\)"),
    "adam frozen": (lambda: adam(p=FROZEN), TypeError, "adam_step"),
    "adam step": (lambda: adam(step=0), ValueError, "step is 0 but must be at least 1"),
    "soft_update": (
        lambda: _native.soft_update(zeros(3), zeros(4), 0.5),
        ValueError, r"online must have shape \(3,\) but has \(4,\)",
    ),
    "soft_update frozen": (
        lambda: _native.soft_update(FROZEN, zeros(16), 0.5), TypeError, "soft_update",
    ),
    "budget source": (
        lambda: within(s=np.array([0, 4, 1], np.uint32)),
        ValueError, "a source is 4 but must be at most 3",
    ),
    "budget source dtype": (lambda: within(s=np.arange(3)), TypeError, "uint32 but is int64"),
    "budget source size": (
        lambda: within(s=np.arange(2, dtype=np.uint32)), ValueError, r"\(3,\) but has \(2,\)",
    ),
    "budget canonical": (
        lambda: within(c=np.arange(4, dtype=np.uint32)), ValueError, r"\(3,\) but has \(4,\)",
    ),
    "budget negative": (lambda: within(budget=-1), TypeError, "incompatible"),
    "adam bool": (
        lambda: adam(p=zeros(16, dtype=np.bool_)), TypeError, (
            "parameters must be float32 but is bool"
        ),
    ),
    "adam complex": (
        lambda: adam(g=zeros(2, 5, 2, dtype=np.complex64)), TypeError, "float32 but is complex64",
    ),
    "adam halves": (lambda: adam(g=zeros(2, 5, 2, dtype=np.float16)), TypeError, "is float16"),
    "heads": (
        lambda: _native.squashed_normal(zeros(2, 5), zeros(2, 3), False),
        ValueError, r"heads must have shape \(2, 6\) but has \(2, 5\)",
    ),
    "heads bool": (
        lambda: _native.squashed_normal(zeros(2, 6, dtype=np.bool_), zeros(2, 3), False),
        TypeError, "float32 but is bool",
    ),
    "windows age": (lambda: windows(ages=[4]), ValueError, r"an age is 4 but must be in \[0, 4\)"),
    "windows negative age": (lambda: windows(ages=[-1]), ValueError, "an age is -1 but"),
    "windows size": (lambda: windows(size=6), ValueError, "size is 6 but must be at most 5"),
    "windows rows": (
        lambda: windows(rows=zeros(5, 26, dtype=np.uint8)), ValueError,
        "rows have 26 bytes but need 27",
    ),
    "windows no rows": (
        lambda: windows(rows=zeros(0, 28, dtype=np.uint8)), ValueError, "at least one row",
    ),
    "windows rows float": (lambda: windows(rows=zeros(5, 28)), TypeError, "be uint8 but is fl"),
    "windows states": (lambda: windows(states=zeros(1, 3)), ValueError, r"\(0, 3\) but has \(1,"),
    "windows states of": (
        lambda: windows(states_of=np.zeros((0, 1), np.int64)), ValueError, "must have one axis",
    ),
    "windows powers": (lambda: windows(powers=zeros(1)), ValueError, "length 1 but must have at"),
    "windows arrays": (lambda: windows(to=(zeros(1, 3),)), ValueError, "has 1 arrays but must"),
    "windows a list": (lambda: windows(to=[zeros(1, 3)] * 5), TypeError, "incompatible"),
    "windows no arrays": (lambda: windows(to=(1,) * 5), TypeError, "must contain arrays"),
    "windows action": (
        lambda: windows(to=(zeros(1, 3), zeros(1, 3), zeros(1, 1), zeros(1, 1), zeros(1, 3))),
        ValueError, r"action must have shape \(1, 2\) but has \(1, 3\)",
    ),
    "integers below": (
        lambda: _native.integers(np.random.PCG64(0), 0, 3), ValueError, "integers: below is 0",
    ),
    "find sorted": (
        lambda: _native.find_sorted(np.arange(3), np.arange(3, dtype=np.int32)),
        TypeError, "needles must be int64 but is int32",
    ),
    "find sorted bool": (
        lambda: _native.find_sorted(np.zeros(3, bool), np.arange(3)), TypeError, (
            "int64 but is bool"
        ),
    ),
    "find sorted axes": (
        lambda: _native.find_sorted(np.zeros((3, 1), np.int64), np.arange(3)), ValueError, "axis",
    ),
    "threads 0": (lambda: _native.Pool(0), ValueError, r"threads is 0 .*\[1, 1024\]"),
    "threads many": (lambda: _native.Pool(1025), ValueError, "threads is 1025"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("call", "error", "says"), ARGUMENT_ERRORS.values(), ids=ARGUMENT_ERRORS.keys()
)
def test_arguments_that_do_not_fit_are_rejected_with_numbers(
    call: Callable[[], Any], error: type[Exception], says: str | None
) -> None:
    with pytest.raises(error, match=says):
        call()


@pytest.mark.parametrize(
    ("n_in", "n_out", "positions", "error", "says"),
    [
        (3, 2, [0, 2, 1], ValueError, r"\[0, 6\); entry 2 is 1"),
        (3, 2, [0, 2, 2], ValueError, r"\[0, 6\); entry 2 is 2"),
        (3, 2, [0, 6], ValueError, r"\[0, 6\); entry 1 is 6"),
        (3, 2, [-1, 2], ValueError, r"\[0, 6\); entry 0 is -1"),
        (3, 2, [[0, 1]], ValueError, "one axis"),
        (3, 0, [], ValueError, "3 inputs and 0 outputs"),
        (2**28, 1, [0], ValueError, f"{2**28} inputs and 1 outputs"),
        (3, 2, np.array([0, 1], np.int32), TypeError, "int64 but is int32"),
        (3, 2, np.array([0.0]), TypeError, "int64 but is float64"),
        (3, 2, np.arange(6)[::2], ValueError, "contiguous"),
    ],
)  # fmt: skip
def test_a_layer_rejects_positions_that_do_not_form_a_pattern(
    n_in: int, n_out: int, positions: Any, error: type[Exception], says: str
) -> None:
    if isinstance(positions, list):
        positions = np.array(positions, np.int64)
    with pytest.raises(error, match=says):
        _native.Linear(n_in, n_out, positions)


def some_layer(n_in: int, n_out: int, first_gradient_input: int = 0) -> _native.Linear:
    return _native.Linear(n_in, n_out, np.arange(1), first_gradient_input)


@pytest.mark.parametrize(
    ("members", "output", "says"),
    [
        ([], "linear", "must have at least one layer"),
        ([[]], "linear", "must have at least one layer"),
        ([[some_layer(3, 2)]], "sigmoid", "'sigmoid' but must be linear, relu or tanh"),
        (
            [[some_layer(3, 2), some_layer(4, 1)]],
            "tanh",
            "layer 1 has 4 inputs, but the previous layer has 2 outputs",
        ),
        ([[some_layer(3, 2)], [some_layer(4, 2)]], "tanh", "layer 0 must have the same shape"),
        ([[some_layer(3, 2)], [some_layer(3, 2), some_layer(2, 1)]], "tanh", "number of layers"),
        ([[some_layer(3, 2, 1)], [some_layer(3, 2)]], "tanh", "first_gradient_input must be 0"),
        ([[some_layer(3, 3), some_layer(3, 2, 1)]], "tanh", "first_gradient_input must be 0"),
    ],
)
def test_a_stack_rejects_layers_that_do_not_fit_together(
    members: list[list[_native.Linear]], output: str, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        mlp(members, output)


def test_a_stack_rejects_objects_that_are_not_layers() -> None:
    script = """
from sparl import _native
try:
    _native.Stack([[None]], ["linear"])
except (TypeError, ValueError):
    print("rejected")
"""
    assert run_script(script) == "rejected\n"


def test_the_offset_of_a_missing_layer_raises_an_error() -> None:
    script = """
for place in ((0, 2), (1, 0)):
    try:
        print(place, "is at", stack.offset(*place))
    except (IndexError, ValueError):
        print("rejected")
"""
    assert run_script(SMALL_STACK + script).splitlines() == ["rejected"] * 2
