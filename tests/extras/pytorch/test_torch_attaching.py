"""Test how DynamicSparsity attaches to models, its errors and copies, and hooks of other code."""

from __future__ import annotations

import copy
import gc
import io
import itertools
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sparl.errors import UsageError
from sparl.torch import DynamicSparsity, Schedule, SparseLinear, sparsify

EVERY_THIRD = Schedule(first=3, every=3, last=1000, fraction=0.3)
METHODS = ["static", "DS", "SET", "RigL"]


@pytest.fixture
def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2)
    )


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), 0.01)


def attach(
    model: nn.Module, optimizer: torch.optim.Optimizer, method: Any = "SET", **fields: Any
) -> DynamicSparsity:
    schedule = None if method == "static" else EVERY_THIRD
    fields = {"density": 0.2, "schedule": schedule, "quiet": True, **fields}
    return DynamicSparsity(model, optimizer, method=method, **fields)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        (model(torch.randn(8, 6, generator=generator)) - 1).square().mean().backward()
        optimizer.step()


def check_equal(one: DynamicSparsity, other: DynamicSparsity) -> None:
    for a, b in zip(one.layers, other.layers, strict=True):
        assert a.pattern.same_as(b.pattern)
        assert torch.equal(a.weight, b.weight)


# --- Weights that are sparse already ----------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("density", [0.2, 0.3])
def test_zeros_of_loaded_weights_are_kept(
    model: nn.Sequential, method: Any, density: float
) -> None:
    optimizer = adam(model)
    sparsity = attach(model, optimizer, method)
    train(model, optimizer, 10)
    loaded = copy.deepcopy(model)
    again = attach(loaded, adam(loaded), method, density=density, seed=7)
    for a, b in zip(model.parameters(), loaded.parameters(), strict=True):
        assert torch.equal(a, b)
    assert again.density == pytest.approx(density, rel=0.05)
    if density == 0.2:
        existing = sum(int(torch.count_nonzero(layer.weight)) for layer in sparsity.layers)
        kept = sum(
            p.overlap(again.patterns[n]) * p.connections for n, p in sparsity.patterns.items()
        )
        assert kept >= existing


def test_a_loaded_target_keeps_its_own_connections(model: nn.Sequential) -> None:
    target, optimizer = copy.deepcopy(model), adam(model)
    attach(model, optimizer, "DS", target=target)
    for _ in range(4):
        train(model, optimizer, 3)
        with torch.no_grad():
            for p, q in zip(model.parameters(), target.parameters(), strict=True):
                q.lerp_(p, 0.05)
        target(torch.zeros(1, 6))
    loaded, loaded_target = copy.deepcopy((model, target))
    attach(loaded, adam(loaded), "DS", target=loaded_target)
    for p, q in zip(target.parameters(), loaded_target.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("method", METHODS)
def test_zeros_that_do_not_match_the_density_cause_a_warning(
    model: nn.Sequential, method: Any
) -> None:
    optimizer = adam(model)
    attach(model, optimizer, method)
    train(model, optimizer, 5)
    loaded = copy.deepcopy(model)
    with pytest.warns(UserWarning, match=r"in layer 0 \(.* non-zero weights for 36 connections\)"):
        attach(loaded, adam(loaded), method, density=0.1)


def test_weights_that_do_not_match_a_state_cause_a_warning(model: nn.Sequential) -> None:
    dense = copy.deepcopy(model)
    state = attach(model, adam(model), "static").state_dict()
    with pytest.warns(UserWarning, match="load weights and topology from the same training"):
        attach(dense, adam(dense), "static", state=state)


def test_zeros_of_a_dense_initialisation_are_not_connections(model: nn.Sequential) -> None:
    with torch.no_grad():
        model[2].weight[3, 4] = 0
    attach(model, adam(model), "static")  # warnings are errors


# --- Copies -----------------------------------------------------------------------------------


def by_torch_save(objects: Any) -> Any:
    file = io.BytesIO()
    torch.save(objects, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o)), by_torch_save]
)
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2)])
@pytest.mark.parametrize("method", METHODS)
def test_a_copy_works_and_does_not_change_the_original(
    model: nn.Sequential, duplicate: Any, order: Any, method: Any
) -> None:
    target, optimizer = copy.deepcopy(model), adam(model)
    originals = (model, target, optimizer, attach(model, optimizer, method, target=target))
    train(model, optimizer, 4)
    copies = duplicate([originals[i] for i in order])
    copies = [copies[order.index(i)] for i in range(4)]
    before = [p.detach().clone() for p in model.parameters()]
    of_model, of_target, of_optimizer, of_sparsity = copies
    assert DynamicSparsity.of(of_optimizer) is of_sparsity
    train(of_model, of_optimizer, 6)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    train(model, optimizer, 6)
    check_equal(originals[3], of_sparsity)
    for m, t in ((model, target), (of_model, of_target)):
        with torch.no_grad():
            for p, q in zip(m.parameters(), t.parameters(), strict=True):
                q.lerp_(p, 0.5)
        t(torch.zeros(1, 6))
    for p, q in zip(target.parameters(), of_target.parameters(), strict=True):
        assert torch.equal(p, q)
    assert all(int(torch.count_nonzero(of_target[int(n)].weight)) <= p.connections
               for n, p in of_sparsity.patterns.items())  # fmt: skip
    of_sparsity.remove()
    assert DynamicSparsity.of(optimizer) is originals[3]


def test_a_copy_without_its_optimizer_raises_an_error(model: nn.Sequential) -> None:
    optimizer = adam(model)
    alone = pickle.loads(pickle.dumps(attach(model, optimizer)))
    with pytest.raises(UsageError, match="the optimizer no longer exists; keep it"):
        alone.load_state_dict(alone.state_dict())


def test_a_copy_of_a_removed_optimizer_is_removed_too(model: nn.Sequential) -> None:
    optimizer = adam(model)
    sparsity = attach(model, optimizer)
    sparsity.remove()
    _, of_optimizer, of_sparsity = copy.deepcopy((model, optimizer, sparsity))
    assert DynamicSparsity.of(of_optimizer) is None
    check_equal(sparsity, of_sparsity)


# --- An optimizer that no longer exists -------------------------------------------------------


@pytest.mark.parametrize("held", [False, True])
def test_a_sparsity_whose_optimizer_no_longer_exists_blocks_nothing(
    model: nn.Sequential, held: bool
) -> None:
    optimizer = adam(model)
    first: Any = attach(model, optimizer, "static")
    train(model, optimizer, 1)
    if not held:
        first = None
    del optimizer
    dense = torch.zeros_like(model[2].weight)
    model.zero_grad()
    (model(torch.randn(64, 6)) - 1).square().mean().backward()
    dense = model[2].weight.grad
    assert dense is not None
    assert int(torch.count_nonzero(dense)) > 512  # its hooks were removed
    optimizer = adam(model)
    second = attach(model, optimizer, "RigL", density=0.3)
    train(model, optimizer, 7)
    assert second.topology_updates == 2
    assert first is None or first.updates == 1


def test_an_optimizer_in_a_cycle_of_references_is_collected_too(model: nn.Sequential) -> None:
    gc.disable()
    try:
        trainer: dict[str, Any] = {"optimizer": adam(model)}
        trainer["self"] = trainer
        attach(model, trainer["optimizer"], "static")
        del trainer
        attach(model, adam(model), "static")
    finally:
        gc.enable()


def test_an_existing_optimizer_keeps_its_sparsity_alive(model: nn.Sequential) -> None:
    optimizer = adam(model)
    attach(model, optimizer, "static")
    gc.collect()
    train(model, optimizer, 3)
    assert int(torch.count_nonzero(model[2].weight)) < 512
    with pytest.raises(UsageError, match="0 is already sparse under another optimizer"):
        attach(model, torch.optim.SGD(model.parameters(), 0.1), "static")


# --- Hooks of others --------------------------------------------------------------------------


def stepping_hook(optimizer: torch.optim.Optimizer, seen: list[float]) -> Any:
    """Clip, step and free each gradient as soon as it is available."""

    def step(parameter: torch.Tensor) -> None:
        seen.append(float(nn.utils.clip_grad_norm_([parameter], 0.1)))
        optimizer.step()
        optimizer.zero_grad()

    return step


@pytest.mark.parametrize("method", METHODS)
def test_steps_within_the_backward_pass_work_in_either_order(
    model: nn.Sequential, method: Any
) -> None:
    runs = []
    for ours_first in (True, False):
        twin = copy.deepcopy(model)
        optimizers = [torch.optim.SGD([p], 0.1, momentum=0.9) for p in twin.parameters()]
        seen: list[float] = []
        sparsities: list[DynamicSparsity] = []  # those of the weights; biases have optimizers too

        if ours_first:
            sparsities += [attach(twin, optimizer, method) for optimizer in optimizers[::2]]
        for parameter, optimizer in zip(twin.parameters(), optimizers, strict=True):
            parameter.register_post_accumulate_grad_hook(stepping_hook(optimizer, seen))
        if not ours_first:
            sparsities += [attach(twin, optimizer, method) for optimizer in optimizers[::2]]
        generator = torch.Generator().manual_seed(1)
        for _ in range(7):
            (twin(torch.randn(8, 6, generator=generator)) - 1).square().mean().backward()
        assert all(parameter.grad is None for parameter in twin.parameters())
        assert [s.topology_updates for s in sparsities] == [0 if method == "static" else 2] * 3
        runs.append((seen, sparsities))
    (seen, sparsities), (of_other, others) = runs
    assert seen == of_other  # clipping sees only existing connections, in either order
    for one, other in zip(sparsities, others, strict=True):
        check_equal(one, other)


def test_a_hook_that_frees_gradients_does_not_interfere(model: nn.Sequential) -> None:
    kept = {}

    def free(parameter: torch.Tensor) -> None:
        kept[id(parameter)], parameter.grad = parameter.grad, None

    model[2].weight.register_post_accumulate_grad_hook(free)
    optimizer = adam(model)
    sparsity = attach(model, optimizer, "static")
    model(torch.randn(8, 6)).sum().backward()
    gradient = kept[id(model[2].weight)]
    assert gradient is not None
    assert not (gradient * sparsity.layers[1].absent).any()


# --- Layers -----------------------------------------------------------------------------------


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        e = self.embed(x).unsqueeze(1)
        return self.head(self.attention(e, e, e)[0].squeeze(1))


@pytest.mark.parametrize("rule", ["shared", "own"])
def test_a_target_layer_whose_weight_is_used_without_a_call_is_settled(rule: Any) -> None:
    torch.manual_seed(0)
    model = Attention()
    target, optimizer = copy.deepcopy(model), adam(model)
    sparsity = attach(model, optimizer, target=target, target_rule=rule)
    weight, count = target.attention.out_proj.weight, sparsity.patterns["attention.out_proj"]
    train(model, optimizer, 3)
    with torch.no_grad():
        for p, q in zip(model.parameters(), target.parameters(), strict=True):
            q.lerp_(p, 0.5).add_(0.001)
    assert int(torch.count_nonzero(weight)) > count.connections
    target(torch.zeros(1, 6))
    assert int(torch.count_nonzero(weight)) == count.connections


@pytest.mark.parametrize("method", METHODS)
def test_a_weight_that_was_replaced_is_rejected(model: nn.Sequential, method: Any) -> None:
    optimizer = adam(model)
    sparsity = attach(model, optimizer, method)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(state, assign=True)
    before = [p.detach().clone() for p in model.parameters()]
    for act in (
        lambda: train(model, optimizer, 1),
        lambda: sparsity.load_state_dict(sparsity.state_dict()),
    ):
        with pytest.raises(
            UsageError, match=r"weight of layer 0 was replaced.*load without assign=True"
        ):
            act()
        assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    optimizer = adam(model)  # the remedy that the message names
    attach(model, optimizer, method, state=sparsity.state_dict())
    train(model, optimizer, 3)


def test_a_target_may_be_loaded_by_assigning(model: nn.Sequential) -> None:
    target, optimizer = copy.deepcopy(model), adam(model)
    sparsity = attach(model, optimizer, "static", target=target)
    target.load_state_dict({n: v + 1 for n, v in target.state_dict().items()}, assign=True)
    target(torch.zeros(1, 6))
    for name, pattern in sparsity.patterns.items():
        assert int(torch.count_nonzero(target[int(name)].weight)) == pattern.connections


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("shape", [(20, 0), (0, 20)])
def test_a_layer_without_weights_does_not_change(shape: tuple[int, int]) -> None:
    model = nn.ModuleList([nn.Linear(6, 8), nn.Linear(*shape)])
    for density in (0.5, {"0": 0.5}):
        optimizer = adam(model)
        sparsity = attach(model, optimizer, density=density)
        assert list(sparsity.patterns) == ["0"]
        assert "1  Linear: has no weights" in sparsity.table().splitlines()
        sparsity.remove()
        model[0].reset_parameters()
    with pytest.raises(UsageError, match="no layer can be made sparse"):
        attach(model[1], adam(model), density=0.5)
    for make in (
        lambda: SparseLinear(*shape),
        lambda: SparseLinear.from_linear(model[1]),
        lambda: sparsify(model, {"1": sparsity.patterns["0"]}),
    ):
        with pytest.raises(UsageError, match=r"SparseLinear: .*20"):
            make()


# --- All or nothing ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        {"updates": None},
        {"rng": {}},
        {"positions": 3},
        {"method": "DS"},
        {"positions": {"0": [0], "2": [1, 0], "4": [0]}},
        {"positions": {"0": [0], "2": "x", "4": [0]}},
    ],
)
def test_a_damaged_state_is_rejected_before_anything_is_changed(
    model: nn.Sequential, damage: dict[str, Any]
) -> None:
    optimizer = adam(model)
    other = copy.deepcopy(model)
    of_other = adam(other)
    sparsity = attach(other, of_other)
    train(other, of_other, 3)
    state = {**sparsity.state_dict(), **damage}
    target = copy.deepcopy(model)
    before = [p.detach().clone() for p in itertools.chain(model.parameters(), target.parameters())]
    with pytest.raises(UsageError, match=r"^state: ") as error:
        attach(model, optimizer, state=state, target=target)
    assert "\n" not in str(error.value)
    after = itertools.chain(model.parameters(), target.parameters())
    assert all(torch.equal(p, q) for p, q in zip(after, before, strict=True))
    assert DynamicSparsity.of(optimizer) is None
    positions = {n: p.positions.copy() for n, p in sparsity.patterns.items()}
    with pytest.raises(UsageError, match=r"^state: "):
        sparsity.load_state_dict(state)
    assert (sparsity.updates, sparsity.topology_updates) == (3, 1)
    for name, pattern in sparsity.patterns.items():
        np.testing.assert_array_equal(pattern.positions, positions[name])
