"""Check the values of the fields of a configuration."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import Field
from typing import Any, Literal, get_args, get_origin, get_type_hints

from sparl.configuration import FIELDS, Config
from sparl.errors import UsageError
from sparl.topology.registry import is_rule_name
from sparl.wording import bound, first_few, has_control_characters, shown

MOST_LAYERS = 100  # maximum number of hidden layers

# Gymnasium's [MODULE:][NAMESPACE/]NAME-vN, or a name that ends with WITHOUT_ID. Only ASCII is
# allowed, because the name becomes part of file names.
_ENVIRONMENT_ID = re.compile(
    r"(?:[a-z_]\w*(?:\.[a-z_]\w*)*:)?(?:[a-z0-9][\w-]*/)?[a-z0-9][\w.-]*(?:\(\))?",
    re.ASCII | re.IGNORECASE,
)
_LONGEST_ID = 160


def wrong_values(config: Config) -> list[str]:
    """Return a message for each invalid value of a configuration."""
    wrong = [text for name in FIELDS if (text := _wrong_value(name, getattr(config, name)))]
    if not 1 <= len(config.hidden) <= MOST_LAYERS or any(
        not 1 <= width < 2**28 for width in config.hidden
    ):
        wrong.append(
            f"hidden is {shown(config.hidden)} but must be 1 to {MOST_LAYERS} widths in [1, 2^28) "
            "(units)"
        )
    for name in ("actor_densities", "critic_densities"):
        densities = getattr(config, name)
        layers = len(config.hidden) + 1
        if densities is not None and (
            len(densities) != layers or any(not 0 <= d <= 1 for d in densities)
        ):
            wrong.append(f"{name} is {shown(densities)} but must be {layers} densities in [0, 1]")
    wrong += [
        f"{name} is an empty path"
        for name in ("run_dir", "warm_start")
        if getattr(config, name) == ""
    ]
    if config.resume == "auto" and (config.run_dir is None or config.overwrite):
        wrong.append("resume auto needs a run_dir, and cannot be combined with overwrite")
    return wrong


def _wrong_value(name: str, value: Any) -> str:
    """Return an error message if the value of a field is invalid, else ""."""
    if not isinstance(value, str):
        return _outside(name, value)
    if has_control_characters(value):
        return f"{name} is {value!r} but must not contain control characters"
    if name in ("drop", "grow", "density_schedule") and not is_rule_name(value):
        return f"{name} is {value!r} but must be the name of a rule (letters, digits, _)"
    if name == "env" and not (len(value) <= _LONGEST_ID and _ENVIRONMENT_ID.fullmatch(value)):
        return (
            f"env is {shown(value)} but must be a Gymnasium id, [MODULE:][NAMESPACE/]NAME-vN, of "
            f"at most {_LONGEST_ID} characters"
        )
    return ""


def _outside(name: str, value: Any) -> str:
    """Return an error message if a number is outside its range, else ""."""
    low, high, unit = FIELDS[name].metadata.get("range", (0, 0, ""))
    if not unit or value is None or low <= value <= high:  # false for NaN
        return ""
    return f"{name} is {shown(value)} but must be in [{bound(low)}, {bound(high)}] ({unit})"


_HINTS = get_type_hints(Config)


def typed_fields(values: dict[str, Any], where: str) -> dict[str, Any]:
    """Check values from a file or a call against types and ranges, and make them plain.

    Lists become tuples, paths become strings, and NumPy's numbers become Python's numbers.

    Args:
        values: values, by field name.
        where: the file or function to name in error messages.

    Raises:
        UsageError: if there are unknown fields or invalid values. The message lists all invalid
            values and the first five unknown fields, with similar known names.
    """
    wrong = first_few([name for name in values if name not in FIELDS], _unknown_field)
    out: dict[str, Any] = {}
    for name, value in values.items():
        if name not in FIELDS:
            continue
        plain = _plain(value)
        if isinstance(plain, float) and plain.is_integer() and not _fits(plain, _HINTS[name]):
            plain = int(plain)  # 1e6 environment steps
        if not _fits(plain, _HINTS[name]):
            wrong.append(f"{name} is {shown(value)} but must be {type_text(FIELDS[name])}")
        elif text := _wrong_value(name, plain):
            wrong.append(text)
        out[name] = plain
    if wrong:
        raise UsageError(f"{where}: {'; '.join(wrong)}")
    return out


_TYPES = {
    "int": "an integer", "float": "a number", "bool": "true or false", "str": "a string",
    "tuple[int, ...]": "a list of integers", "tuple[float, ...]": "a list of numbers",
}  # fmt: skip


def _unknown_field(name: str) -> str:
    """Return a message about an unknown field, with the nearest known name."""
    near = difflib.get_close_matches(name[:80], FIELDS, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"unknown field '{name[:80]}'{hint}"


def type_text(field: Field[Any]) -> str:
    """Describe the type of a field's values, ignoring None."""
    kind = str(field.type).removesuffix(" | None").replace("Literal", "one of ")
    return _TYPES.get(kind, kind)


def _plain(value: Any) -> Any:
    """Convert NumPy's numbers and arrays, paths and lists to Python's numbers, str and tuples."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    plain = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(plain, list | tuple):  # no field has nested lists, so these are not converted
        return tuple(each.tolist() if hasattr(each, "tolist") else each for each in plain)
    return plain


def _fits(value: object, hint: Any) -> bool:
    """Return whether a value has a field's type; an int is accepted as a float."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(v, arguments[0]) for v in value)
    if arguments:  # a union
        return any(_fits(value, a) for a in arguments)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)
