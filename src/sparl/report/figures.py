"""Pictures as SVG: lines with bands, and heat maps.

Colours are CSS variables of the page, so that one drawing serves light and dark; a file of its own
has plain ones, as few programs but browsers know variables. Every series names its method in
data-m: the page hides what is toggled off, and reads data-points for its tooltips.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from sparl.report.escape import in_html

Array = NDArray[np.float64]
WIDTH, HEIGHT = 460, 270
LEFT, RIGHT, TOP, BOTTOM = 52, 18, 30, 38
LIGHT = {
    "ink": "#1c2024", "soft": "#60646c", "line": "#e3e5e9", "surface": "#ffffff",
    "c0": "#2a78d6", "c1": "#d9602c", "c2": "#16936a", "c3": "#b97f00",
    "c4": "#c9468b", "c5": "#5b46b0", "c6": "#0e8ba3", "c7": "#7a6a1f",
}  # fmt: skip
DARK = {
    "ink": "#e9eaec", "soft": "#a3a8b0", "line": "#33373d", "surface": "#17191c",
    "c0": "#5ba2f0", "c1": "#f0834f", "c2": "#35c092", "c3": "#e0a72e",
    "c4": "#ee7db5", "c5": "#a393f2", "c6": "#4cc3da", "c7": "#c3b15a",
}  # fmt: skip
COLOURS = 8
MOST_POINTS = 250  # of a drawn line


@dataclass(frozen=True, eq=False)
class Series:
    """A line.

    Attributes:
        method: whose it is; its place in `methods` gives the colour.
        x, y: float [K].
        low, high: float [K], the band; None for no band.
        part: which of the method's lines it is ("actor"); dashed unless it is the first.
        dashed: drawn so.
    """

    method: str
    x: Array
    y: Array
    low: Array | None = None
    high: Array | None = None
    part: str = ""
    dashed: bool = False


@dataclass(frozen=True, eq=False)
class Figure:
    """Something that can be drawn, with the name of its file."""

    name: str
    title: str

    def svg(self, methods: Sequence[str]) -> str:
        """The drawing; methods in the order of their colours."""
        raise NotImplementedError

    def file(self, methods: Sequence[str]) -> str:
        """The drawing as a file of its own, with its colours and a legend of its methods."""
        return self.svg(methods).replace(">", f"><style>{file_css()}</style>", 1)


@dataclass(frozen=True, eq=False)
class LineChart(Figure):
    """Lines over a common axis.

    Attributes:
        x_label, y_label: what the axes show, with units.
        series: the lines.
        zero: whether the vertical axis begins at 0.
    """

    x_label: str
    y_label: str
    series: list[Series] = field(default_factory=list)
    zero: bool = False

    def svg(self, methods: Sequence[str]) -> str:
        """The drawing."""
        series = [_thinned(s) for s in self.series]
        lows = [s.y if s.low is None else s.low for s in series]
        highs = [s.y if s.high is None else s.high for s in series]
        x_axis = Axis.over([s.x for s in series], LEFT, WIDTH - RIGHT)
        zero = [np.zeros(1)] if self.zero else []
        y_axis = Axis.over([*lows, *highs, *zero], HEIGHT - BOTTOM, TOP)
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'class="chart" aria-label="{in_html(self.title)}" data-x="{in_html(self.x_label)}" '
            f'data-axes="{_numbers((*x_axis.map, *y_axis.map))}">',
            f'<text class="title" x="{LEFT}" y="16">{in_html(self.title)}</text>',
        ]
        for value in y_axis.ticks:
            y = y_axis.at(value)
            parts.append(
                f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text class="tick" x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">'
                f"{short(value)}</text>"
            )
        parts += [
            f'<text class="tick" x="{x_axis.at(value):.1f}" y="{HEIGHT - BOTTOM + 15}" '
            f'text-anchor="middle">{short(value)}</text>'
            for value in x_axis.ticks
        ]
        parts.append(
            f'<text class="label" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" '
            f'text-anchor="middle">{in_html(self.x_label)}</text>'
            f'<text class="label" x="{WIDTH - RIGHT}" y="16" text-anchor="end">'
            f"{in_html(self.y_label)}</text>"
        )
        for s in series:
            parts.append(self._line(s, methods, x_axis, y_axis))
        return "".join([*parts, "</svg>"])

    def _line(self, s: Series, methods: Sequence[str], x_axis: Axis, y_axis: Axis) -> str:
        x = [f"{x_axis.at(v):.1f}" for v in s.x]

        def path(y: Array) -> list[str]:
            return [f"{a},{y_axis.at(b):.1f}" for a, b in zip(x, y, strict=True)]

        name = f"{s.method}, {s.part}" if s.part else s.method
        points = {"n": name, "x": _rounded(s.x), "y": _rounded(s.y)}
        band = ""
        if s.low is not None and s.high is not None:
            points |= {"l": _rounded(s.low), "h": _rounded(s.high)}
            edge = " ".join([*path(s.high), *reversed(path(s.low))])
            band = f'<polygon class="band" points="{edge}"/>'
        return (
            f'<g class="series {colour(s.method, methods)}" data-m="{in_html(s.method)}" '
            f'data-points="{in_html(json.dumps(points, separators=(",", ":")))}">{band}'
            f'<polyline class="line{" dashed" if s.dashed else ""}" points="{" ".join(path(s.y))}"'
            "/></g>"
        )

    def file(self, methods: Sequence[str]) -> str:
        """The drawing with a legend underneath."""
        shown = list(dict.fromkeys(s.method for s in self.series))
        parts, x, y = [], LEFT, HEIGHT + 14
        for method in shown:
            width = 26 + 6.2 * len(method)
            if x > LEFT and x + width > WIDTH:
                x, y = LEFT, y + 17
            parts.append(
                f'<g class="series {colour(method, methods)}">'
                f'<line class="line" x1="{x}" x2="{x + 14}" y1="{y - 4}" y2="{y - 4}"/></g>'
                f'<text class="label" x="{x + 19}" y="{y}">{in_html(method)}</text>'
            )
            x += round(width)
        whole = super().file(methods).replace(f"0 0 {WIDTH} {HEIGHT}", f"0 0 {WIDTH} {y + 10}", 1)
        return whole.removesuffix("</svg>") + "".join(parts) + "</svg>"


@dataclass(frozen=True, eq=False)
class HeatMap(Figure):
    """Rows of cells; the darker, the more.

    Attributes:
        method: whose it is.
        rows: name and float [columns] of each row; rows may differ in length.
        unit: of a cell, in the singular.
        column: what a column is.
    """

    method: str
    rows: list[tuple[str, Array]]
    unit: str
    column: str

    def svg(self, methods: Sequence[str]) -> str:
        """The drawing."""
        left, high, gap = 92, 20, 3
        height = TOP + len(self.rows) * (high + gap) + 24
        columns = max(row.size for _, row in self.rows)
        wide = (WIDTH - left - RIGHT) / columns
        most = max(1.0, max(float(row.max()) for _, row in self.rows))
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
            f'class="heat {colour(self.method, methods)}" data-m="{in_html(self.method)}" '
            f'aria-label="{in_html(self.title)}">'
            f'<text class="title" x="0" y="16">{in_html(self.title)}</text>'
        ]
        for index, (name, row) in enumerate(self.rows):
            y = TOP + index * (high + gap)
            parts.append(f'<text class="tick" x="0" y="{y + 14}">{in_html(name)}</text>')
            parts += [
                f'<rect class="cell" x="{left + k * wide:.2f}" y="{y}" width="{wide * 0.94:.2f}" '
                f'height="{high}" fill-opacity="{0.06 + 0.94 * value / most:.2f}" '
                f'data-t="{in_html(name)}, {self.column} {k}: {value:g} {self.unit}s"/>'
                for k, value in enumerate(row.tolist())
            ]
        parts.append(
            f'<text class="label" x="{left}" y="{height - 6}">{self.column} 0 to {columns - 1}; '
            f"full colour: {most:g} {self.unit}s</text></svg>"
        )
        return "".join(parts)


@dataclass(frozen=True)
class Axis:
    """A linear axis: its ticks, and (first value, its pixel, last value, its pixel)."""

    ticks: list[float]
    map: tuple[float, float, float, float]

    @classmethod
    def over(cls, values: Sequence[Array], first: float, last: float) -> Axis:
        """An axis that holds all finite values, with ticks at round numbers."""
        finite = np.concatenate([v[np.isfinite(v)] for v in values] or [np.zeros(1)])
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        if low == high:
            low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
        rough = (high - low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
        ticks = [step * k for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
        return cls(ticks, (low, first, high, last))

    def at(self, value: float) -> float:
        """The pixel of a value."""
        low, first, high, last = self.map
        return first + (value - low) / (high - low) * (last - first)


def colour(method: str, methods: Sequence[str]) -> str:
    """The class that gives a method its colour, and a dash pattern once colours run out."""
    index = list(methods).index(method)
    return f"c{index % COLOURS}" + (" again" if index >= COLOURS else "")


def short(value: float) -> str:
    """A number for an axis or a tooltip: 1.5M, 250k, 0.02."""
    for size, suffix in ((1e18, ""), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size == 1e18 and abs(value) >= size:
            return f"{value:.3g}"
        if abs(value) >= size:
            divisor = 1e3 if suffix == "k" else size
            return f"{value / divisor:.4g}{suffix}"
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def _thinned(s: Series) -> Series:
    """Every n-th point of a long line, the last one included."""
    every = math.ceil(s.x.size / MOST_POINTS)
    if every <= 1:
        return s
    keep = np.arange(s.x.size - 1, -1, -every)[::-1]
    low, high = (None if v is None else v[keep] for v in (s.low, s.high))
    return Series(s.method, s.x[keep], s.y[keep], low, high, s.part, s.dashed)


def _rounded(values: Array) -> list[float]:
    return [float(f"{v:.5g}") for v in values]


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{v:.6g}" for v in values)


def page_css() -> str:
    """How drawings look within a page: light or dark, as the reader has it."""

    def variables(colours: dict[str, str]) -> str:
        return ":root{" + ";".join(f"--{k}:{v}" for k, v in colours.items()) + "}"

    of_methods = "".join(f".c{k}{{--c:var(--c{k})}}" for k in range(COLOURS))
    return f"{variables(LIGHT)}{_dark(variables(DARK))}{of_methods}{_rules()}"


def file_css() -> str:
    """The same for a file of its own, with plain colours in place of variables."""

    def plain(colours: dict[str, str]) -> str:
        lines = []
        for rule in _rules().splitlines():
            if "var(--c)" in rule:
                own = [rule.replace("svg", f".c{k}", 1) for k in range(COLOURS)]
                own = [r.replace("--c)", f"--c{k})") for k, r in enumerate(own)]
            else:
                own = [rule]
            lines += own
        return re.sub(r"var\(--(\w+)\)", lambda m: colours[m[1]], "\n".join(lines))

    return plain(LIGHT) + _dark(plain(DARK))


def _dark(css: str) -> str:
    return f"@media (prefers-color-scheme: dark){{{css}}}"


def _rules() -> str:
    """How lines and texts look; a rule a line."""
    return (files("sparl.report") / "figure.css").read_text("utf-8")
