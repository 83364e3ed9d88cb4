"""Copy the small files of finished runs to an archive, and find archived runs.

ARCHIVE/ENV/METHOD_seedN/    the run's records, copied from its folder
    run.json                 also states the commit and, if the actor is kept, the actor's return
    agent.*                  the actor, for some runs
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparl.archive.finished_run import FinishedRun
from sparl.errors import DataError, UsageError
from sparl.identity import env_name, run_name
from sparl.training.agent_copies import save_actor
from sparl.training.agent_file import load_agent
from sparl.training.durable import why_invalid_name
from sparl.training.environment import make_environment
from sparl.training.evaluate import Evaluator
from sparl.training.folder import Folder
from sparl.training.run_folder import (
    AGENT,
    AGENT_MANIFEST,
    CONFIG,
    CSV_BYTES,
    DEGREES,
    EVALUATIONS,
    LOCK,
    METRICS,
    RUN,
    TOPOLOGY,
    RunFolder,
)

KEPT = (CONFIG, EVALUATIONS, METRICS, TOPOLOGY, DEGREES)
ACTOR_EPISODES = 100  # number of episodes in which the return of an archived actor is measured
POLL_SECONDS = 0.1


class AlreadyArchived(UsageError):
    """The archive already contains the run, in the folder `path`."""

    def __init__(self, text: str, path: Path = Path()) -> None:
        super().__init__(text)
        self.path = path


@dataclass
class Archive:
    """The contents of an archive.

    Attributes:
        path: the archive's folder.
        runs: the folders of the runs by run id; see `sparl.identity.run_id`.
        notes: messages about folders that could not be read.
    """

    path: Path
    runs: dict[str, Path] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Archive:
        """Read the runs of an archive's folder, which need not exist yet.

        Raises:
            UsageError: if `path` is a file.
        """
        check_archive(path)
        archive = cls(path)
        for found in sorted(path.glob(f"*/*/{CONFIG}")):
            if not (found.parent / RUN).exists():
                continue  # an interrupted copy, or a trained agent without the files of its run
            try:
                archive.runs.setdefault(FinishedRun.read(found.parent).id, found.parent)
            except DataError as error:
                archive.notes.append(f"not counted as archived: {error}")
        return archive

    def add(self, run: Path, *, with_actor: bool) -> Path:
        """Archive a finished run unless the archive already contains the run.

        Args:
            run: folder of the run.
            with_actor: whether to also archive the actor and its return over ACTOR_EPISODES
                episodes.

        Returns:
            The run's folder in the archive.

        Raises:
            SparlError: if the evaluation fails, or under the conditions stated in `archive_run`,
                except that the archive already contains the run.
        """
        known = FinishedRun.read(run).id
        self.runs |= Archive.read(
            self.path
        ).runs  # another study may have added the run in the meantime
        if known not in self.runs:
            try:
                self.runs[known] = archive_run(run, self.path, None, with_actor=with_actor)
            except AlreadyArchived as already:  # another process archived the run first
                self.runs[known] = already.path
        return self.runs[known]


def actor_return(run: Path) -> dict[str, Any]:
    """Measure the return of a run's actor over ACTOR_EPISODES episodes, for run.json.

    Returns:
        A dict with episodes, the number of episodes, and mean and std of their returns.
    """
    config = RunFolder.open(run).config()
    evaluator = Evaluator(lambda: make_environment(config), ACTOR_EPISODES, config.evaluation_seed)
    try:
        result = evaluator.evaluate(load_agent(run).policy)
    finally:
        evaluator.close()
    return {"episodes": ACTOR_EPISODES, "mean": result.mean, "std": result.std}


def archive_run(run: Path, to: Path, commit: str | None, *, with_actor: bool = False) -> Path:
    """Copy a finished run's records into a new folder of the archive.

    The files in KEPT are copied byte for byte. The copy of run.json gets a missing commit and, if
    the actor is archived, the actor's return.

    Args:
        run: the run's folder.
        to: the archive's folder.
        commit: the commit of the code that trained the run, for a run.json that does not record it.
        with_actor: whether to also archive the actor and its return.

    Returns:
        The new folder.

    Raises:
        DataError: if the run is unfinished or damaged, or one of the archive's files or folders is
            a link or a special file.
        AlreadyArchived: if the archive already contains the run.
        UsageError: if the commit is unknown or malformed, or differs from the recorded one, or if
            the archive's folder cannot be created.
        EnvironmentFault, Diverged, UsageError: if the actor cannot be evaluated.
        ResourceError: if a file cannot be written.
    """
    finished = FinishedRun.read(run)
    about = finished.about
    known = about.get("versions", {}).get("commit", "")
    if known and commit and known != commit:
        raise UsageError(f"{run} was trained with commit {known}, not {commit}; omit --commit")
    if not known and not re.fullmatch("[0-9a-f]{7,40}(-dirty)?", commit or ""):
        remedy = "specify the commit with --commit SHA"
        if commit:
            remedy = f"--commit is {commit[:80]!r} but must be 7 to 40 lower-case hex digits"
        raise UsageError(
            f"{run} does not record the commit of sparl that it was trained with; {remedy}"
        )
    if not known:
        about["versions"] = {**about.get("versions", {}), "commit": commit}
    if with_actor:
        about["actor"] = actor_return(run)
    source = RunFolder.open(run)
    with _locked(to) as archive:
        into = _free_folder(archive, finished, source)
        try:
            into.make()
        except OSError as error:
            raise UsageError(f"{into.path} cannot be created: {error.strerror}") from None
        for name in (*KEPT, AGENT, AGENT_MANIFEST):  # files that an interrupted copy left behind
            if into.has(name):
                into.remove(name)
        for name in KEPT:
            if source.files.has(name):
                into.write(name, source.files.read(name, CSV_BYTES))
        if with_actor:
            save_actor(source, RunFolder(into))
        RunFolder(into).write_json(RUN, about)
    return into.path


@contextmanager
def _locked(path: Path) -> Iterator[Folder]:
    """Lock an archive's folder; block until no other process holds the lock."""
    archive = Folder(path)
    try:
        archive.make()
        while not archive.lock(LOCK):
            time.sleep(POLL_SECONDS)
    except OSError as error:
        raise UsageError(f"{path} cannot be created: {error.strerror}") from None
    try:
        yield archive
    finally:
        archive.unlock()


def _free_folder(archive: Folder, finished: FinishedRun, source: RunFolder) -> Folder:
    """Choose ENV/METHOD_seedN, with a number appended if that folder contains another run.

    Raises:
        AlreadyArchived: if the archive contains this run.
        DataError: if the environment's name is not a valid folder name.
    """
    env = env_name(finished.config)
    because = why_invalid_name(env)
    if because:
        raise DataError(
            f"{finished.path}: the environment's name {env[:80]!r} is not a valid folder name: "
            f"{because}"
        )
    name = run_name(finished.config).replace(f"_{env}_", "_")
    inside, count = archive.at(env), 1
    into = inside.at(name)
    evaluations = source.files.read(EVALUATIONS, CSV_BYTES)
    while into.has(RUN):  # run.json is written last; a folder without it is an interrupted copy
        if into.read(EVALUATIONS, CSV_BYTES) == evaluations:
            raise AlreadyArchived(f"{into.path}: the run is already archived", into.path)
        count += 1
        into = inside.at(f"{name}-{count}")
    return into


def check_archive(path: Path) -> None:
    """Check that the path of an archive is a folder or does not exist yet.

    Raises:
        UsageError: if `path` is neither.
    """
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path}: an archive must be a folder, but this is not one")
