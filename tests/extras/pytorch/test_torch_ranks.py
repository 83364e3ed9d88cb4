"""Test DynamicSparsity under DistributedDataParallel, in two gloo processes on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from sparl.errors import UsageError
from sparl.torch import DynamicSparsity, Schedule

SCHEDULES = [Schedule(first=3, every=3, last=1000, fraction=0.3), Schedule(2, 5, 1000, 0.1)]
STEPS = 10


def _rank(rank: int, store: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
    for check in (attached, clipped, resumed, wrapped_afterwards, alone):
        check(rank)
    distributed.destroy_process_group()


def new_model(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2)
    )


def train(ddp: nn.Module, optimizer: torch.optim.Optimizer, rank: int, steps: int = STEPS) -> None:
    """Train on separate data for each rank."""
    generator = torch.Generator().manual_seed(rank)
    for _ in range(steps):
        optimizer.zero_grad()
        (ddp(torch.randn(8, 6, generator=generator)) - 1).square().mean().backward()
        nn.utils.clip_grad_norm_(ddp.parameters(), 0.1)
        optimizer.step()


def check_same_on_all_ranks(model: nn.Module, sparsity: DynamicSparsity) -> None:
    mine = {
        "positions": {name: p.positions.tolist() for name, p in sparsity.patterns.items()},
        "weights": [p.tolist() for p in model.parameters()],
        "topology_updates": sparsity.topology_updates,
    }
    everyone: list[Any] = [None, None]
    distributed.all_gather_object(everyone, mine)
    assert everyone[0] == everyone[1]


def attached(rank: int) -> None:
    """Start with weights, seeds and schedules that differ between ranks."""
    for method in ("static", "DS", "SET", "RigL"):
        for inner in (False, True):
            model = new_model(rank)
            ddp = DistributedDataParallel(model)
            optimizer = torch.optim.Adam(model.parameters(), 0.01)
            sparsity = DynamicSparsity(
                model if inner else ddp, optimizer, method=method, density=0.2, seed=rank,  # type: ignore[arg-type]
                schedule=None if method == "static" else SCHEDULES[rank], quiet=True,
            )  # fmt: skip
            assert list(sparsity.patterns) == ["0", "2", "4"]  # the names do not depend on wrappers
            check_same_on_all_ranks(model, sparsity)
            train(ddp, optimizer, rank)
            assert sparsity.topology_updates == (0 if method == "static" else 3)
            check_same_on_all_ranks(model, sparsity)
            for layer in sparsity.layers:
                assert not (layer.weight * layer.absent).any()


def clipped(rank: int) -> None:
    model = new_model(0)
    ddp = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    sparsity = DynamicSparsity(ddp, optimizer, method="static", density=0.1, quiet=True)
    (ddp(torch.randn(8, 6)) - 1).square().mean().backward()
    for layer in sparsity.layers:
        assert layer.weight.grad is not None
        assert layer.weight.grad.any()
        assert not (layer.weight.grad * layer.absent).any()


def resumed(rank: int) -> None:
    """Load different states on the ranks."""
    states = []
    for seed in (rank, 5):
        other = new_model(seed)
        optimizer = torch.optim.Adam(other.parameters())
        states.append(
            DynamicSparsity(
                other, optimizer, method="static", density=0.2, seed=seed, quiet=True
            ).state_dict()
        )
    model = new_model(rank)
    ddp = DistributedDataParallel(model)
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.weight.zero_()  # nothing is lost, so there is no warning
    optimizer = torch.optim.Adam(model.parameters())
    sparsity = DynamicSparsity(
        ddp, optimizer, method="static", density=0.2, state=states[0], quiet=True
    )
    check_same_on_all_ranks(model, sparsity)


def wrapped_afterwards(rank: int) -> None:
    for steps_before in (0, 2):
        model = new_model(rank)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        sparsity = DynamicSparsity(
            model, optimizer, method="RigL", density=0.2, schedule=SCHEDULES[0], quiet=True
        )
        train(model, optimizer, rank, steps_before)
        ddp = DistributedDataParallel(model)
        before = [p.detach().clone() for p in model.parameters()]
        with pytest.raises(UsageError, match="wrap it before creating DynamicSparsity"):
            train(ddp, optimizer, rank, 1)
        assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
        assert (sparsity.updates, sparsity.topology_updates) == (steps_before, 0)


def alone(rank: int) -> None:
    """Train a different model on each rank, which is allowed without DistributedDataParallel."""
    if rank == 0:
        model = new_model(rank)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        sparsity = DynamicSparsity(
            model, optimizer, method="RigL", density=0.2, schedule=SCHEDULES[0], quiet=True
        )
        train(model, optimizer, rank)
        assert sparsity.topology_updates == 3
    distributed.barrier()


def test_two_ranks_have_the_same_connections(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_rank, (str(tmp_path / "store"),), nprocs=2)
