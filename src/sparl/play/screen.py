"""Detect whether a screen is available."""

from __future__ import annotations

import os
import sys
import warnings


def has_screen() -> bool:
    """Return whether MuJoCo can open a window; the display may be missing or deny access."""
    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        return False
    try:
        import glfw
    except ImportError:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # GLFW also returns its errors
        try:
            return bool(glfw.init()) and bool(glfw.get_primary_monitor())
        finally:
            glfw.terminate()
