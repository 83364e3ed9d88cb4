"""What children that are forked from this process must not keep.

An environment may fork. With the descriptor of a lock in a child, a run's folder would stay locked
for as long as the child lives.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class HasDescriptors(Protocol):
    """Something whose close() closes its descriptors; it may be called again."""

    def close(self) -> None:
        """Close them."""


_ours: weakref.WeakSet[HasDescriptors] = weakref.WeakSet()


def close_in_children(ours: HasDescriptors) -> None:
    """Close this in every child that any code forks from now on."""
    _ours.add(ours)


def _close_ours() -> None:
    for each in list(_ours):
        each.close()


os.register_at_fork(after_in_child=_close_ours)
