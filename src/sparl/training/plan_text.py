"""Describe the schedules of a run before training starts."""

from __future__ import annotations

import math

from sparl.architecture import Architecture
from sparl.build import schedule
from sparl.configuration import Config
from sparl.networks.spec import NetworkSpec
from sparl.wording import counted


def plan_text(config: Config, nets: Architecture) -> list[str]:
    """Return a line for each schedule of a run."""
    warmup, end = config.warmup_env_steps, config.end
    until = f"until step {end:,}"
    if config.horizon != end:
        until += f" (the schedules have {config.horizon:,} steps)"
    if warmup >= end:
        return [
            f"{end:,} steps of warm-up, {until}; there are no updates, because the warm-up lasts "
            f"{warmup:,} steps"
        ]
    updates = counted(config.updates_per_env_step, "update")
    networks: dict[str, list[str]] = {}  # the networks that each text describes
    for name, spec in nets.networks.items():
        networks.setdefault(_topology_text(config, name, spec), []).append(name)
    return [
        f"{warmup:,} steps of warm-up, then {updates} of {config.batch_size} transitions per step, "
        f"{until}",
        *(f"{' and '.join(names)}: {text}" for text, names in networks.items()),
        *([_n_step_text(config)] if config.n_step > 1 else []),
    ]


def _topology_text(config: Config, network: str, spec: NetworkSpec) -> str:
    """Describe the topology updates of a network."""
    when, changes_density = schedule(config, spec), config.density_schedule != "constant"
    movable = changes_density or any(0 < layer.connections < layer.size for layer in spec.layers)
    if when.last_due is None or not movable:
        return "the connections never change"
    of, period = "the agent", 1
    if when.clock == "network":
        of, period = f"the {network}", spec.update_period
    text = f"{counted(when.total, 'topology update')} of {when.fraction:.1%} of the connections"
    if when.annealed:
        text += " annealed to 0"
    if changes_density:
        text += f", with the density schedule {config.density_schedule}"
    first = _at(config, when.first, period)
    if when.total == 1:
        return f"{text}, at {first}"
    last = _at(config, when.last_due, period)
    return f"{text}, every {when.every:,} updates of {of}, the first at {first}, the last at {last}"


def _n_step_text(config: Config) -> str:
    """Describe when targets of several steps are used."""
    first = max(config.n_step_delay_updates, 1)
    updates = (config.end - config.warmup_env_steps) * config.updates_per_env_step
    if first > updates:
        begin = _at(config, first)
        return (
            f"{config.n_step}-step targets are never used, because they would begin at {begin}, "
            "after the end of the run"
        )
    return f"{config.n_step}-step targets are used from {_at(config, first)} on"


def _at(config: Config, update: int, period: int = 1) -> str:
    """Describe an update of a network that is updated once per `period` updates of the agent."""
    steps = math.ceil(update * period / config.updates_per_env_step)
    return f"update {update:,} (step {config.warmup_env_steps + steps:,})"
