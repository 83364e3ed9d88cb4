"""Compute topology updates of one layer and enforce their invariants."""

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
    """A drop rule and a grow rule.

    Attributes:
        drop: a registered rule or a function. A function declares no needs, and its count is
            round(fraction N) of all N connections.
        grow: a registered rule or a function.
    """

    drop: ChooseDropped
    grow: ChooseGrown

    @classmethod
    def named(cls, drop: str, grow: str) -> TopologyMethod:
        """Look up registered rules by their names.

        Raises:
            UsageError: a rule is not registered; the message says how to register it.
        """
        wrong = wrong_rules(drop, grow)
        if wrong:
            raise UsageError("; ".join(wrong))
        return cls(DROP_RULES[drop], GROW_RULES[grow])

    @property
    def drop_rule(self) -> DropRule:
        """The drop rule with its declarations."""
        return self.drop if isinstance(self.drop, DropRule) else DropRule(self.drop)

    @property
    def needs(self) -> frozenset[str]:
        """What the rules read in addition to pattern and weights."""
        grow = self.grow if isinstance(self.grow, GrowRule) else GrowRule(self.grow)
        return self.drop_rule.needs | grow.needs


def wrong_rules(drop: str, grow: str) -> list[str]:
    """Return a message for each of the two names that is not registered."""
    texts = (unregistered("drop", drop, DROP_RULES), unregistered("grow", grow, GROW_RULES))
    return [text for text in texts if text]


@dataclass(frozen=True)
class Proposal:
    """A topology update of one layer.

    Attributes:
        rewiring: from the old pattern to the new one, with the same number of connections.
        dropped_live: connections dropped whose weight was not 0.
        dropped_dead: connections dropped whose weight was exactly 0.
    """

    rewiring: Rewiring
    dropped_live: int
    dropped_dead: int

    @property
    def dropped(self) -> int:
        """Number of connections dropped, which equals the number grown."""
        return self.dropped_live + self.dropped_dead


def propose(
    method: TopologyMethod, layer: LayerView, fraction: float, rng: Generator
) -> Proposal | None:
    """Drop a fraction of a layer's connections and grow the same number at free positions.

    The drop rule declares how the count is rounded and whether it removes dead links. If it does,
    the fraction applies to the L live connections, and all dead links are dropped in addition;
    otherwise it applies to all N connections. There are always enough free positions after the
    drop. A position that is dropped and grown again is in both patterns and keeps its values.

    Returns:
        The update; the new pattern has exactly N connections. None if nothing is dropped, as in
        a dense or an empty layer.

    Raises:
        ValueError: the fraction is outside [0, 1].
        RuntimeError: a rule returned a wrong number of connections, one of them twice, or a
            position that is not free.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"propose: fraction is {fraction}, must be in [0, 1]")
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
        raise RuntimeError(
            f"drop rule: returned {chosen.size} connections, {np.unique(chosen).size} of them "
            f"distinct; must return {count} distinct ones"
        )
    kept = Pattern(pattern.n_in, pattern.n_out, kept_positions)

    grown = method.grow(layer, kept, count + dead, rng)
    positions = union(kept.positions, grown)
    if grown.size != count + dead or positions.size != pattern.connections:
        free = positions.size - kept.connections
        raise RuntimeError(
            f"grow rule: returned {grown.size} positions, {free} of them distinct and free; must "
            f"return {count + dead} such positions"
        )
    new = Pattern(pattern.n_in, pattern.n_out, positions)
    live = int(np.count_nonzero(candidates.weights[chosen]))
    return Proposal(Rewiring(pattern, new), live, count + dead - live)


def _live(layer: LayerView) -> LayerView:
    """Return the layer without its dead links, whose weight is exactly 0."""
    alive = layer.weights != 0
    if alive.all():
        return layer
    pattern = layer.pattern
    live = Pattern(pattern.n_in, pattern.n_out, pattern.positions[alive])
    return replace(layer, pattern=live, weights=layer.weights[alive])
