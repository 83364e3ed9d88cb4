"""The command `sparl info`, which describes this machine or a run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from sparl import _native
from sparl.console import PlainConsole
from sparl.options import Argument, parse_options
from sparl.training.about import about_run
from sparl.training.machine import machine, versions


@dataclass(frozen=True)
class InfoOptions:
    """Describe this machine and the resources that sparl uses, or describe a run."""

    run: Annotated[Path | None, Argument("[RUN]", positional=True)] = None
    """Folder of a run."""
    json: bool = False
    """Print JSON."""


def info(args: list[str]) -> int:
    """Run `sparl info` with these arguments, and return the exit code."""
    options = parse_options(InfoOptions, args, "sparl info")
    content: dict[str, Any]
    if options.run is None:
        isas = _native.available_isas()
        content = {"machine": machine(), "versions": versions(), "instruction_sets": isas}
    else:
        content = about_run(options.run)
    console = PlainConsole()
    say = console.print
    if options.json:
        console.copyable(json.dumps(content, indent=2))
        return 0
    for name, value in content.items():
        if isinstance(value, dict):
            value = [f"{k} {_rounded(v)}" for k, v in value.items() if v not in ([], "")]
        text = ", ".join(map(_rounded, value if isinstance(value, list) else [value]))
        say(f"{name.replace('_', ' ')}: {text}".replace("\n", "\\n"))
    return 0


def _rounded(value: Any) -> str:
    return f"{value:,.3f}" if isinstance(value, float) else str(value)
