"""Run `sparl methods`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sparl.console import PlainConsole
from sparl.methods import METHODS, TASKS, preset
from sparl.options import parse_options


@dataclass(frozen=True)
class MethodsOptions:
    """List the methods that can be trained."""

    json: bool = False
    """Print JSON."""


def methods(args: list[str]) -> int:
    """Run `sparl methods`."""
    options = parse_options(MethodsOptions, args, "sparl methods")
    say = PlainConsole().print
    if options.json:
        content = {
            name: {
                "summary": method.family.summary, "source": method.source,
                "settings": method.family.settings, "fields": dict(method.family.fields),
                "aliases": method.aliases, "environments": _defaults(name),
            }
            for name, method in METHODS.items()
        }  # fmt: skip
        say(json.dumps(content, indent=2))
        return 0
    for name, method in METHODS.items():
        family = method.family
        also = f", also {', '.join(method.aliases)}" if method.aliases else ""
        say(f"{name:<11} {family.summary} [{method.source}; {family.settings} settings{also}]")
        texts = [
            f"{task} {' / '.join(f'{v:g}' for v in values.values())}"
            for task, values in _defaults(name).items()
            if values
        ]
        if texts:
            ds = family.settings == "ds"
            kind = "lambda_1 / lambda_2" if ds else "actor / critic sparsity"
            say(f"{'':<11} {kind}: {', '.join(texts)}")
    say("To list every field with its default: sparl train --method NAME --env ID --help")
    return 0


def _defaults(name: str) -> dict[str, dict[str, Any]]:
    """Return the density settings of a method, for each task that has some."""
    fields = ("lambda_1", "lambda_2", "actor_sparsity", "critic_sparsity")
    tasks = [t for t in TASKS if t != "Humanoid" or METHODS[name].family.settings == "ds"]
    of_task = {task: preset(name, f"{task}-v3").as_dict() for task in tasks}
    return {t: {f: values[f] for f in fields if f in values} for t, values in of_task.items()}
