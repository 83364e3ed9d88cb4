"""Test that a notebook shows a run as one progress bar and tables, and cuts nothing off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from nbconvert import HTMLExporter
from nbconvert.preprocessors import ExecutePreprocessor
from playwright.sync_api import Browser

CELLS = (
    "import sparl\n"
    'run = sparl.train("DS-TD3", "Pendulum-v1", steps=400, warmup_env_steps=100,\n'
    "                  evaluate_every_env_steps=100, evaluation_episodes=2)",
    "run",
    "agent = sparl.load(run, best=True)\nagent",
    'agent.networks["critics"], agent.networks["actor"].layers[0].mask().sum()',
    "agent.predict([1.0, 0.0, 0.0])",
)


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Any:
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    folder = str(tmp_path_factory.mktemp("notebook"))
    ExecutePreprocessor(timeout=300).preprocess(book, {"metadata": {"path": folder}})
    return book


def test_a_notebook_shows_one_bar_and_no_error(notebook: Any) -> None:
    outputs = [output for cell in notebook.cells for output in cell.outputs]
    kinds = {output.get("name", output.output_type) for output in outputs}
    assert kinds <= {"stdout", "display_data", "execute_result"}
    printed = "".join(output.get("text", "") for output in outputs)
    assert printed.replace("\n", "").isprintable()
    assert "\u2501" not in printed  # the character of a terminal's progress bar
    pages = "".join(output.get("data", {}).get("text/html", "") for output in outputs)
    assert pages.count("<progress") == 1
    assert pages.count("<table") == 2


@pytest.mark.parametrize("width", [1280, 700])
def test_nothing_is_cut_off(notebook: Any, width: int, browser: Browser, tmp_path: Path) -> None:
    html, _ = HTMLExporter().from_notebook_node(notebook)
    (tmp_path / "page.html").write_text(html)
    page = browser.new_page(viewport={"width": width, "height": 1200})
    page.route("**/*", lambda r: r.continue_() if r.request.url[:4] == "file" else r.abort())
    page.goto(f"file://{tmp_path / 'page.html'}", wait_until="domcontentloaded")
    cut = page.evaluate(
        "[...document.querySelectorAll('.jp-OutputArea-output, .jp-OutputArea-output *')]"
        ".filter(e => e.scrollWidth > e.clientWidth + 1 && e.clientWidth)"
        ".map(e => e.outerHTML.slice(0, 200))"
    )
    page.screenshot(path=tmp_path / f"notebook-{width}.png", full_page=True)
    assert cut == []
    assert page.get_by_label("400 of 400").get_attribute("max") == "400"  # the bar has a name
    aligned = "tags => tags.map(t => getComputedStyle(t).textAlign)"
    assert set(page.locator(".jp-OutputArea-output :is(th, td)").evaluate_all(aligned)) == {"left"}
    found = Axe().run(page, context=".jp-RenderedHTML")
    assert found.violations_count == 0, found.generate_report()
    page.close()
