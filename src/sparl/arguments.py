"""Turn the words of a command line into options and configurations."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
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

from sparl.configuration import FIELDS, Config
from sparl.errors import UsageError
from sparl.methods import check, find_method, preset
from sparl.spellings import (
    EARLY_STOP,
    HINTS,
    canonical,
    check_flags_suit_method,
    check_method_is_named,
    split_values,
    translated,
)
from sparl.training.durable import user_path
from sparl.training.toml_files import read_toml

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
RunPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]

# Short forms of an integer: 1e5, 100k, 1.5M.
_INTEGER = re.compile(r"([+-]?[0-9]{1,20}(?:\.[0-9]{1,20})?(?:[eE]\+?[0-9]{1,2})?)([kKM]?)")
_THOUSANDS = {"": 1, "k": 1_000, "K": 1_000, "M": 1_000_000}


def parse_config(args: Sequence[str], program: str) -> Config:
    """Build a configuration from flags, a --config file and the preset.

    If several of these set a field, the first one takes precedence.

    Raises:
        UsageError: if the command line has errors; the message lists all of them.
    """
    typed = split_values(args)
    words, path = _take(typed, "--config")
    from_file: dict[str, Any] = {}
    if path is not None:
        from_file = read_toml(Path(path))
    if "method" not in from_file and not {"--method", "--policy"}.intersection(words):
        check_method_is_named(args)
    released, words = words, translated(words)
    words, method = _take(words, "--method")
    words, env = _take(words, "--env")
    words, settings = _take(words, "--settings")
    words, early_stop = _take(words, EARLY_STOP)
    if settings is not None:
        from_file["settings"] = _one(settings, from_file, "settings")
    method = method and find_method(method).name
    method, env = _one(method, from_file, "method"), _one(env, from_file, "env")
    method = find_method(method).name
    check_flags_suit_method(released, method)
    base = preset(method, env, **from_file)
    from sparl.topology.propose import wrong_rules  # imported late: it loads the native module

    # Presets may depend on other fields (densities on the number of layers): apply flags first.
    chosen, errors = _parse(Config, words, program, default=base, description=_TRAIN_HELP)
    try:
        if "threads" in chosen:
            check_threads(chosen["threads"])
        config = preset(method, env, **{**from_file, **chosen})
        if early_stop is not None:
            config = replace(config, freeze_fraction=_frozen_share(early_stop, config, chosen))
        errors += wrong_rules(config.drop, config.grow, config.density_schedule)
        check(config)
    except UsageError as error:
        if not errors:
            raise
        errors.append(str(error))
    if errors:
        raise UsageError(_joined(errors, program))
    return config


def _frozen_share(early_stop: str, config: Config, chosen: Mapping[str, Any]) -> float:
    """Convert the number of final steps without topology updates (DS) to a share of the horizon.

    Raises:
        UsageError: if the value is not a number of steps within the horizon, or if the share is
            given too.
    """
    flag = "--ann_earlyStopTopologyChange"
    steps = _expanded_integer(early_stop).replace("_", "")
    if not re.fullmatch("[0-9]{1,20}", steps) or int(steps) > config.horizon:
        raise UsageError(
            f"{flag} is {early_stop!r} but must be a number of environment steps, at most the "
            f"horizon of {config.horizon:,}"
        )
    if "freeze_fraction" in chosen:
        raise UsageError(f"{flag} and --freeze-fraction mean the same; omit one of them")
    return int(steps) / config.horizon


def check_threads(threads: int | None) -> None:
    """Raise UsageError if there are more threads than cores."""
    from sparl.training.machine import available_cores

    if threads is not None and threads > available_cores():
        raise UsageError(
            f"--threads is {threads} but must be at most {available_cores()}, the number of cores "
            "that this process may use"
        )


def episodes_and_seed(config: Config, episodes: int | None, seed: int | None) -> tuple[int, int]:
    """Return the number of episodes to play and their seed, by default those used in training.

    Raises:
        UsageError: if a number is too small.
    """
    episodes = config.evaluation_episodes if episodes is None else episodes
    seed = config.evaluation_seed if seed is None else seed
    if episodes < 1 or seed < 0:
        raise UsageError(
            f"--episodes is {episodes} but must be at least 1; --seed is {seed} but must be at "
            "least 0"
        )
    return episodes, seed


def named(args: Sequence[str]) -> set[str]:
    """Return the names of the fields that the flags of a command line set."""
    flags = [canonical(word)[2:] for word in split_values(args) if word.startswith("--")]
    return {flag.removeprefix("no-").replace("-", "_") for flag in flags}


def _one(flag: str | None, from_file: dict[str, Any], name: str) -> str:
    """Return the method, environment or settings, and remove that field from the file's fields.

    Raises:
        UsageError: if the flag and the file disagree, because other fields of the file depend on
            the value.
    """
    in_file = from_file.pop(name, None)
    if flag is not None and in_file is not None and flag != in_file:
        raise UsageError(
            f"--{name} is {flag}, but the configuration file is for {in_file}; omit one of them"
        )
    value = in_file if flag is None else flag
    default: str = getattr(Config, name)
    return default if value is None else value


_TRAIN_HELP = (
    "Every field below except --run-dir, --overwrite and --resume can also be set in a TOML file "
    "given with --config FILE; flags take precedence over the file. Defaults are those of the "
    "method and environment named on this command line. Integers may be written 100_000, 1e5, "
    "100k or 0.1M. --policy means --method; the flags of the papers' released codes are understood "
    "where they have an equivalent."
)


def _take(words: list[str], flag: str) -> tuple[list[str], str | None]:
    """Remove a flag and its value; return the other words and the flag's last value."""
    rest, value = [], None
    remaining = iter(words)
    for word in remaining:
        if canonical(word) != flag:
            rest.append(word)
            continue
        value = next(remaining, None)
        if value is None or value.startswith("--"):
            raise UsageError(f"{word} needs a value")
    return rest, value


def parse_options(options: type[T], args: Sequence[str], program: str) -> T:
    """Parse the options of a command.

    Raises:
        UsageError: if an option is unknown, missing or wrong; the message lists all such options.
    """
    given, errors = _parse(options, split_values(args), program)
    # A required argument may have been typed after a wrong flag.
    missing = (
        [] if errors else [o for o in _options(options) if o.required and not given.get(o.name)]
    )
    if missing:
        errors.append(f"missing {' and '.join(option.described for option in missing)}")
    if errors:
        raise UsageError(_joined(errors, program))
    return options(**{name: _user_paths(value) for name, value in given.items()})


def _user_paths(value: Any) -> Any:
    """Expand "~" in the paths of an option's value."""
    if isinstance(value, tuple):
        return tuple(_user_paths(each) for each in value)
    return user_path(value) if isinstance(value, Path) else value


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
        return self.kind(_expanded_integer(word) if short else word)


def _options(options: type[DataclassInstance]) -> list[_Option]:
    """Describe the fields of an options class, in order."""
    hints = get_type_hints(options, include_extras=True)
    return [
        _option(field.name, hints[field.name], field.default is MISSING)
        for field in fields(options)
    ]


def _option(name: str, hint: Any, required: bool) -> _Option:
    """Describe a field.

    Args:
        name: name of the field.
        hint: type hint of the field: Annotated with tyro's markers, a union with None, a tuple, or
            a plain type.
        required: whether the field has no default.
    """
    marks: tuple[Any, ...] = ()
    if get_origin(hint) is Annotated:
        hint, *rest = get_args(hint)
        marks = tuple(rest)
    optional = get_origin(hint) in (Union, UnionType) and NoneType in get_args(hint)
    if optional:
        (hint,) = (each for each in get_args(hint) if each is not NoneType)
    repeated = get_origin(hint) is tuple
    if repeated:
        hint = get_args(hint)[0]
    positional = tyro.conf.Positional in marks
    metavar = next((m.metavar for m in marks if getattr(m, "metavar", None)), name.upper())
    return _Option(name, hint, optional, repeated, positional, required, metavar)


def _parse(
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
    known = {option.flag: option for option in _options(options) if not option.positional}
    given: dict[str, Any] = {}
    errors: list[str] = []
    positional: list[str] = []
    remaining = list(args)
    while remaining:
        word = remaining.pop(0)
        if not word.startswith("--"):
            positional.append(word)
            continue
        flag = canonical(word)
        negated = flag.startswith("--no-") and flag not in known
        option = known.get(f"--{flag[5:]}" if negated else flag)
        if option is None or (negated and option.kind is not bool):
            errors.append(_about_unknown(word, known))
            _take_values(remaining)
        elif option.kind is bool:
            given[option.name] = not negated
        else:
            values = _take_values(remaining, None if option.repeated else 1)
            _convert(option, values, word, given, errors)
    _convert_positional(options, positional, given, errors)
    return given, errors


def _take_values(words: list[str], most: int | None = None) -> list[str]:
    """Remove and return the words before the next flag, at most `most` of them."""
    count = next((i for i, word in enumerate(words) if word.startswith("--")), len(words))
    count = count if most is None else min(count, most)
    values, words[:count] = words[:count], []
    return values


def _convert(
    option: _Option, words: Sequence[str], flag: str, given: dict[str, Any], errors: list[str]
) -> None:
    """Convert the words of an option into `given`, or add a message to `errors`."""
    if not words:
        errors.append(f"{flag} needs a value")
        return
    try:
        given[option.name] = option.value(words)
    except ValueError:
        errors.append(f"{flag} is {' '.join(words)!r} but must be {option.expected}")


def _convert_positional(
    options: type[DataclassInstance], words: list[str], given: dict[str, Any], errors: list[str]
) -> None:
    """Convert the words without a flag; a word that no positional option takes is an error."""
    for option in _options(options):
        if option.positional and words:
            values = words if option.repeated else words[:1]
            _convert(option, values, option.metavar, given, errors)
            words = words[len(values) :]
    errors += [f"unexpected {word!r}" for word in words]


def _joined(errors: Sequence[str], program: str) -> str:
    """Join the errors of a command line into one message."""
    what = f"{program.removeprefix('sparl ')}: {'; '.join(errors)}"
    return f"{what} (all options: {program} --help)"


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


def _expanded_integer(word: str) -> str:
    """Write 1e5, 100k and 0.1M as digits; return any other word unchanged."""
    match = _INTEGER.fullmatch(word)
    if match is None:
        return word
    value = Decimal(match[1]) * _THOUSANDS[match[2]]
    return str(int(value)) if value == value.to_integral_value() else word
