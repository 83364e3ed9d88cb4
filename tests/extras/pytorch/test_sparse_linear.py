"""SparseLinear computes the same as a masked nn.Linear."""

from __future__ import annotations

import copy
import io
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sparl import _native
from sparl.errors import UsageError
from sparl.sparse.pattern import Pattern
from sparl.torch import DynamicSparsity, SparseLinear, densify, sparsify


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def dense_pass(layer: SparseLinear, x: Tensor, dy: Tensor) -> list[Tensor]:
    """Return the output and the gradients of x, weight and bias, computed densely in float64."""
    inputs = [x.detach().double().requires_grad_()]
    w = torch.zeros(layer.out_features, layer.in_features, dtype=torch.float64)
    w.view(-1)[layer.positions] = layer.weight.detach().double()
    inputs.append(w.requires_grad_())
    if layer.bias is not None:
        inputs.append(layer.bias.detach().double().requires_grad_())
    y = nn.functional.linear(*inputs)
    gradients = list(torch.autograd.grad(y, inputs, dy.double()))
    gradients[1] = gradients[1].view(-1)[layer.positions]
    return [y.detach(), *gradients]


@pytest.mark.parametrize("isa", _native.available_isas())
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("n_in", "n_out", "shape", "density"),
    [
        (5, 3, (7,), 0.4),
        (17, 64, (100,), 0.25),
        (64, 33, (256,), 0.1),
        (40, 1, (1,), 1.0),
        (19, 23, (2, 3, 5), 0.5),
        (16, 16, (), 0.3),  # one sample without a batch
        (30, 30, (16,), 0.001),  # a single connection
    ],
)
def test_outputs_and_gradients_equal_those_of_a_masked_linear(
    isa: str, bias: bool, n_in: int, n_out: int, shape: tuple[int, ...], density: float
) -> None:
    layer = SparseLinear(n_in, n_out, bias, density=density)
    x = torch.randn(*shape, n_in, requires_grad=True)
    dy = torch.randn(*shape, n_out)
    parameters = [p for p in (x, layer.weight, layer.bias) if p is not None]
    before = _native.isa()
    _native.use_isa(isa)
    try:
        y = layer(x)
        got = [y, *torch.autograd.grad(y, parameters, dy)]
    finally:
        _native.use_isa(before)
    for ours, theirs in zip(got, dense_pass(layer, x, dy), strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), theirs, rtol=2e-5, atol=2e-5)


def test_gradients_by_finite_differences() -> None:
    layer = SparseLinear(6, 4, density=0.4)
    x = torch.randn(3, 6, requires_grad=True)
    inputs = (x, layer.weight, layer.bias)

    def loss(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, x).square().sum()

    step = 0.01  # the function is quadratic, so central differences are exact except for rounding
    gradients = torch.autograd.grad(loss(*inputs), inputs)
    for k, gradient in enumerate(gradients):
        for i in range(gradient.numel()):
            values = []
            for sign in (1, -1):
                moved = [v.detach().clone() for v in inputs]
                moved[k].view(-1)[i] += sign * step
                values.append(float(loss(*moved)))
            difference = (values[0] - values[1]) / (2 * step)
            assert difference == pytest.approx(float(gradient.view(-1)[i]), rel=1e-2, abs=1e-2)


def test_only_the_requested_gradients_are_computed() -> None:
    layer = SparseLinear(8, 8)
    x = torch.randn(4, 8)
    layer(x).sum().backward()
    assert x.grad is None
    assert layer.weight.grad is not None
    with torch.no_grad():
        inference = layer(x)
    assert not inference.requires_grad
    assert torch.equal(inference, layer(x))
    layer.requires_grad_(False)
    assert not layer(x).requires_grad
    x.requires_grad_()
    layer(x).sum().backward()
    assert x.grad.shape == x.shape


def test_backward_can_run_twice_through_a_graph() -> None:
    layer = SparseLinear(8, 8)
    y = layer(torch.randn(4, 8)).sum()
    y.backward(retain_graph=True)
    once = layer.weight.grad.clone()
    y.backward()
    torch.testing.assert_close(layer.weight.grad, 2 * once)


def test_an_empty_batch() -> None:
    layer = SparseLinear(8, 3)
    y = layer(torch.empty(0, 8))
    assert y.shape == (0, 3)
    y.sum().backward()


def test_inputs_and_gradients_in_any_memory_order() -> None:
    layer = SparseLinear(8, 6, density=0.5)
    x = torch.randn(8, 10).T
    dy = torch.randn(6, 10).T
    got = torch.autograd.grad(layer(x), layer.weight, dy)[0]
    expected = torch.autograd.grad(layer(x.contiguous()), layer.weight, dy.contiguous())[0]
    assert torch.equal(got, expected)


def test_results_do_not_depend_on_threads() -> None:
    layer = SparseLinear(64, 64, density=0.2)
    x = torch.randn(256, 64, requires_grad=True)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            y = layer(x)
            found.append([y, *torch.autograd.grad(y.square().sum(), [x, layer.weight])])
    finally:
        torch.set_num_threads(before)
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


def test_layers_are_converted_in_both_directions() -> None:
    linear = nn.Linear(12, 9)
    with torch.no_grad():
        linear.weight[torch.rand(9, 12) < 0.7] = 0
    sparse = SparseLinear.from_linear(linear)
    assert sparse.pattern.connections == int((linear.weight != 0).sum())
    back = sparse.to_linear()
    assert torch.equal(back.weight, linear.weight)
    assert torch.equal(back.bias, linear.bias)
    x = torch.randn(5, 12)
    torch.testing.assert_close(sparse(x), linear(x))
    assert SparseLinear.from_linear(nn.Linear(3, 2, bias=False)).to_linear().bias is None


def test_a_model_is_trained_masked_and_then_runs_on_the_engine() -> None:
    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 2))
    optim = torch.optim.Adam(model.parameters())
    sparsity = DynamicSparsity(model, optim, method="static", density=0.25, quiet=True)
    x = torch.randn(8, 6)
    for _ in range(3):
        optim.zero_grad()
        model(x).square().mean().backward()
        optim.step()
    expected = model(x).detach()
    sparsify(model, sparsity.patterns)
    assert [type(m) for m in model] == [SparseLinear, nn.ReLU, SparseLinear]
    torch.testing.assert_close(model(x), expected)
    densify(model)
    assert [type(m) for m in model] == [nn.Linear, nn.ReLU, nn.Linear]
    torch.testing.assert_close(model(x), expected)


def test_a_sparse_linear_layer_learns_with_any_optimizer() -> None:
    model = nn.Sequential(SparseLinear(4, 64, density=0.5), nn.ReLU(), SparseLinear(64, 1))
    optim = torch.optim.RMSprop(model.parameters(), 0.01)
    x = torch.randn(64, 4)
    losses = []
    for _ in range(100):
        optim.zero_grad()
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        loss.backward()
        optim.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 5


def test_state_and_copies_contain_the_connections() -> None:
    layer = SparseLinear(10, 10, density=0.3)
    x = torch.randn(4, 10)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other = SparseLinear(10, 10, density=0.3)
    assert not other.pattern.same_as(layer.pattern)
    other.load_state_dict(torch.load(file, weights_only=True))
    for twin in (other, copy.deepcopy(layer)):
        assert twin.pattern.same_as(layer.pattern)
        assert torch.equal(twin(x), layer(x))


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda layer: layer(torch.zeros(2, 7)),
         r"shape of the input is \(2, 7\) but must be \(\.\.\., 8\)"),
        (lambda layer: layer(torch.zeros(2, 8, dtype=torch.float64)),
         "input is torch.float64 on cpu and the weights are torch.float32"),
        (lambda layer: copy.deepcopy(layer).double()(torch.zeros(2, 8)),
         "weights are torch.float64"),
        (lambda layer: copy.deepcopy(layer).to("meta")(torch.zeros(2, 8)),
         "weights are torch.float32 on meta"),
        (lambda layer: SparseLinear(8, 8, density=1.5), r"density is 1.5 but must be in \(0, 1\]"),
        (lambda layer: SparseLinear(8, 8, pattern=Pattern.dense(8, 9)), "pattern is 8 -> 9"),
        (lambda layer: layer.load_state_dict(
            {**layer.state_dict(), "positions": torch.flip(layer.positions, (0,))}),
         "positions: pattern: positions must be strictly ascending"),
        (lambda layer: sparsify(nn.Sequential(layer), {"1": Pattern.dense(8, 8)}), (
            "no Linear layer named 1"
        )),
    ],
)  # fmt: skip
def test_invalid_arguments_are_rejected_in_one_line(use: Any, message: str) -> None:
    layer = SparseLinear(8, 8)
    before = layer.pattern
    with pytest.raises(UsageError, match=message) as error:
        use(layer)
    assert "\n" not in str(error.value)
    assert layer.pattern is before
    assert np.array_equal(before.positions, layer.positions.numpy())


def test_sparsify_replaces_all_layers_or_none() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
    for wrong in ({"1": Pattern.dense(8, 8)}, {"9": Pattern.dense(8, 8)}):
        with pytest.raises(UsageError):
            sparsify(model, {"0": Pattern.dense(8, 8), **wrong})
        assert type(model[0]) is nn.Linear
