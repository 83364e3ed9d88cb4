"""The colours of a report, for light and dark screens.

Each method has one of `METHOD_COLOURS` colours. The contrast between these colours and the surface
is at least 3 to 1, and the contrast of text is at least 4.5 to 1 (WCAG 2.2, 1.4.11 and 1.4.3).
"""

from __future__ import annotations

METHOD_COLOURS = 8
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
    """Return CSS rules that define the variables, and a class `c0`, `c1`, ... for each method."""
    light, dark = (
        ":root{" + ";".join(f"--{name}:{value}" for name, value in colours.items()) + "}"
        for colours in (LIGHT, DARK)
    )
    classes = "".join(f".c{k}{{--c:var(--c{k})}}" for k in range(METHOD_COLOURS))
    return f"{light}@media (prefers-color-scheme: dark){{{dark}}}{classes}"
