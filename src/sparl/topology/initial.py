"""The pattern a layer starts with."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from sparl.sparse.pattern import Pattern
from sparl.topology.grow import random_free_positions


def random_pattern(n_in: int, n_out: int, connections: int, rng: Generator) -> Pattern:
    """Exactly `connections` of them, uniformly at random: growth from nothing."""
    empty = Pattern(n_in, n_out, np.empty(0, np.int64))
    return Pattern(n_in, n_out, random_free_positions(empty, connections, rng))
