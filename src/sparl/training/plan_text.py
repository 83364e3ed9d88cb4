"""Describe the schedules of a run before training starts."""

from __future__ import annotations

import math

from sparl.architecture import Architecture
from sparl.build import schedule
from sparl.configuration import Config
from sparl.wording import counted


def plan_text(config: Config, nets: Architecture) -> list[str]:
    """Return a sentence for each schedule of a run."""
    warmup, end, per_step = config.warmup_env_steps, config.end, config.updates_per_env_step
    until = f"until step {end:,} of a horizon of {config.horizon:,}"
    if warmup >= end:
        return [
            (
                f"{end:,} steps of warm-up, {until}; there are no updates, because the warm-up "
                f"lasts {warmup:,} steps"
            )
        ]
    lines = [
        f"{warmup:,} steps of warm-up, then {counted(per_step, 'update')} of {config.batch_size} "
        f"transitions per step, {until}"
    ]

    def at(update: int, every: int = 1) -> str:
        return f"update {update:,} (step {warmup + math.ceil(update * every / per_step):,})"

    sentences: dict[str, list[str]] = {}  # the networks that each sentence describes
    for network, spec in nets.networks.items():
        when = schedule(config, network)
        movable = config.density_schedule != "constant" or any(
            0 < layer.connections < layer.size for layer in spec.layers
        )
        if when.last_due is None or not movable:
            sentences.setdefault("the connections never change", []).append(network)
            continue
        of, every = "the agent", 1
        if when.clock == "network":
            of, every = f"the {network}", spec.update_period
        annealed = " annealed to 0" if when.annealed else ""
        if config.density_schedule != "constant":
            annealed += f", with the density schedule {config.density_schedule}"
        text = f"{counted(when.total, 'topology update')} of {when.fraction:.1%} of the connections"
        text += annealed
        if when.total == 1:
            text += f", at {at(when.first, every)}"
        else:
            text += (
                f", every {when.every:,} updates of {of}, the first at {at(when.first, every)}, "
                f"the last at {at(when.last_due, every)}"
            )
        sentences.setdefault(text, []).append(network)
    lines += [f"{' and '.join(names)}: {text}" for text, names in sentences.items()]
    if config.n_step > 1:
        begin = max(config.n_step_delay_updates, 1)
        if begin > (end - warmup) * per_step:
            lines.append(
                f"{config.n_step}-step targets are never used, because they begin at {at(begin)}"
            )
        else:
            lines.append(f"{config.n_step}-step targets are used from {at(begin)} on")
    return lines
