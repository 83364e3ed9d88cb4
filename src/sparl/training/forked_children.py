"""Close locks and event files in child processes that are forked from this process.

An environment may fork. A child process that inherited the file descriptor of a lock would keep the
run's folder locked until it exited.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class HasDescriptors(Protocol):
    """An object whose close() closes its descriptors and may be called repeatedly."""

    def close(self) -> None:
        """Close the descriptors."""


_registered: weakref.WeakSet[HasDescriptors] = weakref.WeakSet()


def close_in_children(descriptors: HasDescriptors) -> None:
    """Close the descriptors in every child process that any code forks from now on."""
    _registered.add(descriptors)


def _close_registered() -> None:
    for each in list(_registered):
        each.close()


os.register_at_fork(after_in_child=_close_registered)
