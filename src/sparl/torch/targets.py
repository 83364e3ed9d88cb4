"""Keep target networks sparse after each target update, whatever code performs the update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from sparl.errors import UsageError
from sparl.torch.layers import MaskedLinear, Modules, named_modules

TargetRule = Literal["shared", "own"]


class TrackedTarget:
    """A Linear layer of a target network, which the caller's code updates.

    Before the layer is used, its weights are compared with the weights that the last application of
    the rule left. If they differ, a target update has happened, and the rule is applied again.

    Args:
        online: the online layer.
        linear: the target network's layer.
        rule: which connections the layer has. "shared" means those of the online layer at the time
            of the target update. "own" means the layer's connections of largest magnitude, as many
            as in the online layer (Sokar et al. 2021, algorithm 3).
        parents: the modules that contain the layer. A parent may use the layer's weight without
            calling the layer, as MultiheadAttention does with out_proj, so calls of the parents
            apply the rule too.
    """

    def __init__(
        self,
        online: MaskedLinear,
        linear: nn.Linear,
        rule: TargetRule,
        parents: Sequence[nn.Module] = (),
    ) -> None:
        self.online = online
        self.linear = linear
        self.rule = rule
        self.parents = parents
        self.mark_settled()

    def start(self) -> None:
        """Set the initial connections.

        The initial connections are those of the online layer. Under the rule "own", a target layer
        that is already sparse enough keeps its own connections.
        """
        fits = int(torch.count_nonzero(self.linear.weight)) <= self.online.pattern.connections
        if not (fits and self.rule == "own"):
            with torch.no_grad():
                self.linear.weight.masked_fill_(self.online.absent, 0)
        self.mark_settled()

    def attach(self) -> list[RemovableHandle]:
        """Register hooks that apply the rule whenever the layer is used."""
        hook = SettlingHook(self)
        return [m.register_forward_pre_hook(hook) for m in (self.linear, *self.parents)]

    @torch.compiler.disable
    def settle(self) -> None:
        """Apply the rule if the weights have changed since the rule was last applied."""
        if self.online.dense or torch.equal(self.linear.weight, self.settled):
            return
        with torch.no_grad():
            if self.rule == "shared":
                self.linear.weight.masked_fill_(self.online.absent, 0)
            else:
                keep_largest(self.linear.weight, self.online.pattern.connections)
        self.mark_settled()

    def mark_settled(self) -> None:
        """Record that the rule has been applied to the current weights."""
        self.settled = self.linear.weight.detach().clone()


class SettlingHook:
    """A forward pre-hook that applies the rule to a target network's layer.

    A copy of the hook does nothing, because a module that is copied alone does not belong to a
    DynamicSparsity. A copied DynamicSparsity registers hooks of its own.
    """

    def __init__(self, tracked: TrackedTarget | None) -> None:
        self.tracked = tracked

    @torch.compiler.disable
    def __call__(self, module: nn.Module, inputs: object) -> None:
        """Apply the rule before the module is called."""
        if self.tracked is not None:
            self.tracked.settle()

    def __reduce__(self) -> tuple[Any, ...]:
        return SettlingHook, (None,)


def keep_largest(values: torch.Tensor, count: int) -> None:
    """Set all values except the `count` largest magnitudes to 0, in place.

    Among equal magnitudes, those with larger indices are kept.
    """
    flat = values.view(-1)
    surplus = int(torch.count_nonzero(flat)) - count
    if surplus <= 0:
        return
    magnitude = flat.abs()
    limit = torch.topk(magnitude, count, sorted=False).values.min() if count else torch.inf
    keep = magnitude > limit
    ties = torch.nonzero(magnitude == limit).view(-1)
    keep[ties[ties.numel() - (count - int(keep.sum())) :]] = True
    flat.masked_fill_(~keep, 0)


def track(layers: Sequence[MaskedLinear], target: Modules, rule: TargetRule) -> list[TrackedTarget]:
    """Find the layers of the target network that correspond to the model's sparse layers.

    Raises:
        UsageError: if the target network lacks a Linear layer of the same name and shape.
    """
    found: Mapping[str, nn.Module] = dict(named_modules(target))
    modules = list(found.values())
    tracked = []
    for layer in layers:
        linear = found.get(layer.name)
        if not isinstance(linear, nn.Linear) or linear.weight.shape != layer.weight.shape:
            raise UsageError(
                f"target: it has no Linear layer {layer.name} of shape "
                f"{tuple(layer.weight.shape)}; a target must have the same layers as its model"
            )
        parents = [m for m in modules if any(child is linear for child in m.children())]
        tracked.append(TrackedTarget(layer, linear, rule, parents))
    return tracked
