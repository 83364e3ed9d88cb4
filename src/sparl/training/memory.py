"""Measure the memory that this process may use and has used."""

from __future__ import annotations

import ctypes
import os
import resource
from contextlib import suppress
from pathlib import Path


def memory_bytes() -> int:
    """Return how much memory this process may use [bytes]: the machine's, or less if limited."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *_group_limits()]
    own, _ = resource.getrlimit(resource.RLIMIT_AS)
    return min([*limits, own] if own != resource.RLIM_INFINITY else limits)


def _group_limits(
    root: Path = Path("/sys/fs/cgroup"), of: Path = Path("/proc/self/cgroup")
) -> list[int]:
    """Return the memory limits of this process's control groups, versions 1 and 2 [bytes]."""
    limits = []
    with suppress(OSError):
        for line in os.fsdecode(of.read_bytes()).splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers not in ("", "memory"):
                continue
            top = root / controllers
            group = top / path.lstrip("/")
            name = "memory.limit_in_bytes" if controllers else "memory.max"
            for folder in (group, *group.parents):  # each group may set a limit
                with suppress(OSError, ValueError):  # "max" means no limit
                    limits.append(int((folder / name).read_text()))
                if folder == top:
                    break
    return limits


def return_freed_memory() -> None:
    """Make glibc return freed memory to the system; otherwise it may retain a large amount."""
    with suppress(AttributeError):  # a C library other than glibc
        ctypes.CDLL(None).malloc_trim(0)


def peak_memory_bytes() -> int:
    """Return the maximum resident set size of this process so far [bytes]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
