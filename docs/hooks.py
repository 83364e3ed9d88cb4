"""MkDocs hooks that add pages for files outside docs/ and rewrite the links between documents.

The documents link to each other, and to source files, by paths inside the repository, so that the
links also work outside the site. For the site, these hooks add a page for each document outside
docs/ and for each other file that a document links to (pictures and HTML files are copied instead),
and rewrite the links.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
# Documents outside docs/, and their pages on the site.
DOCUMENTS = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks.md",
    "results/README.md": "results.md",
    "results/CLAIMS.md": "claims.md",
    "results/VERDICTS.md": "verdicts.md",
    "results/INVESTIGATIONS.md": "investigations.md",
    "results/agents/README.md": "trained-agents.md",
}
README = "README.md"  # not a page of the site, which has its own home page
COPIED = (".svg", ".png", ".html")  # linked files that are copied; all others are shown on a page
LANGUAGES = {".py": "python", ".cpp": "cpp", ".h": "cpp", ".inl": "cpp", ".toml": "toml"}
FENCE = re.compile(r"^( *)(`{3,}).*?^\1\2 *$", re.M | re.S)
LINK = re.compile(r"(?<=\]\()[^)\s]+(?=\))")
DRAWING = re.compile(r"^!\[([^\]]*)\]\((images/[^)]+\.svg)\)$", re.M)


def on_files(files: Files, config: Any) -> Files:
    """Add the documents outside docs/, and all files that documents link to."""
    names = [f"docs/{file.src_uri}" for file in files.documentation_pages()] + list(DOCUMENTS)
    for name in names:  # names grows, because linked documents contain links too
        uri = _uri(name)
        if files.get_file_from_path(uri) is None:
            added = {"abs_src_path": str(ROOT / name)} if name.endswith(COPIED) else {
                "content": _content(name)
            }  # fmt: skip
            files.append(File.generated(config, uri, **added))
        if uri.endswith(".md"):
            found = [
                _resolved(name, link)[0] for link in LINK.findall(FENCE.sub("", _content(name)))
            ]
            names += dict.fromkeys(
                target for target in found
                if target and target not in names and (ROOT / target).exists()
            )  # fmt: skip
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Rewrite the links of a page, and insert its drawings."""
    uri = page.file.src_uri
    name = _name(uri)
    if page.parent is None:
        page.meta["hide"] = ["navigation"]  # a section of one page
    markdown = DRAWING.sub(lambda match: _drawing(match[1], ROOT / "docs" / match[2]), markdown)

    def rewritten(match: re.Match[str]) -> str:
        target, anchor = _resolved(name, match[0])
        if target is None:
            return match[0]
        return posixpath.relpath(_uri(target), posixpath.dirname(uri) or ".") + anchor

    return _outside_fences(markdown, lambda text: LINK.sub(rewritten, text))


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Name the search dialog, which the theme leaves without a name for screen readers."""
    dialog = 'data-md-component="search" role="dialog"'
    return output.replace(dialog, f'{dialog} aria-label="Search"')


def _outside_fences(markdown: str, change: Callable[[str], str]) -> str:
    """Apply a function to all text that is not in a fenced block."""
    parts, end = [], 0
    for fence in FENCE.finditer(markdown):
        parts += [change(markdown[end : fence.start()]), f"\n{fence[0]}"]
        end = fence.end()
    return "".join([*parts, change(markdown[end:])])


def _resolved(name: str, link: str) -> tuple[str | None, str]:
    """Return a link's path in the repository (None if it has none) and its anchor."""
    path, mark, anchor = link.partition("#")
    if not path or re.match(r"\w+:", link):
        return None, ""
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), path)), mark + anchor


def _uri(name: str) -> str:
    """Return the site's source path for a file of the repository."""
    if name == README:
        return "index.md"
    if name.startswith("docs/"):
        return name.removeprefix("docs/")
    return DOCUMENTS.get(name) or f"source/{name}" + ("" if name.endswith(COPIED) else ".md")


def _name(uri: str) -> str:
    """Return the repository path of the file that a page of the site shows."""
    for name, document in DOCUMENTS.items():
        if uri == document:
            return name
    if uri.startswith("source/"):
        return uri.removeprefix("source/").removesuffix(".md")
    return f"docs/{uri}"


def _content(name: str) -> str:
    """Return a document, a page that shows a source file, or a page that lists a folder."""
    path = ROOT / name
    if name in DOCUMENTS or name == README or name.startswith("docs/"):
        return path.read_text()
    head = f"---\nsearch: {{exclude: true}}\ntitle: {name}\n---\n\n"
    if path.is_dir():
        listed = sorted(file.name for file in path.iterdir() if file.is_file())
        return f"{head}# {name}\n\n" + "\n".join(
            f"- [{file}]({path.name}/{file})" for file in listed
        )
    if path.suffix == ".md":
        return head + path.read_text()
    return f"{head}# {name}\n\n````{LANGUAGES.get(path.suffix, 'text')}\n{path.read_text()}````\n"


def _drawing(text: str, path: Path) -> str:
    """Return an SVG drawing as inline HTML, so that it uses the colours of the page's scheme."""
    svg = re.sub(r"<style>.*?</style>", "", path.read_text(), flags=re.S)
    svg = re.sub(r"\s*\n\s*", " ", svg).strip()
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{text}" ', 1)
    return f'<figure class="drawing">{svg}</figure>'
