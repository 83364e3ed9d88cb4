"""The colours of a report, for light and dark screens, and the markers of its methods.

Each method has one of `METHOD_COLOURS` colours and one of the `MARKERS`. Both repeat, but with
different periods, so that the first 56 methods have different pairs. The markers also distinguish
the methods for readers who do not see the colours (WCAG 2.2, 1.4.1). The contrast between the
colours and the surface is at least 3 to 1, and the contrast of text is at least 4.5 to 1 (1.4.11
and 1.4.3).
"""

from __future__ import annotations

METHOD_COLOURS = 8
# The outlines of the markers as SVG paths, in a square from -1 to 1.
MARKERS = (
    "M0,-0.8A0.8,0.8,0,1,1,0,0.8A0.8,0.8,0,1,1,0,-0.8Z",  # circle
    "M-0.75,-0.75H0.75V0.75H-0.75Z",  # square
    "M0,-0.9L1,0.8H-1Z",  # triangle
    "M0,-1L1,0L0,1L-1,0Z",  # diamond
    "M-0.35,-1H0.35V-0.35H1V0.35H0.35V1H-0.35V0.35H-1V-0.35H-0.35Z",  # plus
    "M0,0.9L1,-0.8H-1Z",  # triangle that points down
    "M-0.9,-0.9H0.9L-0.9,0.9H0.9Z",  # hourglass
)
LIGHT = {
    "ink": "#1c2024", "soft": "#60646c", "line": "#e3e5e9", "surface": "#ffffff", "page": "#f6f7f8",
    "c0": "#2a78d6", "c1": "#d9602c", "c2": "#16936a", "c3": "#b97f00",
    "c4": "#c9468b", "c5": "#5b46b0", "c6": "#0e8ba3", "c7": "#7a6a1f",
}  # fmt: skip
DARK = {
    "ink": "#e9eaec", "soft": "#a3a8b0", "line": "#33373d", "surface": "#17191c", "page": "#0f1113",
    "c0": "#5ba2f0", "c1": "#f0834f", "c2": "#35c092", "c3": "#e0a72e",
    "c4": "#ee7db5", "c5": "#a393f2", "c6": "#4cc3da", "c7": "#c3b15a",
}  # fmt: skip
# The CSS variable of each colour, which `css` defines. A drawing that uses these variables adapts
# to the reader's light or dark scheme.
VARIABLES = {name: f"var(--{name})" for name in LIGHT}


def css() -> str:
    """Return CSS rules that define the variables, and a class for each method colour: c0, c1..."""
    light, dark = (
        ":root{" + ";".join(f"--{name}:{value}" for name, value in colours.items()) + "}"
        for colours in (LIGHT, DARK)
    )
    classes = "".join(f".c{k}{{--c:var(--c{k})}}" for k in range(METHOD_COLOURS))
    return f"{light}@media (prefers-color-scheme: dark){{{dark}}}{classes}"
