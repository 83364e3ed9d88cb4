"""The one place where a change of topology is worked out; it owns every invariant."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from sparl.sparse.pattern import Pattern, union
from sparl.sparse.rewiring import Rewiring
from sparl.topology.density import round_half_up
from sparl.topology.drop import DropRule
from sparl.topology.grow import GrowRule
from sparl.topology.layer_view import LayerView


@dataclass(frozen=True)
class TopologyMethod:
    """How to choose: a drop rule and a grow rule, and whether the latter looks at gradients."""

    drop: DropRule
    grow: GrowRule
    grows_by_gradient: bool = False


def propose(
    method: TopologyMethod, layer: LayerView, fraction: float, rng: Generator
) -> Rewiring | None:
    """Drop round(fraction N) connections and grow as many, at free positions.

    A position dropped and grown again is in both patterns: it never left. A layer that is full
    or empty is left alone, and a fraction that rounds to no connection changes nothing.

    Returns:
        The rewiring, of exactly N connections, or None where nothing was dropped.

    Raises:
        ValueError: fraction outside [0, 1].
        RuntimeError: a rule broke its contract (count, repetition, a position not free).
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"propose: fraction {fraction}, must be in [0, 1]")
    pattern = layer.pattern
    count = round_half_up(fraction * pattern.connections)
    if count == 0 or pattern.connections == pattern.size:
        return None
    dropped = method.drop(layer, count, rng)
    kept_positions = np.delete(pattern.positions, dropped)
    if dropped.size != count or kept_positions.size != pattern.connections - count:
        raise RuntimeError(f"drop rule: {count} connections asked for, got {dropped.size}")
    kept = Pattern(pattern.n_in, pattern.n_out, kept_positions)
    grown = method.grow(layer, kept, count, rng)
    positions = union(kept.positions, grown)
    if grown.size != count or positions.size != pattern.connections:
        raise RuntimeError(f"grow rule: {count} free positions asked for, got {grown.size}")
    return Rewiring(pattern, Pattern(pattern.n_in, pattern.n_out, positions))
