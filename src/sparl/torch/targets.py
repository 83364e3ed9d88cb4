"""Target networks: held to the rule after each target update, however that is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from sparl.errors import UsageError
from sparl.torch.layers import MaskedLinear, Modules, named_modules

TargetRule = Literal["shared", "own"]


class FollowedTarget:
    """A target network's Linear layer, whose values somebody else moves towards the online one.

    Whether they were moved is seen by comparing them with what they were, before the layer is
    used; so a target update can be written in any way.

    Args:
        online: the layer that it follows.
        linear: the target's layer.
        rule: "shared", the online layer's connections at the time of the target update; "own",
            as many as the online layer has, of the largest magnitudes (Sokar et al. 2021,
            algorithm 3).
        parents: the modules that hold the layer. One that uses its weight without calling the
            layer, as MultiheadAttention uses that of out_proj, is called itself.
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
        self.take_as_settled()

    def start(self) -> None:
        """Begin with the online layer's connections; under "own", keep those of a sparse target."""
        fits = int(torch.count_nonzero(self.linear.weight)) <= self.online.pattern.connections
        if not (fits and self.rule == "own"):
            with torch.no_grad():
                self.linear.weight.masked_fill_(self.online.absent, 0)
        self.take_as_settled()

    def attach(self) -> list[RemovableHandle]:
        """Have the layer settled whenever it is used."""
        hook = SettlingHook(self)
        return [m.register_forward_pre_hook(hook) for m in (self.linear, *self.parents)]

    @torch.compiler.disable
    def settle(self) -> None:
        """Apply the rule if the values have changed since the last time."""
        if self.online.dense or torch.equal(self.linear.weight, self.settled):
            return
        with torch.no_grad():
            if self.rule == "shared":
                self.linear.weight.masked_fill_(self.online.absent, 0)
            else:
                keep_largest(self.linear.weight, self.online.pattern.connections)
        self.take_as_settled()

    def take_as_settled(self) -> None:
        """What is there now has been settled before."""
        self.settled = self.linear.weight.detach().clone()


class SettlingHook:
    """Settles a target's layer before a module is called.

    A copy of it does nothing: a copied module belongs to no DynamicSparsity yet.
    """

    def __init__(self, followed: FollowedTarget | None) -> None:
        self.followed = followed

    @torch.compiler.disable
    def __call__(self, module: nn.Module, inputs: object) -> None:
        """Act as a forward pre-hook."""
        if self.followed is not None:
            self.followed.settle()

    def __reduce__(self) -> tuple[Any, ...]:
        return SettlingHook, (None,)


def keep_largest(values: torch.Tensor, count: int) -> None:
    """Set all but the count largest magnitudes to 0, in place; of equals the later stay."""
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


def follow(
    layers: Sequence[MaskedLinear], target: Modules, rule: TargetRule
) -> list[FollowedTarget]:
    """Each layer's counterpart in the target network, of the same name.

    Raises:
        UsageError: the target has no Linear of that name and shape.
    """
    found: Mapping[str, nn.Module] = dict(named_modules(target))
    modules = list(found.values())
    followed = []
    for layer in layers:
        linear = found.get(layer.name)
        if not isinstance(linear, nn.Linear) or linear.weight.shape != layer.weight.shape:
            raise UsageError(
                f"target: no Linear {layer.name} of shape {tuple(layer.weight.shape)}; a target "
                "has the layers of its model"
            )
        parents = [m for m in modules if any(child is linear for child in m.children())]
        followed.append(FollowedTarget(layer, linear, rule, parents))
    return followed
