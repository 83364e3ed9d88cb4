"""Test that figures are written as files, and that untrusted text and numbers are harmless."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser

from run_folders import write_run
from sparl.cli import main
from sparl.report import charts
from sparl.report.colours import LIGHT
from sparl.report.figures import Figure, HeatMap, LineChart, Series
from sparl.report.page import Page
from sparl.report.pictures import Section
from sparl.report.runs import collect

ENV = "HalfCheetah-v3"
X = np.arange(3.0)
NAMES = [
    "a.b", "a[0]", "a\\.b", "'+alert(1)+'", "datum.x", "{{x}}", "</script><script>alert(1)//",
    "<img src=x onerror=alert(1)>", '"><b>', "<!--<script>", "\x1b[2J\u202egnp", "r\udcff", "",
]  # fmt: skip


def line_chart(name: str, y: Any = X) -> LineChart:
    return LineChart("line", name, "x", "y", [Series(name, X, y, y - 1, y + 1, part=name)])


def heat_map(name: str, row: Any = X) -> HeatMap:
    return HeatMap("map", name, name, [("actor, start", row)], "connections", "input")


def texts(svg: str) -> list[str]:
    return [tag.text or "" for tag in ElementTree.fromstring(svg).iter() if "text" in tag.tag]


@pytest.mark.parametrize("name", [n for n in NAMES if n], ids=ascii)
def test_a_name_is_escaped_in_a_drawing(name: str) -> None:
    shown = name.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e").replace("\udcff", "\\udcff")
    # The name is in the title and, in a line chart, in the legend too.
    for figure, count in ((line_chart(name), 2), (heat_map(name), 1)):
        found = texts(charts.svg(figure, ["TD3", name]))
        assert found.count(shown) == count
        assert "TD3" not in found


def test_names_appear_only_as_values_in_a_specification() -> None:
    for figure in (line_chart("~stranger~"), heat_map("~stranger~")):
        spec = charts.page_spec(figure, ["~stranger~"])
        for part in ("datasets", "params"):
            del spec[part]
        assert "stranger" not in json.dumps(spec)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e308])
def test_numbers_that_are_not_finite_are_gaps(value: float) -> None:
    y = np.array([1.0, value, 3.0])
    for figure in (line_chart("TD3", y), heat_map("TD3", y), line_chart("TD3", np.full(3, value))):
        spec = charts.page_spec(figure, ["TD3"])
        points = json.loads(json.dumps(spec, allow_nan=False))["datasets"]["points"]
        assert len(points) == 3
        if not math.isfinite(value):
            assert points[1]["y"] is None
        ElementTree.fromstring(charts.svg(figure, ["TD3"]))
        assert figure.description()


def test_a_drawing_has_at_most_a_few_hundred_points() -> None:
    x = np.arange(100_000.0)
    figure = LineChart("n", "t", "x", "y", [Series("TD3", x, x)])
    assert len(charts.page_spec(figure, ["TD3"])["datasets"]["points"]) <= 250


def symbols(svg: str) -> set[tuple[str | None, str | None]]:
    """Return the colour and the outline of all markers of a drawing."""
    groups = ElementTree.fromstring(svg).iterfind(".//*[@class]")
    markers = [g for g in groups if "mark-symbol role-mark" in g.get("class", "")]
    return {(tag.get("fill"), tag.get("d")) for group in markers for tag in group}


def test_a_method_has_the_same_colour_and_marker_in_every_figure() -> None:
    methods = [f"method {k}" for k in range(10)]
    markers = []
    for m in (1, 9):  # there are eight colours
        drawing = charts.svg(line_chart(methods[m]), methods)
        strokes = {tag.get("stroke") for tag in ElementTree.fromstring(drawing).iter()}
        assert LIGHT["c1"] in strokes
        assert LIGHT["c0"] not in strokes
        assert texts(drawing).count(methods[m]) == 2
        (marker,) = symbols(drawing)
        assert marker[0] == LIGHT["c1"]
        markers.append(marker)
    assert len(set(markers)) == 2


def test_twelve_methods_have_different_markers_and_a_short_legend() -> None:
    methods = [f"method {k}" for k in range(12)]
    figure = LineChart("n", "t", "x", "y", [Series(m, X, X + k) for k, m in enumerate(methods)])
    drawing = charts.svg(figure, methods)
    assert len(symbols(drawing)) == 12
    one_column = charts.svg(line_chart(methods[0]), methods)
    heights = [float(ElementTree.fromstring(d).get("height", 0)) for d in (drawing, one_column)]
    assert heights[0] - heights[1] < 100
    assert sorted(t for t in texts(drawing) if t in methods) == sorted(methods)


@pytest.mark.parametrize(("x", "first"), [([0.1, 5.0, 9.0], "0"), ([100.0, 105.0, 109.0], "100")])
def test_an_axis_that_starts_near_zero_starts_at_zero(x: list[float], first: str) -> None:
    values = np.array(x)
    drawing = charts.svg(LineChart("n", "t", "x", "y", [Series("TD3", values, values)]), ["TD3"])
    assert texts(drawing)[0] == first


def test_an_axis_of_whole_numbers_has_whole_labels() -> None:
    for y, labels in (
        ([1.0, 1.0, 1.0], ["0", "1"]), ([1.0, 2.0, 1.0], ["0", "1", "2"]),
        ([0.5, 1.0, 0.5], ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
    ):  # fmt: skip
        series = [Series("TD3", X, np.array(y))]
        found = texts(charts.svg(LineChart("n", "t", "x", "y", series, zero=True), ["TD3"]))
        assert found[found.index("x") + 1 : found.index("y")] == labels


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report about two methods, with PNG files."""
    runs = tmp_path_factory.mktemp("runs")
    for rank, method in enumerate(("TD3", "RLx2-TD3"), 1):
        for seed in range(3):
            curve = [100.0 * k * (rank + seed) for k in range(21)]
            run = runs / f"{method}-{seed}"
            write_run(run, method, ENV, curve, seed=seed, cpu=0.5, dead=3, settings="rlx2")
    assert main(["report", str(runs), "--png", "--out", str(runs / "report")]) == 0
    return runs / "report"


def test_figures_are_written_in_both_formats_without_a_browser(written: Path) -> None:
    drawings = sorted((written / "figures").glob("*.svg"))
    kinds = {path.stem.removesuffix(f"-{ENV}") for path in drawings}
    assert kinds >= {
        "learning", "flops", "cpu", "time", "kept", "moved", "new", "dead", "replay_size",
        "policy_distance", "n_step", "profile", f"wiring-{ENV}-RLx2-TD3",
    }  # fmt: skip
    for path in drawings:
        ElementTree.parse(path)
        image = Image.open(path.with_suffix(".png")).convert("RGB")
        assert image.width > 1000
        colours = [colour for _, colour in sorted(image.getcolors(1 << 24), reverse=True)]
        assert colours[0] == (255, 255, 255)
    image = Image.open(written / "figures" / f"learning-{ENV}.png").convert("RGB")
    counts = {colour: count for count, colour in image.getcolors(1 << 24)}
    for name in ("c0", "c1"):
        rgb = tuple(int(LIGHT[name][k : k + 2], 16) for k in (1, 3, 5))
        assert counts.get(rgb, 0) > 500, name


def test_a_learning_curve_shows_the_mean_and_its_band(written: Path) -> None:
    page = (written / "report.html").read_text()
    specs = [json.loads(s) for s in re.findall(r'<script type="application/json">(.*?)</', page)]
    (points, series) = (specs[0]["datasets"][name] for name in ("points", "series"))
    assert [row["method"] for row in series] == ["TD3 (settings rlx2)", "RLx2-TD3"]
    last = {row["s"]: row for row in points}[0]
    assert last == {"s": 0, "x": 100_000.0, "y": 4000.0, "low": 2000.0, "high": 6000.0}


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_is_escaped_in_the_page(name: str, tmp_path: Path, browser: Browser) -> None:
    """Open a page whose method and environment have hostile names, and hover over a point."""
    write_run(tmp_path / "run", "TD3", ENV, [1.0, 2.0])
    runs = collect([tmp_path])
    runs.groups[0].__dict__["label"] = name
    runs.notes.append(name)
    figures: list[Figure] = [line_chart(name), heat_map(name)]
    specs = {figure.name: charts.page_spec(figure, [name]) for figure in figures}
    html = Page(runs, specs, charts.page_config()).html(
        [], [Section("Learning curves", "", figures)], charts.javascript()
    )
    (tmp_path / "page.html").write_bytes(html.encode("utf-8", "backslashreplace"))
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("dialog", lambda dialog: trouble.append(dialog.message) or dialog.dismiss())
    page.on("request", lambda request: request.url.startswith(("file:", "data:"))
            or trouble.append(request.url))  # fmt: skip
    page.goto((tmp_path / "page.html").as_uri())
    for mark in (".mark-symbol path", ".mark-rect path"):
        page.locator(mark).nth(1).hover(force=True)
        page.locator("#vg-tooltip-element table").wait_for()
    shown = name.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e").replace("\udcff", "\\udcff")
    assert page.locator("h3").first.inner_text() == shown
    assert page.locator("main script:not([type])").count() == 0
    assert page.locator("main :is(b, img)").count() == 0
    assert trouble == []
