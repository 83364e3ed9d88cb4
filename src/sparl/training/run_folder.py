"""RunFolder: the files of a run, each readable without sparl.

config.toml        every field of the configuration, as resolved
run.json           state, machine, versions, environment, schedule, result
evaluations.csv    env_step, updates, wall_seconds, mean, std, each episode's return and length
metrics.csv        training metrics, averaged since the line before
topology.csv       every evolution of every layer
degrees.json       connections of every neuron at the start and at the end
agent.safetensors  patterns, weights and biases of all networks
agent.json         what is in it, its digest, and how to act with it
"""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from sparl.configuration import FIELDS, Config, check, typed_fields
from sparl.errors import DataError, ResourceError, RunInUse, UsageError

CONFIG, RUN, DEGREES = "config.toml", "run.json", "degrees.json"
EVALUATIONS, METRICS, TOPOLOGY = "evaluations.csv", "metrics.csv", "topology.csv"
AGENT, AGENT_MANIFEST = "agent.safetensors", "agent.json"
LOCK = ".lock"
FILES = (CONFIG, RUN, EVALUATIONS, METRICS, TOPOLOGY, DEGREES, AGENT, AGENT_MANIFEST)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there completely or not at all.

    Raises:
        ResourceError: the disk is full, or the file cannot be written.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise ResourceError(f"cannot write {path}: {error.strerror}") from None


class RunFolder:
    """The folder of one run. One process at a time writes to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: io.TextIOWrapper | None = None
        self._columns: dict[str, list[str]] = {}

    @classmethod
    def create(cls, config: Config) -> RunFolder:
        """Make the folder of a new run, lock it and write the configuration.

        Raises:
            UsageError: it holds a run, is a file, or cannot be written.
            RunInUse: another process works on it.
        """
        path = Path(config.run_dir) if config.run_dir else _free_path(config)
        folder = cls(path)
        try:
            if path.is_file():
                raise UsageError(f"run folder {path} is a file; choose another --run-dir")
            path.mkdir(parents=True, exist_ok=True)
            folder._lock_it()
        except (OSError, ValueError) as error:
            if isinstance(error, UsageError):
                raise
            reason = error.strerror if isinstance(error, OSError) else error
            raise UsageError(f"run folder {path} cannot be written: {reason}") from None
        present = [path / name for name in FILES if (path / name).exists()]
        if present and not config.overwrite:
            folder.close()
            raise UsageError(
                f"run folder {path} already holds a run; choose another --run-dir, or replace it "
                "with --overwrite"
            )
        for file in present:
            file.unlink()
        unsaid = ("run_dir", "overwrite", "tensorboard")
        fields = {k: v for k, v in config.as_dict().items() if k not in unsaid}
        # TOML has no word for None: such fields are named, so that the file repeats the run.
        fields["unset"] = [name for name in FIELDS if name not in config.as_dict()]
        try:
            folder.write(CONFIG, tomli_w.dumps(fields).encode())
        except ResourceError:
            folder.close()
            raise
        return folder

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """An existing run, to read from.

        Raises:
            DataError: there is no run.
        """
        folder = cls(Path(path))
        try:
            there = (folder.path / CONFIG).is_file()
        except (OSError, ValueError):
            there = False
        if not there:
            raise DataError(f"{path}: no run here (no {CONFIG})")
        return folder

    def _lock_it(self) -> None:
        lock = (self.path / LOCK).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise RunInUse(
                f"run folder {self.path} is in use by another process; wait, or choose another "
                "--run-dir"
            ) from None
        self._lock = lock

    def close(self) -> None:
        """Let another process have the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def config(self) -> Config:
        """The configuration of the run.

        Raises:
            DataError: the file is damaged.
        """
        try:
            return read_config(self.path / CONFIG, Config())
        except UsageError as error:
            raise DataError(str(error)) from None

    def write(self, name: str, data: bytes) -> None:
        """Write a whole file."""
        write_whole(self.path / name, data)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a whole JSON file."""
        self.write(name, (json.dumps(content, indent=2) + "\n").encode())

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a JSON object.

        Raises:
            DataError: missing or damaged.
        """
        try:
            content = json.loads((self.path / name).read_bytes())
        except FileNotFoundError:
            raise DataError(f"{self.path / name}: missing") from None
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path / name}: cannot be read ({error})") from None
        if not isinstance(content, dict):
            raise DataError(f"{self.path / name}: not a JSON object")
        return content

    def append(self, name: str, row: Mapping[str, Any]) -> None:
        """Add a line to a CSV file; the first one writes the header.

        Raises:
            ResourceError: it cannot be written.
        """
        columns = self._columns.setdefault(name, list(row))
        line = io.StringIO()
        writer = csv.DictWriter(line, columns, restval="", lineterminator="\n")
        path = self.path / name
        try:
            if not path.exists():
                writer.writeheader()
            writer.writerow(row)
            with path.open("a") as file:
                file.write(line.getvalue())
        except OSError as error:
            raise ResourceError(f"cannot write {path}: {error.strerror}") from None

    def rows(self, name: str) -> list[dict[str, str]]:
        """The complete lines of a CSV file; one that was cut off is left out."""
        path = self.path / name
        if not path.exists():
            return []
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read ({error})") from None
        whole = text[: text.rfind("\n") + 1]
        return list(csv.DictReader(io.StringIO(whole)))


def read_config(path: Path, under: Config) -> Config:
    """A configuration from a TOML file over another one.

    Raises:
        UsageError: missing, not TOML, unknown fields, wrong types or ranges.
    """
    values = read_toml(path)
    config = Config(**{**{name: getattr(under, name) for name in FIELDS}, **values})
    check(config)
    return config


def read_toml(path: Path) -> dict[str, Any]:
    """The fields of a configuration file; arrays become tuples.

    Raises:
        UsageError: missing, not TOML, unknown fields or wrong types.
    """
    try:
        content = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise UsageError(f"configuration file {path} does not exist") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"configuration file {path} cannot be read: {error}") from None
    unset = content.pop("unset", [])
    fields = typed_fields(content, str(path))
    optional = {name for name in FIELDS if getattr(Config, name) is None}
    if not isinstance(unset, list) or not optional.issuperset(map(str, unset)):
        raise UsageError(f"{path}: unset is {unset!r}, must be names of fields that can be unset")
    return {**fields, **dict.fromkeys(unset)}


def _free_path(config: Config) -> Path:
    """runs/METHOD_ENV_seedN, with a number behind it if that exists."""
    name = f"{config.method}_{config.env.replace('/', '-')}_seed{config.seed}"
    path, count = Path("runs") / name, 1
    while path.exists():
        count += 1
        path = Path("runs") / f"{name}-{count}"
    return path
