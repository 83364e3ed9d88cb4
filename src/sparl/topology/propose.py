"""Compute the topology update of a layer, and enforce the invariants of an update."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

import sparl.topology.drop
import sparl.topology.grow  # noqa: F401  (importing the two modules registers their rules)
from sparl.errors import UsageError
from sparl.sparse.pattern import Pattern, union
from sparl.sparse.rewiring import Rewiring
from sparl.topology.density_schedule import DensitySchedule, constant
from sparl.topology.layer_view import LayerView
from sparl.topology.registry import Rule
from sparl.topology.rules import DropRule, GrowRule, Indices
from sparl.wording import counted, shown


@dataclass(frozen=True)
class TopologyMethod:
    """A drop rule, a grow rule and a density schedule.

    Attributes:
        drop: the drop rule.
        grow: the grow rule.
        density: the density schedule.
    """

    drop: DropRule
    grow: GrowRule
    density: DensitySchedule = constant

    @classmethod
    def named(cls, drop: str, grow: str, density: str = "constant") -> TopologyMethod:
        """Look up registered rules and a density schedule by their names.

        Raises:
            UsageError: if a name is not registered; the message explains how to register it.
        """
        wrong = wrong_rules(drop, grow, density)
        if wrong:
            raise UsageError("; ".join(wrong))
        return cls(DropRule.named(drop), GrowRule.named(grow), DensitySchedule.named(density))

    @property
    def changes_density(self) -> bool:
        """Whether the number of connections may change."""
        return self.density is not constant

    @property
    def needs(self) -> frozenset[str]:
        """The data that the rules read in addition to the pattern and the weights."""
        return self.drop.needs | self.grow.needs


def wrong_rules(drop: str, grow: str, density: str) -> list[str]:
    """Return a message for each name that is not registered."""
    texts = (
        DropRule.unregistered("drop", drop),
        GrowRule.unregistered("grow", grow),
        DensitySchedule.unregistered("density_schedule", density),
    )
    return [text for text in texts if text]


def rule_digests(drop: str, grow: str, density: str) -> dict[str, str]:
    """Return the digest of each custom rule, by a text such as "grow rule 'mine'".

    Rules that are not registered, and rules whose source is unavailable, are omitted.
    """
    registered = (
        DropRule.registry.get(drop),
        GrowRule.registry.get(grow),
        DensitySchedule.registry.get(density),
    )
    rules = [rule for rule in registered if rule is not None and rule.digest]
    return {f"{rule.kind} '{rule.name}'": rule.digest for rule in rules}


@dataclass(frozen=True)
class Proposal:
    """A proposed topology update of one layer.

    Attributes:
        rewiring: change from the old pattern to the new one.
        dropped_live: number of dropped connections whose weight was not 0.
        dropped_dead: number of dropped connections whose weight was exactly 0.
        fraction: the fraction of the connections that was to be moved.
    """

    rewiring: Rewiring
    dropped_live: int
    dropped_dead: int
    fraction: float

    @property
    def dropped(self) -> int:
        """Number of dropped connections, including those that grow again in the same update."""
        return self.dropped_live + self.dropped_dead

    @property
    def returned(self) -> int:
        """Number of connections that are dropped and grown again in the same update."""
        stayed = self.rewiring.new.connections - self.rewiring.grown.size
        return stayed - (self.rewiring.old.connections - self.dropped)


def propose(
    method: TopologyMethod,
    layer: LayerView,
    fraction: float,
    rng: Generator,
    connections: int | None = None,
) -> Proposal | None:
    """Drop a fraction of a layer's connections, and grow others up to the requested number.

    The drop rule declares how the count is rounded and whether dead links are removed. If they are,
    the fraction applies to the L live connections, and all dead links are dropped in addition;
    otherwise the fraction applies to all N connections. More connections are dropped if the layer
    would otherwise exceed the requested number. There are always enough free positions after the
    drop. A connection that is dropped and grown again is in both patterns and keeps its values.

    Args:
        method: the rules that choose connections.
        layer: the layer before the update.
        fraction: the fraction of the layer's connections to drop, in [0, 1].
        rng: random generator of the topology.
        connections: number of connections after the update; None means unchanged.

    Returns:
        The update, or None if nothing is dropped or grown, as in a dense layer that stays dense.

    Raises:
        ValueError: if the fraction is outside [0, 1].
        UsageError: if a rule fails, or its result is not a one-dimensional array of integers, has
            the wrong length, or contains duplicates, invalid indices or positions that are not
            free.
        FloatingPointError: if a weight, or a value that a rule reads, is not finite.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"propose: fraction is {fraction} but must be in [0, 1]")
    if not np.isfinite(layer.weights).all():
        raise FloatingPointError("a weight is not finite")
    pattern = layer.pattern
    wanted = pattern.connections if connections is None else connections
    if pattern.connections == wanted == pattern.size:
        return None
    rule = method.drop
    candidates = _live(layer) if rule.removes_dead_links else layer
    dead = pattern.connections - candidates.pattern.connections
    too_many = pattern.connections - dead - wanted
    count = max(rule.count(fraction, candidates.pattern.connections), too_many)
    grow_count = wanted - (pattern.connections - dead - count)
    if count + dead + grow_count == 0:
        return None

    chosen = np.empty(0, np.int64)
    if count:
        result = rule(candidates, count, rng)
        chosen = _integers(rule, result, candidates.pattern.connections)
    kept_positions = np.delete(candidates.pattern.positions, chosen)
    if chosen.size != count or kept_positions.size != candidates.pattern.connections - count:
        raise rule.fault(
            f"returned {counted(chosen.size, 'connection')}, {np.unique(chosen).size:,} of them "
            f"distinct, but must return {counted(count, 'distinct connection')}"
        )
    kept = Pattern(pattern.n_in, pattern.n_out, kept_positions)
    new = _grown(method.grow, layer, kept, grow_count, rng)
    live = int(np.count_nonzero(candidates.weights[chosen]))
    return Proposal(Rewiring(pattern, new), live, count + dead - live, fraction)


def _grown(rule: GrowRule, layer: LayerView, kept: Pattern, count: int, rng: Generator) -> Pattern:
    """Return the kept pattern with `count` connections added."""
    if not count:
        return kept
    grown = _integers(rule, rule(layer, kept, count, rng), kept.size)
    positions = union(kept.positions, grown)
    if grown.size != count or positions.size != kept.connections + count:
        free = positions.size - kept.connections
        raise rule.fault(
            f"returned {counted(grown.size, 'position')}, {free:,} of them distinct and free, but "
            f"must return {counted(count, 'distinct free position')}"
        )
    return Pattern(kept.n_in, kept.n_out, positions)


def _integers(rule: Rule, result: object, end: int) -> Indices:
    """Return the result of a rule as an int64 array [n].

    Args:
        rule: the rule.
        result: the value that the rule returned.
        end: all valid values are in [0, end).

    Raises:
        UsageError: if the result is not a one-dimensional array of integers in [0, end).
    """
    expected = f"but must return a one-dimensional NumPy array of integers in [0, {end:,})"
    if not isinstance(result, np.ndarray):
        raise rule.fault(f"returned {shown(result)}, {expected}")
    if result.ndim != 1 or result.dtype.kind not in "iu":
        shape = " x ".join(str(n) for n in result.shape)
        raise rule.fault(f"returned an array of {result.dtype} [{shape}], {expected}")
    if result.size and not 0 <= result.min() <= result.max() < end:
        raise rule.fault(f"returned values from {result.min():,} to {result.max():,}, {expected}")
    return result.astype(np.int64, copy=False)


def _live(layer: LayerView) -> LayerView:
    """Return the layer without its dead links, whose weight is exactly 0."""
    alive = layer.weights != 0
    if alive.all():
        return layer
    pattern = layer.pattern
    live = Pattern(pattern.n_in, pattern.n_out, pattern.positions[alive])
    return replace(layer, pattern=live, weights=layer.weights[alive])
