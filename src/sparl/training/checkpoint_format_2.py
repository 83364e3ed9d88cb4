"""Convert checkpoints of format 2 to the current format.

Development versions of sparl 0.2 wrote format 2. In that format, each topology update that has not
been recorded yet is a row of one float64 array. In the current format, each field of the topology
updates has a separate array.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sparl.old_names import TOPOLOGY_ROWS as _ROWS
from sparl.training.tensors import Arrays, Expected

_COLUMNS = (
    "agent_update", "member", "layer", "connections", "fraction", "moved", "dropped_live",
    "dropped_dead", "returned", "initial_overlap",
)  # fmt: skip
_SHARES = ("fraction", "initial_overlap")
_LARGEST = 1 << 53  # float64 represents every integer up to this one


def expected_of_format_2(expected: Mapping[str, Expected]) -> dict[str, Expected]:
    """Return the format-2 arrays that correspond to the arrays `expected` in the current format."""
    then = {}
    for path, each in expected.items():
        owner, separator, _ = path.partition("topology_updates.")
        if separator:
            shape = (0, len(_COLUMNS))
            then[owner + _ROWS] = Expected(np.dtype(np.float64), shape, most=each.most)
        else:
            then[path] = each
    return then


def from_format_2(arrays: Arrays) -> Arrays:
    """Convert the arrays of a format-2 file to the names and dtypes of the current format.

    Raises:
        ValueError: if a number is outside the range of its column.
    """
    now = {}
    for path, array in arrays.items():
        owner, separator, rest = path.rpartition("/")
        if rest != _ROWS:
            now[path] = array
            continue
        if not ((array >= 0) & (array <= _LARGEST)).all():
            raise ValueError(f"{_ROWS} contains numbers outside [0, {_LARGEST:,}]")
        for name, column in zip(_COLUMNS, array.T, strict=True):
            kind = np.float64 if name in _SHARES else np.int64
            now[f"{owner}{separator}topology_updates.{name}"] = column.astype(kind)
    return now
