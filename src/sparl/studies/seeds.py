"""Train one configuration with several seeds as a study: `sparl train --seeds 0 1 2`."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

from sparl.arguments import Typed
from sparl.configuration import Config
from sparl.errors import UsageError
from sparl.identity import run_id
from sparl.studies.command import RunOptions, run_study
from sparl.studies.study import OF_THE_STUDY, study_of
from sparl.training.durable import user_path
from sparl.training.folder import Folder
from sparl.training.run_folder import holds_run
from sparl.training.toml_files import load_toml, toml_bytes
from sparl.user_modules import import_user_module, named_module

FILE = "study.toml"  # describes the study, in its folder
_NOT_WITH_SEEDS = ("seed", "threads", "overwrite")


def train_seeds(typed: Typed, seeds: Sequence[int], flags: Set[str], *, quiet: bool) -> int:
    """Train one run for each seed, as a study in one folder, and return the exit code.

    To resume the study, run the same command again, or `sparl study run` with the file that this
    function writes.

    Args:
        typed: the configuration, and the fields set on the command line or in a file.
        seeds: the seeds.
        flags: names of the fields that are set on the command line.
        quiet: whether to print only errors.

    Raises:
        UsageError: if a seed is negative, a flag cannot be combined with --seeds, or the folder
            contains a run or another study.
    """
    config = typed.config
    for name in _NOT_WITH_SEEDS:
        if name in flags:
            raise UsageError(
                f"train: --{name} cannot be used with --seeds, because a study sets the seeds, "
                "gives each run one thread, and resumes its runs; remove it"
            )
    if min(seeds) < 0:
        raise UsageError(f"train: --seeds contains {min(seeds)}, but a seed must be at least 0")
    folder = user_path(config.run_dir) if config.run_dir else user_path("runs") / _name(config)
    if holds_run(folder):
        raise UsageError(f"train: {folder} contains a run; choose another --run-dir for the study")
    module = named_module(config.env)
    if module:
        import_user_module(module)  # the process of each run imports it too
    file = _write_study(typed, seeds, folder)
    return run_study(RunOptions((file,), folder), quiet=quiet)


def _name(config: Config) -> str:
    """Return the name of the study's folder: the name of one of its runs, without the seed."""
    name, _, digest = run_id(replace(config, seed=0)).rpartition("_seed0_")
    return f"{name}_{digest}"


def _write_study(typed: Typed, seeds: Sequence[int], folder: Path) -> Path:
    """Write the file that describes the study into its folder.

    Raises:
        UsageError: if the folder cannot be created or contains a study with other settings, or if a
            field cannot be written to a file.
        ResourceError: if the file cannot be written.
    """
    fields: dict[str, Any] = {
        name: value
        for name, value in typed.fields.items()
        if name not in OF_THE_STUDY and value is not None
    }
    content = {
        "methods": [typed.config.method], "environments": [typed.config.env],
        "seeds": list(dict.fromkeys(seeds)), "fields": fields,
    }  # fmt: skip
    file, files = folder / FILE, Folder(folder)
    described = replace(study_of(content, file).units[0].config, seed=typed.config.seed)
    if run_id(described) != run_id(typed.config):
        unset = [name for name, value in typed.fields.items() if value is None]
        raise UsageError(
            f"train: {', '.join(unset)} cannot be unset with --seeds, because a study file cannot "
            "express this; set a value, or train each seed with --seed"
        )
    try:
        files.make()
    except OSError as error:
        raise UsageError(f"train: {folder} cannot be written: {error.strerror}") from None
    if files.has(FILE):
        before = load_toml(file, "study")
        if _without_seeds(before) != _without_seeds(content):
            raise UsageError(
                f"train: {folder} contains a study with other settings ({file}); choose another "
                "--run-dir"
            )
    files.write(FILE, toml_bytes(content))
    return file


def _without_seeds(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a study file without the seeds, with tuples converted to lists."""
    return {
        **{name: value for name, value in content.items() if name != "seeds"},
        "fields": {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in content.get("fields", {}).items()
        },
    }
