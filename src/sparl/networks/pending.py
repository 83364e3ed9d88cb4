"""Arrays that work in the background may still write or read."""

from __future__ import annotations

from sparl import _native
from sparl.types import Array


class PendingArray:
    """A flat array, and the pending work on it: whoever asks for the array waits for that.

    An optimiser's step and a target's update may be unfinished when the call that began them
    returns. Nobody else needs to know.
    """

    def __init__(self, values: Array) -> None:
        self._values = values
        self._writing: _native.PendingWork | None = None
        self._reading: _native.PendingWork | None = None

    def to_read(self) -> Array:
        """The array, once nothing writes to it any more."""
        if work := self._writing:  # another thread may wait for it too
            work.finish()
            self._writing = None
        return self._values

    def to_write(self) -> Array:
        """The array, once nothing writes to it or reads it any more."""
        if work := self._reading:
            work.finish()
            self._reading = None
        return self.to_read()

    def written_by(self, work: _native.PendingWork) -> None:
        """The array is ready when this work is finished."""
        self._writing = work

    def read_by(self, work: _native.PendingWork) -> None:
        """The array may be written to when this work is finished."""
        self._reading = work
