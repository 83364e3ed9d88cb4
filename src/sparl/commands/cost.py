"""The command `sparl cost`, which prints the connections, bytes and FLOPs of a method."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sparl.arguments import parse_config
from sparl.configuration import Config
from sparl.console import PlainConsole
from sparl.cost import cost as cost_of
from sparl.labels import method_label
from sparl.options import parse_options, separated
from sparl.spellings import split_values
from sparl.text_table import Column
from sparl.training.environment import Environment


@dataclass(frozen=True)
class CostOptions:
    """The options of `sparl cost` that are not fields of a run."""

    json: bool = False
    """print JSON"""


def cost(args: list[str]) -> int:
    """Run `sparl cost` with these arguments, and return the exit code."""
    own, words = separated(CostOptions, split_values(args))
    options = parse_options(CostOptions, own, "sparl cost")
    config = parse_config(words, "sparl cost", CostOptions)
    environment = Environment(config.env, config.max_episode_steps, config.contact_forces)
    result = cost_of(config, environment.n_obs, environment.n_act)
    if options.json:
        PlainConsole().copyable(json.dumps(result, indent=2))
    else:
        _print(config, result)
    return 0


def _print(config: Config, result: dict[str, Any]) -> None:
    """Print the values that `sparl.cost.cost` returned for a configuration."""
    console = PlainConsole()
    say = console.print
    say(f"{method_label(config)} on {config.env}")
    console.table(_COLUMNS, _rows(result["networks"]))
    now, full = result["connections"], result["dense_connections"]
    say(f"connections: {now:,} of {full:,} ({now / full:.4f})")
    say(f"size with targets: {result['size_ratio_with_targets']:.4f} of dense")
    say(f"FLOPs per action: {result['inference_flops_ratio']:.4f} of dense")
    parts = ", ".join(f"{name} {count:,}" for name, count in result["bytes"].items())
    say(f"bytes: {parts}")
    titles = {"paper": "paper's convention", "counted": "every multiply-add"}
    for name, title in titles.items():
        flops = result["flops"][name]
        if flops is None:
            continue
        say(
            f"FLOPs of {result['updates']:,} updates, {title}: {flops['sparse']:.3g} "
            f"of {flops['dense']:.3g} dense ({flops['ratio']:.4f})"
        )
    if "published" in result:
        size, train_flops, test_flops = result["published"].values()
        say(
            f"in the paper, as fractions of dense: size with targets {size:.3f}, training FLOPs "
            f"{train_flops:.3f} (the paper gives no formula, so sparl counts differently), FLOPs "
            f"per action {test_flops:.3f}"
        )


_COLUMNS = (
    Column("network", left=True),
    Column("copies", rank=3),
    Column("layer"),
    Column("inputs", rank=2),
    Column("outputs", rank=2),
    Column("connections"),
    Column("density", rank=1),
)


def _rows(networks: dict[str, Any]) -> list[list[str]]:
    """Return the rows of the table, one for each layer."""
    return [
        [
            *([name, str(network["copies"])] if index == 0 else ["", ""]), str(index + 1),
            f"{layer['inputs']:,}", f"{layer['outputs']:,}", f"{layer['connections']:,}",
            f"{layer['connections'] / (layer['inputs'] * layer['outputs']):.4f}",
        ]
        for name, network in networks.items()
        for index, layer in enumerate(network["layers"])
    ]  # fmt: skip
