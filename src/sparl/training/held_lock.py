"""HeldLock: a lock file, and the folder that it is in, for as long as this process holds them."""

from __future__ import annotations

import os
from pathlib import Path

from sparl.errors import RunInUse


class HeldLock:
    """A folder and a lock file in it, both open, as they were locked."""

    def __init__(self, path: Path, folder: int, name: str, lock: int) -> None:
        self._path = path.absolute()  # an environment may change the working directory
        self.folder, self._name, self.lock = folder, name, lock

    def replaced(self) -> bool:
        """Whether another folder or lock file, or none, is there by now.

        Raises:
            OSError: it cannot be found out.
        """
        try:
            here = self._path.stat()
            lock = os.stat(self._name, dir_fd=self.folder, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return True
        own = os.path.samestat(here, os.fstat(self.folder))
        return not (own and os.path.samestat(lock, os.fstat(self.lock)))

    def check(self) -> None:
        """Raise RunInUse if it was replaced."""
        if self.replaced():
            raise RunInUse(
                f"{self._path}: the folder or its {self._name} was deleted, moved or replaced "
                "while this process worked on it, so another process may be using it; nothing more "
                "is written. Do not move or delete a folder before its process has ended"
            )

    def close(self) -> None:
        """Close both, which releases the lock."""
        for descriptor in (self.folder, self.lock):
            if descriptor >= 0:
                os.close(descriptor)
