"""`sparl report` and `sparl archive`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from sparl.archive.archive import archive_run, check_archive
from sparl.arguments import parse_options
from sparl.console import PlainConsole
from sparl.errors import ResourceError, SparlError, UsageError
from sparl.report.page import html, markdown, summary
from sparl.report.pictures import Section, Shade, all_sections
from sparl.report.runs import collect
from sparl.report.tables import all_tables
from sparl.training.folder import Folder
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
    page: dict[str, str | bytes] = {
        "report.html": html(runs, tables, sections),
        "README.md": markdown(runs, tables, sections, FIGURES),
    }
    figures: dict[str, str | bytes] = {}
    for figure in (figure for section in sections for figure in section.figures):
        drawing = figure.file(methods)
        figures[f"{figure.name}.svg"] = drawing
        if to_png is not None:
            figures[f"{figure.name}.png"] = to_png(drawing)
    folder = Folder(out)
    csv: dict[str, str | bytes] = {f"{table.name}.csv": table.csv() for table in tables}
    _write(folder, page)
    for each, files in ((folder.at(FIGURES), figures), (folder.at(TABLES), csv)):
        _write(each, files)
        others = [name for name in each.names() if "." in name and name not in files]
        if others:
            left = counted(len(others), "file")
            say(f"note: {left} in {each.path} not of this report, and left alone")
    say(f"{summary(runs)} {out / 'report.html'}")


def _write(folder: Folder, files: Mapping[str, str | bytes]) -> None:
    """Write files into a folder, which is made if it does not exist.

    Raises:
        ResourceError: it cannot be written.
    """
    try:
        folder.make()
    except OSError as error:
        raise ResourceError(f"report: cannot write {folder.path}: {error.strerror}") from None
    for name, content in files.items():
        if isinstance(content, str):
            content = content.encode("utf-8", "backslashreplace")
        folder.write(name, content)


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
    troubles: list[SparlError] = []
    for run in options.runs:
        try:
            into = archive_run(run, options.to, options.commit)
        except SparlError as error:  # the other runs are archived all the same
            troubles.append(error)
        else:
            PlainConsole().print(f"{run} -> {into}")
    if troubles:
        raise type(troubles[0])("; ".join(map(str, troubles)))
    return 0
