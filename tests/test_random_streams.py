"""Test that the random streams of a seed are reproducible, independent and resumable."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from numpy.random import Generator

from sparl import _native
from sparl.old_names import TOPOLOGY_STREAM
from sparl.random_streams import (
    Normals,
    generator_state,
    integer_seed,
    restore_generator,
    stream,
)

NAMES = [
    "exploration", "target noise", "replay", "random actions",
    "actor topology", "actor weights", f"actor {TOPOLOGY_STREAM}",
    "critics topology", "critics weights", f"critics {TOPOLOGY_STREAM}",
]  # fmt: skip
SEEDS = [0, 1, 2**32, 2**32 + 1, 2**63 - 1]  # the range that a configuration allows


def beginning(rng: Generator) -> tuple[int, ...]:
    return tuple(rng.integers(2**63, size=4).tolist())


def test_streams_differ_by_name_and_by_seed() -> None:
    pairs = list(itertools.product(SEEDS, NAMES))
    assert len({beginning(stream(seed, name)) for seed, name in pairs}) == len(pairs)


def test_streams_of_a_seed_are_uncorrelated() -> None:
    draws = np.stack([stream(0, name).standard_normal(20_000) for name in NAMES])
    off_diagonal = np.corrcoef(draws) - np.eye(len(NAMES))
    assert np.abs(off_diagonal).max() < 0.035  # 5 standard deviations


def test_streams_and_seeds_are_the_same_on_every_machine() -> None:
    """Streams do not use Python's hash of a name, which differs between processes."""
    assert stream(3, "replay").integers(1000, size=4).tolist() == [89, 323, 14, 995]
    assert (integer_seed(3), integer_seed(100, 7)) == (1576890651, 2491266858)


@pytest.mark.parametrize("draws", [0, 1, 2, 7])
def test_a_restored_stream_continues_like_the_original(draws: int) -> None:
    """After an odd number of 32-bit draws, half a 64-bit word is stored and must be kept."""
    one, other = stream(1, "replay"), stream(9, "exploration")
    one.integers(2**32, size=draws, dtype=np.uint32)
    other.integers(2**32, size=3, dtype=np.uint32)
    state = json.loads(json.dumps(generator_state(one)))  # JSON represents integers of any size
    held = other  # every object with a reference to the generator sees the restored state
    restore_generator(other, state)
    for _ in range(2):
        ahead = one.integers(2**32, size=5, dtype=np.uint32)
        np.testing.assert_array_equal(held.integers(2**32, size=5, dtype=np.uint32), ahead)
        np.testing.assert_array_equal(held.standard_normal(5), one.standard_normal(5))


def test_a_state_does_not_change_with_its_generator() -> None:
    rng = stream(1, "replay")
    state = generator_state(rng)
    drawn = rng.random(3)
    restore_generator(rng, state)
    np.testing.assert_array_equal(rng.random(3), drawn)


def test_integer_seeds_differ_by_seed_and_path() -> None:
    """Training with seed 100 must not start in the same state as evaluation episode (100, 0)."""
    paths: list[tuple[int, ...]] = [(), (0,), (1,), (2,), (9,), (0, 0), (0, 1), (1, 0)]
    seeds = [integer_seed(seed, *path) for seed in (0, 1, 100, 2**32, 2**32 + 1) for path in paths]
    assert len(set(seeds)) == len(seeds)
    assert all(type(seed) is int and 0 <= seed < 2**32 for seed in seeds)


def test_normals_equal_those_of_the_generator_and_continue_from_their_state() -> None:
    normals, expected = Normals(stream(2, "target noise")), stream(2, "target noise")
    for shape in [(3, 7), (1,), (200, 6)]:
        given = normals(*shape)
        assert given.dtype == np.float32
        np.testing.assert_array_equal(given, expected.standard_normal(shape, dtype=np.float32))
    other = Normals(stream(9, "target noise"))
    other(5)
    other.restore(normals.state())
    np.testing.assert_array_equal(other(3, 2), normals(3, 2))


@pytest.mark.parametrize("below", [1, 2, 1000, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**62])
def test_native_integers_equal_those_of_the_generator(below: int) -> None:
    """After an odd number of 32-bit draws, both have stored half a 64-bit word."""
    one, other = stream(4, "replay"), stream(4, "replay")
    for count in (3, 0, 1, 257):
        given = _native.integers(one.bit_generator, below, count)
        assert given.dtype == np.int64
        np.testing.assert_array_equal(given, other.integers(below, size=count))
    assert one.bit_generator.state == other.bit_generator.state
