"""Append to CSV files during a run, and truncate them when a run resumes from a checkpoint."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from sparl.errors import DataError, ResourceError
from sparl.training.folder import Folder


class GrowingFiles:
    """The CSV files in a run's folder that grow during training.

    Args:
        files: the folder that contains them.
        names: the names of the files.
    """

    def __init__(self, files: Folder, names: Sequence[str]) -> None:
        self._files = files
        self._names = names
        self._written: dict[str, int] = {}  # number of bytes known to be in each file
        self._waiting: dict[str, bytes] = {}  # lines that could not be written yet

    def append(self, name: str, row: Mapping[str, Any]) -> None:
        """Add a line to a file, preceded by a header if the file is empty.

        If the line cannot be written, later calls try again; `flush` raises the error if it fails.
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
        """Flush the files to disk, and return the length of each [bytes].

        Raises:
            ResourceError: if a file cannot be written.
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
        """Truncate the files to these lengths [bytes]; if one is damaged, change none of them.

        Raises:
            DataError: if a file is shorter than the given length or has no line that ends there, or
                a length is not valid.
            ResourceError: if a file cannot be written.
        """
        size = {name: self._files.size(name) for name in self._names}
        for name in self._names:
            length = lengths[name]
            if type(length) is not int or not 0 <= length <= size[name]:
                raise DataError(
                    f"{self._files.path / name}: found {size[name]:,} bytes, fewer than the "
                    f"{str(length)[:30]} at the checkpoint"
                )
            if length and self._files.read(name, size[name])[length - 1 : length] != b"\n":
                raise DataError(
                    f"{self._files.path / name}: changed since the checkpoint, when its length of "
                    f"{length:,} bytes was the end of a line"
                )
        for name in self._names:
            if size[name] > lengths[name]:
                try:
                    self._files.truncate(name, lengths[name])
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
        """Write the waiting lines, and overwrite any incomplete line of a failed attempt."""
        data = self._waiting.get(name, b"")
        if not data:
            return
        length = self._length(name)
        self._files.truncate_and_append(name, length, data)
        self._written[name] = length + len(data)
        del self._waiting[name]
