"""Check the content of run.json, which a program other than sparl may have changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sparl.wording import shown

# The types of the entries that sparl reads; those of _OPTIONAL may be missing.
_REQUIRED = {"state": str, "env_step": int, "wall_seconds": int | float}
_OPTIONAL = {
    "versions": dict, "machine": dict, "environment": dict, "continued": list,
    "had_checkpoint": bool,
}  # fmt: skip


def check_run(about: Mapping[str, Any]) -> None:
    """Check the content of run.json.

    Raises:
        ValueError: if an entry is missing or malformed.
    """
    kinds = _REQUIRED | {name: kind for name, kind in _OPTIONAL.items() if name in about}
    for name, kind in kinds.items():
        if not isinstance(about.get(name), kind):
            raise ValueError(
                f"{name} is {str(about.get(name))[:80]} but must be of type "
                f"{kind.__name__ if isinstance(kind, type) else kind}"
            )
    notes = about.get("environment", {}).get("notes", [])
    if not _texts(notes):
        raise ValueError(
            f"the environment's notes are {str(notes)[:80]} but must be a list of strings"
        )
    check_continued(about.get("continued", []))


def check_continued(entries: Iterable[Any]) -> None:
    """Check the entries that record at which steps and how exactly a run was resumed.

    Raises:
        ValueError: if an entry is malformed.
    """
    for entry in entries:
        if (
            not isinstance(entry, dict)
            or entry.keys() != {"env_step", "not_exact_because"}
            or type(entry["env_step"]) is not int
            or not _texts(entry["not_exact_because"])
        ):
            raise ValueError(
                f"continued contains {shown(entry)}, which must have the fields env_step and "
                "not_exact_because"
            )


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
