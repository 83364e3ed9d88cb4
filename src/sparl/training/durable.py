"""Check names and types of files, and create folders so that they survive a crash.

Except for TensorBoard's event files, a run writes, renames and flushes files, and creates folders,
only by calling functions of `os`, so that tests can simulate failures.
"""

from __future__ import annotations

import os
import secrets
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sparl.errors import DataError

NAME_BYTES = 255  # maximum length of a name
FILE, FOLDER = "a regular file", "a folder"
_KINDS = {
    stat.S_IFREG: "a file", stat.S_IFDIR: "a folder", stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket",
}  # fmt: skip


def user_path(path: str | os.PathLike[str]) -> Path:
    """Resolve a path that a user typed or that a file contains; "~" is the home folder.

    Paths in files are encoded in UTF-8, with surrogates for bytes that are not valid UTF-8 (PEP
    383). The returned path consists of the same bytes, whatever encoding the system uses for names.
    """
    text = os.path.expanduser(path)  # noqa: PTH111  pathlib's raises if the user does not exist
    with suppress(UnicodeEncodeError):  # a surrogate that represents no byte
        text = os.fsdecode(text.encode("utf-8", "surrogateescape"))
    if _started_in is not None and _directory() != _started_in:
        return _started_in / text
    return Path(text)


_started_in: Path | None = None  # the base directory of relative paths


@contextmanager
def paths_start_here() -> Iterator[None]:
    """Resolve relative paths in the block against the directory that is current at its start."""
    global _started_in
    before, _started_in = _started_in, _directory()
    try:
        yield
    finally:
        _started_in = before


def _directory() -> Path | None:
    """Return the working directory; None if it was deleted."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


def why_invalid_name(name: str) -> str:
    """Return why a string is not a valid name of a file or folder, or "" if it is valid."""
    if name in ("", ".", ".."):
        return "it is empty, '.' or '..'"
    if "/" in name:
        return "it contains '/'"
    if any(unicodedata.category(character) == "Cc" for character in name):
        return "it contains a control character"
    try:
        length = len(os.fsencode(name))
    except UnicodeEncodeError:
        return "this system cannot encode it"
    return (
        f"it has {length} bytes, more than the maximum of {NAME_BYTES}"
        if length > NAME_BYTES
        else ""
    )


def make_folder(path: Path) -> None:
    """Create a folder and its parents, and ensure that they survive a crash.

    Raises:
        OSError: if the folder cannot be created.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.is_dir()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        descriptor = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def temporary_name(name: str) -> str:
    """Return a unique name for a file that is renamed to `name` when it is complete."""
    return f"{name}.tmp-{os.getpid()}-{secrets.token_hex(4)}"


def is_temporary(name: str, of: str) -> bool:
    """Return whether `temporary_name` or version 0.1 could have created this name for `of`."""
    return name == f"{of}.tmp" or name.startswith(f"{of}.tmp-")


def require(path: Path, about: os.stat_result, wanted: str) -> None:
    """Raise DataError unless `about`, a path's status, is of the type `wanted`, FILE or FOLDER."""
    is_wanted = stat.S_ISREG if wanted == FILE else stat.S_ISDIR
    if not is_wanted(about.st_mode):
        found = _KINDS.get(stat.S_IFMT(about.st_mode), "a device")
        raise DataError(f"{path}: found {found} but expected {wanted}; remove it or move it away")


def require_one_name(path: Path, about: os.stat_result) -> None:
    """Raise DataError if a file that is to be changed has several names (hard links)."""
    if about.st_nlink > 1:
        raise DataError(
            f"{path}: this is a hard link, so writing to it would also change the file under its "
            "other names; copy the folder (cp -r) and use the copy"
        )
