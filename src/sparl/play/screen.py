"""Whether there is a screen."""

from __future__ import annotations

import os
import sys
import warnings


def has_screen() -> bool:
    """Whether MuJoCo's window can open: a display that is named may not exist, or not admit us."""
    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        return False
    try:
        import glfw
    except ImportError:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the same as what it returns, in words
        try:
            return bool(glfw.init()) and bool(glfw.get_primary_monitor())
        finally:
            glfw.terminate()
