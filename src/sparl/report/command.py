"""`sparl report` and `sparl archive`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from sparl.archive.archive import archive_run, check_archive
from sparl.arguments import parse_options
from sparl.console import PlainConsole
from sparl.errors import DataError, ResourceError, UsageError
from sparl.report.page import html, markdown, summary
from sparl.report.pictures import Section, Shade, all_sections
from sparl.report.runs import collect
from sparl.report.tables import all_tables
from sparl.wording import counted

FIGURES, TABLES = "figures", "tables"
_LONGEST_NAME = 150  # characters of a figure's name


@dataclass(frozen=True)
class ReportOptions:
    """Tables and pictures of all finished runs in some folders, and the folders within them.

    Writes report.html (one file, no network), README.md (the tables), tables/*.csv and
    figures/*.svg.
    """

    paths: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="PATH...")]
    """Folders of runs, studies, archives; and files of studies, to say which runs are missing."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("report")
    """Where to write."""
    shade: Shade = "interval"
    """What is shaded around a mean return: its 95 % bootstrap interval, or the standard deviation
    over the runs."""
    png: bool = False
    """Write figures/*.png too; needs sparl[png]."""


def report(args: list[str]) -> int:
    """`sparl report`."""
    options = parse_options(ReportOptions, args, "sparl report")
    write_report(options.paths, options.out, shade=options.shade, png=options.png)
    return 0


def write_report(
    paths: Sequence[Path], out: Path, *, shade: Shade = "interval", png: bool = False
) -> None:
    """Write the report of all finished runs in these folders into a folder.

    Args:
        paths: folders, and files of studies; see `collect`.
        out: where to write.
        shade: what is shaded around a mean return, its interval or the standard deviation.
        png: figures as PNG too.

    Raises:
        DataError: there is none.
        UsageError: resvg is not installed, which PNG needs; a study's file is wrong.
        ResourceError: it cannot be written.
    """
    say = PlainConsole().print
    to_png = _rasterizer() if png else None
    runs = collect(paths)
    for note in runs.notes:
        say(f"note: {note}")
    tables = all_tables(runs)
    sections = [_with_file_names(section) for section in all_sections(runs, shade)]
    methods = runs.labels
    files: dict[str, str | bytes] = {
        "report.html": html(runs, tables, sections),
        "README.md": markdown(runs, tables, sections, FIGURES),
        **{f"{TABLES}/{table.name}.csv": table.csv() for table in tables},
    }
    for figure in (figure for section in sections for figure in section.figures):
        drawing = figure.file(methods)
        files[f"{FIGURES}/{figure.name}.svg"] = drawing
        if to_png is not None:
            files[f"{FIGURES}/{figure.name}.png"] = to_png(drawing)
    try:
        for name, content in files.items():
            path = out / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(
                content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
            )
    except OSError as error:
        raise ResourceError(f"report: cannot write {out}: {error.strerror}") from None
    for folder in (FIGURES, TABLES):
        others = {f"{folder}/{path.name}" for path in (out / folder).glob("*.*")} - files.keys()
        if others:
            left = counted(len(others), "file")
            say(f"note: {left} in {out / folder} not of this report, and left alone")
    say(f"{summary(runs)} {out / 'report.html'}")


def _rasterizer() -> Callable[[str], bytes]:
    """What draws an SVG's text as PNG, on white."""
    try:
        import resvg_py
    except ImportError:
        raise UsageError("report: --png needs resvg: pip install 'sparl[png]'") from None

    def draw(svg: str) -> bytes:
        return bytes(resvg_py.svg_to_bytes(svg_string=svg, zoom=3, background="#ffffff"))

    return draw


def _with_file_names(section: Section) -> Section:
    """Names of figures as they can stand in a link."""
    figures = [replace(f, name=_file_name(f.name)) for f in section.figures]
    return replace(section, figures=figures)


def _file_name(name: str) -> str:
    """A name of word characters, short enough for any file system."""
    text = re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII)
    if len(text) <= _LONGEST_NAME:
        return text
    return f"{text[:_LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class ArchiveOptions:
    """Keep the small files of finished runs: configuration, evaluations, commit, machine."""

    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN...")]
    """Folders of finished runs."""
    to: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("results/runs")
    """The archive; `sparl report results/runs --out results` renders it."""
    commit: Annotated[str | None, tyro.conf.arg(metavar="SHA")] = None
    """Commit of the code that made them, for runs that do not say it."""


def archive(args: list[str]) -> int:
    """`sparl archive`."""
    options = parse_options(ArchiveOptions, args, "sparl archive")
    check_archive(options.to)
    failed: list[DataError | UsageError] = []
    for run in options.runs:
        try:
            into = archive_run(run, options.to, options.commit)
        except (DataError, UsageError) as error:  # the others are archived
            failed.append(error)
        else:
            PlainConsole().print(f"{run} -> {into}")
    if failed:
        raise type(failed[0])("; ".join(map(str, failed)))
    return 0
