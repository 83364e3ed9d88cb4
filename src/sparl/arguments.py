"""From the words of a command line to a configuration."""

from __future__ import annotations

import contextlib
import difflib
import io
import itertools
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import tyro

from sparl.configuration import FIELDS, Config
from sparl.configuration_checks import type_in_words
from sparl.errors import UsageError
from sparl.methods import check, find_method, preset
from sparl.spellings import (
    EARLY_STOP,
    HINTS,
    check_flags_suit_method,
    check_method_is_named,
    hyphenated,
    translated,
)
from sparl.training.durable import user_path
from sparl.training.toml_files import read_toml

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
RunPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]

# An integer as people write it: 1e5, 100k, 1.5M.
_INTEGER = re.compile(r"([+-]?[0-9]{1,20}(?:\.[0-9]{1,20})?(?:[eE]\+?[0-9]{1,2})?)([kKM]?)")
_THOUSANDS = {"": 1, "k": 1_000, "K": 1_000, "M": 1_000_000}


def parse_config(args: Sequence[str], program: str) -> Config:
    """A configuration from flags, over --config FILE, over the method's preset.

    Raises:
        UsageError: everything that is wrong.
    """
    words, path = _take(hyphenated(args), "--config")
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
    from sparl.topology.propose import wrong_rules  # late: it loads the engine

    flags, wrong = _parse(Config, words, program, default=base, description=_TRAIN_HELP)
    # Presets may depend on other fields (densities on the number of layers): apply flags first.
    given = named(words)
    chosen = {name: getattr(flags, name) for name in FIELDS if name in given}
    try:
        if "threads" in chosen:
            check_threads(chosen["threads"])
        config = preset(method, env, **{**from_file, **chosen})
        if early_stop is not None:
            config = replace(config, freeze_fraction=_frozen_share(early_stop, config, chosen))
        wrong += wrong_rules(config.drop, config.grow, config.density_schedule)
        check(config)
    except UsageError as error:
        if not wrong:
            raise
        wrong.append(str(error))
    if wrong:
        raise UsageError(_all_of(wrong, program))
    return config


def _frozen_share(early_stop: str, config: Config, chosen: Mapping[str, Any]) -> float:
    """DS's environment steps before the end without topology updates, as a share of the horizon.

    Raises:
        UsageError: not a number of steps within the horizon, or the share is given too.
    """
    steps = _plain_integer(early_stop).replace("_", "")
    if not re.fullmatch("[0-9]{1,20}", steps) or int(steps) > config.horizon:
        raise UsageError(
            f"{EARLY_STOP} is {early_stop!r}, must be environment steps, at most the horizon of "
            f"{config.horizon:,}"
        )
    if "freeze_fraction" in chosen:
        raise UsageError(f"{EARLY_STOP} and --freeze-fraction mean the same; leave out one of them")
    return int(steps) / config.horizon


def check_threads(threads: int | None) -> None:
    """Raise UsageError where more threads are asked for than there are cores."""
    from sparl.training.machine import available_cores

    if threads is not None and threads > available_cores():
        raise UsageError(
            f"--threads is {threads}, must be at most {available_cores()}, the cores that this "
            "process may use"
        )


def named(args: Sequence[str]) -> set[str]:
    """The fields that flags among the words name."""
    flags = [word.removeprefix("--") for word in hyphenated(args) if word.startswith("--")]
    return {flag.removeprefix("no-").replace("-", "_") for flag in flags}


def _one(flag: str | None, from_file: dict[str, Any], name: str) -> str:
    """The method, environment or settings, taken out of the file's fields.

    Raises:
        UsageError: flag and file disagree although the file fixes what depends on it.
    """
    in_file = from_file.pop(name, None)
    if flag is not None and in_file is not None and flag != in_file:
        raise UsageError(
            f"--{name} {flag}, but the configuration file is for {in_file}; leave out one of them"
        )
    value = in_file if flag is None else flag
    default: str = getattr(Config, name)
    return default if value is None else value


_TRAIN_HELP = (
    "Every field below but --run-dir, --overwrite and --resume can also stand in a TOML file given "
    "with --config FILE, underneath the flags. Defaults are those of the method and environment "
    "named on this command line. "
    "Integers may be written 100_000, 1e5, 100k or 0.1M. --policy means --method; the flags of the "
    "papers' released codes are understood where they have an equivalent."
)


def _take(words: list[str], flag: str) -> tuple[list[str], str | None]:
    """The words without a flag and its value, and the value, the last one if repeated."""
    rest, value = [], None
    remaining = iter(words)
    for word in remaining:
        if word != flag:
            rest.append(word)
            continue
        value = next(remaining, None)
        if value is None or value.startswith("--"):
            raise UsageError(f"{flag} needs a value")
    return rest, value


def parse_options(options: type[T], args: Sequence[str], program: str, **more: Any) -> T:
    """Options from words; what is wrong comes in one line.

    Raises:
        UsageError: unknown or missing options, values of the wrong type.
    """
    parsed, wrong = _parse(options, hyphenated(args), program, **more)
    required = [field.name for field in fields(options) if field.default is MISSING]
    wrong += [f"needs {name.upper()}" for name in required if getattr(parsed, name) == ()]
    if wrong:
        raise UsageError(_all_of(wrong, program))
    return replace(
        parsed, **{f.name: _user_paths(getattr(parsed, f.name)) for f in fields(options)}
    )


def _user_paths(value: Any) -> Any:
    """The value of an option, with "~" expanded in paths."""
    if isinstance(value, tuple):
        return tuple(_user_paths(each) for each in value)
    return user_path(value) if isinstance(value, Path) else value


def _parse(options: type[T], args: Sequence[str], program: str, **more: Any) -> tuple[T, list[str]]:
    """Options from words, and all that is wrong with these; a wrong flag counts as not given.

    Raises:
        UsageError: there is something else wrong than single flags.
    """
    kinds = {f"--{field.name.replace('_', '-')}": type_in_words(field) for field in fields(options)}
    known = {"--help", *kinds, *(f"--no-{flag[2:]}" for flag in kinds)}
    unknown = [word for word in args if word.startswith("--") and word not in known]
    wrong = [_about_unknown(flag, kinds, options is Config) for flag in unknown]
    _, words = _apart(args, unknown)
    words = _with_plain_integers(words, kinds)
    while True:
        written = io.BytesIO()
        complaint = io.TextIOWrapper(written, "utf-8", "surrogateescape", write_through=True)
        try:
            with contextlib.redirect_stderr(complaint):
                parsed: T = tyro.cli(options, args=words, prog=program, **more)
            return parsed, wrong
        except SystemExit as exit_:
            if exit_.code in (0, None):
                raise
        text = _first_paragraph(written.getvalue().decode("utf-8", "surrogateescape"))
        flags = re.findall(r"--[\w-]+", text)
        of_flags, others = _apart(words, flags)
        if not (wrong and text.startswith("Missing from")):  # it may have gone with a wrong flag
            wrong.append(_in_our_words(text, " ".join(of_flags[1:]), kinds))
        if others == words:
            raise UsageError(_all_of(wrong, program))
        words = others


def _all_of(wrong: Sequence[str], program: str) -> str:
    what = f"{program.removeprefix('sparl ')}: {'; '.join(wrong)}"
    return f"{what} (all options: {program} --help)"


def _about_unknown(flag: str, kinds: Mapping[str, str], of_a_run: bool) -> str:
    """What to write instead of a flag that is not known."""
    if flag == "--import":
        return "--import stands before the command: sparl --import MODULE COMMAND"
    if of_a_run and flag in HINTS:
        return f"unknown option {flag} ({HINTS[flag]})"
    return f"unknown option {flag}{_suggestion(flag, kinds)}"


def _with_plain_integers(words: Sequence[str], kinds: Mapping[str, str]) -> list[str]:
    """The words, with digits alone in the values of flags that take integers."""
    out, kind = list[str](), ""
    for word in words:
        if word.startswith("--"):
            kind = kinds.get(word, "")
        out.append(_plain_integer(word) if kind in ("an integer", "integers") else word)
    return out


def _plain_integer(word: str) -> str:
    """1e5, 100k and 0.1M as digits; a word that is no integer as it is."""
    match = _INTEGER.fullmatch(word)
    if match is None:
        return word
    value = Decimal(match[1]) * _THOUSANDS[match[2]]
    return str(int(value)) if value == value.to_integral_value() else word


def _suggestion(flag: str, known: Iterable[str]) -> str:
    """The flag that an unknown one comes near, as a question."""
    near = difflib.get_close_matches(flag[2:], [each[2:] for each in known], n=1)
    return f" (did you mean --{near[0]}?)" if near else ""


def _in_our_words(complaint: str, value: str, kinds: Mapping[str, str]) -> str:
    """What is wrong, from tyro's complaint, the flag's value, and what values must be.

    A complaint of a form that is not known here stays as it is.
    """
    if match := re.match(r"Error parsing (--[\w-]+):", complaint):
        return f"{match[1]} is {value!r}, must be {kinds[match[1]]}"
    if match := re.match(r"invalid choice '(.*)' for argument '(.+)'. [^(]*\((.*?),?\)", complaint):
        return f"{match[2]} is {match[1]!r}, must be one of {match[3]}"
    if match := re.match(r"Missing value for argument '(.+?)'", complaint):
        return f"{match[1]} needs a value"
    if match := re.match(r"Unrecognized options: (.*)", complaint):
        return f"unexpected {match[1]!r}"
    needed = re.findall(r"(--[\w-]+ \S+|[A-Z]+) (.*?)\.? \(required\)", complaint)
    names = [name if name.startswith("--") else f"{name} ({what})" for name, what in needed]
    return f"needs {' and '.join(names)}" if names else complaint


def _first_paragraph(box: str) -> str:
    """The error out of what tyro draws: a box with a title, and paragraphs between rules."""
    plain = re.sub(r"\x1b\[[0-9;]*m|^[│╭╰]|[│╮╯]$|[─-]{3,}", "", box, flags=re.M)
    lines = (line.strip() for line in plain.splitlines()[1:])
    return " ".join(itertools.takewhile(bool, itertools.dropwhile(operator.not_, lines)))


def _apart(words: Sequence[str], flags: Sequence[str]) -> tuple[list[str], list[str]]:
    """These flags and their values, and all other words."""
    found, others = list[str](), list[str]()
    into = others
    for word in words:
        if word.startswith("--"):
            into = found if word in flags else others
        into.append(word)
    return found, others
