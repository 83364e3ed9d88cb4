"""Keep a lock file and its folder open, and detect whether they have been replaced."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from sparl.errors import RunInUse


class HeldLock:
    """The open descriptors of a folder and of the locked file in it."""

    def __init__(self, path: Path, folder: int, name: str, lock: int) -> None:
        self._path = path
        self.folder, self._name, self.lock = folder, name, lock

    def replaced(self) -> bool:
        """Return whether the folder or its lock file was replaced or deleted.

        Raises:
            OSError: if the state of the folder or the file cannot be determined.
        """
        try:
            folder, own_lock = os.fstat(self.folder), os.fstat(self.lock)
        except OSError:  # a descriptor was closed by other code, or by sparl in a forked child
            return True
        try:
            here = self._path.stat()
            lock = os.stat(self._name, dir_fd=self.folder, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return True
        return not (os.path.samestat(here, folder) and os.path.samestat(lock, own_lock))

    def check(self) -> None:
        """Raise RunInUse if the folder or its lock file was replaced."""
        if self.replaced():
            raise RunInUse(
                f"{self._path}: the folder or its {self._name} was deleted, moved, replaced or "
                "closed by other code while this process used it, so another process may be using "
                "it now; no more files are written. Do not move or delete a folder while a process "
                "uses it"
            )

    def close(self) -> None:
        """Close both descriptors; `check` raises RunInUse from then on."""
        descriptors = self.folder, self.lock
        self.folder = self.lock = -1
        for descriptor in descriptors:
            if descriptor >= 0:
                with suppress(OSError):  # closed by other code
                    os.close(descriptor)
