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
from sparl.topology.density_schedule import DENSITY_SCHEDULES, DensitySchedule, constant
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
    """How connections are chosen: a drop rule, a grow rule and a density schedule.

    Attributes:
        drop: a registered rule, or a function, which declares nothing: its count is
            round(fraction N) of all N connections.
        grow: a registered rule, or a function.
        density: a registered density schedule.
    """

    drop: ChooseDropped
    grow: ChooseGrown
    density: DensitySchedule = constant

    @classmethod
    def named(cls, drop: str, grow: str, density: str = "constant") -> TopologyMethod:
        """The registered rules and density schedule of these names.

        Raises:
            UsageError: one is not registered, with how to register it.
        """
        wrong = wrong_rules(drop, grow, density)
        if wrong:
            raise UsageError("; ".join(wrong))
        return cls(DROP_RULES[drop], GROW_RULES[grow], DENSITY_SCHEDULES[density])

    @property
    def changes_density(self) -> bool:
        """Whether the number of connections may change."""
        return self.density is not constant

    @property
    def drop_rule(self) -> DropRule:
        """The drop rule and what it declares."""
        return self.drop if isinstance(self.drop, DropRule) else DropRule(self.drop)

    @property
    def needs(self) -> frozenset[str]:
        """What either rule reads besides pattern and weights."""
        grow = self.grow if isinstance(self.grow, GrowRule) else GrowRule(self.grow)
        return self.drop_rule.needs | grow.needs


def wrong_rules(drop: str, grow: str, density: str) -> list[str]:
    """A message for each of the names that no rule or density schedule is registered by."""
    texts = (
        unregistered("drop", drop, DROP_RULES),
        unregistered("grow", grow, GROW_RULES),
        unregistered("density_schedule", density, DENSITY_SCHEDULES),
    )
    return [text for text in texts if text]


@dataclass(frozen=True)
class Proposal:
    """A change of one layer's topology.

    Attributes:
        rewiring: from the old pattern to the new one.
        dropped_live: connections dropped whose weight was not 0.
        dropped_dead: connections dropped whose weight was exactly 0.
        fraction: share of the connections that was to move.
    """

    rewiring: Rewiring
    dropped_live: int
    dropped_dead: int
    fraction: float

    @property
    def dropped(self) -> int:
        """Connections dropped; some of them may have been grown again at once."""
        return self.dropped_live + self.dropped_dead

    @property
    def returned(self) -> int:
        """Connections dropped and grown again at once."""
        stayed = self.rewiring.new.connections - self.rewiring.grown.size
        return stayed - (self.rewiring.old.connections - self.dropped)


def propose(
    method: TopologyMethod,
    layer: LayerView,
    fraction: float,
    rng: Generator,
    connections: int | None = None,
) -> Proposal | None:
    """Drop a fraction of a layer's connections, and grow until it has as many as it should.

    The count to drop is the drop rule's: rounded as it declares, of all N connections or, where
    the rule removes dead links, of the L live ones, and all dead links in addition; more where the
    layer should have fewer connections than that leaves. The positions that are free after the
    drop always suffice. A position that is dropped and grown again is in both patterns: it never
    left.

    Args:
        method: how connections are chosen.
        layer: as it is now.
        fraction: share of its connections to move.
        rng: the topology's stream.
        connections: that it should have; None: as many as now.

    Returns:
        The change; None where nothing is dropped or grown. A full layer that should stay full is
        left alone.

    Raises:
        ValueError: fraction outside [0, 1].
        RuntimeError: a rule or schedule broke its contract (count, repetition, a position not
            free).
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"propose: fraction {fraction}, must be in [0, 1]")
    pattern = layer.pattern
    wanted = pattern.connections if connections is None else connections
    if not 0 <= wanted <= pattern.size:
        raise RuntimeError(
            f"density schedule: {wanted} connections asked for, must be in [0, {pattern.size}]"
        )
    if pattern.connections == wanted == pattern.size:
        return None
    rule = method.drop_rule
    candidates = _live(layer) if rule.removes_dead_links else layer
    dead = pattern.connections - candidates.pattern.connections
    too_many = pattern.connections - dead - wanted
    count = max(rule.rounding(fraction * candidates.pattern.connections), too_many)
    grow_count = wanted - (pattern.connections - dead - count)
    if count + dead + grow_count == 0:
        return None

    chosen = rule(candidates, count, rng) if count else np.empty(0, np.int64)
    kept_positions = np.delete(candidates.pattern.positions, chosen)
    if chosen.size != count or kept_positions.size != candidates.pattern.connections - count:
        raise RuntimeError(f"drop rule: {count} connections asked for, got {chosen.size}")
    kept = Pattern(pattern.n_in, pattern.n_out, kept_positions)
    new = _grown(method.grow, layer, kept, grow_count, rng)
    live = int(np.count_nonzero(candidates.weights[chosen]))
    return Proposal(Rewiring(pattern, new), live, count + dead - live, fraction)


def _grown(
    rule: ChooseGrown, layer: LayerView, kept: Pattern, count: int, rng: Generator
) -> Pattern:
    """Return the kept connections and so many new ones."""
    if not count:
        return kept
    grown = rule(layer, kept, count, rng)
    positions = union(kept.positions, grown)
    if grown.size != count or positions.size != kept.connections + count:
        raise RuntimeError(f"grow rule: {count} free positions asked for, got {grown.size}")
    return Pattern(kept.n_in, kept.n_out, positions)


def _live(layer: LayerView) -> LayerView:
    """The layer without its dead links, whose weight is exactly 0."""
    alive = layer.weights != 0
    if alive.all():
        return layer
    pattern = layer.pattern
    live = Pattern(pattern.n_in, pattern.n_out, pattern.positions[alive])
    return replace(layer, pattern=live, weights=layer.weights[alive])
