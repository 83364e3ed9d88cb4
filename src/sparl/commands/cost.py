"""Run `sparl cost`."""

from __future__ import annotations

import json
from typing import Any

from rich.table import Table

from sparl.arguments import parse_config
from sparl.configuration import Config
from sparl.console import PlainConsole
from sparl.cost import cost as cost_of
from sparl.labels import method_label
from sparl.training.environment import Environment


def cost(args: list[str]) -> int:
    """Run `sparl cost`."""
    as_json = "--json" in args
    config = parse_config([a for a in args if a != "--json"], "sparl cost")
    environment = Environment(config.env, config.max_episode_steps, config.contact_forces)
    result = cost_of(config, environment.n_obs, environment.n_act)
    if as_json:
        PlainConsole().print(json.dumps(result, indent=2))
    else:
        _print(config, result)
    return 0


def _print(config: Config, result: dict[str, Any]) -> None:
    """Print what `sparl.cost.cost` returns for a configuration."""
    say = PlainConsole().print
    say(f"{method_label(config)} on {config.env}")
    say(_table(result["networks"]))
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
            f"printed in the paper: size {size:.3f}, training FLOPs {train_flops:.3f} (the paper "
            f"gives no formula, so sparl counts differently), FLOPs per action {test_flops:.3f}"
        )


def _table(networks: dict[str, Any]) -> Table:
    """Return the connections of every layer as a table."""
    table = Table(box=None, pad_edge=False)
    table.add_column("network")
    for column in ("copies", "layer", "inputs", "outputs", "connections", "density"):
        table.add_column(column, justify="right")
    for name, network in networks.items():
        for index, layer in enumerate(network["layers"]):
            n_in, n_out, count = layer["inputs"], layer["outputs"], layer["connections"]
            table.add_row(
                *([name, str(network["copies"])] if index == 0 else ["", ""]), str(index + 1),
                f"{n_in:,}", f"{n_out:,}", f"{count:,}", f"{count / (n_in * n_out):.4f}",
            )  # fmt: skip
    return table
