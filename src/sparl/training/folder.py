"""Safe access to the folders that sparl writes; no other module except `play.video` writes there.

People exchange run folders, studies and archives, so their content is not trusted. The user names
the folder itself, which may be a link. Inside the folder, every name must be a single path
component, no link is followed, and only regular files and folders are opened: each level is opened
relative to the one above (openat with O_NOFOLLOW). A file with several names (hard links) is read,
but never changed in place.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from sparl.errors import DataError, ResourceError
from sparl.training.durable import (
    FILE,
    FOLDER,
    is_temporary,
    make_folder,
    require,
    require_one_name,
    temporary_name,
    why_invalid_name,
)
from sparl.training.forked_children import close_in_children
from sparl.training.held_lock import HeldLock
from sparl.training.memory import memory_bytes

_ATTEMPTS = 10  # maximum number of attempts to lock a file that other processes keep replacing
_STALE_SECONDS = 3600  # minimum age of a temporary file that is deleted


class Folder:
    """A folder that sparl writes. No link in it is followed, and no special file is opened.

    Unless stated otherwise, a method raises DataError, with the path, if it finds anything other
    than a regular file or a folder. After `lock`, every access first checks that the folder at this
    path and its lock file are still those that were locked, and raises RunInUse if they were
    replaced; the replacement is neither read nor written.

    Attributes:
        path: the path as given by the user.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Represent a folder, which need not exist.

        Args:
            path: the path as given by the user, which may be a link.
        """
        self.path = Path(path)
        self._absolute = self.path  # an environment may change the working directory
        with suppress(FileNotFoundError):  # the working directory was deleted
            self._absolute = self.path.absolute()
        self._parent: Folder | None = None
        self._held: HeldLock | None = None

    @classmethod
    def of(cls, place: str | os.PathLike[str] | Folder) -> Folder:
        """Return `place` if it is a Folder, and otherwise a Folder for this path."""
        return place if isinstance(place, Folder) else cls(place)

    def at(self, name: str) -> Folder:
        """Return a subfolder of this folder; the subfolder need not exist.

        Raises:
            DataError: if the name is not valid; see why_invalid_name.
        """
        because = why_invalid_name(name)
        if because:
            raise DataError(f"{self.path}: {name[:80]!r} is not a valid folder name: {because}")
        inner = Folder(self.path / name)
        inner._parent = self
        return inner

    # ------------------------------------------------------------------ inspecting

    def names(self) -> list[str]:
        """Return the names in the folder, sorted, or an empty list if it cannot be read."""
        try:
            with self._opened() as folder:
                return sorted(os.listdir(folder))  # noqa: PTH208  of a descriptor
        except OSError:
            return []

    def has(self, name: str) -> bool:
        """Return whether there is a regular file with this name."""
        return self._about(name, FILE) is not None

    def has_folder(self, name: str) -> bool:
        """Return whether there is a folder with this name."""
        return self._about(name, FOLDER) is not None

    def size(self, name: str) -> int:
        """Return the size of a file [bytes], or 0 if it does not exist."""
        about = self._about(name, FILE)
        return 0 if about is None else about.st_size

    def _about(self, name: str, wanted: str) -> os.stat_result | None:
        try:
            with self._opened() as folder:
                about = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:  # ValueError: the path contains a NUL, for example
            reason = error.strerror if isinstance(error, OSError) else error
            raise DataError(f"{self.path / name}: cannot be read ({reason})") from None
        require(self.path / name, about, wanted)
        return about

    def check_changeable(self, name: str) -> None:
        """Raise DataError if a file exists and has several names (hard links)."""
        about = self._about(name, FILE)
        if about is not None:
            require_one_name(self.path / name, about)

    # ------------------------------------------------------------------ reading

    def read(self, name: str, most: int) -> bytes:
        """Read a file of at most `most` bytes; no memory is allocated for a larger file.

        Raises:
            DataError: if the file is missing, too large or not a regular file, or cannot be read.
        """
        path = self.path / name
        with self._read(name) as (descriptor, size):
            if size > most:
                raise DataError(f"{path}: found {size:,} bytes, more than the maximum of {most:,}")
            if size > memory_bytes():
                raise DataError(
                    f"{path}: found {size:,} bytes, but only {memory_bytes():,} bytes of memory "
                    "are available"
                )
            return _read_bytes(descriptor, size)

    def read_end(self, name: str, most: int) -> bytes:
        """Read the last bytes of a file, at most `most`.

        Raises:
            DataError: if the file is missing or not a regular file, or cannot be read.
        """
        with self._read(name) as (descriptor, size):
            os.lseek(descriptor, max(size - most, 0), os.SEEK_SET)
            return _read_bytes(descriptor, most)

    @contextmanager
    def _read(self, name: str) -> Iterator[tuple[int, int]]:
        """Open a file for reading; yield its descriptor and its size [bytes]."""
        path = self.path / name
        try:
            with self._file(name, os.O_RDONLY) as descriptor:
                yield descriptor, os.fstat(descriptor).st_size
        except FileNotFoundError:
            raise DataError(f"{path}: the file is missing") from None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise DataError(f"{path}: cannot be read ({reason})") from None

    # ------------------------------------------------------------------ writing

    def make(self) -> None:
        """Create the folder and its parents if they do not exist.

        Raises:
            OSError: if the folder cannot be created.
        """
        if self._parent is None:
            make_folder(self._absolute)
            return
        self._parent.make()
        with self._parent._opened() as parent, suppress(FileExistsError):
            os.mkdir(self.path.name, dir_fd=parent)
            os.fsync(parent)
        with self._opened():
            pass  # raises DataError if the name is taken by something other than a folder

    def make_new(self, name: str) -> Folder:
        """Create a new subfolder of this folder.

        Raises:
            OSError: if the subfolder cannot be created.
        """
        inner = self.at(name)
        with self._opened() as folder:
            os.mkdir(name, dir_fd=folder)
        return inner

    def write(self, name: str, data: bytes) -> None:
        """Replace a file atomically and flush it to disk.

        Raises:
            ResourceError: if the disk is full, or the file cannot be written.
        """
        try:
            self.put(name, data)
            self.sync()
        except OSError as error:
            raise ResourceError(f"cannot write {self.path / name}: {error.strerror}") from None

    def put(self, name: str, data: bytes) -> None:
        """Replace a file atomically; call `sync` to ensure that the change survives a crash.

        Raises:
            OSError: if the disk is full, or the file cannot be written.
        """
        temporary = temporary_name(name)
        with self._opened() as folder:
            self._check(name, folder)
            try:
                self.create(temporary, data)
                self._remove_stale(name, temporary, folder)
                os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            except OSError:
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=folder)
                raise

    def create(self, name: str, data: bytes) -> None:
        """Create, write and flush a new file; after an error the file may be incomplete.

        Raises:
            OSError: if the disk is full, or the file cannot be written.
        """
        with self._file(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as descriptor:
            _write_bytes(descriptor, data)
            os.fsync(descriptor)

    def truncate_and_append(self, name: str, length: int, data: bytes) -> None:
        """Truncate a file to `length` bytes and append `data`; create a missing file.

        Raises:
            OSError: if the disk is full, or the file cannot be written.
        """
        with self._file(name, os.O_WRONLY | os.O_CREAT) as descriptor:
            os.ftruncate(descriptor, length)
            os.lseek(descriptor, length, os.SEEK_SET)
            _write_bytes(descriptor, data)

    def truncate(self, name: str, length: int) -> None:
        """Truncate a file to `length` bytes.

        Raises:
            OSError: if the file cannot be truncated.
        """
        with self._file(name, os.O_WRONLY) as descriptor:
            os.ftruncate(descriptor, length)

    @contextmanager
    def appending(self, name: str) -> Iterator[int]:
        """Open a file for appending; yield its descriptor, for the output of a process.

        Raises:
            OSError: if the file cannot be opened.
        """
        with self._file(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as descriptor:
            yield descriptor

    def new_file(self, name: str) -> BinaryIO:
        """Open a new file, which the caller writes and closes.

        Raises:
            OSError: if the file cannot be created.
        """
        with self._opened() as folder:
            return os.fdopen(self._open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, folder), "wb")

    def flush(self, name: str) -> None:
        """Flush a file to disk.

        Raises:
            OSError: if the file cannot be flushed, for example because the disk is full.
        """
        with self._file(name, os.O_WRONLY) as descriptor:
            os.fsync(descriptor)

    def sync(self) -> None:
        """Flush the folder itself to disk, so that new and renamed files survive a crash.

        Raises:
            OSError: if the folder cannot be flushed, for example because the disk is full.
        """
        with self._opened() as folder:
            os.fsync(folder)

    # ------------------------------------------------------------------ renaming and deleting

    def rename(self, old: str, new: str) -> None:
        """Rename a subfolder.

        Raises:
            OSError: if the folder cannot be renamed.
        """
        with self._opened() as folder:
            os.rename(old, new, src_dir_fd=folder, dst_dir_fd=folder)

    def remove(self, name: str) -> None:
        """Delete a file if it exists.

        Raises:
            OSError: if the file cannot be deleted.
        """
        if self.has(name):
            with self._opened() as folder, suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)

    def remove_folder(self, name: str, files: tuple[str, ...] = ()) -> None:
        """Delete these files in a subfolder, and then the subfolder; ignore failed deletions."""
        with suppress(OSError, DataError):
            inner = self.at(name)
            for file in files:
                with suppress(OSError, DataError):
                    inner.remove(file)
            with self._opened() as folder:
                os.rmdir(name, dir_fd=folder)

    def _remove_stale(self, name: str, temporary: str, folder: int) -> None:
        """Delete old temporary versions of a file, which killed processes left behind.

        Their age is measured by the clock of the file system, which may be on another machine.
        """
        now = os.stat(temporary, dir_fd=folder, follow_symlinks=False).st_mtime
        for other in os.listdir(folder):
            if other != temporary and is_temporary(other, name):
                with suppress(OSError):
                    about = os.stat(other, dir_fd=folder, follow_symlinks=False)
                    if stat.S_ISREG(about.st_mode) and now - about.st_mtime > _STALE_SECONDS:
                        os.unlink(other, dir_fd=folder)

    # ------------------------------------------------------------------ locking

    def lock(self, name: str) -> bool:
        """Lock a file in the folder until `unlock` is called or this process ends.

        Returns:
            Whether the lock was acquired; False if another process holds or keeps replacing it.

        Raises:
            OSError: if the file cannot be opened.
        """
        for _ in range(_ATTEMPTS):
            with self._opened() as folder:
                held = HeldLock(self._absolute, os.dup(folder), name, -1)
                try:
                    held.lock = self._open(name, os.O_RDWR | os.O_CREAT, folder)
                    fcntl.flock(held.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if not held.replaced():
                        self._held = held
                        close_in_children(held)
                        return True
                except BlockingIOError:
                    return False
                finally:
                    if self._held is None:
                        held.close()
        return False  # other processes keep replacing it

    def unlock(self) -> None:
        """Release the lock."""
        if self._held is not None:
            self._held.close()
            self._held = None

    def locked_elsewhere(self, name: str) -> bool:
        """Return whether any process holds the lock on a file; False if it cannot be opened."""
        try:
            with self._file(name, os.O_RDONLY) as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except (OSError, DataError):
            return False
        return False

    # ------------------------------------------------------------------ opening

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """Open the folder; yield its descriptor.

        Raises:
            OSError: if the folder does not exist or cannot be read.
        """
        if self._parent is not None:
            with self._parent._opened() as parent:
                descriptor = _open_folder(self.path, parent)
        elif self._held is not None:
            self._held.check()
            descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=self._held.folder)
        else:
            descriptor = os.open(self._absolute, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _file(self, name: str, flags: int) -> Iterator[int]:
        """Open a file in the folder; yield its descriptor."""
        with self._opened() as folder:
            descriptor = self._open(name, flags, folder)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _open(self, name: str, flags: int, folder: int) -> int:
        self._check(name, folder)
        flags |= os.O_NOFOLLOW | os.O_NONBLOCK  # opening a named pipe must not block
        descriptor = os.open(name, flags, 0o666, dir_fd=folder)
        try:
            about = os.fstat(descriptor)
            require(self.path / name, about, FILE)
            if flags & (os.O_WRONLY | os.O_RDWR):
                require_one_name(self.path / name, about)
        except DataError:
            os.close(descriptor)
            raise
        return descriptor

    def _check(self, name: str, folder: int) -> None:
        """Raise DataError unless the name is valid, and is unused or names a regular file."""
        because = why_invalid_name(name)
        if because:
            raise DataError(f"{self.path}: {name[:80]!r} is not a valid file name: {because}")
        with suppress(FileNotFoundError):
            about = os.stat(name, dir_fd=folder, follow_symlinks=False)
            require(self.path / name, about, FILE)


def _open_folder(path: Path, parent: int) -> int:
    """Open a subfolder of an open folder.

    Raises:
        DataError: if something other than a folder has this name.
        OSError: if the folder does not exist or cannot be read.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        return os.open(path.name, flags, dir_fd=parent)
    except OSError:
        with suppress(FileNotFoundError):
            require(path, os.stat(path.name, dir_fd=parent, follow_symlinks=False), FOLDER)
        raise


def _read_bytes(descriptor: int, most: int) -> bytes:
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        return file.read(most)


def _write_bytes(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
