"""Parse command-line arguments into the configuration of a run."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sparl.configuration import FIELDS, MOST_EPISODES, Config
from sparl.errors import UsageError
from sparl.field_texts import GROUPS
from sparl.methods import check, find_method, preset
from sparl.option_help import HelpLine, field_docs
from sparl.options import (
    Option,
    expanded_integer,
    joined,
    options_of,
    parse,
    print_help_text,
    without_none,
)
from sparl.spellings import (
    EARLY_STOP,
    canonical,
    check_flags_suit_method,
    check_method_is_named,
    split_values,
    translated,
)
from sparl.training.toml_files import read_toml
from sparl.wording import bound


@dataclass(frozen=True)
class Typed:
    """A configuration, and the fields that were set on the command line or in a file.

    Attributes:
        config: the configuration.
        fields: those values, by field name, and always the method and the environment; all other
            fields have the values of the preset.
    """

    config: Config
    fields: dict[str, Any]


def parse_config(args: Sequence[str], program: str, further: type[Any] | None = None) -> Config:
    """Return the configuration that a command line describes; see `parse_typed`."""
    return parse_typed(args, program, further).config


def parse_typed(args: Sequence[str], program: str, further: type[Any] | None = None) -> Typed:
    """Build a configuration from flags, a --config file and the preset.

    If several of these set the same field, the first one in this order takes precedence; but a flag
    and a file must not name different methods, environments or settings.

    Args:
        args: the command-line arguments.
        program: the command, as the help and error messages name it.
        further: a class whose fields are the command's options that are not configuration fields;
            the help lists them.

    Raises:
        SystemExit: after the help has been printed.
        UsageError: if the command line or the file has errors; invalid options are listed together.
    """
    typed = split_values(args)
    words, path = _take(typed, "--config")
    from_file: dict[str, Any] = {}
    if path == "":
        raise UsageError(f"{program}: --config is an empty path")
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

    # A preset may depend on other fields (for example, the densities depend on the number of
    # layers), so the flags are parsed before the preset is computed.
    others = [option.flag for option in options_of(further)] if further else []
    chosen, errors = parse(
        Config, words, program, lambda: _print_help(base, words, program, further),
        ["--config", *others],
    )  # fmt: skip
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
        raise UsageError(joined(errors, program))
    fields = {**from_file, **chosen, "method": method, "env": env}
    if early_stop is not None:
        fields["freeze_fraction"] = config.freeze_fraction
    return Typed(config, fields)


def _frozen_share(early_stop: str, config: Config, chosen: Mapping[str, Any]) -> float:
    """Convert the number of final steps without topology updates (DS) to a fraction of the horizon.

    Raises:
        UsageError: if the value is not a number of steps within the horizon, or if
            --freeze-fraction is given too.
    """
    flag = "--ann_earlyStopTopologyChange"
    steps = expanded_integer(early_stop).replace("_", "")
    if not re.fullmatch("[0-9]{1,20}", steps) or int(steps) > config.horizon:
        raise UsageError(
            f"{flag} is {early_stop!r} but must be a number of environment steps, at most the "
            f"horizon of {config.horizon:,}"
        )
    if "freeze_fraction" in chosen:
        raise UsageError(f"{flag} and --freeze-fraction set the same field; use only one of them")
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
        UsageError: if a number is out of range.
    """
    episodes = config.evaluation_episodes if episodes is None else episodes
    seed = config.evaluation_seed if seed is None else seed
    if not 1 <= episodes <= MOST_EPISODES:
        raise UsageError(f"--episodes is {episodes} but must be from 1 to {MOST_EPISODES:,}")
    if seed < 0:
        raise UsageError(f"--seed is {seed} but must be at least 0")
    return episodes, seed


def named(args: Sequence[str]) -> set[str]:
    """Return the flags on a command line as names of fields; --no-NAME becomes NAME."""
    flags = [canonical(word)[2:] for word in split_values(args) if word.startswith("--")]
    return {flag.removeprefix("no-").replace("-", "_") for flag in flags}


def _one(flag: str | None, from_file: dict[str, Any], name: str) -> str:
    """Return the value from a flag, the file or Config's default, and remove it from `from_file`.

    Raises:
        UsageError: if the flag and the file disagree: other fields in the file depend on the
            value, so the flag cannot override it.
    """
    in_file = from_file.pop(name, None)
    if flag is not None and in_file is not None and flag != in_file:
        raise UsageError(
            f"--{name} is {flag}, but the configuration file sets {name} to {in_file}; omit "
            f"--{name}, or use another file"
        )
    value = in_file if flag is None else flag
    default: str = getattr(Config, name)
    return default if value is None else value


_HELP = (
    "The values shown are the defaults for the given method, environment and --config file; {}. "
    "Integers may be written as 100_000, 1e5, 100k or 0.1M. Flags of the papers' released code are "
    "accepted if sparl has an equivalent. To read the full description of fields: "
    "{} --help FIELD..."
)


_PATHS = {"run_dir": "DIR", "warm_start": "RUN"}  # string fields that are paths


def _print_help(
    base: Config, words: Sequence[str], program: str, further: type[Any] | None
) -> None:
    """Print the help of a command whose options include the fields of a configuration.

    Args:
        base: the configuration whose values are shown.
        words: the command-line arguments; fields named after --help are described in full.
        program: the command.
        further: a class whose fields are the command's other options.
    """
    options = {option.name: option for option in options_of(Config)}
    for name, metavar in _PATHS.items():
        options[name] = replace(options[name], metavar=metavar)
    named_fields = _fields_after_help(words)
    if named_fields:
        docs = field_docs(Config)
        lines = []
        for name in named_fields:
            option, value = options[name], getattr(base, name)
            lines.append(HelpLine(option.with_value(value), _full_text(option, docs[name], value)))
        print_help_text(f"{program} [OPTIONS]", "", {"": lines})
        return
    own = options_of(further) if further else []
    texts = field_docs(further) if further else {}
    groups = {
        title: [
            HelpLine(options[name].with_value(getattr(base, name)), text)
            for name, text in fields.items()
        ]
        for title, fields in GROUPS.items()
    }
    file = HelpLine("--config FILE", "TOML file of fields; flags override it")
    groups["run"] += [file, *(HelpLine(option.shown, texts[option.name]) for option in own)]
    unset = (
        "a capital letter or word stands for a value that is not set, and a flag without a value "
        "reverses the default"
    )
    print_help_text(f"{program} [OPTIONS]", _HELP.format(unset, program), groups)


def _fields_after_help(words: Sequence[str]) -> list[str]:
    """Return the fields that are listed after --help, as in --help lambda_1 steps.

    Raises:
        UsageError: if a word is not the name of a field.
    """
    flag = "--help" if "--help" in words else "-h"
    after = itertools.takewhile(
        lambda word: not word.startswith("--"), words[words.index(flag) + 1 :]
    )
    names = [word.replace("-", "_") for word in after]
    for name in names:
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, n=1)
            hint = f"did you mean {near[0]}?" if near else "--help alone lists all fields"
            raise UsageError(f"{flag}: {name!r} is not a field of a run; {hint}")
    return names


def _full_text(option: Option, doc: str, value: object) -> str:
    """Return a field's docstring, followed by its choices or its range.

    The meaning of None is omitted unless it is the field's value, because users do not type None.
    """
    text = without_none(doc) if value is None else re.sub(r"; None [^.;]*", "", doc)
    limits = FIELDS[option.name].metadata.get("range")
    if option.choices:
        text += f" One of {', '.join(option.choices)}."
    elif limits:
        low, high, unit = limits
        text += f" Range: {bound(low)} to {bound(high)} ({unit})."
    return text


def _take(words: list[str], flag: str) -> tuple[list[str], str | None]:
    """Remove a flag and its value from the arguments; return the rest and the flag's last value."""
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
