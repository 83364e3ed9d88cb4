"""The command `sparl methods`, which lists the methods or describes one of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from sparl.configuration import DENSITY_FIELDS, FIELDS, Config
from sparl.console import PlainConsole
from sparl.field_texts import GROUPS
from sparl.labels import fields_of_other_agents, topology_changes
from sparl.methods import ALIASES, METHODS, TASKS, Method, find_method, preset
from sparl.option_help import HelpLine, described
from sparl.options import Argument, parse_options
from sparl.text_table import INDENT, Column


@dataclass(frozen=True)
class MethodsOptions:
    """List the methods that can be trained, or describe one: its papers and the fields it sets."""

    method: Annotated[str | None, Argument("[METHOD]", positional=True)] = None
    """Name of a method."""
    json: bool = False
    """Print JSON."""


def methods(args: list[str]) -> int:
    """Run `sparl methods` with these arguments, and return the exit code."""
    options = parse_options(MethodsOptions, args, "sparl methods")
    console = PlainConsole()
    chosen = [find_method(options.method)] if options.method else list(METHODS.values())
    if options.json:
        content = {method.name: _content(method) for method in chosen}
        console.copyable(json.dumps(content, indent=2))
    elif options.method:
        _describe(console, chosen[0])
    else:
        _list(console)
    return 0


def _content(method: Method) -> dict[str, Any]:
    family = method.family
    return {
        "summary": family.summary, "source": method.source,
        "papers": [asdict(paper) for paper in method.papers],
        "settings": family.settings, "fields": dict(family.fields),
        "aliases": method.aliases, "environments": _densities(method),
    }  # fmt: skip


def _list(console: PlainConsole) -> None:
    """Print a line for each method."""
    lines = [HelpLine(method.name, method.family.summary) for method in METHODS.values()]
    console.copyable(described(lines, console.width))
    console.print("")
    others = (f"{alias} for {name}" for alias, name in ALIASES.items())
    console.print(f"other names: {', '.join(others)}")
    console.print("papers and settings of a method: sparl methods METHOD")
    console.print("every field and its default: sparl train --method METHOD --env ID --help")


def _describe(console: PlainConsole, method: Method) -> None:
    """Print a method's papers, the fields that it sets, and its densities in each task."""
    family = method.family
    also = f" (also {', '.join(method.aliases)})" if method.aliases else ""
    console.print(f"{method.name}{also}: {family.summary}")
    console.print(f"source: {method.source}; base settings: {family.settings}")
    for paper in method.papers:
        console.print("")
        console.print(f"{paper.authors}: {paper.title} ({paper.year})")
        console.copyable(INDENT + paper.link)
    config = preset(method.name, "")
    lines = [
        HelpLine(f"{name} = {json.dumps(getattr(config, name))}", text)
        for name, text in _fields(config)
    ]
    console.print("")
    console.copyable(described(lines, console.width))
    densities = {task: values for task, values in _densities(method).items() if values}
    if densities:
        names = list(dict.fromkeys(name for values in densities.values() for name in values))
        console.print("")
        console.table(
            [Column("task", left=True), *(Column(name.replace("_s", "\ns")) for name in names)],
            [
                [task, *(f"{values[name]:g}" if name in values else "-" for name in names)]
                for task, values in densities.items()
            ],
        )
    console.print("")
    console.print(f"all fields: sparl train --method {method.name} --env ID --help")


# Fields that a description shows even if the method does not change their defaults: of every
# method, and of methods whose topology changes.
_MAIN = ("steps", "learning_rate", "batch_size", "warmup_env_steps")
_OF_TOPOLOGY = ("rewire_every_updates", "rewire_fraction", "freeze_fraction", "drop", "grow")


def _fields(config: Config) -> Iterator[tuple[str, str]]:
    """Yield the fields to show, except densities, and their short descriptions."""
    changes = topology_changes(config)
    always = {*_MAIN, *(_OF_TOPOLOGY if changes else ())}
    never = {"method", "env", "settings", "agent", *DENSITY_FIELDS}
    never |= fields_of_other_agents(config)
    for title, texts in GROUPS.items():
        for name, text in texts.items():
            different = getattr(config, name) != FIELDS[name].default
            without_effect = title == "topology" and not changes
            if name not in never and (name in always or (different and not without_effect)):
                yield name, text


def _densities(method: Method) -> dict[str, dict[str, Any]]:
    """Return the fields that set a method's densities, for each task of the method's paper."""
    fields = ("lambda_1", "lambda_2", "actor_sparsity", "critic_sparsity")
    tasks = [t for t in TASKS if t != "Humanoid" or method.family.settings == "ds"]
    of_task = {task: preset(method.name, f"{task}-v3").as_dict() for task in tasks}
    return {t: {f: values[f] for f in fields if f in values} for t, values in of_task.items()}
