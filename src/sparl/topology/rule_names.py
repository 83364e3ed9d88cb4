"""The grammar of rule names, in a module that does not load the native module."""

from __future__ import annotations

import re


def is_rule_name(name: str) -> bool:
    """Return whether a name is valid: an ASCII identifier of at most 64 characters."""
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", name) is not None
