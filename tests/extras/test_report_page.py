"""Test the report's page in a real browser (Chromium), without a screen or a network."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page

from run_folders import write_run
from sparl.cli import main

ENVIRONMENTS = [f"{task}-{version}" for task in
                ("HalfCheetah", "Hopper", "Walker2d", "Ant", "Humanoid")
                for version in ("v3", "v5")]  # fmt: skip
METHODS = ("TD3", "DS-TD3", "Static-TD3")
VARIANTS: list[tuple[str, dict[str, int]]] = [
    *((f"{family}TD3", {}) for family in
      ("", "Static-", "DS-", "Tiny-", "SS-", "SET-", "RigL-", "RLx2-")),
    ("DS-SAC", {}), *(("DS-TD3", {"rewire_every_updates": n}) for n in (500, 2000, 10_000)),
]  # fmt: skip
MEGABYTE = 1e6


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report about ten environments, three methods and three seeds."""
    runs = tmp_path_factory.mktemp("runs")
    for env in ENVIRONMENTS:
        for rank, method in enumerate(METHODS):
            for seed in range(3):
                curve = [100.0 * k * (1 + rank + 0.1 * seed) for k in range(21)]
                write_run(runs / f"{method}-{env}-{seed}", method, env, curve, seed=seed, cpu=0.5)
    assert main(["report", str(runs), "--out", str(runs / "report")]) == 0
    return runs / "report" / "report.html"


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two environments, twelve methods and variants, three seeds; dead links in one environment."""
    runs = tmp_path_factory.mktemp("crowded")
    for env, dead in (("HalfCheetah-v5", 3), ("Humanoid-v5", None)):
        for rank, (method, fields) in enumerate(VARIANTS):
            for seed in range(3):
                curve = [10.0 * k * (1 + rank + 0.1 * seed) for k in range(21)]
                run = runs / f"{rank}-{env}-{seed}"
                write_run(run, method, env, curve, seed=seed, cpu=0.5, dead=dead, **fields)
    assert main(["report", str(runs), "--out", str(runs / "report")]) == 0
    return runs / "report" / "report.html"


def opened(
    browser: Browser, report: Path, width: int, scheme: str = "light"
) -> tuple[Page, list[str]]:
    """Open the page; record errors and network requests."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("request", lambda request: request.url.startswith(("file:", "data:"))
            or trouble.append(request.url))  # fmt: skip
    page.goto(report.as_uri())
    page.locator(".chart svg").first.wait_for()
    return page, trouble


def all_drawn(page: Page) -> None:
    """Open all sections, and scroll until every figure is drawn."""
    for details in page.locator("details").all():
        details.evaluate("tag => tag.open = true")
    for chart in page.locator(".chart").all():
        chart.scroll_into_view_if_needed()
        chart.locator("svg").wait_for()


def assert_figures_fill_the_page(page: Page) -> None:
    """Check that each row of figures ends at the right edge, and that drawings fill figures."""
    for box in page.locator(".figures:visible").all():
        edge = box.bounding_box()
        assert edge is not None
        ends: dict[float, float] = {}
        for figure in map(Locator.bounding_box, box.locator("figure:visible").all()):
            assert figure is not None
            row, end = round(figure["y"]), figure["x"] + figure["width"]
            ends[row] = max(end, ends.get(row, 0))
        assert list(ends.values()) == pytest.approx([edge["x"] + edge["width"]] * len(ends), abs=1)
    for chart in page.locator(".chart:visible").all():
        outer, inner = chart.bounding_box(), chart.locator("svg").bounding_box()
        assert outer is not None
        assert inner is not None
        assert outer["width"] - 2 <= inner["width"] <= outer["width"]


def lines(figure: Locator) -> Locator:
    """Return the lines that a figure shows."""
    return figure.locator(".mark-line path")


def figure_of(page: Page, title: str) -> Locator:
    return page.locator("figure", has=page.get_by_role("heading", name=title, exact=True)).first


def test_a_method_is_switched_off_everywhere(browser: Browser, report: Path) -> None:
    page, trouble = opened(browser, report, 1400)
    figure, rows = figure_of(page, "HalfCheetah-v3"), page.locator("#returns tbody tr:visible")
    assert (lines(figure).count(), rows.count()) == (3, 30)
    switch = page.get_by_label("DS-TD3", exact=True)
    switch.uncheck()
    lines(figure).nth(2).wait_for(state="detached")
    assert (lines(figure).count(), rows.count()) == (2, 20)
    assert page.locator("#returns tr:visible", has_text="DS-TD3").count() == 0
    # Figures that are drawn later do not show the method either, and its heat maps are hidden.
    page.locator("#connections-of-the-inputs summary").click()
    maps = page.locator("#connections-of-the-inputs figure")
    assert (maps.count(), maps.locator("visible=true").count()) == (30, 20)
    last = page.locator("#return-against-computation figure").last
    last.scroll_into_view_if_needed()
    last.locator("svg").wait_for()
    lines(last).nth(2).wait_for(state="detached")
    assert lines(last).count() == 2
    switch.check()
    lines(figure).nth(2).wait_for(state="attached")
    assert rows.count() == 30
    assert trouble == []


def test_the_keyboard_reaches_switches_links_sections_and_tables(
    browser: Browser, report: Path
) -> None:
    page, trouble = opened(browser, report, 1400)
    reached: list[str] = []
    while not reached or not reached[-1].startswith("BODY"):
        page.keyboard.press("Tab")
        tag = page.evaluate(
            "(t => `${t.tagName} ${t.value ?? t.id} ${getComputedStyle(t).outlineStyle}`)"
            "(document.activeElement)"
        )
        reached.append(tag)
        if tag.startswith("INPUT 0"):
            page.keyboard.press("Space")
    assert not page.get_by_label("TD3", exact=True).is_checked()
    figure = figure_of(page, "HalfCheetah-v3")
    lines(figure).nth(2).wait_for(state="detached")
    assert lines(figure).count() == 2
    kinds = [tag.split()[0] for tag in reached[:-1]]
    assert [kinds.count(kind) for kind in ("INPUT", "DIV", "SUMMARY")] == [3, 3, 3]
    assert not [
        tag for tag in reached[:-1] if tag.endswith("none")
    ]  # each shows that it has the focus
    assert trouble == []


def test_a_tooltip_names_the_values_of_a_point(browser: Browser, report: Path) -> None:
    page, trouble = opened(browser, report, 1400)
    figure_of(page, "HalfCheetah-v3").locator(".mark-symbol path").nth(40).hover(force=True)
    tip = page.locator("#vg-tooltip-element")
    tip.locator("table").wait_for()
    said = tip.inner_text()
    for row in (r"method\s+(DS-|Static-)?TD3", r"environment steps\s+\d+,000", r"return\s+[\d,]+",
                r"band from\s+\d", r"band to\s+\d"):  # fmt: skip
        assert re.search(row, said), said
    page.locator("h1").hover()
    tip.wait_for(state="hidden")
    page.locator("#connections-of-the-inputs summary").click()
    page.locator("#connections-of-the-inputs .mark-rect path").first.hover()
    tip.locator("table").wait_for()
    assert re.search(r"actor, start\s+input\s+0\s+connections\s+3", tip.inner_text())
    assert trouble == []


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_breaks_no_accessibility_rule(
    browser: Browser, crowded: Path, width: int, scheme: str
) -> None:
    page, trouble = opened(browser, crowded, width, scheme)
    for details in page.locator("details").all():
        details.evaluate("tag => tag.open = true")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert trouble == []


def test_twelve_methods_have_different_markers_in_switches_tables_and_figures(
    browser: Browser, crowded: Path
) -> None:
    page, trouble = opened(browser, crowded, 1280)
    looks = "tags => tags.map(t => getComputedStyle(t).fill + t.firstChild.getAttribute('d'))"
    switches = page.locator("#methods svg").evaluate_all(looks)
    assert len(set(switches)) == len(switches) == len(VARIANTS)
    assert page.locator("#returns tbody svg").evaluate_all(looks) == switches * 2
    drawn = "tags => tags.map(t => getComputedStyle(t).fill + t.getAttribute('d'))"
    all_drawn(page)
    markers = page.locator("#learning-curves .mark-symbol path[opacity='1']")
    assert len(set(markers.evaluate_all(drawn))) == len(VARIANTS)
    assert trouble == []


def test_no_figure_leaves_the_rest_of_its_row_empty(browser: Browser, crowded: Path) -> None:
    page, trouble = opened(browser, crowded, 1280)
    all_drawn(page)
    assert page.locator("#topology-over-time figure").count() == 7
    assert_figures_fill_the_page(page)
    page.get_by_label("RigL-TD3", exact=True).uncheck()  # this hides one heat map per environment
    page.wait_for_timeout(1000)
    assert_figures_fill_the_page(page)
    assert trouble == []


def test_every_figure_has_a_text_alternative(browser: Browser, report: Path) -> None:
    page, _ = opened(browser, report, 1280)
    texts = [tag.get_attribute("aria-label") or "" for tag in page.get_by_role("img").all()]
    assert len(texts) >= 4 * len(ENVIRONMENTS)
    for text in texts:
        assert any(env in text for env in [*ENVIRONMENTS, "Performance profile"])
        assert any(re.search(rf"\b{method}[:,]", text) for method in METHODS), text
        assert re.search(r"\d at \d", text)


@pytest.mark.parametrize("width", [390, 1280])
def test_ten_environments_fit_without_horizontal_scrolling(
    browser: Browser, report: Path, width: int
) -> None:
    page, trouble = opened(browser, report, width)
    all_drawn(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if width > 1000:  # on a phone, wide tables scroll inside the page
        wider = "tags => tags.map((t) => t.scrollWidth - t.clientWidth)"
        assert page.locator(".scroll").evaluate_all(wider) == [0] * 4
    columns = {round(box["x"]) for box in map(Locator.bounding_box, page.locator("figure").all())}
    assert len(columns) == (2 if width > 1000 else 1)
    assert_figures_fill_the_page(page)
    assert trouble == []


def test_light_and_dark_have_separate_colours(browser: Browser, report: Path) -> None:
    drawn = {}
    for scheme in ("light", "dark"):
        page, _ = opened(browser, report, 1400, scheme)
        figure = figure_of(page, "HalfCheetah-v3")
        style = "(t, name) => getComputedStyle(t)[name]"
        drawn[scheme] = [
            figure.evaluate(style, "backgroundColor"),
            figure.locator("text").first.evaluate(style, "fill"),
            *(line.evaluate(style, "stroke") for line in lines(figure).all()),
        ]
        assert len(page.screenshot()) > 20_000
    assert drawn["light"][0] == "rgb(255, 255, 255)"
    assert len(set(drawn["light"])) == len(set(drawn["dark"])) == 5
    assert not set(drawn["light"]) & set(drawn["dark"])


def test_the_page_is_small(report: Path) -> None:
    assert report.stat().st_size < 4 * MEGABYTE
