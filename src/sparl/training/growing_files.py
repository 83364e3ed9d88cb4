"""GrowingFiles: the CSV files that grow while a run is trained, and shrink to its checkpoint."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from sparl.errors import DataError, ResourceError
from sparl.training.folder import Folder


class GrowingFiles:
    """The growing CSV files of a run's folder.

    Args:
        files: the folder.
        names: of the files.
    """

    def __init__(self, files: Folder, names: Sequence[str]) -> None:
        self._files = files
        self._names = names
        self._written: dict[str, int] = {}  # bytes of each file that are certainly there
        self._waiting: dict[str, bytes] = {}  # lines that the disk did not accept

    def append(self, name: str, row: Mapping[str, Any]) -> None:
        """Add a line to a file; the first one writes the header.

        If the disk does not accept the line, it is written later, and `flush` reports the error.
        """
        line = io.StringIO()
        writer = csv.DictWriter(line, list(row), lineterminator="\n")
        if not self._length(name) and name not in self._waiting:
            writer.writeheader()
        writer.writerow(row)
        self._waiting[name] = self._waiting.get(name, b"") + line.getvalue().encode()
        with suppress(OSError):
            self._write_waiting(name)

    def flush(self) -> dict[str, int]:
        """Flush the files to the disk; return the bytes of each.

        Raises:
            ResourceError: they cannot be written.
        """
        for name in self._names:
            try:
                self._write_waiting(name)
                if self._length(name):
                    self._files.flush(name)
            except OSError as error:
                raise self._cannot_write(name, error) from None
        return {name: self._length(name) for name in self._names}

    def rewind(self, lengths: Mapping[str, int]) -> None:
        """Cut the files to these lengths [bytes], all or none of them.

        Raises:
            DataError: one is shorter than that.
            ResourceError: they cannot be written.
        """
        size = {name: self._files.size(name) for name in self._names}
        for name in self._names:
            length = lengths[name]
            if type(length) is not int or not 0 <= length <= size[name]:
                raise DataError(
                    f"{self._files.path / name}: {size[name]:,} bytes, {str(length)[:30]} at the "
                    "checkpoint"
                )
        for name in self._names:
            if size[name] > lengths[name]:
                try:
                    self._files.cut(name, lengths[name])
                except OSError as error:
                    raise self._cannot_write(name, error) from None
            self._written[name] = lengths[name]
            self._waiting.pop(name, None)

    def _cannot_write(self, name: str, error: OSError) -> ResourceError:
        return ResourceError(f"cannot write {self._files.path / name}: {error.strerror}")

    def _length(self, name: str) -> int:
        if name not in self._written:
            self._written[name] = self._files.size(name)
        return self._written[name]

    def _write_waiting(self, name: str) -> None:
        """Write the lines that wait, over what an earlier attempt may have written in part."""
        data = self._waiting.get(name, b"")
        if not data:
            return
        length = self._length(name)
        self._files.write_behind(name, length, data)
        self._written[name] = length + len(data)
        del self._waiting[name]
