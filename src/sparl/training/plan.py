"""What a run will do, in words, before it does it."""

from __future__ import annotations

import numpy as np

from sparl.configuration import Config
from sparl.methods import Architecture, connections, densified
from sparl.training.rewire import schedule


def plan(config: Config) -> list[str]:
    """What the schedules will do, in words."""
    lines = [
        f"{config.warmup_env_steps:,} random steps, then {config.updates_per_env_step} "
        f"update(s) of {config.batch_size} transitions per step, until step {config.end:,} of "
        f"a horizon of {config.horizon:,}"
    ]
    for network in ("actor", "critics"):
        when = schedule(config, network)
        if when.last_due is None:
            lines.append(f"{network}: connections never change")
            continue
        clock = "agent" if when.clock == "agent" else network
        per_step = float(config.updates_per_env_step)
        if when.clock == "network" and network == "actor":
            per_step = per_step / config.policy_delay
        first, last = (
            config.warmup_env_steps + int(np.ceil(u / per_step))
            for u in (when.first, when.last_due)
        )
        lines.append(
            f"{network}: {when.total:,} evolutions of {when.fraction:.1%} of the connections"
            f"{' annealed to 0' if when.annealed else ''}, "
            f"every {when.every:,} updates of the {clock}, the first at update {when.first:,} "
            f"(step {first:,}), the last at {when.last_due:,} (step {last:,})"
        )
    if config.n_step > 1:
        begins = config.warmup_env_steps + config.n_step_delay_updates
        lines.append(
            f"targets of {config.n_step} steps from update {config.n_step_delay_updates:,} on "
            f"(step {begins:,})"
        )
    return lines


def connections_text(nets: Architecture) -> str:
    """How many connections of how many the networks have, targets not counted."""
    now = connections(nets.actor) + nets.critics * connections(nets.critic)
    full = connections(densified(nets.actor)) + nets.critics * connections(densified(nets.critic))
    return f"{now:,} of {full:,} connections"
