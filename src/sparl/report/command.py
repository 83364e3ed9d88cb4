"""The commands `sparl report` and `sparl archive`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Annotated

from sparl.archive.archive import archive_run, check_archive
from sparl.console import PlainConsole
from sparl.errors import SparlError, UsageError
from sparl.options import Argument, parse_options
from sparl.report.page import Page, markdown, summary
from sparl.report.pictures import Section, Shade, all_sections
from sparl.report.runs import collect
from sparl.report.tables import all_tables
from sparl.text_table import INDENT
from sparl.training.folder import Folder
from sparl.wording import counted

FIGURES, TABLES = "figures", "tables"
_LONGEST_NAME = 150  # maximum length of a figure's file name [characters]


@dataclass(frozen=True)
class ReportOptions:
    """Report all finished runs in the given folders and their subfolders.

    Writes report.html (one file that works offline), README.md, tables/*.csv and figures/*.svg.
    Requires sparl[report], except with --tables-only.
    """

    paths: Annotated[tuple[Path, ...], Argument("PATH...", positional=True)]
    """Folders of runs, studies or archives; and study files, whose unfinished runs are listed."""
    out: Annotated[Path, Argument("DIR")] = Path("report")
    """Folder of the report."""
    shade: Shade = "interval"
    """Band around a mean return: its 95 % bootstrap interval (interval), or one standard deviation
    over the runs on either side (std)."""
    png: bool = False
    """Also write figures/*.png."""
    tables_only: bool = False
    """Write only README.md and tables/*.csv, without the page and the figures."""


def report(args: list[str]) -> int:
    """Run `sparl report` with these arguments, and return the exit code."""
    options = parse_options(ReportOptions, args, "sparl report")
    if options.png and options.tables_only:
        raise UsageError("report: --png and --tables-only cannot be used together")
    write_report(
        options.paths, options.out, shade=options.shade, png=options.png,
        tables_only=options.tables_only,
    )  # fmt: skip
    return 0


def write_report(
    paths: Sequence[Path], out: Path, *, shade: Shade = "interval", png: bool = False,
    tables_only: bool = False,
) -> None:  # fmt: skip
    """Write a report on all finished runs in the given folders and their subfolders.

    Args:
        paths: folders and study files; see `collect`.
        out: the folder of the report.
        shade: the band around a mean return: "interval" for its 95 % bootstrap interval, "std" for
            one standard deviation over the runs on either side.
        png: whether to write the figures as PNG too.
        tables_only: whether to omit the page and the figures.

    Raises:
        DataError: if a path is neither a folder nor a study file, or if no run has finished.
        UsageError: if a study file is invalid, the folder of the report cannot be created, or
            sparl[report] is not installed and `tables_only` is false.
        ResourceError: if a file cannot be written.
    """
    say = PlainConsole().print
    charts = None if tables_only else _charts()
    runs = collect(paths)
    for note in runs.notes:
        say(f"note: {note}")
    tables, folder = all_tables(runs), Folder(out)
    page: dict[str, str | bytes] = {}
    figures: dict[str, str | bytes] = {}
    sections: list[Section] = []
    if charts is not None:
        sections = [_with_file_names(section) for section in all_sections(runs, shade)]
        methods, specs = runs.labels, {}
        for figure in (figure for section in sections for figure in section.figures):
            specs[figure.name] = charts.page_spec(figure, methods)
            drawing = charts.svg(figure, methods)
            figures[f"{figure.name}.svg"] = drawing
            if png:
                figures[f"{figure.name}.png"] = charts.png(drawing)
        html = Page(runs, specs, charts.page_config()).html(tables, sections, charts.javascript())
        page["report.html"] = html
    page["README.md"] = markdown(runs, tables, sections, FIGURES)
    csv: dict[str, str | bytes] = {f"{table.name}.csv": table.csv() for table in tables}
    _write(folder, page)
    for each, files in ((folder.at(FIGURES), figures), (folder.at(TABLES), csv)):
        if files:
            _write(each, files)
            _count_others(each, files)
    say(summary(runs))
    PlainConsole().copyable(str(out / next(iter(page))))


def _charts() -> ModuleType:
    """Import the module that draws the figures.

    Raises:
        UsageError: if the optional packages are not installed.
    """
    try:
        from sparl.report import charts
    except ImportError as error:
        raise UsageError(
            f"report: the page and the figures need {error.name}; install it with pip install "
            "'sparl[report]', or write only the tables with --tables-only"
        ) from None
    return charts


def _write(folder: Folder, files: Mapping[str, str | bytes]) -> None:
    """Write files into a folder, which is created if it does not exist.

    Raises:
        UsageError: if the folder cannot be created.
        ResourceError: if a file cannot be written.
    """
    try:
        folder.make()
    except OSError as error:
        raise UsageError(f"report: {folder.path} cannot be created: {error.strerror}") from None
    for name, content in files.items():
        if isinstance(content, str):
            content = content.encode("utf-8", "backslashreplace")
        folder.write(name, content)


def _count_others(folder: Folder, written: Container[str]) -> None:
    """Print a note if a folder contains files that this report did not write."""
    others = [name for name in folder.names() if "." in name and name not in written]
    if others:
        left = counted(len(others), "file")
        PlainConsole().print(
            f"note: {folder.path} contains {left} that this report neither wrote nor changed"
        )


def _with_file_names(section: Section) -> Section:
    """Return a copy of a section in which the names of the figures are valid in links."""
    figures = [replace(f, name=_file_name(f.name)) for f in section.figures]
    return replace(section, figures=figures)


def _file_name(name: str) -> str:
    """Return a file name that is valid in links and short enough for any file system."""
    text = re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII)
    if len(text) <= _LONGEST_NAME:
        return text
    return f"{text[:_LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class ArchiveOptions:
    """Archive the small files of finished runs.

    These are the configuration, evaluations, metrics, topology, degrees, and run.json, which states
    the commit and the machine.
    """

    runs: Annotated[tuple[Path, ...], Argument("RUN...", positional=True)]
    """Folders of finished runs."""
    to: Annotated[Path, Argument("DIR")] = Path("results/runs")
    """Folder of the archive; `sparl report results/runs --out results` reports its runs."""
    commit: Annotated[str | None, Argument("SHA")] = None
    """Commit of sparl with which the runs were trained, for runs that do not record it."""


def archive(args: list[str]) -> int:
    """Run `sparl archive` with these arguments, and return the exit code."""
    options = parse_options(ArchiveOptions, args, "sparl archive")
    check_archive(options.to)
    errors: list[SparlError] = []
    for run in options.runs:
        try:
            into = archive_run(run, options.to, options.commit)
        except SparlError as error:  # the other runs are archived nevertheless
            errors.append(error)
        else:
            PlainConsole().print("archived:")
            PlainConsole().copyable(f"{INDENT}{into}")
    if errors:
        raise type(errors[0])("; ".join(map(str, errors)))
    return 0
