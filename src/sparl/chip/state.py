"""Create states of sparl_chip.c from networks, convert them back, and save them as blocks."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparl.chip.sizes import LAYERS, NETWORKS, STORAGE, LayerPlaces, Sizes
from sparl.errors import DataError
from sparl.networks.spec import layer_key

Arrays = dict[str, NDArray[Any]]
_MAGIC, _FORMAT = 0x48435053, 1
_HEADER = 26  # words
_MASK = 0xFFFFFFFF


def new_state(
    sizes: Sizes,
    networks: Mapping[str, NDArray[Any]],
    moments: Mapping[str, NDArray[Any]] | None,
    steps: Mapping[str, int],
    seed: int,
) -> NDArray[np.void]:
    """Create the state of an agent with an empty replay buffer.

    Args:
        sizes: the sizes of the state.
        networks: arrays by NETWORK.LAYER.BLOCK, for "actor", "critics" and their targets.
        moments: Adam's moments by NETWORK.m.LAYER.BLOCK and NETWORK.v.LAYER.BLOCK; None means that
            all moments are 0.
        steps: steps of the optimisers by network; not needed without moments.
        seed: seed of the chip's random streams.

    Returns:
        A structure of type sizes.dtype().
    """
    state = np.zeros((), sizes.dtype())
    for index, place in enumerate(sizes.places()):
        network, member = NETWORKS[index // LAYERS]
        key = layer_key((member, index % LAYERS))
        for field, name in (("parameters", network), ("target", f"{network}_target")):
            own = field == "target" and sizes.own_targets
            _write_layer(state, place, field, "target_" if own else "", networks, f"{name}.{key}")
        if sizes.own_targets or not place.sparse:
            pass
        elif not np.array_equal(
            networks[f"{network}.{key}.positions"], networks[f"{network}_target.{key}.positions"]
        ):
            _align_target(state, place, networks, f"{network}_target.{key}")
        for moment in ("m", "v") if moments is not None else ():
            assert moments is not None
            _write_moments(sizes, state[moment], place, moments, f"{network}.{moment}.{key}")
    for index, (network, _) in enumerate(NETWORKS):
        count = int(steps.get(network, 0)) if moments is not None else 0
        state["adam"][index] = (1 - 0.9**count, 1 - 0.999**count, count)
    state["exploration"], state["learning"] = _seeded(seed, 1), _seeded(seed, 2)
    state["replay"]["warming"] = 1
    if STORAGE[sizes.replay] == "int8":
        state["replay"]["offset"] = np.finfo(np.float32).max
        state["replay"]["step"] = np.finfo(np.float32).min
    return state


def _write_layer(
    state: NDArray[np.void],
    place: LayerPlaces,
    field: str,
    pattern: str,
    networks: Mapping[str, NDArray[Any]],
    key: str,
) -> None:
    """Write the weights, biases and positions of a layer."""
    positions, weight = networks[f"{key}.positions"], networks[f"{key}.weight"]
    state[field][place.weights : place.weights + weight.size] = weight[: place.connections]
    state[field][place.biases : place.end] = networks[f"{key}.bias"]
    if not place.sparse or (field == "target" and not pattern):
        return
    outputs, inputs = np.divmod(positions, place.n_in)
    starts = np.searchsorted(outputs, np.arange(place.n_out + 1))
    state[f"{pattern}rows"][place.rows : place.rows + place.n_out + 1] = starts
    state[f"{pattern}columns"][place.columns : place.columns + positions.size] = inputs


def _align_target(
    state: NDArray[np.void], place: LayerPlaces, networks: Mapping[str, NDArray[Any]], key: str
) -> None:
    """Write a target's weights in the online pattern, which the target has not adopted yet."""
    dense = np.zeros(place.n_in * place.n_out, np.float32)
    dense[networks[f"{key}.positions"]] = networks[f"{key}.weight"]
    values = dense[positions_of(state, place)]
    state["target"][place.weights : place.biases] = values


def _write_moments(
    sizes: Sizes,
    to: NDArray[Any],
    place: LayerPlaces,
    moments: Mapping[str, NDArray[Any]],
    key: str,
) -> None:
    values = np.concatenate([moments[f"{key}.weight"], moments[f"{key}.bias"]]).astype(np.float32)
    if STORAGE[sizes.moments] == "bfloat16":
        bits = values.view(np.uint32).astype(np.uint64)
        values = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    to[place.weights : place.end] = values


def positions_of(
    state: NDArray[np.void], place: LayerPlaces, pattern: str = ""
) -> NDArray[np.int64]:
    """Return the positions of a layer, output * inputs + input.

    Raises:
        ValueError: if the rows or columns are invalid for a layer of this shape.
    """
    if not place.sparse:
        return np.arange(place.n_in * place.n_out, dtype=np.int64)
    rows = state[f"{pattern}rows"][place.rows : place.rows + place.n_out + 1].astype(np.int64)
    if rows[0] != 0 or (np.diff(rows) < 0).any() or rows[-1] > place.connections:
        raise ValueError("the rows of a layer are not in order")
    columns = state[f"{pattern}columns"][place.columns : place.columns + rows[-1]].astype(np.int64)
    positions: NDArray[np.int64] = np.repeat(np.arange(place.n_out), np.diff(rows)) * place.n_in
    positions += columns
    if (columns >= place.n_in).any() or (np.diff(positions) <= 0).any():
        raise ValueError("the columns of a layer are not in order")
    return positions


def networks_of(sizes: Sizes, state: NDArray[np.void]) -> tuple[Arrays, Arrays, dict[str, int]]:
    """Return the networks, moments and optimiser steps of a state; this reverses `new_state`.

    Raises:
        ValueError: if the state contradicts itself or a number is not finite.
    """
    networks: Arrays = {}
    moments: Arrays = {}
    for index, place in enumerate(sizes.places()):
        network, member = NETWORKS[index // LAYERS]
        key = layer_key((member, index % LAYERS))
        online = positions_of(state, place)
        target = positions_of(state, place, "target_" if sizes.own_targets else "")
        for name, field, positions in (
            (network, "parameters", online), (f"{network}_target", "target", target),
        ):  # fmt: skip
            values = state[field][place.weights : place.weights + positions.size]
            networks[f"{name}.{key}.positions"] = positions
            networks[f"{name}.{key}.weight"] = values.copy()
            networks[f"{name}.{key}.bias"] = state[field][place.biases : place.end].copy()
        for moment in ("m", "v"):
            values = state[moment][place.weights : place.end]
            if values.dtype == np.uint16:
                values = (values.astype(np.uint32) << 16).view(np.float32)
            moments[f"{network}.{moment}.{key}.weight"] = values[: place.connections].copy()
            moments[f"{network}.{moment}.{key}.bias"] = values[place.connections :].copy()
    if not all(np.isfinite(a).all() for a in (*networks.values(), *moments.values())):
        raise ValueError("a number is not finite")
    steps = {network: int(state["adam"][i]["steps"]) for i, (network, _) in enumerate(NETWORKS)}
    return networks, moments, steps


def pack_block(sizes: Sizes, state: NDArray[np.void]) -> bytes:
    """Return a state without its replay buffer, as a block that sparl_chip_load accepts."""
    numbers = sizes.numbers()
    payload = state.tobytes()[: int(numbers[18])]
    header = np.array([_MAGIC, _FORMAT, 0, len(payload), *numbers, zlib.crc32(payload)], np.uint32)
    head = header.astype("<u4").tobytes()
    return head + np.array([zlib.crc32(head)], "<u4").tobytes() + payload


def read_block(data: bytes, where: object) -> tuple[Sizes, NDArray[np.void]]:
    """Return the sizes and the state of a block that sparl_chip_save wrote.

    Bytes after the block, such as the rest of a flash page, are ignored.

    Raises:
        DataError: if the data is not a block, or the block is damaged.
    """
    header = np.frombuffer(data[: 4 * _HEADER].ljust(4 * _HEADER, b"\0"), "<u4")
    if header[0] != _MAGIC:
        raise DataError(f"{where}: this is not a block that sparl_chip_save wrote")
    if header[1] != _FORMAT:
        raise DataError(
            f"{where}: format {header[1]} is not supported; this version of sparl reads format "
            f"{_FORMAT}"
        )
    payload = data[4 * _HEADER : 4 * _HEADER + int(header[3])]
    if zlib.crc32(data[: 4 * (_HEADER - 1)]) != header[-1]:
        raise DataError(f"{where}: damaged (the checksum of its header is wrong)")
    if len(payload) != header[3]:
        raise DataError(f"{where}: truncated ({len(payload):,} of {header[3]:,} bytes)")
    if zlib.crc32(payload) != header[-2]:
        raise DataError(f"{where}: damaged (its checksum is wrong)")
    try:
        sizes = Sizes.of_numbers(header[4:-2])
        size = sizes.dtype().itemsize
        if len(payload) not in (int(sizes.numbers()[18]), size):
            raise ValueError("the block has the wrong length")
    except ValueError as error:
        raise DataError(f"{where}: cannot be read ({error})") from None
    return sizes, np.frombuffer(payload.ljust(size, b"\0"), sizes.dtype())[0]


def _seeded(seed: int, stream: int) -> tuple[int, int]:
    """Return the initial state of a random stream, as seed_random in sparl_chip.c computes it."""
    seed &= _MASK
    a = _spread(seed ^ _spread(stream)) | 1
    return a, _spread(a ^ seed)


def _spread(x: int) -> int:
    y = (x + 0x9E3779B9) & _MASK
    y = (y ^ (y >> 16)) * 0x85EBCA6B & _MASK
    y = (y ^ (y >> 13)) * 0xC2B2AE35 & _MASK
    return y ^ (y >> 16)
