"""Write a report as a self-contained HTML page and as README.md."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any

from sparl.errors import DataError
from sparl.report import colours
from sparl.report.escape import in_html, in_markdown, in_script
from sparl.report.figures import Figure, HeatMap
from sparl.report.pictures import Section
from sparl.report.runs import Collection
from sparl.report.table import Table
from sparl.training.folder import Folder
from sparl.wording import counted

CLIPS = ".mp4"  # suffix of the videos in a run's folder, which sparl play --video records
CLIP_BYTES = 5_000_000  # maximum size of a video; the page omits larger ones
_WIDE = 60  # number of columns above which a heat map always has the width of the page
_TITLE = "Sparse reinforcement learning: results"
# Sections that are collapsed until the reader expands them.
_CLOSED = {"Degrees", "Connections of the inputs", "Runs"}
# With this policy, the page loads nothing from the network and evaluates no strings as code, even
# if the files of a run are hostile.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; media-src data:"
)
_NOTICE = (
    "<!-- Contains Vega, Vega-Lite, Vega-Embed and Vega-Tooltip, Copyright University of "
    "Washington Interactive Data Lab, BSD-3-Clause; and D3, Copyright Mike Bostock, ISC -->"
)


class Page:
    """The HTML page of a report.

    Args:
        runs: the runs of the report.
        specs: the Vega-Lite specification of each figure, by the figure's name.
        config: the Vega-Lite configuration of all charts.
    """

    def __init__(
        self, runs: Collection, specs: Mapping[str, dict[str, Any]], config: dict[str, Any]
    ) -> None:
        self._runs, self._methods = runs, runs.labels
        self._specs, self._config = specs, config

    def html(self, tables: Sequence[Table], sections: Sequence[Section], javascript: str) -> str:
        """Return the page as HTML.

        Args:
            tables: the tables; see `all_tables`.
            sections: the sections with figures.
            javascript: a script that defines vegaEmbed.
        """
        of = {table.name: self._table(table) for table in tables}
        drawn = [self._section(section) for section in sections]
        blocks = [
            *drawn[:1], self._clips(), of.get("returns", ""), of.get("together", ""),
            *drawn[1:3], of.get("costs", ""), *drawn[3:], self._notes(), of.get("runs", ""),
        ]  # fmt: skip
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<link rel="icon" href="data:,">'
            f"<title>{_TITLE}</title><style>{colours.css()}{_file('page.css')}</style></head><body>"
            f"<header><h1>{_TITLE}</h1><p>{in_html(summary(self._runs))}{self._link_to_notes()}</p>"
            f"</header><main>{self._switches()}{''.join(blocks)}</main>{_NOTICE}"
            f'<script type="application/json" id="config">{in_script(self._config)}</script>'
            f"<script>{javascript}</script><script>{_file('page.js')}</script></body></html>\n"
        )

    def _switches(self) -> str:
        labels = "".join(
            f'<label><input type="checkbox" checked value="{m}">{self._marker(method)}'
            f"{in_html(method)}</label>"
            for m, method in enumerate(self._methods)
        )
        return f'<div id="methods" role="group" aria-label="Displayed methods">{labels}</div>'

    def _link_to_notes(self) -> str:
        notes = self._runs.notes
        return f' <a href="#notes">{counted(len(notes), "note")}</a> below.' if notes else ""

    def _notes(self) -> str:
        items = "".join(f"<li>{in_html(note)}</li>" for note in self._runs.notes)
        return self._block("notes", "Notes", "", f"<ul>{items}</ul>") if items else ""

    def _section(self, section: Section) -> str:
        figures = "".join(map(self._figure, section.figures))
        name = section.title.lower().replace(" ", "-")
        return self._block(
            name, section.title, section.note, f'<div class="figures">{figures}</div>'
        )

    def _figure(self, figure: Figure) -> str:
        method = self._data_m(figure.method) if isinstance(figure, HeatMap) else ""
        wide = ' class="wide"' if isinstance(figure, HeatMap) and figure.columns > _WIDE else ""
        return (
            f"<figure{method}{wide}><h3>{in_html(figure.title)}</h3>"
            f'<div role="img" aria-label="{in_html(figure.description())}">'
            '<div class="chart" aria-hidden="true"></div></div>'
            f'<script type="application/json">{in_script(self._specs[figure.name])}</script>'
            "</figure>"
        )

    def _table(self, table: Table) -> str:
        heads = "".join(f'<th scope="col">{in_html(heading)}</th>' for heading, _ in table.shown())
        rows = []
        for row, cells in zip(table.rows, table.cells(), strict=True):
            method = row["method"]
            marked = "".join(
                f'<th scope="row">{self._marker(method)}{in_html(cell)}</th>'
                if heading == "method" else f"<td>{in_html(cell)}</td>"
                for (heading, _), cell in zip(table.shown(), cells, strict=True)
            )  # fmt: skip
            rows.append(f"<tr{self._data_m(method)}>{marked}</tr>")
        inner = (
            f'<div class="scroll" tabindex="0" role="region" aria-label="{in_html(table.title)}, '
            f'table"><table><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
            "</div>"
        )
        return self._block(table.name, table.title, table.note, inner)

    def _clips(self) -> str:
        clips = "".join(
            f"<figure{self._data_m(label)}>{video}"
            f"<figcaption>{in_html(caption)}</figcaption></figure>"
            for label, video, caption in _videos(self._runs)
        )
        note = "The best and the worst evaluation episode of each run whose folder has a video."
        inner = f'<div class="figures">{clips}</div>'
        return self._block("videos", "Videos", note, inner) if clips else ""

    def _block(self, name: str, title: str, note: str, inner: str) -> str:
        text = f"<p>{in_html(note)}</p>" if note else ""
        head = f"<h2>{in_html(title)}</h2>"
        if title in _CLOSED:
            return f'<details id="{name}"><summary>{head}</summary>{text}{inner}</details>'
        return f'<section id="{name}">{head}{text}{inner}</section>'

    def _data_m(self, method: str) -> str:
        """Return the HTML attribute that the page uses to hide the elements of one method."""
        return f' data-m="{self._methods.index(method)}"'

    def _marker(self, method: str) -> str:
        """Return a drawing of a method's marker in the method's colour."""
        m = self._methods.index(method)
        colour, path = m % colours.METHOD_COLOURS, colours.MARKERS[m % len(colours.MARKERS)]
        return (
            f'<svg class="c{colour}" viewBox="-1 -1 2 2" aria-hidden="true">'
            f'<path d="{path}"/></svg>'
        )


def _videos(runs: Collection) -> Iterator[tuple[str, str, str]]:
    """Yield the method, the video element and the caption of each MP4 file of the runs."""
    for group in runs.groups:
        for run in group.runs:
            folder = Folder(run.path)
            caption = f"{group.label}, {run.config.env}, seed {run.config.seed}"
            for name in folder.names():
                if name.endswith(CLIPS):
                    yield group.label, *_video(folder, name, caption)


def _video(folder: Folder, name: str, caption: str) -> tuple[str, str]:
    """Return a video element and its caption.

    If the file cannot be embedded, the element is "" and the caption explains why.
    """
    try:
        size = folder.size(name)
        if size > CLIP_BYTES:
            text = f"{name} has {size:,} bytes, more than the limit of {CLIP_BYTES:,}"
            return "", f"{caption}: {text}"
        data = b64encode(folder.read(name, CLIP_BYTES)).decode()
    except DataError as error:
        return "", f"{caption}: {error}"
    video = (
        f'<video controls muted loop width="100%" aria-label="{in_html(caption)}" '
        f'src="data:video/mp4;base64,{data}"></video>'
    )
    return video, caption


def markdown(
    runs: Collection, tables: Sequence[Table], sections: Sequence[Section], figures: str
) -> str:
    """Return the learning curves, the tables and the notes as Markdown.

    Args:
        runs: the runs of the report.
        tables: all tables.
        sections: the sections of the report, or none if it has no figures. Only the first one, the
            learning curves, is included.
        figures: path of the figures' folder, relative to the Markdown file.
    """
    parts = [f"# {_TITLE}\n", f"{summary(runs)} Written by `sparl report`.\n"]
    for section in sections[:1]:
        parts += [f"## {section.title}\n", f"{section.note}\n"]
        parts += [
            "".join(
                f"![{in_markdown(f.description())}]({figures}/{f.name}.svg)\n"
                for f in section.figures
            )
        ]
    for table in tables:
        parts += [f"## {table.title}\n", f"{table.note}\n", table.markdown()]
    if runs.notes:
        parts += ["## Notes\n", "".join(f"- {in_markdown(note)}\n" for note in runs.notes)]
    return "\n".join(parts)


def summary(runs: Collection) -> str:
    """Return a line that states how many runs, methods and environments a report covers."""
    count = sum(len(group.runs) for group in runs.groups)
    counts = (count, "run"), (len(runs.labels), "method"), (len(runs.environments), "environment")
    return ", ".join(counted(n, name) for n, name in counts) + "."


def _file(name: str) -> str:
    return (files("sparl.report") / name).read_text("utf-8")
