"""Randomness: one seed, named streams."""

from __future__ import annotations

import math
import zlib

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence
from numpy.typing import NDArray

from sparl import _native
from sparl.types import State


def stream(seed: int, name: str) -> Generator:
    """The generator of this name; independent of all other names and seeds."""
    return Generator(PCG64(SeedSequence([seed, zlib.crc32(name.encode())])))


def integer_seed(seed: int, *path: int) -> int:
    """A seed for code that takes one integer, from a seed and where it is used."""
    return int(SeedSequence(seed, spawn_key=path).generate_state(1)[0])


def generator_state(rng: Generator) -> State:
    """A generator's state as numbers."""
    state = rng.bit_generator.state
    return {
        "state": state["state"]["state"],
        "inc": state["state"]["inc"],
        "has_uint32": state["has_uint32"],
        "uinteger": state["uinteger"],
    }


def restore_generator(rng: Generator, state: State) -> None:
    """The inverse of generator_state, in place."""
    rng.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": int(state["state"]), "inc": int(state["inc"])},
        "has_uint32": int(state["has_uint32"]),
        "uinteger": int(state["uinteger"]),
    }


class Normals:
    """Standard normal numbers of a generator, which may be drawn before they are asked for.

    Args:
        rng: the generator; nobody else may use it.
    """

    def __init__(self, rng: Generator) -> None:
        self._rng = rng
        self._taken = 0  # since the last call of ahead
        self._drawn = np.empty(0, np.float32)  # and not taken
        self._drawing: _native.PendingWork | None = None

    def __call__(self, *shape: int) -> NDArray[np.float32]:
        """The next ones, float32 of this shape."""
        count = math.prod(shape)
        self._taken += count
        self._finish()
        if not self._drawn.size:
            return self._rng.standard_normal(shape, dtype=np.float32)
        if self._drawn.size < count:
            rest = self._rng.standard_normal(count - self._drawn.size, dtype=np.float32)
            self._drawn = np.concatenate([self._drawn, rest])
        numbers, self._drawn = self._drawn[:count], self._drawn[count:]
        return numbers.reshape(shape)

    def ahead(self) -> None:
        """Draw as many as were taken since the last call, beside what the caller does."""
        count, self._taken = self._taken, 0
        if count and not self._drawn.size:
            drawn = np.empty(count, np.float32)
            self._drawing = _native.standard_normal(self._rng.bit_generator, drawn)
            self._drawn = drawn

    def _finish(self) -> None:
        if self._drawing:
            self._drawing.finish()
            self._drawing = None

    def state(self) -> State:
        """The generator's state.

        Raises:
            RuntimeError: there are numbers that were drawn and not taken.
        """
        self._finish()
        if self._drawn.size:
            raise RuntimeError(f"normals: {self._drawn.size} numbers are drawn ahead")
        return generator_state(self._rng)

    def restore(self, state: State) -> None:
        """Take over a generator's state."""
        self._finish()
        self._taken, self._drawn = 0, np.empty(0, np.float32)
        restore_generator(self._rng, state)
