"""One self-contained HTML page, and the same as Markdown: tables, figures, no network."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from importlib.resources import files

from sparl.report.escape import in_html, in_markdown
from sparl.report.figures import Figure, HeatMap, colour, page_css
from sparl.report.pictures import Section
from sparl.report.runs import Collection
from sparl.report.tables import Table

CLIPS = "*.mp4"  # in a run's folder, from sparl play --video
CLIP_BYTES = 5_000_000  # a larger one is not in the page
_TITLE = "Sparse reinforcement learning: results"
# What stands folded up until somebody asks for it.
_FOLDED = {"Degrees", "What the networks look at", "Runs"}


def html(runs: Collection, tables: Sequence[Table], sections: Sequence[Section]) -> str:
    """The page."""
    methods = runs.labels
    toggles = "".join(
        f'<label class="{colour(m, methods)}"><input type="checkbox" checked value="{in_html(m)}">'
        f"<i></i>{in_html(m)}</label>"
        for m in methods
    )
    by_name = {table.name: table for table in tables}
    first = ["returns", "together"]
    body = [
        f"<header><h1>{_TITLE}</h1><p>{in_html(summary(runs))}</p></header>",
        f'<nav aria-label="methods"><div>{toggles}</div></nav><main>',
        _notes(runs),
        *(_section(s, methods) for s in sections[:1]),
        _clips(runs),
        *(_table(by_name[name], methods) for name in first if name in by_name),
        *(_section(s, methods) for s in sections[1:3]),
        *(_table(t, methods) for t in tables if t.name == "costs"),
        *(_section(s, methods) for s in sections[3:]),
        *(_table(t, methods) for t in tables if t.name == "runs"),
        '</main><div id="tip" role="status" hidden></div>',
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{_TITLE}</title><style>{page_css()}{_file('page.css')}</style></head>"
        f"<body>{''.join(body)}<script>{_file('page.js')}</script></body></html>\n"
    )


def markdown(
    runs: Collection, tables: Sequence[Table], sections: Sequence[Section], figures: str
) -> str:
    """The tables and the main figures; `figures` is the folder of the drawings."""
    parts = [f"# {_TITLE}\n", f"{summary(runs)} Written by `sparl report`.\n"]
    if runs.notes:
        parts += ["".join(f"- {in_markdown(note)}\n" for note in runs.notes)]
    for section in sections[:1]:
        parts += [f"## {section.title}\n", f"{section.note}\n"]
        parts += [
            "".join(f"![{in_markdown(f.title)}]({figures}/{f.name}.svg)\n" for f in section.figures)
        ]
    for table in tables:
        parts += [f"## {table.title}\n", f"{table.note}\n", table.markdown()]
    return "\n".join(parts)


def summary(runs: Collection) -> str:
    """How much there is, in one line."""
    count = sum(len(group.runs) for group in runs.groups)
    counts = (count, "run"), (len(runs.labels), "method"), (len(runs.environments), "environment")
    return ", ".join(f"{n} {name}{'s' * (n != 1)}" for n, name in counts) + "."


def _clips(runs: Collection) -> str:
    """The clips of those runs that have one, in the page itself."""
    films = []
    for group in runs.groups:
        for run in group.runs:
            for path in sorted(run.path.glob(CLIPS)):
                caption = f"{group.label}, {run.config.env}, seed {run.config.seed}"
                size, film = path.lstat().st_size, ""
                if size > CLIP_BYTES:
                    caption += f": {path.name} has {size / 1e6:.0f} MB, too much for this page"
                elif path.is_file() and not path.is_symlink():
                    data = b64encode(path.read_bytes()).decode()
                    film = (
                        '<video controls muted loop width="100%" '
                        f'src="data:video/mp4;base64,{data}"></video>'
                    )
                else:
                    caption += f": {path.name} is no regular file"
                films.append(
                    f'<figure data-m="{in_html(group.label)}">{film}'
                    f"<figcaption>{in_html(caption)}</figcaption></figure>"
                )
    note = "The best and the worst evaluation episode of a run, side by side."
    return _block("To watch", note, f'<div class="figures">{"".join(films)}</div>') if films else ""


def _notes(runs: Collection) -> str:
    items = "".join(f"<li>{in_html(note)}</li>" for note in runs.notes)
    return f"<aside><h2>To know</h2><ul>{items}</ul></aside>" if items else ""


def _section(section: Section, methods: Sequence[str]) -> str:
    drawings = "".join(_drawing(figure, methods) for figure in section.figures)
    return _block(section.title, section.note, f'<div class="figures">{drawings}</div>')


def _drawing(figure: Figure, methods: Sequence[str]) -> str:
    of = f' data-m="{in_html(figure.method)}"' if isinstance(figure, HeatMap) else ""
    return f"<figure{of}>{figure.svg(methods)}</figure>"


def _table(table: Table, methods: Sequence[str]) -> str:
    heads = "".join(f"<th>{in_html(heading)}</th>" for heading, _ in table.shown())
    rows = []
    for row, cells in zip(table.rows, table.cells(), strict=True):
        method = row["method"]
        marked = "".join(
            f'<td class="m {colour(method, methods)}"><i></i>{in_html(cell)}</td>'
            if heading == "method" else f"<td>{in_html(cell)}</td>"
            for (heading, _), cell in zip(table.shown(), cells, strict=True)
        )  # fmt: skip
        rows.append(f'<tr data-m="{in_html(method)}">{marked}</tr>')
    inner = (
        f'<div class="scroll"><table id="{table.name}"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
    return _block(table.title, table.note, inner)


def _block(title: str, note: str, inner: str) -> str:
    text = f"<p>{in_html(note)}</p>" if note else ""
    if title in _FOLDED:
        return f"<details><summary><h2>{in_html(title)}</h2></summary>{text}{inner}</details>"
    return f"<section><h2>{in_html(title)}</h2>{text}{inner}</section>"


def _file(name: str) -> str:
    return (files("sparl.report") / name).read_text("utf-8")
