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
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import tyro

from sparl.configuration import FIELDS, Config, check, type_in_words
from sparl.errors import UsageError
from sparl.methods import find_method, preset
from sparl.training.durable import user_path
from sparl.training.toml_files import read_toml

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
RunPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]

# The command lines of the papers' released codes.
SPELLINGS = {
    "--policy": "--method",
    "--nstep": "--n-step",
    "--delay-nstep": "--n-step-delay-updates",
    "--use-dynamic-buffer": "--dynamic-buffer",
}


def parse_config(args: Sequence[str], program: str) -> Config:
    """A configuration from flags, over --config FILE, over the method's preset.

    Raises:
        UsageError: everything that is wrong.
    """
    words = _respell(args)
    words, path = _take(words, "--config")
    from_file: dict[str, Any] = {}
    if path is not None:
        from_file = read_toml(Path(path))
    words, method = _take(words, "--method")
    words, env = _take(words, "--env")
    words, settings = _take(words, "--settings")
    if settings is not None:
        from_file["settings"] = _one(settings, from_file, "settings")
    method = method and find_method(method).name
    method, env = _one(method, from_file, "method"), _one(env, from_file, "env")
    method = find_method(method).name
    base = preset(method, env, **from_file)
    flags, wrong = _parse(Config, words, program, default=base, description=_TRAIN_HELP)
    # Presets may depend on other fields (densities on the number of layers): apply flags first.
    given = named(words)
    chosen = {name: getattr(flags, name) for name in FIELDS if name in given}
    try:
        config = preset(method, env, **{**from_file, **chosen})
        check(config)
    except UsageError as error:
        if not wrong:
            raise
        wrong.append(str(error))
    if wrong:
        raise UsageError(_all_of(wrong, program))
    return config


def named(args: Sequence[str]) -> set[str]:
    """The fields that flags among the words name."""
    flags = [word.removeprefix("--") for word in _respell(args) if word.startswith("--")]
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
    "Every field below can also stand in a TOML file given with --config FILE, underneath the "
    "flags. Defaults are those of the method and environment named on this command line. "
    "--policy means --method; the spellings of the papers' codes are understood."
)


def _respell(args: Sequence[str]) -> list[str]:
    """Flags with hyphens and today's names."""
    words = []
    for word in args:
        if word.startswith("--"):
            flag, equals, value = word.partition("=")
            flag = flag.replace("_", "-")
            words.append(SPELLINGS.get(flag, flag))
            if equals:
                words.append(value)
        else:
            words.append(word)
    return words


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
    parsed, wrong = _parse(options, _respell(args), program, **more)
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
    wrong = [f"unknown option {flag}{_suggestion(flag, kinds)}" for flag in unknown]
    _, words = _apart(args, unknown)
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
