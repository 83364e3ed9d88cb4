"""Turn the words of a command line into the configuration of a run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sparl.configuration import Config
from sparl.errors import UsageError
from sparl.methods import check, find_method, preset
from sparl.options import expanded_integer, joined, parse
from sparl.spellings import (
    EARLY_STOP,
    canonical,
    check_flags_suit_method,
    check_method_is_named,
    split_values,
    translated,
)
from sparl.training.toml_files import read_toml


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
    chosen, errors = parse(Config, words, program, default=base, description=_TRAIN_HELP)
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
    return config


def _frozen_share(early_stop: str, config: Config, chosen: Mapping[str, Any]) -> float:
    """Convert the number of final steps without topology updates (DS) to a share of the horizon.

    Raises:
        UsageError: if the value is not a number of steps within the horizon, or if the share is
            given too.
    """
    flag = "--ann_earlyStopTopologyChange"
    steps = expanded_integer(early_stop).replace("_", "")
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
