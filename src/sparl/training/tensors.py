"""Read and write arrays as safetensors; all agents and checkpoints use this module.

Names, dtypes and shapes in a file are compared with the expected ones before arrays are created.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from sparl.errors import DAMAGE_ERRORS, DataError
from sparl.training.folder import Folder

Tree = dict[str, Any]
Arrays = dict[str, NDArray[Any]]

_NAMES = {"F32": np.float32, "F64": np.float64, "I64": np.int64, "BOOL": np.bool_, "U8": np.uint8,
          "U32": np.uint32, "U64": np.uint64, "I32": np.int32}  # fmt: skip
_HEADER_BYTES = 1 << 22
ANY_NAME = "*"  # the only key of a dict in an expected state if any keys are allowed


@dataclass(frozen=True)
class Expected:
    """The dtype and shape that an array must have.

    Attributes:
        dtype: the exact dtype.
        shape: the exact shape, except the length of the first axis if `most` is given.
        most: the maximum length of the first axis; None requires the length in `shape`.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    most: int | None = None

    @classmethod
    def like(cls, array: NDArray[Any], most: int | None = None) -> Expected:
        """Expect the dtype and shape of another array."""
        return cls(array.dtype, array.shape, most)

    @property
    def bytes(self) -> int:
        """Maximum size of the array [bytes]."""
        shape = self.shape if self.most is None else (self.most, *self.shape[1:])
        return self.dtype.itemsize * prod(shape)

    def fits(self, dtype: object, shape: object) -> bool:
        """Return whether a header's dtype and shape are as expected."""
        if not isinstance(dtype, str) or _NAMES.get(dtype) != self.dtype.type:
            return False
        if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
            return False
        if self.most is None:
            return tuple(shape) == self.shape
        return len(shape) == len(self.shape) and (
            shape[0] <= self.most and tuple(shape[1:]) == self.shape[1:]
        )


def largest(expected: Mapping[str, Expected]) -> int:
    """Return the maximum size of a file that contains the expected arrays [bytes]."""
    return _HEADER_BYTES + 8 + sum(each.bytes for each in expected.values())


def pack(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Serialize arrays to the bytes of a safetensors file."""
    data: bytes = safetensors.numpy.save({k: np.ascontiguousarray(v) for k, v in arrays.items()})
    return data


def unpack(data: bytes, expected: Mapping[str, Expected], where: object) -> Arrays:
    """Return the arrays of a safetensors file, which must contain exactly the expected arrays.

    Raises:
        DataError: if the file is damaged or differs from `expected`.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(_HEADER_BYTES, len(data) - 8):
        raise DataError(
            f"{where}: damaged (a header of {length:,} bytes in a file of {len(data):,} bytes)"
        )
    try:
        _check_header(json.loads(data[8 : 8 + length]), expected, where)
        arrays: Arrays = safetensors.numpy.load(data)
    except (*DAMAGE_ERRORS, safetensors.SafetensorError) as error:
        raise DataError(f"{where}: damaged ({type(error).__name__}: {error})") from None
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DataError(f"{where}: {name} contains a value that is NaN or infinite")
        # NumPy assumes that every bool is 0 or 1.
        if array.dtype == np.bool_ and array.size and array.view(np.uint8).max() > 1:
            raise DataError(f"{where}: {name} contains bytes that are neither 0 nor 1")
    return arrays


def _check_header(header: Any, expected: Mapping[str, Expected], where: object) -> None:
    """Check that a file's header describes exactly the expected arrays.

    Raises:
        DataError: if an array is missing, unexpected, or of another type or shape.
        DAMAGE_ERRORS: if the header is malformed.
    """
    header.pop("__metadata__", None)
    for name, about in header.items():
        if name not in expected:
            raise DataError(f"{where}: unexpected array {name[:80]!r}")
        wanted = expected[name]
        if not wanted.fits(about["dtype"], about["shape"]):
            shape = [str(n) for n in wanted.shape]
            if wanted.most is not None:
                shape[0] = f"at most {wanted.most}"
            raise DataError(
                f"{where}: {name} is {about['dtype']} {str(about['shape'])[:40]} but must be "
                f"{wanted.dtype} [{', '.join(shape)}]"
            )
    missing = expected.keys() - header.keys()
    if missing:
        raise DataError(f"{where}: {min(missing)} is missing")


def file_entry(name: str, data: bytes) -> dict[str, Any]:
    """Return a file's entry in a manifest; see `read_verified`."""
    return {"name": name, "bytes": len(data), "sha256": digest(data)}


def read_verified(
    folder: Folder, name: str, about: Any, expected: Mapping[str, Expected], manifest: str
) -> Arrays:
    """Read the arrays of a safetensors file; see `unpack`.

    Args:
        folder: the folder of the file.
        name: the name of the file.
        about: the file's entry in a manifest, which contains the file's digest.
        expected: the dtypes and shapes of all arrays.
        manifest: the name of the manifest, for messages.

    Raises:
        DataError: if the file is missing, or differs from `about` or `expected`.
        KeyError, TypeError: if `about` is malformed.
    """
    path, data = folder.path / name, folder.read(name, largest(expected))
    if digest(data) != about["sha256"]:
        raise DataError(f"{path}: damaged (its SHA-256 digest differs from the one in {manifest})")
    return unpack(data, expected, path)


def digest(data: bytes) -> str:
    """Return the SHA-256 digest of data in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def split(state: Tree, prefix: str = "") -> tuple[Arrays, Tree]:
    """Split a nested state into its arrays, by path ("a/b/c"), and a tree of all other values."""
    arrays: Arrays = {}
    rest: Tree = {}
    for name, value in state.items():
        if isinstance(value, np.ndarray):
            arrays[prefix + name] = value
        elif isinstance(value, dict):
            inner, rest[name] = split(value, f"{prefix}{name}/")
            arrays |= inner
        else:
            rest[name] = value.item() if isinstance(value, np.generic) else value
    return arrays, rest


def join(arrays: Mapping[str, NDArray[Any]], rest: Tree) -> Tree:
    """Insert arrays into the tree that `split` returned; `rest` is modified and returned."""
    for path, array in arrays.items():
        *folders, name = path.split("/")
        tree = rest
        for folder in folders:
            tree = tree[folder]
        tree[name] = array
    return rest
