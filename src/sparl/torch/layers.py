"""Find the Linear layers of a model that can be sparse, and mask their weights."""

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
    """A Linear layer whose weight, [n_out, n_in], is zero at absent connections.

    Args:
        name: the layer's name in tables and files.
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
        """Whether every connection exists, so that no weight is masked."""
        return self.pattern.connections == self.pattern.size

    def check_weight(self) -> None:
        """Check that the layer still has the weight that the optimizer trains.

        Raises:
            UsageError: if the weight was replaced by another tensor.
        """
        if self.linear.weight is not self.weight:
            raise UsageError(
                f"DynamicSparsity: the weight of layer {self.name} was replaced, for example by "
                "load_state_dict(assign=True), so the optimizer does not train the new weight; "
                "load without assign=True, or create the optimizer and DynamicSparsity after "
                "loading"
            )

    def set_pattern(
        self, pattern: Pattern, moments: Iterable[torch.Tensor], *, grown: bool
    ) -> None:
        """Set the connections, and set the weights and moments of absent connections to zero.

        Args:
            pattern: the new connections.
            moments: the optimizer's state tensors that have the weight's shape.
            grown: whether to set the values of connections that were absent before to zero too. If
                false, these connections keep the values that were loaded.
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
        """Return the weights of the connections, float32 [N], in canonical order."""
        return to_numpy(self.weight).reshape(-1)[self.pattern.positions]


def to_numpy(values: torch.Tensor) -> NDArray[np.float32]:
    """Return a tensor of any device and precision as float32; both may share memory."""
    array: NDArray[np.float32] = values.detach().to("cpu", torch.float32).numpy()
    return array


@dataclass(frozen=True)
class SurveyRow:
    """A module with parameters, and the reason why it cannot be sparse (None if it can)."""

    name: str
    module: nn.Module
    reason: str | None


def named_modules(modules: Modules) -> Iterator[tuple[str, nn.Module]]:
    """Yield every module of one or several models, together with its name.

    A single model itself has the name of its class. If there are several models, names start with
    the model's index. Wrapping a model in DistributedDataParallel does not change the names.
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


def survey(modules: Modules, optimizer: torch.optim.Optimizer) -> list[SurveyRow]:
    """List every module with parameters of its own once, and the reason if it cannot be sparse.

    Raises:
        UsageError: if a layer is lazy and its size is not yet known.
    """
    optimised = {id(p) for group in optimizer.param_groups for p in group["params"]}
    owners: dict[int, str] = {}  # first layer of each parameter, by the parameter's id
    rows, seen = [], set()
    for name, module in named_modules(modules):
        parameters = [p for _, p in module.named_parameters(recurse=False)]
        parametrised = nn.utils.parametrize.is_parametrized(module)
        if id(module) in seen or ".parametrizations" in name or not (parameters or parametrised):
            continue
        seen.add(id(module))
        reason = None
        if any(isinstance(p, nn.parameter.UninitializedParameter) for p in parameters):
            raise UsageError(
                f"DynamicSparsity: the size of layer {name} is not known yet; call the model once "
                "before creating DynamicSparsity"
            )
        own = [p for p in parameters if p is not module._parameters.get("bias")]
        shared = [owners[id(p)] for p in own if id(p) in owners]
        if shared:
            reason = f"shares the weight of {shared[0]}"
        elif not isinstance(module, nn.Linear):
            reason = "dense, because it is not a Linear layer"
        elif not isinstance(module._parameters.get("weight"), nn.Parameter):
            reason = "dense, because its weight is computed from other parameters"
        elif module.weight.numel() == 0:
            reason = "has no weights"
        elif not module.weight.requires_grad:
            reason = "dense, because its weight is frozen"
        elif id(module.weight) not in optimised:
            reason = "dense, because this optimizer does not train it"
        for parameter in own:
            owners.setdefault(id(parameter), name)
        rows.append(SurveyRow(name, module, reason))
    return rows


def connections(
    shapes: Mapping[str, tuple[int, int]], density: float | Mapping[str, float]
) -> dict[str, int]:
    """Return the number of connections of each layer, by name.

    Args:
        shapes: (n_in, n_out) of each layer, by name.
        density: density of all layers together, distributed by Erdos-Renyi (Evci et al. 2020); or a
            mapping from layer names to densities, in which case all other layers stay dense.

    Raises:
        UsageError: if a density is outside (0, 1], or if a name in `density` is not in `shapes`.
    """
    if isinstance(density, Mapping):
        unknown = sorted(set(density) - set(shapes))
        if unknown:
            raise UsageError(
                f"density: unknown layer {', '.join(unknown)}; the layers that can be sparse are "
                f"{', '.join(shapes)}"
            )
    for value in density.values() if isinstance(density, Mapping) else (density,):
        if not 0 < value <= 1:
            raise UsageError(f"density is {value} but must be in (0, 1]")
    if isinstance(density, Mapping):
        return {
            name: max(1, round_half_up(density.get(name, 1.0) * n_in * n_out))
            for name, (n_in, n_out) in shapes.items()
        }
    counts = erdos_renyi_total(list(shapes.values()), 1 - density)
    return dict(zip(shapes, counts, strict=True))
