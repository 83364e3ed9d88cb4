"""Arrays that pending work may still read or write."""

from __future__ import annotations

from sparl import _native
from sparl.types import Array


class PendingArray:
    """A flat array with the pending work on it; accessors block until this work has finished.

    An optimiser step or a target update may be unfinished when the call that began it returns. Code
    that accesses the array through this class need not handle pending work itself.

    Attributes:
        changes: number of times that the values have changed.
    """

    def __init__(self, values: Array) -> None:
        self._values = values
        self._writing: _native.PendingWork | None = None
        self._computed: set[PendingArray] = set()  # arrays computed from this one
        self.changes = 0

    def to_read(self) -> Array:
        """Return the array after pending work has finished writing to it."""
        while work := self._writing:
            work.finish()
            if self._writing is work:  # not if another thread has begun other work
                self._writing = None
        return self._values

    def to_write(self) -> Array:
        """Return the array after pending work has finished reading and writing it."""
        for array in tuple(self._computed):
            array.to_read()
            self._computed.discard(array)  # only now, because Ctrl-C may interrupt to_read
        return self.to_read()

    def written(
        self, by: _native.PendingWork | None = None, *, reads: PendingArray | None = None
    ) -> None:
        """Record a change of the values.

        Args:
            by: the work that writes the values; None if they have already been written.
            reads: another array that the work reads.
        """
        self.changes += 1
        self._writing = by
        if reads is not None:
            reads._computed.add(self)
