"""The grammar of rules' names, apart from the rules so that checking a name loads no engine."""

from __future__ import annotations

import re


def is_rule_name(name: str) -> bool:
    """Whether a rule could be registered by this name: an ASCII identifier of up to 64 letters."""
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", name) is not None
