"""A model's Linear layers: which of them can be sparse, and one of them with its connections."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from sparl.errors import UsageError
from sparl.sparse.pattern import Pattern
from sparl.topology.density import erdos_renyi_total, round_half_up

Modules: TypeAlias = nn.Module | Iterable[nn.Module]


class MaskedLinear:
    """The weight of a Linear, [n_out, n_in], zero wherever there is no connection.

    Args:
        name: of the layer, for the table and for files.
        linear: the layer.
    """

    def __init__(self, name: str, linear: nn.Linear) -> None:
        self.name = name
        self.linear = linear
        self.weight = linear.weight
        n_out, n_in = linear.weight.shape
        self.pattern = Pattern.dense(n_in, n_out)
        self.absent = torch.zeros_like(self.weight, dtype=torch.bool)

    @property
    def dense(self) -> bool:
        """Whether every connection exists, so that there is nothing to keep at zero."""
        return self.pattern.connections == self.pattern.size

    def check_weight(self) -> None:
        """Check that the layer still has the weight that the optimizer trains.

        Raises:
            UsageError: it was replaced by another tensor.
        """
        if self.linear.weight is not self.weight:
            raise UsageError(
                f"DynamicSparsity: the weight of {self.name} was replaced, for example by "
                "load_state_dict(assign=True), and the optimizer does not train the new one; load "
                "without assign=True, or create the optimizer and DynamicSparsity after loading"
            )

    def take(self, pattern: Pattern, moments: Iterable[torch.Tensor], *, grown: bool) -> None:
        """Have these connections; what is absent is zero, in the weights and in every moment.

        Args:
            pattern: the connections.
            moments: the optimiser's tensors of the weight's shape.
            grown: connections that were absent before also start from zero. Else they keep
                what is there, as weights do that were loaded.
        """
        present = torch.from_numpy(pattern.positions.copy()).to(self.weight.device)
        absent = torch.ones(pattern.size, dtype=torch.bool, device=self.weight.device)
        absent = absent.index_fill_(0, present, False).view_as(self.weight)
        zeroed = absent | self.absent if grown else absent
        with torch.no_grad():
            for values in (self.weight, *moments):
                values.masked_fill_(zeroed, 0)
        self.pattern, self.absent = pattern, absent

    def values(self) -> NDArray[np.float32]:
        """The weights of the connections, float32 [N], in canonical order."""
        return to_numpy(self.weight).reshape(-1)[self.pattern.positions]


def to_numpy(values: torch.Tensor) -> NDArray[np.float32]:
    """A tensor of any device and precision as float32 on the CPU."""
    array: NDArray[np.float32] = values.detach().to("cpu", torch.float32).numpy()
    return array


@dataclass(frozen=True)
class Row:
    """A line of the table: a layer with weights, and why it is not made sparse, if so."""

    name: str
    module: nn.Module
    why_not: str | None


def named_modules(modules: Modules) -> Iterator[tuple[str, nn.Module]]:
    """All modules by name; of several models the number of each comes first.

    Names are the same with and without DistributedDataParallel around a model.
    """
    if isinstance(modules, nn.Module):
        for name, module in _unwrapped(modules).named_modules():
            yield name or type(module).__name__, module
    else:
        for index, model in enumerate(modules):
            for name, module in _unwrapped(model).named_modules():
                yield f"{index}.{name}".rstrip("."), module


def _unwrapped(model: nn.Module) -> nn.Module:
    return model.module if isinstance(model, DistributedDataParallel) else model


def survey(modules: Modules, optimizer: torch.optim.Optimizer) -> list[Row]:
    """Every module that has weights of its own, once, and what stands against sparsity.

    Raises:
        UsageError: a layer without sizes yet.
    """
    optimised = {id(p) for group in optimizer.param_groups for p in group["params"]}
    owners: dict[int, str] = {}  # of each parameter, the first layer that has it
    rows, seen = [], set()
    for name, module in named_modules(modules):
        parameters = [p for _, p in module.named_parameters(recurse=False)]
        parametrised = nn.utils.parametrize.is_parametrized(module)
        if id(module) in seen or ".parametrizations" in name or not (parameters or parametrised):
            continue
        seen.add(id(module))
        why = None
        if any(isinstance(p, nn.parameter.UninitializedParameter) for p in parameters):
            raise UsageError(f"DynamicSparsity: {name} has no sizes yet; run the model once before")
        own = [p for p in parameters if p is not module._parameters.get("bias")]
        shared = [owners[id(p)] for p in own if id(p) in owners]
        if shared:
            why = f"shares the weight of {shared[0]}"
        elif not isinstance(module, nn.Linear):
            why = "dense, not a Linear"
        elif not isinstance(module._parameters.get("weight"), nn.Parameter):
            why = "dense, its weight is computed from others"
        elif module.weight.numel() == 0:
            why = "has no weights"
        elif not module.weight.requires_grad:
            why = "dense, its weight is frozen"
        elif id(module.weight) not in optimised:
            why = "dense, not in this optimizer"
        for parameter in own:
            owners.setdefault(id(parameter), name)
        rows.append(Row(name, module, why))
    return rows


def connections(
    shapes: Mapping[str, tuple[int, int]], density: float | Mapping[str, float]
) -> dict[str, int]:
    """How many connections each layer gets.

    Args:
        shapes: (n_in, n_out) by name.
        density: of all layers together, shared out by Erdos-Renyi (Evci et al. 2020); or that of
            each layer by its name, where layers that are not named stay dense.

    Raises:
        UsageError: a density outside (0, 1], a name that no layer has.
    """
    if isinstance(density, Mapping):
        unknown = sorted(set(density) - set(shapes))
        if unknown:
            raise UsageError(
                f"density: no layer {', '.join(unknown)} to make sparse; there are "
                f"{', '.join(shapes)}"
            )
    for value in density.values() if isinstance(density, Mapping) else (density,):
        if not 0 < value <= 1:
            raise UsageError(f"density: {value}, must be in (0, 1]")
    if isinstance(density, Mapping):
        return {
            name: max(1, round_half_up(density.get(name, 1.0) * n_in * n_out))
            for name, (n_in, n_out) in shapes.items()
        }
    counts = erdos_renyi_total(list(shapes.values()), 1 - density)
    return dict(zip(shapes, counts, strict=True))
