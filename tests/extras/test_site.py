"""Test the documentation site in a real browser (Chromium), without a screen or other sites."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

REPOSITORY = Path(__file__).parents[2]
PAGES = [
    "index.html", "why-sparse.html", "quick-start.html", "guide/runs.html", "guide/own-rules.html",
    "guide/exports.html", "methods/ds.html", "api/training.html", "api/configuration.html",
    "api/topology.html", "performance.html", "results.html", "verdicts.html",
    "contributing.html",
]  # fmt: skip


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Do not log requests."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Build the site without warnings, and return the address where it is served."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def opened(browser: Browser, site: str, name: str, width: int, scheme: str) -> Page:
    """Open a page, and check on closing that it caused no errors or requests to other sites."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("request", lambda request: request.url.startswith((site, "data:", "blob:"))
            or trouble.append(request.url))  # fmt: skip
    page.goto(f"{site}/{name}", wait_until="networkidle")
    page.wait_for_load_state("load")  # on a busy machine, the network may be idle before
    assert trouble == []
    return page


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_accessible_and_needs_no_other_site(
    browser: Browser, site: str, name: str
) -> None:
    for width in (1280, 390):
        for scheme in ("light", "dark"):
            page = opened(browser, site, name, width, scheme)
            found = Axe().run(page)
            assert found.violations_count == 0, f"{width}, {scheme}: {found.generate_report()}"
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.close()


def test_the_search_finds_a_function(browser: Browser, site: str) -> None:
    page = opened(browser, site, "index.html", 1280, "light")
    page.locator("input.md-search__input").click()
    page.keyboard.type("predict")
    page.locator(".md-search-result__item", has_text="predict").first.wait_for()
    page.close()


def test_a_link_to_a_source_file_shows_it(browser: Browser, site: str) -> None:
    page = opened(browser, site, "methods/agents.html", 1280, "light")
    page.get_by_role("link", name="td3.py").first.click()
    page.get_by_text("class TD3(Agent)").first.wait_for()
    page.close()


def test_issue_templates_and_workflows_are_valid_yaml() -> None:
    files = list(REPOSITORY.glob(".github/**/*.yml"))
    assert files
    for file in files:
        yaml.safe_load(file.read_text())
