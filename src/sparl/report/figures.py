"""The data and labels of the figures, which `charts.py` draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np

from sparl.types import Float64Array

MOST_POINTS = 250  # maximum number of points in a drawn line
STEPS = "environment steps"  # label of the x-axis


@dataclass(frozen=True, eq=False)
class Series:
    """A line in a chart.

    Attributes:
        method: the method whose results the line shows.
        x, y: float [K], the coordinates of the points.
        low, high: float [K], the edges of the band around the line; None if there is no band.
        part: distinguishes the lines of one method, for example "actor"; "" if there is only one.
        dashed: whether the line is dashed.
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
        """The name of the line: the method and, if there is one, the part."""
        return f"{self.method}, {self.part}" if self.part else self.method

    def thinned(self) -> Series:
        """Return the line with at most `MOST_POINTS` equidistant points, including the last one."""
        every = math.ceil(self.x.size / MOST_POINTS)
        if every <= 1:
            return self
        keep = np.arange(self.x.size - 1, -1, -every)[::-1]
        low, high = (None if v is None else v[keep] for v in (self.low, self.high))
        return Series(self.method, self.x[keep], self.y[keep], low, high, self.part, self.dashed)


@dataclass(frozen=True, eq=False)
class Figure:
    """A figure.

    Attributes:
        name: name of the figure's file, without its extension.
        title: heading above the figure.
    """

    name: str
    title: str

    def description(self) -> str:
        """Describe the figure as text, for readers who cannot see it."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class LineChart(Figure):
    """A chart with one or more lines.

    Attributes:
        x_label, y_label: what the axes show, with units.
        series: the lines.
        zero: whether the vertical axis starts at 0.
    """

    x_label: str
    y_label: str
    series: list[Series] = field(default_factory=list)
    zero: bool = False

    def description(self) -> str:
        """Describe each line by its range, its first value and its last value."""
        lines = [_described(series) for series in self.series]
        return f"{self.title}: {self.y_label} against {self.x_label}. {'. '.join(lines)}."


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
    """A heat map, in which larger values have a more saturated colour.

    Attributes:
        method: the method whose results the heat map shows.
        rows: the name and the values, float [columns], of each row; rows may differ in length.
        unit: unit of the values, in the plural.
        column: what a column represents, in the singular.
        names: the name of each column; empty if the columns have only numbers.
    """

    method: str
    rows: list[tuple[str, Float64Array]]
    unit: str
    column: str
    names: Sequence[str] = ()

    @property
    def columns(self) -> int:
        """The number of columns of the longest row."""
        return max((row.size for _, row in self.rows), default=0)

    def name_of(self, column: int) -> str:
        """Return the name and the number of a column, or only its number."""
        return f"{self.names[column]} ({column})" if self.names else str(column)

    @property
    def most(self) -> float:
        """The largest finite value, or 1 if that is larger."""
        return max([1.0, *(float(v) for _, row in self.rows for v in row[np.isfinite(row)])])

    def description(self) -> str:
        """Describe each row by its range, the number of its values above 0 and the largest one."""
        rows = [
            f"{name}: {short(row.min())} to {short(row.max())}, more than 0 for "
            f"{np.count_nonzero(row)} of {row.size} {self.column}s, most for "
            f"{self.column} {self.name_of(int(row.argmax()))}"
            for name, row in self.rows
            if row.size
        ]
        return f"{self.title}: {self.unit} of each {self.column}. {'. '.join(rows)}."


def methods_of(figure: Figure, methods: Sequence[str]) -> list[str]:
    """Return the methods that a figure shows, in the same order as in `methods`."""
    if isinstance(figure, HeatMap):
        return [figure.method]
    assert isinstance(figure, LineChart)
    shown = {series.method for series in figure.series}
    return [method for method in methods if method in shown]


def short(value: float) -> str:
    """Return a number with four significant digits and thousands separators."""
    return f"{Decimal(f'{value:.4g}'):,f}"
