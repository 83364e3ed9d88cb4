"""Parse the options of a command, which are the fields of a dataclass."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from decimal import Decimal
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import tyro

from sparl.configuration import FIELDS
from sparl.errors import UsageError
from sparl.spellings import HINTS, canonical, split_values
from sparl.training.durable import user_path

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
RunPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]

# Short forms of an integer: 1e5, 100k, 1.5M.
_INTEGER = re.compile(r"([+-]?[0-9]{1,20}(?:\.[0-9]{1,20})?(?:[eE]\+?[0-9]{1,2})?)([kKM]?)")
_THOUSANDS = {"": 1, "k": 1_000, "K": 1_000, "M": 1_000_000}


def parse_options(options: type[T], args: Sequence[str], program: str) -> T:
    """Parse the options of a command.

    Raises:
        UsageError: if an option is unknown, missing or wrong; the message lists all such options.
    """
    given, errors = parse(options, split_values(args), program)
    if errors:
        raise UsageError(joined(errors, program))
    return options(**given)


def parse(
    options: type[DataclassInstance], args: Sequence[str], program: str, **of_help: Any
) -> tuple[dict[str, Any], list[str]]:
    """Convert words to the values of the fields that they set, and describe every wrong word.

    Args:
        options: the class whose fields are the options.
        args: the words; each value is a separate word.
        program: the command, which the help names.
        of_help: further arguments of `tyro.cli`, which prints the help.

    Raises:
        SystemExit: after the help has been printed.
    """
    if {"-h", "--help"}.intersection(args):
        tyro.cli(options, args=["--help"], prog=program, **of_help)
    hints = get_type_hints(options, include_extras=True)
    known = [_Option.from_field(field, hints[field.name]) for field in fields(options)]
    parsed = _Parsed({}, [])
    others = parsed.add_flags(args, {each.flag: each for each in known if not each.positional})
    parsed.add_positional(others, [each for each in known if each.positional])
    # A required argument may have been typed after a wrong flag.
    missing = [o.described for o in known if o.required and not parsed.given.get(o.name)]
    if missing and not parsed.errors:
        parsed.errors.append(f"missing {' and '.join(missing)}")
    return parsed.given, parsed.errors


def joined(errors: Sequence[str], program: str) -> str:
    """Join the errors of a command line into one message."""
    what = f"{program.removeprefix('sparl ')}: {'; '.join(errors)}"
    return f"{what} (all options: {program} --help)"


@dataclass(frozen=True)
class _Option:
    """A field of an options class, as an option of the command line.

    Attributes:
        name: name of the field.
        kind: type of one value: int, float, bool, str, Path or a Literal.
        optional: whether "None" is a valid value.
        repeated: whether the option takes one or more values.
        positional: whether the value is given without a flag.
        required: whether the field has no default.
        metavar: name of the value in help texts.
    """

    name: str
    kind: Any
    optional: bool
    repeated: bool
    positional: bool
    required: bool
    metavar: str

    @classmethod
    def from_field(cls, field: Field[Any], hint: Any) -> _Option:
        """Describe a field.

        Args:
            field: the field.
            hint: its type hint: Annotated with tyro's markers, a union with None, a tuple, or a
                plain type.
        """
        marks: Sequence[Any] = ()
        if get_origin(hint) is Annotated:
            hint, *marks = get_args(hint)
        optional = get_origin(hint) in (Union, UnionType) and NoneType in get_args(hint)
        if optional:
            (hint,) = (each for each in get_args(hint) if each is not NoneType)
        repeated = get_origin(hint) is tuple
        if repeated:
            hint = get_args(hint)[0]
        name, positional = field.name, tyro.conf.Positional in marks
        metavar = next((m.metavar for m in marks if getattr(m, "metavar", None)), name.upper())
        return cls(name, hint, optional, repeated, positional, field.default is MISSING, metavar)

    @property
    def flag(self) -> str:
        """The flag that sets the field."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def described(self) -> str:
        """The option's name in messages about a missing option."""
        if self.positional:
            return self.metavar
        return f"{self.flag} ({self.expected})"

    @property
    def expected(self) -> str:
        """A description of the valid values."""
        if get_origin(self.kind) is Literal:
            return f"one of {', '.join(map(repr, get_args(self.kind)))}"
        singular, plural = {
            int: ("an integer", "integers"), float: ("a number", "numbers"),
        }.get(self.kind, ("a string", "strings"))  # fmt: skip
        return plural if self.repeated else singular

    def value(self, words: Sequence[str]) -> Any:
        """Convert the words that follow the flag or that form a positional argument.

        Raises:
            ValueError: if a word does not have the option's type.
        """
        if self.repeated:
            return tuple(map(self._converted, words))
        (word,) = words
        return None if self.optional and word == "None" else self._converted(word)

    def _converted(self, word: str) -> Any:
        if get_origin(self.kind) is Literal:
            if word not in get_args(self.kind):
                raise ValueError(word)
            return word
        # Only fields of a run have short forms: counts of steps, updates, transitions and units.
        short = self.kind is int and self.name in FIELDS
        word = expanded_integer(word) if short else word
        return user_path(word) if self.kind is Path else self.kind(word)


@dataclass
class _Parsed:
    """What has been read of a command line.

    Attributes:
        given: values by the names of the fields.
        errors: one message per wrong word.
    """

    given: dict[str, Any]
    errors: list[str]

    def add_flags(self, args: Sequence[str], known: Mapping[str, _Option]) -> list[str]:
        """Convert the flags and their values; return the other words."""
        others: list[str] = []
        remaining = list(args)
        while remaining:
            word = remaining.pop(0)
            if not word.startswith("--"):
                others.append(word)
                continue
            flag = canonical(word)
            negated = flag.startswith("--no-") and flag not in known
            option = known.get(f"--{flag[5:]}" if negated else flag)
            if option is None or (negated and option.kind is not bool):
                self.errors.append(_about_unknown(word, known))
                _take_values(remaining)
            elif option.kind is bool:
                self.given[option.name] = not negated
            else:
                values = _take_values(remaining, None if option.repeated else 1)
                self._convert(option, values, word)
        return others

    def add_positional(self, words: Sequence[str], options: Iterable[_Option]) -> None:
        """Convert the words without a flag; a word that no option takes is an error."""
        for option in options:
            if words:
                values = words if option.repeated else words[:1]
                self._convert(option, values, option.metavar)
                words = words[len(values) :]
        self.errors += [f"unexpected {word!r}" for word in words]

    def _convert(self, option: _Option, words: Sequence[str], flag: str) -> None:
        if not words:
            self.errors.append(f"{flag} needs a value")
            return
        try:
            self.given[option.name] = option.value(words)
        except ValueError:
            self.errors.append(f"{flag} is {' '.join(words)!r} but must be {option.expected}")


def _take_values(words: list[str], most: int | None = None) -> list[str]:
    """Remove and return the words before the next flag, at most `most` of them."""
    count = next((i for i, word in enumerate(words) if word.startswith("--")), len(words))
    count = count if most is None else min(count, most)
    values, words[:count] = words[:count], []
    return values


def _about_unknown(flag: str, known: Iterable[str]) -> str:
    """Return a message about an unknown flag, with the flag to use instead."""
    plain = canonical(flag)
    if plain == "--import":
        return "--import belongs before the command: sparl --import MODULE COMMAND"
    hint = HINTS.get(plain, "")
    # Show a hint only for commands that accept every flag that the hint names.
    if hint and set(re.findall(r"--[a-z][a-z-]*", hint)) <= set(known):
        return f"unknown option {flag} ({hint})"
    near = difflib.get_close_matches(plain[2:], [each[2:] for each in known], n=1)
    return f"unknown option {flag}{f' (did you mean --{near[0]}?)' if near else ''}"


def expanded_integer(word: str) -> str:
    """Write 1e5, 100k and 0.1M as digits; return any other word unchanged."""
    match = _INTEGER.fullmatch(word)
    if match is None:
        return word
    value = Decimal(match[1]) * _THOUSANDS[match[2]]
    return str(int(value)) if value == value.to_integral_value() else word
