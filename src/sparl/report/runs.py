"""Read the runs of a report, and group the runs that differ only in their seeds."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sparl.archive.finished_run import FinishedRun
from sparl.configuration import FIELDS, WITHOUT_INFLUENCE, Config
from sparl.cost import cost
from sparl.errors import DataError
from sparl.identity import results_version
from sparl.labels import contradictions, fields_text
from sparl.methods import METHODS, preset
from sparl.studies.study import PLAN, read_plan, read_study
from sparl.training.record import resumption_text
from sparl.training.run_folder import (
    CONFIG,
    RUN,
)
from sparl.training.tasks import notes_of
from sparl.types import Float64Array
from sparl.wording import counted

# Runs that differ only in these fields are averaged.
_OF_ONE_RUN = WITHOUT_INFLUENCE | {"seed"}
# Fields that a label does not list. Reports show the method and the environment separately, and
# they show the lengths of runs if these differ.
_OMITTED = _OF_ONE_RUN | {"method", "env", "agent", "steps", "stop_at", "horizon_env_steps"}


@dataclass(frozen=True, eq=False)
class Group:
    """Runs that have the same configuration except for their seeds.

    Attributes:
        label: the method, and the fields in which the configuration differs from its preset.
        runs: the finished runs, ordered by seed.
        planned: number of seeds that have finished or that a study plans.
    """

    label: str
    runs: list[FinishedRun]
    planned: int

    @property
    def config(self) -> Config:
        """The configuration of the first run."""
        return self.runs[0].config

    @property
    def env(self) -> str:
        """The environment's id."""
        return self.config.env

    @cached_property
    def env_steps(self) -> Float64Array:
        """The environment steps at which all runs have an evaluation, float [K]."""
        return self.runs[0].env_steps[: min(run.env_steps.size for run in self.runs)]

    @property
    def timed(self) -> list[FinishedRun]:
        """The runs that recorded their CPU time."""
        return [run for run in self.runs if run.cpu_seconds is not None]

    def stacked(self, name: str, runs: Sequence[FinishedRun] = ()) -> Float64Array:
        """Stack the returns, updates, seconds or cpu_seconds of runs, float [runs, K].

        Args:
            name: one of these four names.
            runs: some of the group's runs; empty means all.
        """
        return np.stack([getattr(run, name)[: self.env_steps.size] for run in runs or self.runs])

    @cached_property
    def cost(self) -> dict[str, Any] | None:
        """The result of `sparl.cost.cost`; None if no run recorded the lengths that it needs."""
        sizes = next((run.sizes for run in self.runs if run.sizes), None)
        return cost(self.config, *sizes) if sizes else None

    @property
    def flops_per_update(self) -> float | None:
        """Number of operations of an update, with two per multiply-add; None if it is unknown."""
        if self.cost is None:
            return None
        return float(self.cost["flops"]["counted"]["sparse"] / self.cost["updates"])


@dataclass
class Collection:
    """The runs of a report.

    Attributes:
        groups: the groups, ordered by environment and then by method.
        notes: remarks for the reader, for example about missing runs.
        common: for each environment, the fields in which all runs differ from their presets in the
            same way.
    """

    groups: list[Group]
    notes: list[str] = field(default_factory=list)
    common: dict[str, set[str]] = field(default_factory=dict)

    @property
    def environments(self) -> list[str]:
        """All environments, in order of appearance."""
        return list(dict.fromkeys(group.env for group in self.groups))

    @property
    def labels(self) -> list[str]:
        """The labels of all groups, ordered by method and without duplicates."""
        groups = sorted(self.groups, key=lambda group: _place(group)[2:])
        return list(dict.fromkeys(group.label for group in groups))

    def of_environment(self, env: str) -> list[Group]:
        """Return the groups of one environment."""
        return [group for group in self.groups if group.env == env]

    def varied(self, group: Group) -> list[str]:
        """Return the fields in which a group differs from its preset, without those in `common`."""
        return [n for n in differences(group.config) if n not in self.common[group.env]]

    def dense(self, group: Group) -> Group | None:
        """Return the dense group with which a group is compared, or None.

        Both groups have the same environment, settings and length, and the dense group differs from
        its preset only in the fields in `common`.
        """
        wanted = group.config
        for other in self.of_environment(group.env):
            config = other.config
            if (
                config.method == wanted.agent
                and config.settings == wanted.settings
                and config.end == wanted.end
                and not self.varied(other)
            ):
                return other
        return None


def collect(paths: Iterable[str | Path]) -> Collection:
    """Read and group all finished runs in these folders and their subfolders.

    Args:
        paths: folders, and study files, whose runs count as planned.

    Raises:
        DataError: if a path does not exist or is neither a folder nor a study file, or if no run
            has finished.
        UsageError: if a study file is invalid.
    """
    runs: list[FinishedRun] = []
    notes: list[str] = []
    planned: list[Config] = []
    for path in map(Path, paths):
        if path.is_file() and path.suffix == ".toml":
            planned += [unit.config for unit in read_study(path).units]
            continue
        if not path.is_dir():
            what = "is neither a folder nor a study file" if path.exists() else "does not exist"
            raise DataError(f"{path} {what}")
        before = len(runs), len(notes), len(planned)
        for found in sorted(path.rglob(CONFIG)):
            if not (found.parent / RUN).exists():
                continue  # the folder contains a trained agent without the files of its run
            try:
                run = FinishedRun.read(found.parent)
            except DataError as error:
                notes.append(f"not included: {error}")
                continue
            runs.append(run)
            notes += [
                f"{run.path}: the run was resumed {resumption_text(each)}"
                for each in run.about.get("continued", [])
                if each["not_exact_because"]
            ]
        for found in sorted(path.rglob(PLAN)):
            try:
                planned += read_plan(found.parent)
            except DataError as error:
                notes.append(f"the planned runs are unknown: {error}")
        if before == (len(runs), len(notes), len(planned)):
            notes.append(f"{path}: no runs were found")
    if not runs:
        what = "; ".join(notes)
        raise DataError(f"{', '.join(map(str, paths))}: there is nothing to report ({what})")
    return _grouped(runs, planned, notes)


def _grouped(
    runs: Sequence[FinishedRun], planned: Sequence[Config], notes: list[str]
) -> Collection:
    """Group the runs that differ only in their seeds; keep one run per seed."""
    notes += dict.fromkeys(note for run in runs for note in _about_environment(run))
    by_setting = _by_setting(runs, notes)
    wanted: dict[_Setting, set[int]] = {}
    for config in planned:
        setting = _without_seed(config), results_version(config)
        wanted.setdefault(setting, set()).add(config.seed)
    common, groups = _common(config for config, _ in by_setting), []
    labels = {
        (config, version): label(config, common[config.env], version)
        for config, version in by_setting
    }
    for env, names in common.items():
        one = next(config for config, _ in by_setting if config.env == env)
        if names:
            notes.append(f"all runs on {env}: {fields_text(one, sorted(names))}")
    fewer = []
    for setting, seeds in by_setting.items():
        config, name = setting[0], labels[setting]
        twins = [s for s in by_setting if (labels[s], s[0].env) == (name, config.env)]
        if len(twins) > 1:
            name += f", {config.end:,} of {config.horizon:,} steps"
        found = [seeds[seed] for seed in sorted(seeds)]
        group = Group(name, found, len(wanted.get(setting, set()) | seeds.keys()))
        groups.append(group)
        if len(found) < group.planned:
            fewer.append(f"{name} on {config.env} ({len(found)} of {group.planned})")
    if fewer:
        notes.append(
            "some planned runs have not finished; the results cover only the finished ones: "
            + ", ".join(fewer)
        )
    missing = {setting: seeds for setting, seeds in wanted.items() if setting not in by_setting}
    notes += _notes_of_missing(missing, common)
    return Collection(sorted(groups, key=_place), notes, common)


def _by_setting(
    runs: Sequence[FinishedRun], notes: list[str]
) -> dict[_Setting, dict[int, FinishedRun]]:
    """Return one run for each setting and seed, and add a note for each duplicate."""
    by_setting: dict[_Setting, dict[int, FinishedRun]] = {}
    for run in runs:
        setting = _without_seed(run.config), run.about.get("preset", 1)
        seeds = by_setting.setdefault(setting, {})
        if run.config.seed in seeds:
            notes.append(
                f"not included: {run.path}, because it is the same run as "
                f"{seeds[run.config.seed].path}"
            )
        else:
            seeds[run.config.seed] = run
    return by_setting


def _notes_of_missing(missing: dict[_Setting, set[int]], common: dict[str, set[str]]) -> list[str]:
    """Return notes about the planned settings for which no run has finished.

    Args:
        missing: the planned seeds of each such setting.
        common: the fields that labels omit, by environment.
    """
    names: dict[tuple[str, int], list[str]] = {}  # by environment and number of seeds
    for (config, _), seeds in missing.items():
        name = label(config, common.get(config.env, set()))
        names.setdefault((config.env, len(seeds)), []).append(name)
    environments: dict[tuple[str, int], list[str]] = {}
    for (env, count), labels in names.items():
        environments.setdefault((", ".join(labels), count), []).append(env)
    return [
        f"no planned run has finished on {', '.join(envs)}: {labels} "
        f"({counted(count, 'seed')} per method and environment)"
        for (labels, count), envs in environments.items()
    ]


def _place(group: Group) -> tuple[int, _Natural, int, _Natural]:
    """Return the sort key of a group.

    The environments of the papers come first; methods have the order of `FAMILIES`.
    """
    env, task = group.config.env, group.config.env.rpartition("-")[0]
    rank = _ENVIRONMENTS.index(task) if task in _ENVIRONMENTS else len(_ENVIRONMENTS)
    method = list(METHODS).index(group.config.method)
    return rank, _natural(env), method, _natural(group.label)


def _natural(text: str) -> _Natural:
    """Return a sort key that compares the numbers in a text by value: 500 precedes 2000."""
    parts = _NUMBER.split(text)
    return parts[::2], [float(number.replace(",", "")) for number in parts[1::2]]


_NUMBER = re.compile(
    r"(\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?)"
)  # split returns texts and numbers alternately
_Natural = tuple[list[str], list[float]]


_ENVIRONMENTS = ("HalfCheetah", "Hopper", "Walker2d", "Ant", "Humanoid")


def _about_environment(run: FinishedRun) -> list[str]:
    """Return notes about how a run's environment differs from the papers' environment.

    For other environments, these are the notes that the run recorded.
    """
    noted: list[str] = run.about.get("environment", {}).get("notes", [])
    if not noted:
        return []
    config, mujoco = run.config, run.about.get("versions", {}).get("mujoco", "")
    return notes_of(config.env, config.contact_forces, mujoco) or noted


def _without_seed(config: Config) -> Config:
    """Return a configuration without its seed and without fields that do not affect results.

    A run that was stopped and resumed has the same configuration as an uninterrupted run.
    """
    same = {name: getattr(Config, name) for name in _OF_ONE_RUN}
    return replace(config, stop_at=None if config.end == config.steps else config.end, **same)


_Setting = tuple[Config, int]  # a configuration without its seed, and the version of its results


def _common(settings: Iterable[Config]) -> dict[str, set[str]]:
    """Return the fields that differ from the presets in the same way in all runs of an environment.

    Fields that contradict a method's definition are excluded, so that they remain in the label.
    """
    of: dict[str, list[Config]] = {}
    for config in settings:
        of.setdefault(config.env, []).append(config)
    return {
        env: {
            name
            for name in set.intersection(
                *(set(differences(c)) - set(contradictions(c)) for c in configs)
            )
            if len({getattr(c, name) for c in configs}) == 1
        }
        for env, configs in of.items()
    }


def label(config: Config, omitted: Container[str] = (), version: int | None = None) -> str:
    """Return a label: the method, and the fields in which a configuration differs from its preset.

    Args:
        config: the configuration.
        omitted: fields that the label omits.
        version: the version of the results, which the label includes if it is not the current
            version; None means the current version.
    """
    usual = preset(config.method, config.env).settings
    parts = [f"settings {config.settings}"] if config.settings != usual else []
    names = [name for name in differences(config) if name not in omitted]
    parts += [fields_text(config, names)] if names else []
    if version not in (None, results_version(config)):
        parts.append(f"version {version}")
    return f"{config.method} ({', '.join(parts)})" if parts else config.method


def differences(config: Config) -> list[str]:
    """Return the fields in which a configuration differs from the preset of its settings.

    Fields that labels never list, such as seed and steps, are omitted.
    """
    base = preset(config.method, config.env, settings=config.settings)
    names = [n for n in FIELDS if n not in _OMITTED]
    return [n for n in names if getattr(config, n) != getattr(base, n)]
