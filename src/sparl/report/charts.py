"""Draw figures with Vega-Altair: specifications for the page, and SVG and PNG files.

This module requires `pip install 'sparl[report]'`. Vega interprets the expressions and the field
names of a specification, so they are constants in this module. Names of methods and environments
are not trusted: they appear only in data, parameter values and titles, which Vega draws without
interpreting them. Numbers that are not finite become null, which Vega draws as a gap in a line.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import altair as alt
import numpy as np
import vl_convert

from sparl.report.colours import LIGHT, MARKERS, METHOD_COLOURS, VARIABLES
from sparl.report.escape import in_chart
from sparl.report.figures import Figure, HeatMap, LineChart, methods_of
from sparl.types import Float64Array

Spec = dict[str, Any]
HEIGHT = 230  # height of a line chart's plot [pixels]
ROW = 23  # height of a heat map's row [pixels]
_WIDTH = 420  # width of a plot in a file [pixels]
_PNG_SCALE = 3
_MARKED = 6  # number of markers on a line
_SHORT = 36  # maximum length of labels for a legend with two columns [characters]
_MOST_NAMES = 40  # maximum number of columns of a heat map that are labelled with their names
_LABEL = "datum.value === 0 ? '0' : datum.label"  # "0" instead of, for example, "0M"
_VEGA_LITE = alt.SCHEMA_VERSION.rpartition(".")[0]


def page_spec(figure: Figure, methods: Sequence[str]) -> Spec:
    """Return the specification of a figure for the page.

    The figure is as wide as its container and has tooltips.

    Args:
        figure: the data and labels of the figure.
        methods: all methods of the report, in the order of their colours.
    """
    fit = {"type": "fit-x", "contains": "padding"}
    spec = _with_values(_chart(figure, interactive=True), figure, methods)
    return spec | {"width": "container", "autosize": fit}


def svg(figure: Figure, methods: Sequence[str]) -> str:
    """Return a figure as SVG, with a title, a white background and, for lines, a legend."""
    title = {"text": in_chart(figure.title), "anchor": "start"}
    spec = _with_values(_chart(figure, interactive=False), figure, methods)
    spec |= {"width": _WIDTH, "title": title}
    file_config = config(LIGHT) | {"background": LIGHT["surface"], "font": "sans-serif"}
    drawn = methods_of(figure, methods)
    two = len(drawn) > 4 and max(map(len, drawn)) <= _SHORT
    file_config["legend"] |= {"columns": 1 + two}
    drawing: str = vl_convert.vegalite_to_svg(
        spec, vl_version=_VEGA_LITE, config=file_config, allowed_base_urls=[]
    )
    return drawing


def png(drawing: str) -> bytes:
    """Return an SVG drawing as PNG."""
    image: bytes = vl_convert.svg_to_png(drawing, scale=_PNG_SCALE)
    return image


@cache
def javascript() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script, which defines vegaEmbed."""
    script: str = vl_convert.javascript_bundle(
        "window.vegaEmbed = vegaEmbed;", vl_version=_VEGA_LITE
    )
    return script


def page_config() -> Spec:
    """Return the configuration of charts on the page."""
    return config(VARIABLES) | {"background": None, "font": "system-ui"}


def config(colours: Mapping[str, str]) -> Spec:
    """Return the configuration of charts in these colours."""
    texts = {"labelColor": colours["soft"], "titleColor": colours["soft"]}
    return {
        "aria": False,  # the page and README.md describe each figure
        "range": {"category": [colours[f"c{k}"] for k in range(METHOD_COLOURS)]},
        "view": {"stroke": None},
        "title": {"color": colours["ink"], "fontSize": 13},
        "axis": {
            **texts, "titleFontWeight": "normal", "gridColor": colours["line"], "domain": False,
            "ticks": False, "labelPadding": 6, "labelSeparation": 8,
        },
        "axisX": {"grid": False},
        "legend": {
            **texts, "orient": "bottom", "direction": "vertical", "labelLimit": _WIDTH,
            "symbolOpacity": 1,
        },
        "point": {"filled": True, "size": 80, "stroke": colours["surface"], "strokeWidth": 0.7},
    }  # fmt: skip


def _chart(figure: Figure, *, interactive: bool) -> Spec:
    """Return the specification of a figure without data; `_with_values` adds the data."""
    if isinstance(figure, HeatMap):
        named = 0 < len(figure.names) <= _MOST_NAMES
        return _heat_map(
            figure.column, figure.unit, figure.most, len(figure.rows), figure.columns, named
        )
    assert isinstance(figure, LineChart)
    x, y = _finite([s.x for s in figure.series]), _finite([s.y for s in figure.series])
    return _line_chart(
        figure.x_label, figure.y_label, _formats(x), _formats(y), _is_near_zero(x), figure.zero,
        any(s.low is not None for s in figure.series), any(s.part for s in figure.series),
        interactive,
    )  # fmt: skip


@cache
def _line_chart(
    x_label: str, y_label: str, x_format: Formats, y_format: Formats, x_zero: bool, y_zero: bool,
    banded: bool, parted: bool, interactive: bool,
) -> Spec:  # fmt: skip
    x = alt.X(
        "x:Q", title=x_label, scale=alt.Scale(zero=x_zero, nice=False),
        axis=alt.Axis(**x_format.labels(), labelFlush=True),
    )  # fmt: skip
    y = alt.Y(
        "y:Q", title=y_label, scale=alt.Scale(zero=y_zero), axis=alt.Axis(**y_format.labels())
    )
    base = alt.Chart().encode(x=x, color=_colour(legend=not interactive), detail="s:N")
    layers = []
    if banded:
        band = base.mark_area(opacity=0.16).encode(y=alt.Y("low:Q", title=y_label), y2="high:Q")
        layers.append(band)
    dashes = alt.Scale(domain=[False, True], range=[[1, 0], [5, 4]])
    line = base.mark_line(strokeJoin="round", strokeWidth=1.8).encode(
        y=y, strokeDash=alt.StrokeDash("dashed:N", scale=dashes, legend=None)
    )
    markers = base.mark_point(opacity=1).encode(y=y, shape=_marker(legend=not interactive))
    layers += [line, markers.transform_filter("datum.marked")]
    if interactive:
        tips = [
            alt.Tooltip("method:N"),
            *[alt.Tooltip("part:N")] * parted,
            alt.Tooltip("x:Q", title=x_label, format=x_format.tooltip),
            alt.Tooltip("y:Q", title=y_label, format=y_format.tooltip),
        ]
        if banded:
            tips += [
                alt.Tooltip("low:Q", title="band from", format=y_format.tooltip),
                alt.Tooltip("high:Q", title="band to", format=y_format.tooltip),
            ]
        pointed = alt.selection_point(
            name="pointed", on="pointerover", clear="pointerout", empty=False
        )
        seen = alt.condition(pointed, alt.value(0.6), alt.value(0))
        # The points are large, so that a pointer near the line hits one. Vega-Lite could find the
        # nearest point instead, but the tooltip would then show "undefined" for strings.
        points = base.mark_circle(size=200).encode(y=y, opacity=seen, tooltip=tips)
        layers.append(points.add_params(pointed))
    return _finished(alt.layer(*layers, height=HEIGHT))


@cache
def _heat_map(
    column: str, unit: str, most: float, rows: int, columns: int, named: bool
) -> Spec:  # fmt: skip
    title = f"{column} (full saturation: {most:g} {unit})"
    labels: dict[str, Any] = {"labelOverlap": "parity"}
    if named:  # names are written vertically below their columns, so that they do not overlap
        labels |= {"labelAngle": -90, "labelExpr": "names[datum.value]", "labelLimit": 170}
    else:  # columns are labelled with round numbers, none of which is cut off at the edge
        every = next(n for n in (1, 2, 5, 10, 20, 50, 100, 1000) if columns <= 25 * n)
        labels |= {"labelAngle": 0, "values": list(range(0, columns, every)), "labelBound": 6}
        labels |= {"labelSeparation": 8}
    gap = 0.06 if columns <= _MOST_NAMES else 0  # gaps between thin columns would cause moire
    opacity = alt.Opacity("share:Q", scale=alt.Scale(domain=[0, 1], range=[0.06, 1]), legend=None)
    cells = alt.Chart(height=ROW * rows).mark_rect().encode(
        x=alt.X("x:O", title=title, axis=alt.Axis(**labels), scale=alt.Scale(paddingInner=gap)),
        y=alt.Y("row:N", title=None, sort=None, scale=alt.Scale(paddingInner=0.12)),
        color=_colour(),
        opacity=opacity,
        tooltip=[
            alt.Tooltip("row:N", title="network"),
            alt.Tooltip("name:N", title=column),
            alt.Tooltip("y:Q", title=unit),
        ],
    )  # fmt: skip
    return _finished(cells)


def _colour(*, legend: bool = False) -> alt.Color:
    """Return the encoding that gives a method the same colour in all figures.

    On the page, the switches that show or hide methods serve as the legend. In a file, the legend
    lists the methods that the figure shows.
    """
    scale = alt.Scale(domain=alt.ExprRef("methods"), range="category")
    return alt.Color("method:N", scale=scale, legend=_legend() if legend else None)


def _marker(*, legend: bool) -> alt.Shape:
    """Return the encoding that gives a method the same marker in all figures."""
    scale = alt.Scale(domain=alt.ExprRef("methods"), range=list(MARKERS))
    return alt.Shape("method:N", scale=scale, legend=_legend() if legend else None)


def _legend() -> alt.Legend:
    """Return the legend of a file; Vega-Lite merges those of colours and of markers into one."""
    return alt.Legend(title=None, values=alt.ExprRef("drawn"))


def _finished(chart: Any) -> Spec:
    """Return a chart's specification, which adds the fields of a series to each of its points."""
    known = ["method", "m", "part", "dashed"]
    source = alt.LookupData(alt.NamedData("series"), key="s", fields=known)
    chart = chart.transform_lookup("s", from_=source).transform_filter(
        "indexof(hidden, datum.m) < 0"
    )
    with alt.theme.enable("none"):
        spec: Spec = chart.properties(data=alt.NamedData("points")).to_dict()
    return spec


def _with_values(chart: Spec, figure: Figure, methods: Sequence[str]) -> Spec:
    """Return a specification with data and parameters added.

    The page sets the parameter `hidden` to the indices of the methods that the reader has switched
    off.
    """
    if isinstance(figure, HeatMap):
        series = [_series_row(0, figure.method, methods)]
        points: list[Spec] = [
            {
                "s": 0, "row": name, "x": k, "name": in_chart(figure.name_of(k)),
                "y": _number(v), "share": _number(v / figure.most),
            }
            for name, row in figure.rows
            for k, v in enumerate(row)
        ]  # fmt: skip
    else:
        assert isinstance(figure, LineChart)
        series = [
            _series_row(k, s.method, methods) | {"part": in_chart(s.part), "dashed": s.dashed}
            for k, s in enumerate(figure.series)
        ]
        points = []
        for k, s in enumerate(each.thinned() for each in figure.series):
            columns = {"x": s.x, "y": s.y, "low": s.low, "high": s.high}
            known = {name: v for name, v in columns.items() if v is not None}
            marked = _marked(s.x.size, series[k]["m"])
            points += [
                {"s": k, **{name: _number(v[i]) for name, v in known.items()}}
                | ({"marked": 1} if i in marked else {})
                for i in range(s.x.size)
            ]
    values = {
        "hidden": [],
        "methods": [in_chart(m) for m in methods],
        "drawn": [in_chart(m) for m in methods_of(figure, methods)],
        "names": [in_chart(n) for n in figure.names] if isinstance(figure, HeatMap) else [],
    }
    params = [{"name": name, "value": value} for name, value in values.items()]
    return chart | {
        "datasets": {"points": points, "series": series},
        "params": [*chart.get("params", []), *params],
    }


def _series_row(number: int, method: str, methods: Sequence[str]) -> Spec:
    return {"s": number, "method": in_chart(method), "m": methods.index(method)}


def _marked(count: int, method: int) -> set[int]:
    """Return the indices of a line's points that are drawn with a marker.

    The markers are at equal distances. Different methods have different offsets, so that the
    markers of lines that coincide do not cover each other.

    Args:
        count: number of points of the line.
        method: index of the method.
    """
    shift = (0.5 + 0.618 * method) % 1
    return {int((k + shift) * count / _MARKED) for k in range(_MARKED)}


def _number(value: float) -> float | None:
    """Round a number to five significant digits; return None if it is not finite."""
    return float(f"{value:.5g}") if math.isfinite(value) else None


class Formats(NamedTuple):
    """How an axis and its tooltips show numbers.

    Attributes:
        axis, tooltip: the formats, in d3's notation.
        ticks: the approximate number of labels on the axis.
    """

    axis: str
    tooltip: str
    ticks: int

    def labels(self) -> Spec:
        """Return the properties of the axis."""
        return {"format": self.axis, "labelExpr": _LABEL, "tickCount": self.ticks}


def _finite(values: Sequence[Float64Array]) -> Float64Array:
    """Return the finite values of all arrays."""
    return np.concatenate([v[np.isfinite(v)] for v in values])


def _formats(finite: Float64Array) -> Formats:
    """Return the formats that suit the largest magnitude among the values.

    If all values are whole numbers and the largest is below 5, the axis has only that many labels,
    so that they are whole numbers too.
    """
    largest = float(np.abs(finite).max(initial=0))
    whole = bool((finite == np.floor(finite)).all())
    return Formats(
        "~s" if largest >= 1e4 else ",.4~r", ".4~s" if largest >= 1e9 else ",.5~r",
        round(min(max(largest, 1), 5)) if whole else 5,
    )  # fmt: skip


def _is_near_zero(finite: Float64Array) -> bool:
    """Return whether values start so near to zero that their axis should start at zero."""
    return bool(finite.size and 0 <= finite.min() <= 0.1 * finite.max())
