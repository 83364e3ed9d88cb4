"""Use sparl_chip.c as a shared library, and its state as NumPy arrays."""

from __future__ import annotations

import ctypes
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparl.chip.sizes import METHODS, NETWORKS, STORAGE, LayerPlaces, Sizes
from sparl.topology.density import erdos_renyi_total

CHIP = Path(__file__).parents[2] / "chip"
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")
OK, UPDATED, WAITING, FULL = 0, 1, 2, 3
DIVERGED, NOT_FINITE, NO_EPISODE, FOREIGN, VERSION, DAMAGED, IO = -1, -2, -3, -4, -5, -6, -7
CONTINUES, TERMINAL, TIME_LIMIT = 0, 1, 2

_WRITER = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32
)


def config(
    path: Path,
    method: str = "SET-TD3",
    n_obs: int = 3,
    n_act: int = 1,
    hidden: tuple[int, int] = (64, 64),
    sparsity: float = 0.8,
    **changes: object,
) -> Path:
    """Write the repository's configuration header with other sizes and values."""
    text = (CHIP / "sparl_chip_config.h").read_text()
    values: dict[str, object] = {
        "OBSERVATIONS": n_obs, "ACTIONS": n_act, "HIDDEN_1": hidden[0], "HIDDEN_2": hidden[1],
    }  # fmt: skip
    for name, n_in, n_out in (("ACTOR", n_obs, n_act), ("CRITIC", n_obs + n_act, 1)):
        shapes = [(n_in, hidden[0]), hidden, (hidden[1], n_out)]
        counts = erdos_renyi_total(shapes, sparsity)
        values |= {f"{name}_CONNECTIONS_{i + 1}": count for i, count in enumerate(counts)}
    values["REWIRE_LAST"] = 0
    values |= {"METHOD": f"SPARL_CHIP_{method.upper().replace('-', '_')}", **changes}
    for name, value in values.items():
        text, found = re.subn(
            rf"(#define SPARL_CHIP_{name}) [^\s/]+", lambda m, v=value: f"{m[1]} {v}", text
        )
        assert found == 1, name
    path.write_text(text)
    return path


class Chip:
    """An agent of sparl_chip.c, compiled with a configuration."""

    def __init__(
        self,
        folder: Path,
        flags: Sequence[str] = ("-O2",),
        header: Path | None = None,
        **changes: Any,
    ) -> None:
        header = header or config(folder / "config.h", **changes)
        program = folder / "sparl_chip.so"
        sizes = folder / "sizes.c"
        sizes.write_text(
            '#include "sparl_chip.h"\nconst unsigned ram = SPARL_CHIP_RAM;\n'
            "const unsigned block = SPARL_CHIP_BLOCK, agent_block = SPARL_CHIP_AGENT_BLOCK;\n"
        )
        subprocess.run(
            ["cc", *STRICT, *flags, f'-DSPARL_CHIP_CONFIG="{header}"', f"-I{CHIP}", "-shared",
             "-fPIC", CHIP / "sparl_chip.c", sizes, "-o", program, "-lm"],
            check=True,
        )  # fmt: skip
        self.library = ctypes.CDLL(str(program))
        for name in ("act", "begin", "store", "work", "save", "load"):
            getattr(self.library, f"sparl_chip_{name}").restype = ctypes.c_int
        self.ram = ctypes.c_uint.in_dll(self.library, "ram").value
        self.block_bytes = ctypes.c_uint.in_dll(self.library, "block").value
        self.agent_block_bytes = ctypes.c_uint.in_dll(self.library, "agent_block").value
        self.memory = np.zeros(self.ram, np.uint8)
        self.sizes = self._sizes()
        self.state = self.memory.view(self.sizes.dtype())[0]

    def _sizes(self) -> Sizes:
        block = self.save()
        return Sizes.of_numbers(np.frombuffer(block, np.uint32, 20, offset=16))

    @property
    def _pointer(self) -> ctypes.c_void_p:
        return ctypes.c_void_p(self.memory.ctypes.data)

    def init(self, seed: int) -> None:
        self.library.sparl_chip_init(self._pointer, ctypes.c_uint32(seed))

    def act(self, observation: object, explore: bool = False) -> tuple[int, NDArray[np.float32]]:
        action = np.empty(self.sizes.actions, np.float32)
        code = self.library.sparl_chip_act(
            self._pointer, _floats(observation), int(explore), _floats(action)
        )
        return code, action

    def begin(self, observation: object) -> int:
        return self.library.sparl_chip_begin(self._pointer, _floats(observation))

    def store(self, action: object, reward: float, after: object, end: int = CONTINUES) -> int:
        return self.library.sparl_chip_store(
            self._pointer, _floats(action), ctypes.c_float(reward), _floats(after), end
        )

    def work(self, budget: int = 0xFFFFFFFF) -> int:
        return self.library.sparl_chip_work(self._pointer, ctypes.c_uint32(budget))

    def save(self, what: int = 1, fail_at: int | None = None) -> bytes:
        out = bytearray()

        def write(_: int, offset: int, source: int, n: int) -> int:
            assert offset == len(out)
            out.extend(ctypes.string_at(source, n))
            return int(fail_at is not None and offset >= fail_at)

        code = self.library.sparl_chip_save(self._pointer, what, _WRITER(write), None)
        assert code == (OK if fail_at is None else IO)
        return bytes(out)

    def load(self, block: bytes) -> int:
        def read(_: int, offset: int, to: int, n: int) -> int:
            if offset + n > len(block):
                return 1
            ctypes.memmove(to, block[offset : offset + n], n)
            return 0

        return self.library.sparl_chip_load(self._pointer, _WRITER(read), None)

    def places(self) -> list[LayerPlaces]:
        return list(self.sizes.places())

    def positions(self, place: LayerPlaces, target: bool = False) -> NDArray[np.int64]:
        """Return the positions of a layer's connections, output * n_in + input."""
        if not place.sparse:
            return np.arange(place.n_in * place.n_out)
        prefix = "target_" if target and self.sizes.own_targets else ""
        starts = self.state[f"{prefix}rows"][place.rows : place.rows + place.n_out + 1]
        inputs = self.state[f"{prefix}columns"][place.columns : place.columns + int(starts[-1])]
        outputs = np.repeat(np.arange(place.n_out), np.diff(starts.astype(np.int64)))
        return outputs * place.n_in + inputs.astype(np.int64)

    def dense(self, place: LayerPlaces, name: str = "parameters") -> NDArray[np.float64]:
        """Return the values of a layer's connections as a matrix [n_out, n_in]."""
        where = self.positions(place, name == "target")
        matrix = np.zeros(place.n_in * place.n_out)
        values = self.moment(name) if name in "mv" else self.state[name]
        matrix[where] = values[place.weights : place.weights + where.size]
        return matrix.reshape(place.n_out, place.n_in)

    def biases(self, place: LayerPlaces, name: str = "parameters") -> NDArray[np.float64]:
        values = self.moment(name) if name in "mv" else self.state[name]
        return values[place.biases : place.end].astype(np.float64)

    def moment(self, name: str) -> NDArray[np.float32]:
        """Return all first moments ("m") or second moments ("v") as float32."""
        values = self.state[name]
        if values.dtype == np.uint16:
            return (values.astype(np.uint32) << 16).view(np.float32)
        return np.asarray(values)


def _floats(values: object) -> object:
    array = values if isinstance(values, np.ndarray) else np.asarray(values, np.float32)
    array = array if array.dtype == np.float32 else array.astype(np.float32)
    return array.ctypes.data_as(ctypes.POINTER(ctypes.c_float))


class Random:
    """The random generator of sparl_chip.c, starting from one of its states."""

    def __init__(self, state: NDArray[np.uint32]) -> None:
        self.a, self.b = int(state[0]), int(state[1])

    def bits(self) -> int:
        mask = 0xFFFFFFFF

        def rotate(x: int, k: int) -> int:
            return ((x << k) | (x >> (32 - k))) & mask

        a, b = self.a, self.b ^ self.a
        result = rotate(a * 0x9E3779BB & mask, 5) * 5 & mask
        self.a = rotate(a, 26) ^ b ^ (b << 9 & mask)
        self.b = rotate(b, 13)
        return result

    def below(self, n: int) -> int:
        return self.bits() * n >> 32

    def normal(self) -> float:
        total = 0
        for _ in range(6):
            bits = self.bits()
            total += (bits & 0xFFFF) + (bits >> 16)
        return float(np.float32(total - 393210) * np.float32(1 / 65536))


__all__ = ["METHODS", "NETWORKS", "STORAGE", "Chip", "Random"]
