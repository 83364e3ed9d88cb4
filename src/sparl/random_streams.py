"""Named random streams, all derived from one seed."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence
from numpy.typing import NDArray

from sparl.types import State


def stream(seed: int, name: str) -> Generator:
    """Create the generator of a named stream, independent of streams with other names or seeds."""
    return Generator(PCG64(SeedSequence([seed, zlib.crc32(name.encode())])))


def integer_seed(seed: int, *path: int) -> int:
    """Derive a seed in [0, 2^32) from a seed and from integers that identify its purpose."""
    return int(SeedSequence(seed, spawn_key=path).generate_state(1)[0])


def generator_state(rng: Generator) -> State:
    """Return a generator's state as integers."""
    state = rng.bit_generator.state
    return {
        "state": state["state"]["state"],
        "inc": state["state"]["inc"],
        "has_uint32": state["has_uint32"],
        "uinteger": state["uinteger"],
    }


def restore_generator(rng: Generator, state: State) -> None:
    """Set a generator to a state that `generator_state` returned."""
    rng.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": int(state["state"]), "inc": int(state["inc"])},
        "has_uint32": int(state["has_uint32"]),
        "uinteger": int(state["uinteger"]),
    }


class Normals:
    """Draws standard normal numbers from a generator.

    Args:
        rng: the generator, for the exclusive use of this object.
    """

    def __init__(self, rng: Generator) -> None:
        self._rng = rng

    def __call__(self, *shape: int) -> NDArray[np.float32]:
        """Draw a float32 array of this shape."""
        return self._rng.standard_normal(shape, dtype=np.float32)

    def state(self) -> State:
        """Return the generator's state."""
        return generator_state(self._rng)

    def restore(self, state: State) -> None:
        """Set the generator to a state that `state` returned."""
        restore_generator(self._rng, state)
