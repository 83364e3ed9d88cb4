"""The sizes of an agent in sparl_chip.c, and the memory layout that follows from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

METHODS = ("TD3", "Static-TD3", "SET-TD3", "DS-TD3")  # SPARL_CHIP_METHOD
STORAGE = ("float32", "float16", "int8", "bfloat16")  # SPARL_CHIP_REPLAY, SPARL_CHIP_MOMENTS
NETWORKS = (("actor", 0), ("critics", 0), ("critics", 1))  # role and member, in the chip's order
LAYERS = 3
MOST = 1 << 24  # each of the numbers below is smaller
MOST_CONNECTIONS = 65535  # of a layer of a sparse network, whose rows are stored in 16 bits
_VALUE_DTYPES = (np.float32, np.uint16, np.int8)


@dataclass(frozen=True)
class LayerPlaces:
    """The indices of a layer's parameters in the arrays of a state.

    Attributes:
        n_in: number of inputs.
        n_out: number of outputs.
        connections: number of connections.
        weights: index of the first weight in parameters, target, m and v.
        biases: index of the first bias in the same arrays.
        columns: index of the first connection in columns, if the layer is sparse.
        rows: index of the first row start in rows, if the layer is sparse.
    """

    n_in: int
    n_out: int
    connections: int
    weights: int
    biases: int
    columns: int
    rows: int

    @property
    def sparse(self) -> bool:
        """Whether a connection is missing; only then are positions stored."""
        return self.connections < self.n_in * self.n_out

    @property
    def end(self) -> int:
        """Index after the last bias."""
        return self.biases + self.n_out


@dataclass(frozen=True)
class Sizes:
    """The configuration that determines the memory layout of a state.

    Attributes:
        observations: length of an observation.
        actions: length of an action.
        hidden_1, hidden_2: units of the two hidden layers.
        method: index into METHODS.
        actor: number of connections of each of the actor's layers.
        critic: number of connections of each layer of a critic.
        replay: index into STORAGE.
        moments: index into STORAGE.
        capacity: slots of the replay buffer.
        warmup: slots that are filled before learning begins.
        batch: transitions per update.
    """

    observations: int
    actions: int
    hidden_1: int
    hidden_2: int
    method: int
    actor: tuple[int, int, int]
    critic: tuple[int, int, int]
    replay: int
    moments: int
    capacity: int
    warmup: int
    batch: int

    @classmethod
    def of_numbers(cls, numbers: NDArray[np.uint32]) -> Sizes:
        """Return the sizes that a block's header contains, as `numbers` returns them.

        Raises:
            ValueError: if a number is out of range, or the numbers contradict each other.
        """
        n = [int(number) for number in numbers]
        actor, critic = (n[5], n[6], n[7]), (n[8], n[9], n[10])
        sizes = cls(n[0], n[1], n[2], n[3], n[4], actor, critic, n[11], n[12], n[13], n[14], n[15])
        if not all(0 < x < MOST for x in (*n[:4], *actor, *critic, *n[13:16])):
            raise ValueError("a size is 0 or too large")
        if sizes.method >= len(METHODS) or sizes.replay > 2 or sizes.moments not in (0, 3):
            raise ValueError("the method or a kind of storage is unknown")
        if any(place.connections > place.n_in * place.n_out for place in sizes.places()):
            raise ValueError("a layer has more connections than positions")
        if list(sizes.numbers()) != n:
            raise ValueError("the sizes contradict each other")
        return sizes

    def numbers(self) -> NDArray[np.uint32]:
        """Return the numbers in a block's header that identify the configuration, uint32 [20]."""
        n = [*astuple(self)[:5], *self.actor, *self.critic, *astuple(self)[7:]]
        column_bytes = np.dtype(self._column).itemsize
        replay = self._replay_dtype().itemsize
        n += [column_bytes, self.scratch, self.dtype().itemsize - replay, replay]
        return np.array(n, np.uint32)

    @property
    def own_targets(self) -> bool:
        """Whether targets have their own patterns."""
        return METHODS[self.method] == "DS-TD3"

    def shapes(self, network: str) -> list[tuple[int, int]]:
        """Return (inputs, outputs) of the layers of "actor" or "critics"."""
        n_in, n_out = self.observations, self.actions
        if network == "critics":
            n_in, n_out = self.observations + self.actions, 1
        return [(n_in, self.hidden_1), (self.hidden_1, self.hidden_2), (self.hidden_2, n_out)]

    def places(self) -> Iterator[LayerPlaces]:
        """Yield the three layers of the actor, then those of critic 1, then those of critic 2."""
        weights = columns = rows = 0
        for network, _ in NETWORKS:
            counts = self.actor if network == "actor" else self.critic
            for (n_in, n_out), connections in zip(self.shapes(network), counts, strict=True):
                biases = weights + connections
                place = LayerPlaces(n_in, n_out, connections, weights, biases, columns, rows)
                yield place
                weights = place.end
                if place.sparse:
                    columns, rows = columns + connections, rows + n_out + 1

    @property
    def parameters(self) -> int:
        """Number of parameters of the three networks."""
        return max(place.end for place in self.places())

    @property
    def scratch(self) -> int:
        """Size of the working memory, which sparl_chip.h describes [words]."""
        places = list(self.places())
        words = [places[2].end, places[5].end - places[2].end]
        if METHODS[self.method] in ("SET-TD3", "DS-TD3"):
            for index, place in enumerate(places):
                n = place.connections if place.sparse else 0
                if index % LAYERS == 1:  # the header counts a dense middle layer, too
                    n = place.connections
                words.append(n + n // 32 + 1 + 2 * place.n_in + place.n_out)
        return max(words)

    @property
    def _column(self) -> type[np.uint8] | type[np.uint16]:
        widest = max(self.observations + self.actions, self.hidden_1, self.hidden_2)
        return np.uint8 if widest <= 256 else np.uint16

    @property
    def slot(self) -> int:
        """Values per slot of the replay buffer: an observation, an action and a reward."""
        return self.observations + self.actions + 1

    def _replay_dtype(self) -> np.dtype[np.void]:
        value = np.dtype(_VALUE_DTYPES[self.replay])
        features = self.observations + 1
        fields: list[tuple[object, ...]] = [
            ("head", "<u4"), ("filled", "<u4"), ("warming", "<u4"), ("head_state", "<u4"),
            ("converted", "<u4"), ("offset", "<f4", features), ("step", "<f4", features),
            ("kinds", "<u4", (self.capacity + 15) // 16),
            ("values", value, (self.capacity, self.slot)),
        ]  # fmt: skip
        return _padded(fields)

    def dtype(self) -> np.dtype[np.void]:
        """Return the layout of a `sparl_chip`, as a structure with the names in sparl_chip.h."""
        value = np.dtype(_VALUE_DTYPES[self.replay])
        moment = "<u2" if STORAGE[self.moments] == "bfloat16" else "<f4"
        n, hidden = self.parameters, [("1", "<f4", self.hidden_1), ("2", "<f4", self.hidden_2)]
        progress = (
            "phase", "network", "layer", "cursor", "grow", "grown", "free_left",
        )  # fmt: skip
        row = self.slot + self.observations
        batch_bytes = -(-self.batch * row * value.itemsize // 4) * 4
        fields: list[tuple[object, ...]] = [
            ("parameters", "<f4", n), ("target", "<f4", n), ("m", moment, n), ("v", moment, n),
            ("adam", [("correction_1", "<f4"), ("correction_2", "<f4"), ("steps", "<u4")], 3),
            ("updates", "<u4"), ("exploration", "<u4", 2), ("learning", "<u4", 2),
            ("progress", [(name, "<u4") for name in progress]),
            ("scratch", "<u4", self.scratch),
            ("actor_pass", hidden), ("critic_pass", hidden), ("deltas", hidden),
            ("input", "<f4", self.observations + self.actions), ("action", "<f4", self.actions),
            ("y", "<f4", self.batch), ("batch_terminal", "<u4", (self.batch + 31) // 32),
            ("act_pass", hidden), ("batch", value, batch_bytes // value.itemsize),
        ]  # fmt: skip
        sparse = [place for place in self.places() if place.sparse]
        if sparse:
            patterns = ("", "target_") if self.own_targets else ("",)
            rows = sum(place.n_out + 1 for place in sparse)
            columns = sum(place.connections for place in sparse)
            fields += [(f"{pattern}rows", "<u2", rows) for pattern in patterns]
            fields += [(f"{pattern}columns", self._column, columns) for pattern in patterns]
        agent = _padded(fields)
        return np.dtype([*_listed(agent), ("replay", self._replay_dtype())])


def _padded(fields: list[tuple[object, ...]]) -> np.dtype[np.void]:
    """Return a structure whose size is a multiple of 4 bytes."""
    size = np.dtype(fields).itemsize
    padding = [("padding", "u1", -size % 4)] if size % 4 else []
    return np.dtype([*fields, *padding])


def _listed(dtype: np.dtype[np.void]) -> list[tuple[str, np.dtype[np.generic]]]:
    """Return the names and types of a structure's fields."""
    assert dtype.fields is not None
    return [(name, dtype.fields[name][0]) for name in dtype.names or ()]
