"""Describe the machine and the software versions that a run uses."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import subprocess
import time
from functools import cache
from pathlib import Path
from typing import Any

from sparl import _native


def machine() -> dict[str, Any]:
    """Return the CPU, its usable cores, the instruction set and the operating system.

    "subnormals" is "flushed" if products with weights compute with 0 instead of subnormal numbers,
    otherwise "kept", as in runs of earlier versions, which do not have this entry.
    """
    return {
        "cpu": _cpu_name(),
        "cores": available_cores(),
        "instruction_set": _native.isa(),
        "subnormals": "flushed" if _native.flushes_subnormals else "kept",
        "system": platform.platform(),
    }


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python, sparl and its main dependencies, and sparl's commit."""
    names = ("sparl", "numpy", "gymnasium", "mujoco", "safetensors")
    found = {name: importlib.metadata.version(name) for name in names}
    return {"python": platform.python_version(), **found, "commit": commit()}


def made_with() -> dict[str, str]:
    """Return the instruction set, the C library and the software versions that affect results.

    The versions of other packages that provide environments are not included.
    """
    libc = " ".join(platform.libc_ver())
    return {"instruction_set": _native.isa(), "libc": libc, **versions()}


@cache
def commit() -> str:
    """Return the commit that this code was built from, or that is checked out; "" if unknown.

    The result ends in -dirty if the files differ from the commit. Changes after the first call are
    ignored, because this process does not execute them.
    """
    package = Path(__file__).parents[1]
    checkout = package.parents[1]
    if package == checkout / "src" / "sparl" and (checkout / ".git").exists():
        words = ("git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
        try:
            done = subprocess.run(words, cwd=checkout, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return ""
        return done.stdout.strip()
    built = package / "commit.txt"
    return built.read_text().strip() if built.exists() else ""


def cpu_seconds() -> float:
    """Return the CPU time of this process's threads and its ended child processes [s]."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
