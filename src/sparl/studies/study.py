"""Read a study file and derive its runs.

A study file looks like this:

    methods = ["TD3", "DS-TD3"]          # names that `sparl methods` lists
    environments = ["HalfCheetah-v3"]    # Gymnasium ids
    seeds = 5                            # 0 to 4; a list is allowed too
    [fields]                             # fields of the configuration, for all runs
    steps = 1_000_000
    [grid]                               # lists of values, whose combinations are all trained
    rewire_every_updates = [500, 1000]
    [[variants]]                         # fields that are set together; a variant may also
    hard_target_every = 1000             # set the methods, environments and seeds of its runs
    methods = ["SAC"]
"""

from __future__ import annotations

import difflib
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sparl.configuration import FIELDS, Config
from sparl.configuration_checks import typed_fields
from sparl.errors import DataError, UsageError
from sparl.identity import run_id
from sparl.methods import check, find_method, preset
from sparl.training.durable import why_invalid_name
from sparl.training.folder import Folder
from sparl.training.run_folder import RunFolder
from sparl.training.toml_files import load_toml
from sparl.wording import first_few, name_and_text, shown

PLAN = "plan.json"  # a file in a study's folder, which lists the study's runs
PLAN_BYTES = 1 << 25  # maximum size of plan.json
MOST_RUNS = 10_000  # maximum number of runs in a study
_WHERE = ("methods", "environments", "seeds")
_KEYS = (*_WHERE, "fields", "grid", "variants")
# Fields that the study chooses for each run, so that [fields] cannot set them.
OF_THE_STUDY = {"method", "env", "seed", "run_dir", "overwrite", "resume", "threads"}


@dataclass(frozen=True, eq=False)
class Unit:
    """A run that belongs to a study.

    Attributes:
        id: the stable name of the run's folder; see `sparl.identity.run_id`.
        fields: method, env, seed and every field that the study file sets.
        config: the configuration that the fields resolve to.
    """

    id: str
    fields: dict[str, Any]
    config: Config

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Unit:
        """Create the run that the fields describe.

        Raises:
            UsageError: if a field is invalid, or the run's name is not a valid folder name.
        """
        values = dict(fields)
        config = preset(values.pop("method"), values.pop("env"), **values)
        check(config)
        name = run_id(config)
        because = why_invalid_name(name)
        if because:
            raise UsageError(f"{name[:80]!r} is not a valid folder name: {because}")
        return cls(name, fields, config)


@dataclass(frozen=True)
class Study:
    """The runs of one or several study files.

    Attributes:
        name: name of the file without its suffix; the names of several files are joined by "+".
        units: the runs, file by file and without duplicates. The runs of a file are ordered by
            seed, so that an interrupted study has runs of every configuration.
    """

    name: str
    units: list[Unit]

    @property
    def first_seeds(self) -> set[str]:
        """Ids of the runs with the smallest seed of their configuration."""
        first: dict[str, Unit] = {}
        for unit in sorted(self.units, key=lambda unit: unit.config.seed):
            first.setdefault(run_id(replace(unit.config, seed=0)), unit)
        return {unit.id for unit in first.values()}


def read_studies(paths: Sequence[Path]) -> Study:
    """Read the runs of several study files in order, without duplicates.

    Raises:
        UsageError: if a file is invalid, or if there are more than MOST_RUNS runs.
    """
    studies = [read_study(path) for path in paths]
    units: dict[str, Unit] = {}
    for study in studies:
        for unit in study.units:
            units.setdefault(unit.id, unit)
    _check_number_of_runs(len(units), ", ".join(map(str, paths)))
    return Study("+".join(study.name for study in studies), list(units.values()))


def read_study(path: Path) -> Study:
    """Read a study file.

    Raises:
        UsageError: if the file is invalid, or if it describes more than MOST_RUNS runs.
    """
    return study_of(load_toml(path, "study"), path)


def study_of(content: dict[str, Any], path: Path) -> Study:
    """Return the study that the content of a file describes.

    Args:
        content: the content.
        path: the file, which need not exist yet.

    Raises:
        UsageError: under the same conditions as read_study.
    """
    _check_keys(content, path)
    units: dict[str, Unit] = {}
    for fields in _combinations(content, path):
        unit = Unit.of(fields)
        units.setdefault(unit.id, unit)
    ordered = sorted(units.values(), key=lambda unit: unit.fields["seed"])
    return Study(path.stem, ordered)


def _check_keys(content: dict[str, Any], path: Path) -> None:
    """Raise UsageError if a study file has unknown keys."""
    unknown = sorted(content.keys() - set(_KEYS))
    if not unknown:
        return
    if not content.keys() & set(_KEYS) and content.keys() <= FIELDS.keys() | {"unset"}:
        raise UsageError(
            f"study file {path} is the configuration of a single run; train it with sparl train "
            f"--config {path}, or add methods, environments and seeds to make it a study"
        )
    described = first_few(unknown, lambda key: f"'{key[:80]}'{_instead_of(key[:80])}")
    raise UsageError(
        f"study file {path} has unknown keys: {', '.join(described)}; the known keys are "
        f"{', '.join(_KEYS)}"
    )


def _instead_of(key: str) -> str:
    """Suggest, in parentheses, what to write instead of an unknown key in a study file."""
    if key not in OF_THE_STUDY and key in FIELDS:
        return " (a field of the configuration; move it to [fields])"
    near = difflib.get_close_matches(key, _KEYS, n=1, cutoff=0.4)
    return f" (did you mean {near[0]}?)" if near else ""


def write_plan(folder: Path, study: Study) -> None:
    """Write a list of a study's runs to its folder, so that a report can name missing runs.

    Raises:
        UsageError: if the folder cannot be created.
        ResourceError: if the file cannot be written.
    """
    files = Folder(folder)
    try:
        files.make()
    except OSError as error:
        raise UsageError(f"study folder {folder} cannot be written: {error.strerror}") from None
    content = {"study": study.name, "runs": {unit.id: unit.fields for unit in study.units}}
    files.write(PLAN, (json.dumps(content, indent=1) + "\n").encode())


def read_plan(folder: Path) -> list[Config]:
    """Return the configurations of the runs in the plan that a study's folder contains.

    Raises:
        DataError: if the plan is damaged, or was written by a version of sparl with other fields.
    """
    where = folder / PLAN
    try:
        runs = RunFolder(folder).read_json(PLAN, PLAN_BYTES)["runs"]
        _check_number_of_runs(len(runs), where)
        return [Unit.of(typed_fields(run, str(where))).config for run in runs.values()]
    except (KeyError, TypeError, AttributeError, UsageError) as error:
        raise DataError(f"{where}: cannot be read ({name_and_text(error)})") from None


def _combinations(content: dict[str, Any], path: Path) -> Iterator[dict[str, Any]]:
    """Yield the fields of every run that a study file describes."""
    grid = content.get("grid", {})
    variants = content.get("variants", [{}])
    if not isinstance(content.get("fields", {}), dict):
        raise UsageError(
            f"study file {path}: fields is {shown(content['fields'])} but must be a table, [fields]"
        )
    if not isinstance(grid, dict) or not all(isinstance(v, list) and v for v in grid.values()):
        raise UsageError(
            f"study file {path}: grid is {shown(grid)} but must be a table, [grid], with a "
            "non-empty list of values for each field"
        )
    if not isinstance(variants, list) or not all(isinstance(v, dict) for v in variants):
        raise UsageError(
            f"study file {path}: variants is {shown(variants)} but must be tables, [[variants]]"
        )
    if not variants:
        raise UsageError(f"study file {path}: variants is empty; add a variant, or remove the key")
    planned = []
    for variant in variants:
        where = {key: variant.get(key, content.get(key)) for key in _WHERE}
        methods = _strings(where["methods"], "methods", path)
        environments = _strings(where["environments"], "environments", path)
        seeds = _seeds(where["seeds"], path)
        planned.append((variant, methods, environments, seeds))
    combinations = math.prod(len(values) for values in grid.values())
    number = sum(len(m) * len(e) * len(s) for _, m, e, s in planned) * combinations
    _check_number_of_runs(number, f"study file {path}")
    for variant, methods, environments, seeds in planned:
        own = {key: value for key, value in variant.items() if key not in _WHERE}
        for values in itertools.product(*grid.values()):
            fields = {
                **content.get("fields", {}),
                **dict(zip(grid, values, strict=True)),
                **own,
            }
            taken = sorted(OF_THE_STUDY & fields.keys())
            if taken:
                raise UsageError(
                    f"study file {path}: {', '.join(taken)} cannot be set as a field; set methods, "
                    "environments and seeds with their own keys; the study itself chooses the "
                    "folder of each run and trains it with one thread"
                )
            fields = typed_fields(fields, f"study file {path}")
            for method, env, seed in itertools.product(methods, environments, seeds):
                yield {"method": find_method(method).name, "env": env, "seed": seed, **fields}


def _strings(value: Any, key: str, path: Path) -> list[str]:
    if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
        return value
    raise UsageError(f"study file {path}: {key} is {shown(value)} but must be a list of names")


def _check_number_of_runs(number: int, where: object) -> None:
    """Raise UsageError if a study has too many runs."""
    if number > MOST_RUNS:
        raise UsageError(
            f"{where}: the number of runs (methods x environments x seeds x grid, for all "
            f"variants) is {shown(number)} but must be at most {MOST_RUNS:,}; split the study or "
            "list fewer values"
        )


def _seeds(value: Any, path: Path) -> Sequence[int]:
    """Return the seeds 0 to n - 1 for a number n, or the listed seeds."""
    if type(value) is int and value > 0:
        return range(min(value, 10**18))  # len() of a longer range fails
    if isinstance(value, list) and value and all(type(v) is int and v >= 0 for v in value):
        return value
    raise UsageError(
        f"study file {path}: seeds is {shown(value)} but must be a positive number of seeds or a "
        "list of seeds, which are integers of at least 0"
    )
