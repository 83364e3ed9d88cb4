"""Archives: the small files of a finished run, kept as they are."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from sparl.errors import DataError, ResourceError, UsageError
from sparl.report.runs import FinishedRun
from sparl.training.run_folder import (
    CONFIG,
    DEGREES,
    EVALUATIONS,
    METRICS,
    RUN,
    TOPOLOGY,
    RunFolder,
)

KEPT = (CONFIG, EVALUATIONS, METRICS, TOPOLOGY, DEGREES)


def archive(run: Path, to: Path, commit: str | None) -> Path:
    """Copy a finished run's records into its own folder under `to`.

    The files are copied byte for byte, but run.json gets the commit if the run did not know it.

    Args:
        run: the run's folder.
        to: the archive.
        commit: of the code that made the run, where the run does not say.

    Returns:
        The new folder.

    Raises:
        DataError: the run has not finished, or is damaged.
        UsageError: no commit is known, two are, or the archive already has the run.
        ResourceError: it cannot be written.
    """
    finished = FinishedRun.read(run)
    about = finished.about
    known = about.get("versions", {}).get("commit", "")
    if known and commit and known != commit:
        raise UsageError(f"{run}: made from commit {known}, not {commit}; leave --commit out")
    if not known and not re.fullmatch("[0-9a-f]{7,40}(-dirty)?", commit or ""):
        raise UsageError(
            f"{run}: does not say from which commit it was made; name it: --commit SHA"
        )
    config = finished.config
    into = to / config.env.replace("/", "-") / f"{config.method}_seed{config.seed}"
    count = 1
    while into.exists():
        if (into / EVALUATIONS).read_bytes() == (run / EVALUATIONS).read_bytes():
            raise UsageError(f"{into}: this run is archived already")
        count += 1
        into = into.with_name(f"{config.method}_seed{config.seed}-{count}")
    try:
        into.mkdir(parents=True)
        for name in KEPT:
            if (run / name).exists():
                shutil.copyfile(run / name, into / name)
    except OSError as error:
        raise ResourceError(f"cannot write {into}: {error.strerror}") from None
    if not known:
        about["versions"] = {**about.get("versions", {}), "commit": commit}
    RunFolder(into).write_json(RUN, about)
    return into


def check_archive(path: Path) -> None:
    """An archive's folder can be made.

    Raises:
        DataError: it is a file.
    """
    if path.exists() and not path.is_dir():
        raise DataError(f"{path}: not a folder")
