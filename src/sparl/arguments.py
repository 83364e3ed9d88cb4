"""From the words of a command line to a configuration."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from sparl.configuration import FIELDS, Config, check
from sparl.errors import UsageError
from sparl.methods import find_method, preset
from sparl.training.run_folder import read_toml

T = TypeVar("T")

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
    flags = parse_options(Config, words, program, default=base, description=_TRAIN_HELP)
    # Presets may depend on other fields (densities on the number of layers): apply flags first.
    given = {word.removeprefix("--").removeprefix("no-").replace("-", "_") for word in words}
    chosen = {name: getattr(flags, name) for name in FIELDS if name in given}
    config = preset(method, env, **{**from_file, **chosen})
    check(config)
    return config


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
    written = io.BytesIO()
    complaint = io.TextIOWrapper(written, "utf-8", write_through=True)
    try:
        with contextlib.redirect_stderr(complaint):
            parsed: T = tyro.cli(options, args=args, prog=program, **more)
            return parsed
    except SystemExit as exit_:
        if exit_.code in (0, None):
            raise
    # tyro draws a box: a title, then paragraphs between rules; the first one is the error, and
    # flags that begin a line after it are suggestions.
    plain = re.sub(r"\x1b\[[0-9;]*m|^[│╭╰]|[│╮╯]$", "", written.getvalue().decode(), flags=re.M)
    lines = [line.replace("─", "").strip() for line in plain.splitlines()[1:]]
    end = lines.index("") if "" in lines else len(lines)
    near = [line.split()[0].rstrip(",") for line in lines[end:] if line.startswith("--")]
    hint = f"; did you mean {' or '.join(near[:2])}?" if near and near[0] not in args else ""
    raise UsageError(f"{program}: {' '.join(lines[:end])}{hint} (all options: {program} --help)")
