"""Parse the options of a command, which are the fields of a dataclass."""

from __future__ import annotations

import difflib
import inspect
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from decimal import Decimal
from functools import partial
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

from sparl.configuration import FIELDS
from sparl.console import PlainConsole
from sparl.errors import UsageError
from sparl.option_help import HelpLine, field_docs, help_text
from sparl.spellings import HINTS, canonical, split_values
from sparl.training.durable import user_path

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


@dataclass(frozen=True)
class Argument:
    """An annotation of a field that controls how its option appears on the command line.

    Attributes:
        metavar: placeholder for the value in the help and in messages; "" means that of its type.
        positional: whether the value is given without a flag.
    """

    metavar: str = ""
    positional: bool = False


RunPath = Annotated[Path, Argument("RUN", positional=True)]

# Short forms of an integer: 1e5, 100k, 1.5M.
_INTEGER = re.compile(r"([+-]?[0-9]{1,20}(?:\.[0-9]{1,20})?(?:[eE]\+?[0-9]{1,2})?)([kKM]?)")
_THOUSANDS = {"": 1, "k": 1_000, "K": 1_000, "M": 1_000_000}


def parse_options(options: type[T], args: Sequence[str], program: str) -> T:
    """Parse the options of a command.

    Raises:
        SystemExit: after the help has been printed.
        UsageError: if an option is unknown, invalid or missing. The message lists all unknown and
            invalid options or, if there are none, all missing options.
    """
    given, errors = parse(options, split_values(args), program)
    if errors:
        raise UsageError(joined(errors, program))
    return options(**given)


def parse(
    options: type[DataclassInstance],
    args: Sequence[str],
    program: str,
    print_help: Callable[[], None] | None = None,
    further: Iterable[str] = (),
) -> tuple[dict[str, Any], list[str]]:
    """Convert command-line words to field values, and describe the errors.

    Args:
        options: the class whose fields are the options.
        args: the words; each value is a separate word.
        program: the command, as the help names it.
        print_help: prints the help; None means that every field is printed with its docstring.
        further: further flags of the command, which messages may suggest.

    Returns:
        The values of the fields that the words set, and the error messages: one for each invalid
        flag or word or, if there are none, one that names the missing options.

    Raises:
        SystemExit: after the help has been printed.
    """
    if {"-h", "--help"}.intersection(args):
        (print_help or partial(_print_help, options, program))()
        raise SystemExit(0)
    known = options_of(options)
    parsed = _Parsed({}, [], list(further))
    others = parsed.add_flags(args, {each.flag: each for each in known if not each.positional})
    parsed.add_positional(others, [each for each in known if each.positional])
    # An invalid flag consumes the words after it, which may include a required argument.
    missing = [o.described for o in known if o.required and not parsed.given.get(o.name)]
    if missing and not parsed.errors:
        *others, last = missing
        parsed.errors.append(f"missing {', '.join(others)}{' and ' if others else ''}{last}")
    return parsed.given, parsed.errors


def options_of(options: type[DataclassInstance]) -> list[Option]:
    """Return the options that the fields of a dataclass describe."""
    hints = get_type_hints(options, include_extras=True)
    return [Option.from_field(field, hints[field.name]) for field in fields(options)]


def separated(options: type[DataclassInstance], args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate the words of a command line that belong to these options from the other words.

    Args:
        options: the class whose fields are the options.
        args: the words; each value is a separate word.
    """
    known = {option.flag: option for option in options_of(options)}
    own: list[str] = []
    others: list[str] = []
    remaining = list(args)
    while remaining:
        word = remaining.pop(0)
        option = known.get(canonical(word))
        if option is None:
            others.append(word)
        else:
            most = 0 if option.kind is bool else None if option.repeated else 1
            own += [word, *_take_values(remaining, most)]
    return own, others


def _print_help(options: type[DataclassInstance], program: str) -> None:
    known, docs = options_of(options), field_docs(options)
    positional = [option for option in known if option.positional]
    lines: dict[str, list[HelpLine]] = {"": [], "options": []}
    for option in known:
        text = without_none(docs.get(option.name, ""))
        if not all(choice in text for choice in option.choices):
            text = f"{text} One of {', '.join(option.choices)}."
        lines["" if option.positional else "options"].append(HelpLine(option.shown, text))
    needed = [option.shown for option in known if option.required and not option.positional]
    usage = " ".join([program, *(each.metavar for each in positional), *needed, "[OPTIONS]"])
    print_help_text(usage, inspect.getdoc(options) or "", lines)


def without_none(doc: str) -> str:
    """Replace "None" in a docstring with "by default", because users do not type None."""
    return re.sub(r"\bNone( means| creates|:) ", "by default ", doc)


def print_help_text(usage: str, description: str, groups: Mapping[str, Sequence[HelpLine]]) -> None:
    """Print the help of a command; see `sparl.option_help.help_text`."""
    console = PlainConsole()
    width = console.width if console.is_terminal else shutil.get_terminal_size((80, 24)).columns
    console.copyable(help_text(usage, description, groups, width))


def joined(errors: Sequence[str], program: str) -> str:
    """Join the errors of a command line into one message."""
    what = f"{program.removeprefix('sparl ')}: {'; '.join(errors)}"
    return f"{what} (all options: {program} --help)"


@dataclass(frozen=True)
class Option:
    """A command-line option, which sets one field of an options class.

    Attributes:
        name: name of the field.
        kind: type of one value: int, float, bool, str, Path or a Literal.
        optional: whether "None" is a valid value.
        repeated: whether the option takes one or more values.
        positional: whether the value is given without a flag.
        required: whether the field has no default.
        metavar: placeholder for the value in help texts.
        default: the default of the field; None if it has none.
    """

    name: str
    kind: Any
    optional: bool
    repeated: bool
    positional: bool
    required: bool
    metavar: str
    default: Any

    @classmethod
    def from_field(cls, field: Field[Any], hint: Any) -> Option:
        """Create the option that sets a field.

        Args:
            field: the field.
            hint: its type hint: Annotated with an Argument, a union with None, a tuple, or a plain
                type.
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
        argument = next((mark for mark in marks if isinstance(mark, Argument)), Argument())
        required = field.default is MISSING
        metavar = argument.metavar or _METAVARS.get(hint) or "|".join(map(str, get_args(hint)))
        default = None if required else field.default
        return cls(
            field.name, hint, optional, repeated, argument.positional, required, metavar, default
        )

    @property
    def flag(self) -> str:
        """The flag that sets the field."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def choices(self) -> tuple[str, ...]:
        """The valid values of a Literal; empty for other types."""
        return get_args(self.kind) if get_origin(self.kind) is Literal else ()

    @property
    def shown(self) -> str:
        """The option with its default, as the help shows it; see `with_value`."""
        return self.metavar if self.positional else self.with_value(self.default)

    def with_value(self, value: Any) -> str:
        """Return the flag and a value as a user types them; a placeholder represents None.

        For a bool, return the flag that sets the opposite value.
        """
        if self.kind is bool:
            return f"--no-{self.flag[2:]}" if value else self.flag
        if isinstance(value, tuple):
            value = " ".join(map(_typed, value))
        if value in (None, ""):
            return f"{self.flag} {self.metavar}{' ...' if self.repeated else ''}"
        return f"{self.flag} {_typed(value)}"

    @property
    def described(self) -> str:
        """The option's name in messages about a missing option."""
        if self.positional:
            return self.metavar
        return f"{self.flag} ({self.expected})" if self.choices else f"{self.flag} {self.metavar}"

    @property
    def expected(self) -> str:
        """A description of the valid values."""
        if self.choices:
            return f"one of {', '.join(map(repr, self.choices))}"
        singular, plural = {
            int: ("an integer", "integers"), float: ("a number", "numbers"),
            Path: ("a path", "paths"),
        }.get(self.kind, ("a string", "strings"))  # fmt: skip
        return f"{plural}, separated by spaces" if self.repeated else singular

    def value(self, words: Sequence[str]) -> Any:
        """Convert the command-line words of an option to a value of its type.

        Raises:
            ValueError: if a word does not have the option's type.
        """
        if self.repeated:
            return tuple(map(self._converted, words))
        (word,) = words
        return None if self.optional and word == "None" else self._converted(word)

    def _converted(self, word: str) -> Any:
        if self.choices:
            if word not in self.choices:
                raise ValueError(word)
            return word
        # Short forms are allowed only in options with the name of a run's field. Those fields
        # count steps, updates, transitions and units.
        short = self.kind is int and self.name in FIELDS
        word = expanded_integer(word) if short else word
        if self.kind is not Path:
            return self.kind(word)
        if not word:  # usually an unset shell variable; it would mean the current folder
            raise ValueError("an empty path")
        return user_path(word)


_METAVARS = {int: "N", float: "X", str: "NAME", Path: "PATH"}


def _typed(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@dataclass
class _Parsed:
    """The values and errors found so far while a command line is parsed.

    Attributes:
        given: values, by field name.
        errors: one message per error.
        further: further flags of the command, which messages may suggest.
    """

    given: dict[str, Any]
    errors: list[str]
    further: list[str]

    def add_flags(self, args: Sequence[str], known: Mapping[str, Option]) -> list[str]:
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
                self.errors.append(_about_unknown(word, [*known, *self.further]))
                _take_values(remaining)
            elif option.kind is bool:
                self.given[option.name] = not negated
            else:
                values = _take_values(remaining, None if option.repeated else 1)
                self._convert(option, values, word)
        return others

    def add_positional(self, words: Sequence[str], options: Iterable[Option]) -> None:
        """Convert positional words; a word that is left over is an error."""
        for option in options:
            if words:
                values = words if option.repeated else words[:1]
                self._convert(option, values, option.metavar.strip("[]"))
                words = words[len(values) :]
        self.errors += [f"unexpected {word!r}" for word in words]

    def _convert(self, option: Option, words: Sequence[str], flag: str) -> None:
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
    """Return a message about an unknown flag, which suggests a replacement if there is one."""
    plain = canonical(flag)
    if plain == "--import":
        return "--import must precede the command: sparl --import MODULE COMMAND"
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
