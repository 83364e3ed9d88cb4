"""Target networks: held to the rule after each target update, however that is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import nn

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
    """

    def __init__(self, online: MaskedLinear, linear: nn.Linear, rule: TargetRule) -> None:
        self.online = online
        self.linear = linear
        self.rule = rule
        self.take_as_settled()

    def start(self) -> None:
        """Begin with the online layer's connections, under both rules."""
        with torch.no_grad():
            self.linear.weight.masked_fill_(self.online.absent, 0)
        self.take_as_settled()

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
    followed = []
    for layer in layers:
        linear = found.get(layer.name)
        if not isinstance(linear, nn.Linear) or linear.weight.shape != layer.weight.shape:
            raise UsageError(
                f"target: no Linear {layer.name} of shape {tuple(layer.weight.shape)}; a target "
                "has the layers of its model"
            )
        followed.append(FollowedTarget(layer, linear, rule))
    return followed
