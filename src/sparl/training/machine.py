"""What a run ran on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from sparl import _native


def machine() -> dict[str, Any]:
    """CPU, cores, instruction set, threads, system."""
    return {
        "cpu": _cpu_name(),
        "cores": available_cores(),
        "instruction_set": _native.isa(),
        "threads": _native.threads(),
        "system": platform.platform(),
    }


def versions() -> dict[str, str]:
    """Versions of what results depend on."""
    names = ("sparl", "numpy", "gymnasium", "mujoco", "safetensors")
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in names
    }


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int:
    """Physical memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
