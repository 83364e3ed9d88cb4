"""Arrays that pending work may still read or write."""

from __future__ import annotations

from sparl import _native
from sparl.types import Array


class PendingArray:
    """A flat array with the pending work on it; accessors block until this work has finished.

    An optimiser step or a target update may be unfinished when the call that began it returns. Code
    that accesses the array through this class need not handle pending work itself.
    """

    def __init__(self, values: Array) -> None:
        self._values = values
        self._writing: _native.PendingWork | None = None
        self._reading: _native.PendingWork | None = None

    def to_read(self) -> Array:
        """Return the array after pending work has finished writing to it."""
        if work := self._writing:  # another thread may call this method at the same time
            work.finish()
            self._writing = None
        return self._values

    def to_write(self) -> Array:
        """Return the array after pending work has finished reading and writing it."""
        if work := self._reading:
            work.finish()
            self._reading = None
        return self.to_read()

    def written_by(self, work: _native.PendingWork) -> None:
        """Record that this work writes to the array."""
        self._writing = work

    def read_by(self, work: _native.PendingWork) -> None:
        """Record that this work reads the array."""
        self._reading = work
