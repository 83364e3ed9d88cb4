"""RunFolder: the files of a run, each readable without sparl.

config.toml        every field of the configuration, as resolved
run.json           state, machine, versions, environment, schedule, result
evaluations.csv    env_step, updates, wall_seconds, cpu_seconds (threads and worker processes
                   included), mean, std, each episode's return and length
metrics.csv        training metrics, averaged since the line before
topology.csv       every evolution of every layer
degrees.json       connections of every neuron at the start and at the end
agent.safetensors  patterns, weights and biases of all networks
agent.json         what is in it, its digest, and how to act with it
observations.safetensors   of the last evaluation, for the check of exports
checkpoint-<step>  what is needed to resume the run; its transitions are in replay, see
                   checkpoint.py and replay_files.py
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sparl.configuration import COMMAND_LINE_ONLY, FIELDS, Config
from sparl.errors import DataError, ResourceError, RunExists, RunInUse, UsageError
from sparl.identity import run_name
from sparl.methods import config_of
from sparl.training.durable import is_temporary, user_path, why_no_name
from sparl.training.folder import Folder
from sparl.training.growing_files import GrowingFiles
from sparl.training.texts import parse_json
from sparl.training.toml_files import TOML_BYTES, fields_of, parse_toml, toml_bytes
from sparl.user_modules import named_module
from sparl.wording import shown

CONFIG, RUN, DEGREES = "config.toml", "run.json", "degrees.json"
EVALUATIONS, METRICS, TOPOLOGY = "evaluations.csv", "metrics.csv", "topology.csv"
GROWING = (EVALUATIONS, METRICS, TOPOLOGY)
AGENT, AGENT_MANIFEST = "agent.safetensors", "agent.json"
OBSERVATIONS = "observations.safetensors"
LOCK = ".lock"
_JSON_BYTES, CSV_BYTES = 1 << 22, 1 << 30  # of a file that is read, at most
DEGREES_BYTES = 1 << 28
FILES = (CONFIG, RUN, *GROWING, DEGREES, AGENT, AGENT_MANIFEST, OBSERVATIONS)
FOLDERS = re.compile("replay|checkpoint-[0-9]+")
# What to do about a damaged file.
RESTORE = "restore the file from a copy, or train the run again with --overwrite"


@contextmanager
def _advised() -> Iterator[None]:
    """Complaints about a run's own file say what to do."""
    try:
        yield
    except (DataError, UsageError) as error:
        raise DataError(f"{error}; {RESTORE}") from None


class RunFolder:
    """The folder of one run. One process at a time writes to it.

    Attributes:
        files: what is in it.
        path: of the folder.
        growing: its CSV files.
    """

    def __init__(self, place: Path | Folder) -> None:
        self.files = Folder.of(place)
        self.path = self.files.path
        self.growing = GrowingFiles(self.files, GROWING)

    @classmethod
    def create(cls, config: Config) -> RunFolder:
        """Make the folder of a new run, lock it and write the configuration.

        Raises:
            RunExists: it holds a run.
            UsageError: it is a file, or cannot be written.
            RunInUse: another process works on it.
            DataError: a link or a special file is in the place of a file or folder of a run.
        """
        from sparl.training.checkpoint import Checkpoints  # late: it loads the engine

        path = user_path(config.run_dir) if config.run_dir else _free_path(config)
        folder = cls(path)
        try:
            if path.is_file():
                raise UsageError(f"run folder {path} is a file; choose another --run-dir")
            folder.files.make()
            folder.lock()
        except (OSError, ValueError) as error:
            if isinstance(error, UsageError):
                raise
            reason = error.strerror if isinstance(error, OSError) else error
            raise UsageError(f"run folder {path} cannot be written: {reason}") from None
        present = [name for name in FILES if folder.files.has(name)]
        checkpoints = Checkpoints(folder.files)
        if (present or checkpoints.newest_first()) and not config.overwrite:
            folder.close()
            raise RunExists(
                f"run folder {path} already holds a run; choose another --run-dir, or replace it "
                "with --overwrite"
            )
        try:
            checkpoints.remove_all()
            for name in present:
                folder.files.remove(name)
            folder.write_config(config)
        except (OSError, ResourceError) as error:
            folder.close()
            if isinstance(error, ResourceError):
                raise
            raise UsageError(f"run folder {path} cannot be written: {error.strerror}") from None
        return folder

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """An existing run, to read from.

        Raises:
            DataError: there is no run.
        """
        folder = cls(Path(path))
        if not folder.files.has(CONFIG):
            raise DataError(f"{path}: no run here (no {CONFIG})")
        return folder

    def lock(self) -> None:
        """Keep other processes out, until close or this process's end.

        From now on every access to `files` raises RunInUse if the folder or its lock file is no
        longer the one that was locked.

        Raises:
            RunInUse: another process works on it.
            UsageError: it cannot be written.
            DataError: a link or a special file is in the place of a file or folder of a run.
        """
        for waits in (0.05, 0.05, 0.1, None):
            try:
                if self.files.lock(LOCK):
                    break
            except OSError as error:
                raise UsageError(
                    f"run folder {self.path} cannot be written: {error.strerror}"
                ) from None
            if waits is None:
                raise RunInUse(
                    f"run folder {self.path} is in use by another process; wait until it has ended"
                )
            time.sleep(waits)  # in_use() of another process holds it for a moment
        try:
            self._tidy()
        except DataError:
            self.close()
            raise

    def _tidy(self) -> None:
        """Delete what a killed process left half-written.

        Raises:
            DataError: a link or a special file is in the place of a file or folder of a run.
        """
        for name in FILES:
            self.files.has(name)
        for name in GROWING:
            self.files.check_changeable(name)
        for name in self.files.names():
            if FOLDERS.fullmatch(name):
                self.files.has_folder(name)
            elif any(is_temporary(name, file) for file in FILES):
                with suppress(OSError):
                    self.files.remove(name)

    def in_use(self) -> bool:
        """Whether a process works on it."""
        return self.files.locked_elsewhere(LOCK)

    def close(self) -> None:
        """Let another process have the folder."""
        self.files.unlock()

    def write_config(self, config: Config) -> None:
        """Write the configuration, so that the file repeats the run.

        Raises:
            ResourceError: it cannot be written.
        """
        unsaid = COMMAND_LINE_ONLY
        fields = {k: v for k, v in config.as_dict().items() if k not in unsaid}
        # TOML has no word for None: such fields are named.
        fields["unset"] = [n for n in FIELDS if n not in config.as_dict() and n not in unsaid]
        self.write(CONFIG, toml_bytes(fields))

    @_advised()
    def config(self) -> Config:
        """The configuration of the run.

        Raises:
            DataError: the file is damaged, or no file.
        """
        path = self.path / CONFIG
        data = self.files.read(CONFIG, TOML_BYTES)
        return config_of(fields_of(parse_toml(data, path, "configuration"), path), path)

    def write(self, name: str, data: bytes) -> None:
        """Write a whole file."""
        self.files.write(name, data)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a whole JSON file."""
        self.write(name, (json.dumps(content, indent=2) + "\n").encode())

    def read_json(self, name: str, most: int = _JSON_BYTES) -> dict[str, Any]:
        """Read a JSON object from a file of at most so many bytes.

        Raises:
            DataError: missing or damaged.
        """
        return parse_json(self.files.read(name, most), self.path / name)

    @_advised()
    def run(self) -> dict[str, Any]:
        """What run.json says; nothing where the run was killed before it began.

        Raises:
            DataError: it is damaged.
        """
        if not self.files.has(RUN):
            return {}
        about = self.read_json(RUN)
        kinds = {"state": str, "env_step": int, "wall_seconds": int | float}
        wrong = [name for name, kind in kinds.items() if not isinstance(about.get(name), kind)]
        if wrong:
            raise DataError(f"{self.path / RUN}: {wrong[0]} is {str(about.get(wrong[0]))[:80]}")
        parts = {
            "versions": dict, "machine": dict, "environment": dict, "continued": list,
            "had_checkpoint": bool,
        }  # fmt: skip
        for name, kind in parts.items():
            if not isinstance(about.get(name, kind()), kind):
                raise DataError(f"{self.path / RUN}: {name} is {str(about[name])[:80]}")
        notes = about.get("environment", {}).get("notes", [])
        if not _texts(notes):
            raise DataError(f"{self.path / RUN}: the environment's notes are {str(notes)[:80]}")
        try:
            check_continued(about.get("continued", []))
        except ValueError as error:
            raise DataError(f"{self.path / RUN}: {error}") from None
        return about

    def environment_module(self) -> str:
        """The module that registered the run's environment, as its files say; "" if they do not."""
        try:
            module = named_module(self.config().env)
            module = module or str(self.run().get("environment", {}).get("module", ""))
        except DataError:
            return ""
        return module if all(part.isidentifier() for part in module.split(".")) else ""

    def why_not_anew(self, config: Config) -> str:
        """Why a run without a checkpoint cannot begin anew, in words; "" if nothing would be lost.

        Raises:
            DataError: a file of it is damaged.
        """
        about = self.run()
        env_step, state = about.get("env_step", 0), about.get("state", "running")
        reached = max([env_step, *(step for step, _ in read_evaluations(self))])
        due = reached > config.checkpoint_every_env_steps or bool(about.get("continued"))
        never = about.get("had_checkpoint") is False  # None: of version 0.2, which did not write it
        if state not in ("running", "failed") or (
            not never and (due or (state == "running" and env_step))
        ):
            return (
                f"{self.path}: {state} at step {reached}, and its checkpoints are gone; sparl "
                "train with --overwrite begins anew"
            )
        if not about and self.files.has(AGENT):
            return (
                f"{self.path}: a trained agent without its run; sparl train with another --run-dir "
                "trains one anew"
            )
        return ""

    def rows(self, name: str, *, whole: bool = False) -> list[dict[str, str]]:
        """The complete lines of a CSV file; one that was cut off is left out.

        Args:
            name: the file.
            whole: nobody writes to it any more, so a line that was cut off is damage.

        Raises:
            DataError: it cannot be read, or is not whole.
        """
        path = self.path / name
        if not self.files.has(name):
            return []
        data = self.files.read(name, CSV_BYTES)
        if whole and not data.endswith(b"\n"):
            raise DataError(f"{path}: its last line is cut off; {RESTORE}")
        try:
            text = data[: data.rfind(b"\n") + 1].decode()
            lines = csv.reader(io.StringIO(text))
            columns = next(lines, [])
            rows = []
            for line in lines:
                if len(line) != len(columns):
                    raise csv.Error(
                        f"line {lines.line_num} has {len(line):,} cells, the header "
                        f"{len(columns):,}"
                    )
                rows.append(dict(zip(columns, line, strict=True)))
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{path}: damaged ({error})") from None
        return rows


def check_continued(entries: Iterable[Any]) -> None:
    """Check what a file says of where a run was resumed, and why not exactly.

    Raises:
        ValueError: an entry is something else.
    """
    for entry in entries:
        if (
            not isinstance(entry, dict)
            or entry.keys() != {"env_step", "not_exact_because"}
            or type(entry["env_step"]) is not int
            or not _texts(entry["not_exact_because"])
        ):
            raise ValueError(f"continued holds {shown(entry)}")


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def holds_run(path: str | Path) -> bool:
    """Whether there is a run."""
    try:
        return (Path(path) / CONFIG).is_file()
    except (OSError, ValueError):
        return False


def read_evaluations(folder: RunFolder) -> list[tuple[int, float]]:
    """(environment step, mean return) of each evaluation.

    Raises:
        DataError: the file is damaged.
    """
    try:
        return [(int(row["env_step"]), float(row["mean"])) for row in folder.rows(EVALUATIONS)]
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{folder.path / EVALUATIONS}: a line is damaged") from None


def _free_path(config: Config) -> Path:
    """runs/METHOD_ENV_seedN, with a number appended if that exists.

    Raises:
        UsageError: the name cannot be a folder's.
    """
    name = run_name(config)
    because = why_no_name(name)
    if because:
        raise UsageError(
            f"{name[:80]!r} cannot name a run's folder: {because}; name a folder with --run-dir"
        )
    runs = user_path("runs")
    path, count = runs / name, 1
    while os.path.lexists(path):
        count += 1
        path = runs / f"{name}-{count}"
    return path
