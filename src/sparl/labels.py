"""What a configuration is called, and which of its fields contradict its method or do nothing."""

from __future__ import annotations

from collections.abc import Iterable

from sparl.agents import AGENTS, field_names, settings_of
from sparl.configuration import FIELDS, Config, why_not_longer
from sparl.methods import find_method, preset

# Fields that define a method where its preset sets them, and what of their value does.
_DENSITY_FIELDS = (
    "lambda_1", "lambda_2", "actor_densities", "critic_densities", "actor_sparsity",
    "critic_sparsity",
)  # fmt: skip


def contradictions(config: Config) -> list[str]:
    """Fields that contradict the definition of the configuration's method.

    A dense method with missing connections, a static one whose topology changes, a dynamic one
    whose topology never does, one with other rules, targets, returns or replay than the method
    is defined by. Numbers such as periods, fractions and densities of a sparse method are its
    settings, not its definition.
    """
    base = preset(config.method, config.env, settings=config.settings)
    family = find_method(config.method).family

    def differ(*names: str) -> list[str]:
        return [name for name in names if getattr(config, name) != getattr(base, name)]

    found = differ("target_pattern", "narrow", "dynamic_buffer")
    if (config.n_step > 1) != (base.n_step > 1):
        found.append("n_step")
    if family.prefix == "SS-":  # the largest weights are what makes it another one than Static-
        found += differ("initial_topology")
    missing = [] if family.sparse else differ(*_DENSITY_FIELDS)
    full = _is_dense(base) and _is_dense(config) and config.density_schedule == "constant"
    if missing or not full:  # else nothing can change
        if topology_changes(config) != topology_changes(base):
            found += differ("rewire_every_updates", "rewire", "rewire_fraction", "freeze_fraction")
        elif topology_changes(config):
            found += differ("rewire", "drop", "grow", "rewire_schedule", "density_schedule")
    return found + missing


def topology_changes(config: Config) -> bool:
    """Whether the schedule has a topology update that moves anything."""
    scheduled = config.rewire_every_updates > 0 and config.rewire != "none"
    moves = config.rewire_fraction > 0 or config.density_schedule != "constant"
    return scheduled and moves and config.freeze_fraction < 1


def _is_dense(config: Config) -> bool:
    """Whether every connection exists, as far as the fields say."""
    return config.narrow or all(getattr(config, name) is None for name in _DENSITY_FIELDS)


def method_label(config: Config) -> str:
    """The method, with the fields that contradict its definition, if there are any."""
    fields = contradictions(config)
    return f"{config.method} ({fields_text(config, fields)})" if fields else config.method


def fields_text(config: Config, names: Iterable[str]) -> str:
    """Fields and their values in words: "n_step 1, grow random"."""
    return ", ".join(f"{name} {value_text(getattr(config, name))}" for name in names)


def value_text(value: object) -> str:
    """Write a field's value as part of a name: tuples with hyphens, numbers in short."""
    if isinstance(value, tuple):
        return "-".join(value_text(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


# Every agent uses them, whether its own settings name them or not.
_OF_EVERY_AGENT = {"learning_rate"}


def without_effect(config: Config) -> list[str]:
    """Fields that were set otherwise than the preset has them, and that change nothing."""
    base = preset(config.method, config.env, settings=config.settings)
    mine = field_names(settings_of(config))
    of_agents = {name for kind in AGENTS.values() for name in field_names(kind.settings_type)}
    sparsity = config.actor_sparsity is not None or config.critic_sparsity is not None
    densities = config.actor_densities is not None and config.critic_densities is not None
    matters = {
        **{name: name in mine for name in FIELDS if name in of_agents - _OF_EVERY_AGENT},
        "contact_forces": config.env in ("Ant-v3", "Humanoid-v3"),
        **dict.fromkeys(
            (
                "replay_minimum",
                "replay_distance_threshold",
                "replay_check_every_env_steps",
                "replay_probe_transitions",
                "replay_forget_until_below",
            ),
            config.dynamic_buffer,
        ),
        "n_step_delay_updates": config.n_step > 1,
        "density_schedule": config.rewire_every_updates > 0 and config.rewire != "none",
        **dict.fromkeys(("allocation", "sparse_output"), sparsity),
        **dict.fromkeys(("lambda_1", "lambda_2"), not densities),
        "stop_at": config.stop_at is None or config.stop_at <= config.steps,
        "overwrite": config.run_dir is not None,
        "checkpoint_every_env_steps": config.checkpoint_every_env_steps < config.end,
        "keep_checkpoint": not why_not_longer(config),
    }
    return [
        f"--{name.replace('_', '-')} {getattr(config, name)} changes nothing here"
        for name, effect in matters.items()
        if not effect and getattr(config, name) != getattr(base, name)
    ]
