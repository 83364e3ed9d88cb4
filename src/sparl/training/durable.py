"""Files that are there completely or not at all, and reading without trust.

Every write, fsync, rename and mkdir of a run goes through os, so that tests can make each fail.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from sparl.errors import DataError, ResourceError
from sparl.training.memory import memory_bytes


def user_path(path: str | os.PathLike[str]) -> Path:
    """The path that a user or a file means: "~" is the home folder.

    A path in a file is UTF-8, and bytes that are not UTF-8 are surrogates (PEP 383). The same
    bytes name the file here, whatever the encoding of this system's file names is.
    """
    text = os.path.expanduser(path)  # noqa: PTH111  pathlib's raises where there is no such user
    with suppress(UnicodeEncodeError):  # a surrogate that stands for no byte: no file has that name
        text = os.fsdecode(text.encode("utf-8", "surrogateescape"))
    return Path(text)


def write_file(path: Path, data: bytes) -> None:
    """Write and fsync a file; what happens half-way is the caller's business.

    Raises:
        OSError: the disk is full, or the file cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Fsync a folder: renames in it last from now on."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder that lasts from now on, and those that it is in, if there is none.

    Raises:
        OSError: it cannot be made.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.is_dir()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync_folder(folder.parent)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there completely or not at all.

    Raises:
        ResourceError: the disk is full, or the file cannot be written.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        write_file(temporary, data)
        os.replace(temporary, path)  # noqa: PTH105
        sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise ResourceError(f"cannot write {path}: {error.strerror}") from None


def read_whole(path: Path, most: int) -> bytes:
    """Read a regular file of at most so many bytes; nothing is allocated for a larger one.

    Raises:
        DataError: missing, no regular file (a link is none), larger, or it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise DataError(f"{path}: missing") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{path}: cannot be read ({reason})") from None
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode):
        os.close(descriptor)
        raise DataError(f"{path}: not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        if about.st_size > most:
            raise DataError(f"{path}: {about.st_size:,} bytes, at most {most:,} are expected")
        if about.st_size > memory_bytes():
            raise DataError(
                f"{path}: {about.st_size:,} bytes, more than the memory of {memory_bytes():,}"
            )
        try:
            return file.read(about.st_size)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from None
