"""RunFolder: the files of a run, all of which can be read without sparl.

config.toml        the resolved configuration, except the fields in COMMAND_LINE_ONLY
run.json           state, step, durations, machine, versions, environment, method, schedule
evaluations.csv    env_step, updates, wall_seconds, cpu_seconds (threads and ended child processes
                   included), mean, std, each episode's return and length
metrics.csv        training metrics, averaged since the previous row
topology.csv       every topology update of every layer
degrees.json       number of connections of every neuron at the start and at the end
agent.safetensors  patterns, weights and biases of all networks
agent.json         the layers and digest of agent.safetensors, and how outputs become actions
agent-best.*       the agent of the best evaluation, in the same format
observations.safetensors   observations of the last evaluation, used to check exports
optimizer.safetensors      moments of the optimisers, so that the agent can be trained elsewhere
checkpoint-<step>  the state from which the run can be resumed; its transitions are in replay/, see
                   checkpoint.py and replay_files.py
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sparl.configuration import COMMAND_LINE_ONLY, FIELDS, Config
from sparl.errors import DataError, ResourceError, RunExists, RunInUse, UsageError
from sparl.identity import run_name
from sparl.methods import config_of
from sparl.training.durable import is_temporary, user_path, why_invalid_name
from sparl.training.folder import Folder
from sparl.training.growing_files import GrowingFiles
from sparl.training.run_json import check_run
from sparl.training.texts import parse_json
from sparl.training.toml_files import TOML_BYTES, UNSET, fields_of, parse_toml, toml_bytes
from sparl.user_modules import WITHOUT_ID, named_module

CONFIG, RUN, DEGREES = "config.toml", "run.json", "degrees.json"
EVALUATIONS, METRICS, TOPOLOGY = "evaluations.csv", "metrics.csv", "topology.csv"
GROWING = (EVALUATIONS, METRICS, TOPOLOGY)
AGENT, AGENT_MANIFEST = "agent.safetensors", "agent.json"
BEST_AGENT, BEST_AGENT_MANIFEST = "agent-best.safetensors", "agent-best.json"
OBSERVATIONS = "observations.safetensors"
OPTIMIZER = "optimizer.safetensors"
LOCK = ".lock"
_JSON_BYTES, CSV_BYTES = 1 << 22, 1 << 30  # maximum size of a file that is read
DEGREES_BYTES = 1 << 28
FILES = (CONFIG, RUN, *GROWING, DEGREES, AGENT, AGENT_MANIFEST, BEST_AGENT,
         BEST_AGENT_MANIFEST, OBSERVATIONS, OPTIMIZER)  # fmt: skip
FOLDERS = re.compile("replay|checkpoint-[0-9]+")
# The remedies in errors about damaged files.
RESTORE = "restore the file from a copy, or train the run again with --overwrite"
_RESTORE_RUN = (
    "restore the file from a copy; if the folder contains a checkpoint, delete the file and use "
    "sparl resume; otherwise train the run again with --overwrite"
)


@contextmanager
def _remedy_added(remedy: str) -> Iterator[None]:
    """Add a remedy to errors about a run's files."""
    try:
        yield
    except (DataError, UsageError) as error:
        raise DataError(f"{error}; {remedy}") from None


class RunFolder:
    """The folder of one run. Only one process at a time writes to it.

    Attributes:
        files: gives access to the folder's files.
        path: the path of the folder.
        growing: the CSV files that grow during training.
    """

    def __init__(self, place: Path | Folder) -> None:
        self.files = Folder.of(place)
        self.path = self.files.path
        self.growing = GrowingFiles(self.files, GROWING)

    @classmethod
    def create(cls, config: Config) -> RunFolder:
        """Create the folder of a new run, lock it and write the configuration.

        Raises:
            RunExists: if the folder already contains a run, and config.overwrite is False.
            UsageError: if the path is a file, or the folder cannot be written.
            RunInUse: if another process has locked the folder.
            DataError: if one of the run's files or folders is a link or a special file.
            ResourceError: if the configuration cannot be written, for example on a full disk.
        """
        from sparl.training.checkpoint import Checkpoints  # imported late: it loads native code

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
                f"run folder {path} already contains a run; choose another --run-dir, or replace "
                "the run with --overwrite"
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
        """Open the folder of an existing run for reading.

        Raises:
            DataError: if the folder does not contain a run.
        """
        folder = cls(Path(path))
        if not folder.files.has(CONFIG):
            raise DataError(f"{path} is not a run folder: {_why_no_run(folder.path)}")
        return folder

    def lock(self) -> None:
        """Lock the folder against other processes until `close` is called or this process ends.

        Every later access to `files` raises RunInUse if the folder or its lock file has been
        replaced after this call.

        Raises:
            RunInUse: if another process has locked the folder.
            UsageError: if the folder cannot be written.
            DataError: if one of the run's files or folders is a link or a special file.
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
                    f"run folder {self.path} is in use by another process; wait until that process "
                    "has ended"
                )
            time.sleep(waits)  # another process that calls in_use() holds the lock for a moment
        try:
            self._tidy()
        except DataError:
            self.close()
            raise

    def _tidy(self) -> None:
        """Delete temporary files left by killed processes, and check the types of other files.

        Raises:
            DataError: if one of the run's files or folders is a link or a special file.
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
        """Return whether a process has locked the folder."""
        return self.files.locked_elsewhere(LOCK)

    def close(self) -> None:
        """Release the lock."""
        self.files.unlock()

    def write_config(self, config: Config) -> None:
        """Write the configuration to a file from which the run can be repeated.

        Raises:
            ResourceError: if the file cannot be written.
        """
        named = config.as_dict()
        fields = {name: value for name, value in named.items() if name not in COMMAND_LINE_ONLY}
        # TOML cannot represent None, so the fields that are None are listed by name.
        others = {*named, *COMMAND_LINE_ONLY}
        fields[UNSET] = [name for name in FIELDS if name not in others]
        self.write(CONFIG, toml_bytes(fields))

    @_remedy_added(RESTORE)
    def config(self) -> Config:
        """Read the run's configuration.

        Raises:
            DataError: if the file is missing, damaged or not a regular file.
        """
        path = self.path / CONFIG
        content = parse_toml(self.files.read(CONFIG, TOML_BYTES), path, "configuration")
        if UNSET not in content:  # the last entry that write_config writes
            raise DataError(f"{path}: the file is incomplete, because {UNSET} is missing")
        return config_of(fields_of(content, path), path)

    def write(self, name: str, data: bytes) -> None:
        """Replace a file atomically."""
        self.files.write(name, data)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Replace a JSON file atomically."""
        self.write(name, (json.dumps(content, indent=2) + "\n").encode())

    def read_json(self, name: str, most: int = _JSON_BYTES) -> dict[str, Any]:
        """Read a JSON object from a file of at most `most` bytes.

        Raises:
            DataError: if the file is missing or damaged.
        """
        return parse_json(self.files.read(name, most), self.path / name)

    @_remedy_added(_RESTORE_RUN)
    def run(self) -> dict[str, Any]:
        """Read run.json; return an empty dict if the run was killed before the file was written.

        Raises:
            DataError: if the file is damaged.
        """
        if not self.files.has(RUN):
            return {}
        about = self.read_json(RUN)
        try:
            check_run(about)
        except ValueError as error:
            raise DataError(f"{self.path / RUN}: {error}") from None
        return about

    def environment_module(self) -> str:
        """Return the module that registered the run's environment; "" if no file names it.

        If the environment has no id, return WITHOUT_ID.
        """
        try:
            env = self.config().env
            if env.endswith(WITHOUT_ID):
                return WITHOUT_ID
            module = named_module(env)
            module = module or str(self.run().get("environment", {}).get("module", ""))
        except DataError:
            return ""
        return module if all(part.isidentifier() for part in module.split(".")) else ""

    def why_not_restarted(self, config: Config) -> str:
        """Return why a run without checkpoints must not be restarted; "" if no work would be lost.

        Raises:
            DataError: if one of the run's files is damaged.
        """
        about = self.run()
        env_step, state = about.get("env_step", 0), about.get("state", "running")
        reached = max([env_step, *(step for step, _ in read_evaluations(self))])
        due = reached > config.checkpoint_every_env_steps or bool(about.get("continued"))
        never = about.get("had_checkpoint") is False  # None in files of earlier versions
        if state not in ("running", "failed") or (
            not never and (due or (state == "running" and env_step))
        ):
            return (
                f"{self.path}: {state} at step {reached}, but its checkpoints are missing; to "
                "start over, use sparl train with --overwrite"
            )
        if not about and self.files.has(AGENT):
            return (
                f"{self.path} contains a trained agent without the files of its run; to train a "
                "new agent, use sparl train with another --run-dir"
            )
        return ""

    def rows(self, name: str, *, whole: bool = False) -> list[dict[str, str]]:
        """Read the rows of a CSV file, except an incomplete last line.

        Args:
            name: the name of the file.
            whole: whether an incomplete last line is an error, as it is if no process writes to the
                file any more.

        Raises:
            DataError: if the file cannot be read, or if `whole` is True and the last line is
                incomplete.
        """
        path = self.path / name
        if not self.files.has(name):
            return []
        data = self.files.read(name, CSV_BYTES)
        if whole and not data.endswith(b"\n"):
            raise DataError(f"{path}: the last line is incomplete; {RESTORE}")
        try:
            text = data[: data.rfind(b"\n") + 1].decode()
            lines = csv.reader(io.StringIO(text))
            columns = next(lines, [])
            rows = []
            for line in lines:
                if len(line) != len(columns):
                    raise csv.Error(
                        f"line {lines.line_num} has {len(line):,} cells, but the header has "
                        f"{len(columns):,}"
                    )
                rows.append(dict(zip(columns, line, strict=True)))
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{path}: damaged ({error})") from None
        return rows


def holds_run(path: str | Path) -> bool:
    """Return whether a folder contains a run."""
    try:
        return (Path(path) / CONFIG).is_file()
    except (OSError, ValueError):
        return False


def read_evaluations(folder: RunFolder) -> list[tuple[int, float]]:
    """Read the environment step and the mean return of each evaluation.

    Raises:
        DataError: if the file is damaged.
    """
    try:
        return [(int(row["env_step"]), float(row["mean"])) for row in folder.rows(EVALUATIONS)]
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{folder.path / EVALUATIONS}: a line is damaged") from None


def _why_no_run(path: Path) -> str:
    """Return why a path is not the folder of a run, and the run that was probably meant."""
    if path.is_dir():
        inside = _runs_in(path)
        hint = f", but contains runs, such as {path / inside[0]}" if inside else ""
        return f"it has no {CONFIG}{hint}"
    if path.exists():
        near = f"; did you mean {path.parent}?" if (path.parent / CONFIG).is_file() else ""
        return f"it is {'a file' if path.is_file() else 'not a folder'}{near}"
    names = difflib.get_close_matches(path.name, _runs_in(path.parent), n=1)
    return "it does not exist" + (f"; did you mean {path.parent / names[0]}?" if names else "")


def _runs_in(path: Path) -> list[str]:
    """Return the names of the run folders in a folder; empty if it cannot be read."""
    try:
        return sorted(each.name for each in path.iterdir() if (each / CONFIG).is_file())
    except OSError:
        return []


def _free_path(config: Config) -> Path:
    """Return runs/METHOD_ENV_seedN, with a number appended if that path exists.

    Raises:
        UsageError: if that is not a valid folder name.
    """
    name = run_name(config)
    because = why_invalid_name(name)
    if because:
        raise UsageError(
            f"{name[:80]!r} is not a valid folder name: {because}; choose a folder with --run-dir"
        )
    runs = user_path("runs")
    path, count = runs / name, 1
    while os.path.lexists(path):
        count += 1
        path = runs / f"{name}-{count}"
    return path
