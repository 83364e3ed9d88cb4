"""The report's page in a real browser: Chromium, without a screen or a network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from run_folders import write_run
from sparl.cli import main

ENVIRONMENTS = [f"{task}-{version}" for task in
                ("HalfCheetah", "Hopper", "Walker2d", "Ant", "Humanoid")
                for version in ("v3", "v5")]  # fmt: skip


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten environments, three methods, two seeds."""
    runs = tmp_path_factory.mktemp("runs")
    for env in ENVIRONMENTS:
        for rank, method in enumerate(("TD3", "DS-TD3", "Static-TD3")):
            for seed in range(2):
                curve = [100.0 * k * (1 + rank + 0.1 * seed) for k in range(21)]
                write_run(runs / f"{method}-{env}-{seed}", method, env, curve, seed=seed, cpu=0.5)
    assert main(["report", str(runs), "--out", str(runs / "report")]) == 0
    return runs / "report" / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("google-chrome")
        found = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


def opened(browser: Browser, report: Path, width: int, scheme: str) -> tuple[Page, list[str]]:
    """The page, and everything that went wrong or over the network."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("request", lambda request: request.url.startswith(("file:", "data:"))
            or trouble.append(request.url))  # fmt: skip
    page.goto(report.as_uri())
    return page, trouble


def test_toggling_a_method_hides_it_everywhere(browser: Browser, report: Path) -> None:
    page, trouble = opened(browser, report, 1400, "light")
    lines = page.locator(".series[data-m='DS-TD3']:visible")
    rows = page.locator("#returns tr[data-m='DS-TD3']:visible")
    others = page.locator(".series[data-m='TD3']:visible").count()
    before = lines.count()
    assert before > 20
    assert rows.count() == len(ENVIRONMENTS)
    box = page.locator("nav label", has=page.locator("input[value='DS-TD3']"))
    box.click()
    assert (lines.count(), rows.count()) == (0, 0)
    assert page.locator(".series[data-m='TD3']:visible").count() == others
    box.click()
    assert (lines.count(), rows.count()) == (before, len(ENVIRONMENTS))
    assert trouble == []


def test_tooltip_names_values_of_what_is_shown(browser: Browser, report: Path) -> None:
    page, trouble = opened(browser, report, 1400, "light")
    page.locator("nav label", has=page.locator("input[value='Static-TD3']")).click()
    chart = page.locator("svg.chart").first
    chart.hover()
    text = page.locator("#tip").inner_text()
    assert "environment steps" in text
    assert "DS-TD3" in text
    assert "Static-TD3" not in text
    page.locator("details summary").nth(1).click()
    page.locator("svg.heat rect").first.hover()
    assert "actor, start, input 0: 3 connections" in page.locator("#tip").inner_text()
    page.locator("h1").hover()
    assert page.locator("#tip").is_hidden()
    assert trouble == []


@pytest.mark.parametrize("width", [390, 1280])
def test_ten_environments_without_scrolling_sideways(
    browser: Browser, report: Path, width: int
) -> None:
    page, _ = opened(browser, report, width, "light")
    for details in page.locator("details").all():
        details.evaluate("tag => tag.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if width > 1000:  # on a telephone tables scroll within themselves
        wider = "tags => tags.map((t) => t.scrollWidth - t.clientWidth)"
        assert page.locator(".scroll").evaluate_all(wider) == [0] * 4
    chart = page.locator("svg.chart").first.bounding_box()
    assert chart is not None
    assert chart["width"] > 300


def test_light_and_dark_are_readable(browser: Browser, report: Path) -> None:
    contrasts = {}
    for scheme in ("light", "dark"):
        page, _ = opened(browser, report, 1400, scheme)
        contrasts[scheme] = page.evaluate(CONTRAST)
        assert len(page.screenshot()) > 20_000
    for scheme, values in contrasts.items():
        assert len(values) == 12, scheme
        assert min(values) > 3, (scheme, values)


def test_figures_as_png_look_as_in_the_browser(
    browser: Browser, report: Path, tmp_path: Path
) -> None:
    runs = [str(path) for path in report.parents[1].glob("*-HalfCheetah-v3-0")]
    assert main(["report", *runs, "--out", str(tmp_path), "--png"]) == 0
    drawings = sorted(path.stem for path in (tmp_path / "figures").glob("*.svg"))
    assert [p.stem for p in sorted((tmp_path / "figures").glob("*.png"))] == drawings
    name = "learning-HalfCheetah-v3"
    drawn = Image.open(tmp_path / "figures" / f"{name}.png").convert("RGB")
    page = browser.new_page(viewport={"width": drawn.width, "height": drawn.height})
    page.goto((tmp_path / "figures" / f"{name}.svg").as_uri())
    shown = Image.open(BytesIO(page.screenshot())).convert("RGB")
    colours = [{c for n, c in image.getcolors(1 << 24) if n > 500} for image in (drawn, shown)]
    assert len(colours[0] & colours[1]) >= 4  # the ground and three methods' lines


# WCAG's contrast of texts and of the three methods' lines with the charts' background.
CONTRAST = """() => {
  const luminance = (text) => {
    const rgb = text.match(/[0-9.]+/g).slice(0, 3).map((v) => v / 255)
      .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2];
  };
  const chart = document.querySelector("svg.chart");
  const ground = luminance(getComputedStyle(chart).backgroundColor);
  const tags = [...chart.querySelectorAll("text")].slice(0, 9).map((t) => getComputedStyle(t).fill);
  const lines = [...chart.querySelectorAll(".line")].map((t) => getComputedStyle(t).stroke);
  return [...tags, ...lines].map((c) => {
    const [a, b] = [luminance(c), ground].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  });
}"""
