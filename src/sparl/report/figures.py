"""The numbers and labels that a figure shows; `charts.py` draws them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np

from sparl.types import Float64Array

MOST_POINTS = 250  # maximum number of points of a drawn line
STEPS = "environment steps"  # the label of their axis


@dataclass(frozen=True, eq=False)
class Series:
    """A line.

    Attributes:
        method: the method that it belongs to.
        x, y: float [K].
        low, high: float [K], the edges of the band around it; None without a band.
        part: which of the method's lines it is, for example "actor"; "" if it has only one.
        dashed: whether it is drawn dashed.
    """

    method: str
    x: Float64Array
    y: Float64Array
    low: Float64Array | None = None
    high: Float64Array | None = None
    part: str = ""
    dashed: bool = False

    @property
    def name(self) -> str:
        """The method and the part."""
        return f"{self.method}, {self.part}" if self.part else self.method

    def thinned(self) -> Series:
        """Return every n-th point so that at most `MOST_POINTS` remain, the last one included."""
        every = math.ceil(self.x.size / MOST_POINTS)
        if every <= 1:
            return self
        keep = np.arange(self.x.size - 1, -1, -every)[::-1]
        low, high = (None if v is None else v[keep] for v in (self.low, self.high))
        return Series(self.method, self.x[keep], self.y[keep], low, high, self.part, self.dashed)


@dataclass(frozen=True, eq=False)
class Figure:
    """Something that can be drawn.

    Attributes:
        name: of its file.
        title: the heading above it.
    """

    name: str
    title: str

    def description(self) -> str:
        """Describe the figure as text, for readers who cannot see it."""
        raise NotImplementedError


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

    def description(self) -> str:
        """Return the range, the first and the last value of every line."""
        lines = [_described(series) for series in self.series]
        return f"{self.title}: {self.y_label} over {self.x_label}. {'. '.join(lines)}."


def _described(series: Series) -> str:
    first, last, low, high = (
        short(v) for v in (series.y[0], series.y[-1], series.y.min(), series.y.max())
    )
    text = f"{series.name}: {first} at {short(series.x[0])}, {last} at {short(series.x[-1])}"
    if series.low is not None and series.high is not None:
        text += f" (band from {short(series.low[-1])} to {short(series.high[-1])})"
    return f"{text}, lowest {low}, highest {high}"


@dataclass(frozen=True, eq=False)
class HeatMap(Figure):
    """Rows of cells; the darker a cell, the more it holds.

    Attributes:
        method: the method that it belongs to.
        rows: name and float [columns] of each row; rows may differ in length.
        unit: of a cell, in the plural.
        column: the meaning of a column.
    """

    method: str
    rows: list[tuple[str, Float64Array]]
    unit: str
    column: str

    @property
    def most(self) -> float:
        """The largest finite cell, at least 1."""
        return max([1.0, *(float(v) for _, row in self.rows for v in row[np.isfinite(row)])])

    def description(self) -> str:
        """Return the range of every row, and how many of its cells are not 0."""
        rows = [
            f"{name}: {short(row.min())} to {short(row.max())}, more than 0 for "
            f"{np.count_nonzero(row)} of {row.size} {self.column}s"
            for name, row in self.rows
            if row.size
        ]
        return f"{self.title}: {self.unit} of each {self.column}. {'. '.join(rows)}."


def methods_of(figure: Figure, methods: Sequence[str]) -> list[str]:
    """Return the methods that a figure shows, in the order of all methods."""
    if isinstance(figure, HeatMap):
        return [figure.method]
    assert isinstance(figure, LineChart)
    shown = {series.method for series in figure.series}
    return [method for method in methods if method in shown]


def short(value: float) -> str:
    """Return a number with four significant digits and thousands separators."""
    return f"{Decimal(f'{value:.4g}'):,f}"
