"""The one place where a change of topology is worked out; it owns every invariant."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

import sparl.topology.drop
import sparl.topology.grow  # noqa: F401  (importing both registers their rules)
from sparl.errors import UsageError
from sparl.sparse.pattern import Pattern, union
from sparl.sparse.rewiring import Rewiring
from sparl.topology.layer_view import LayerView
from sparl.topology.rules import (
    DROP_RULES,
    GROW_RULES,
    ChooseDropped,
    ChooseGrown,
    DropRule,
    GrowRule,
    unregistered,
)


@dataclass(frozen=True)
class TopologyMethod:
    """How connections are chosen: a drop rule and a grow rule.

    Attributes:
        drop: a registered rule, or a function, which declares nothing: its count is
            round(fraction N) of all N connections.
        grow: a registered rule, or a function.
    """

    drop: ChooseDropped
    grow: ChooseGrown

    @classmethod
    def named(cls, drop: str, grow: str) -> TopologyMethod:
        """The registered rules of these names.

        Raises:
            UsageError: a rule is not registered, with how to register it.
        """
        wrong = wrong_rules(drop, grow)
        if wrong:
            raise UsageError("; ".join(wrong))
        return cls(DROP_RULES[drop], GROW_RULES[grow])

    @property
    def drop_rule(self) -> DropRule:
        """The drop rule and what it declares."""
        return self.drop if isinstance(self.drop, DropRule) else DropRule(self.drop)

    @property
    def needs(self) -> frozenset[str]:
        """What either rule reads besides pattern and weights."""
        grow = self.grow if isinstance(self.grow, GrowRule) else GrowRule(self.grow)
        return self.drop_rule.needs | grow.needs


def wrong_rules(drop: str, grow: str) -> list[str]:
    """A message for each of the two names that no rule is registered by."""
    texts = (unregistered("drop", drop, DROP_RULES), unregistered("grow", grow, GROW_RULES))
    return [text for text in texts if text]


@dataclass(frozen=True)
class Proposal:
    """A change of one layer's topology.

    Attributes:
        rewiring: from the old pattern to the new one, of as many connections.
        dropped_live: connections dropped whose weight was not 0.
        dropped_dead: connections dropped whose weight was exactly 0.
    """

    rewiring: Rewiring
    dropped_live: int
    dropped_dead: int

    @property
    def dropped(self) -> int:
        """Connections dropped, and as many grown."""
        return self.dropped_live + self.dropped_dead


def propose(
    method: TopologyMethod, layer: LayerView, fraction: float, rng: Generator
) -> Proposal | None:
    """Drop a fraction of a layer's connections and grow as many, at free positions.

    The count is the drop rule's: rounded as it declares, of all N connections or, where the rule
    removes dead links, of the L live ones, and all dead links in addition. The positions that are
    free after the drop always suffice. A position that is dropped and grown again is in both
    patterns: it never left.

    Returns:
        The change, of exactly N connections; None where nothing is dropped. A layer that is full
        or empty is left alone.

    Raises:
        ValueError: fraction outside [0, 1].
        RuntimeError: a rule broke its contract (count, repetition, a position not free).
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"propose: fraction {fraction}, must be in [0, 1]")
    pattern = layer.pattern
    if pattern.connections == pattern.size:
        return None
    rule = method.drop_rule
    candidates = _live(layer) if rule.removes_dead_links else layer
    count = rule.rounding(fraction * candidates.pattern.connections)
    dead = pattern.connections - candidates.pattern.connections
    if count + dead == 0:
        return None

    chosen = rule(candidates, count, rng) if count else np.empty(0, np.int64)
    kept_positions = np.delete(candidates.pattern.positions, chosen)
    if chosen.size != count or kept_positions.size != candidates.pattern.connections - count:
        raise RuntimeError(f"drop rule: {count} connections asked for, got {chosen.size}")
    kept = Pattern(pattern.n_in, pattern.n_out, kept_positions)

    grown = method.grow(layer, kept, count + dead, rng)
    positions = union(kept.positions, grown)
    if grown.size != count + dead or positions.size != pattern.connections:
        raise RuntimeError(f"grow rule: {count + dead} free positions asked for, got {grown.size}")
    new = Pattern(pattern.n_in, pattern.n_out, positions)
    live = int(np.count_nonzero(candidates.weights[chosen]))
    return Proposal(Rewiring(pattern, new), live, count + dead - live)


def _live(layer: LayerView) -> LayerView:
    """The layer without its dead links, whose weight is exactly 0."""
    alive = layer.weights != 0
    if alive.all():
        return layer
    pattern = layer.pattern
    live = Pattern(pattern.n_in, pattern.n_out, pattern.positions[alive])
    return replace(layer, pattern=live, weights=layer.weights[alive])
