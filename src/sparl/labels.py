"""Label configurations, and find fields that contradict the method or have no effect."""

from __future__ import annotations

from collections.abc import Iterable

from sparl.agents import AGENTS, field_names, settings_of, specs_of
from sparl.configuration import DENSITY_FIELDS, FIELDS, Config, why_not_longer
from sparl.methods import find_method, preset


def contradictions(config: Config) -> list[str]:
    """Return the fields that contradict the definition of the configuration's method.

    Examples are a dense method with missing connections, a static method whose topology changes, a
    dynamic method whose topology never changes, and a method whose rules, targets, returns or
    replay buffer differ from the definition.

    Not part of a definition are the periods, first update, clock, fractions and densities of a
    sparse method, its initial topology (except for SS), whether topology updates replace optimiser
    steps, the moments of grown connections, and the number and delay of n-step returns, as long as
    there are any. Reports compare whole configurations, so these fields also separate runs there.
    """
    base = preset(config.method, config.env, settings=config.settings)
    family = find_method(config.method).family

    def differ(*names: str) -> list[str]:
        return [name for name in names if getattr(config, name) != getattr(base, name)]

    found = differ("target_pattern", "narrow", "dynamic_buffer")
    if (config.n_step > 1) != (base.n_step > 1):
        found.append("n_step")
    found += differ(*family.defining)
    missing = [] if family.sparse else differ(*DENSITY_FIELDS)
    full = _is_dense(base) and _is_dense(config) and config.density_schedule == "constant"
    if missing or not full:  # otherwise the topology cannot change
        if topology_changes(config) != topology_changes(base):
            found += differ("rewire_every_updates", "rewire", "rewire_fraction", "freeze_fraction")
        elif topology_changes(config):
            found += differ("rewire", "drop", "grow", "rewire_schedule", "density_schedule")
    return found + missing


def topology_changes(config: Config) -> bool:
    """Return whether any scheduled topology update can move a connection."""
    moves = config.rewire_fraction > 0 or config.density_schedule != "constant"
    return config.topology_scheduled and moves and config.freeze_fraction < 1


def _is_dense(config: Config) -> bool:
    """Return whether the fields imply that every connection exists."""
    return config.narrow or all(getattr(config, name) is None for name in DENSITY_FIELDS)


def method_label(config: Config) -> str:
    """Return the method's name, followed by any fields that contradict the definition."""
    fields = contradictions(config)
    return f"{config.method} ({fields_text(config, fields)})" if fields else config.method


def fields_text(config: Config, names: Iterable[str]) -> str:
    """Format fields and their values, for example "n_step 1, grow random"."""
    return ", ".join(f"{name} {value_text(getattr(config, name))}" for name in names)


def value_text(value: object) -> str:
    """Format a field's value for use in a name: join tuples with hyphens, and shorten floats."""
    if isinstance(value, tuple):
        return "-".join(value_text(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


# Every agent uses these fields, even if the agent's settings do not contain them.
_OF_EVERY_AGENT = {"learning_rate"}


def fields_of_other_agents(config: Config) -> set[str]:
    """Return the fields that other agents use, but not the agent of this configuration."""
    of_agents = {name for kind in AGENTS.values() for name in field_names(kind.settings_type)}
    return of_agents - _OF_EVERY_AGENT - set(field_names(settings_of(config)))


def without_effect(config: Config) -> list[str]:
    """Return a message for each checked field that differs from the preset but has no effect."""
    base = preset(config.method, config.env, settings=config.settings)
    of_others = fields_of_other_agents(config)
    budgets = [config.budget(spec.label) for spec in specs_of(config).values()]
    sparsity = any(budget.sparsity is not None for budget in budgets)
    densities = all(budget.densities is not None for budget in budgets)
    matters = {
        **{name: False for name in FIELDS if name in of_others},
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
        "density_schedule": config.topology_scheduled,
        **dict.fromkeys(("allocation", "sparse_output"), sparsity),
        **dict.fromkeys(("lambda_1", "lambda_2"), not densities),
        "stop_at": config.stop_at is None or config.stop_at <= config.steps,
        "overwrite": config.run_dir is not None,
        "checkpoint_every_env_steps": config.checkpoint_every_env_steps < config.end,
    }
    notes = [
        f"{_typed(name, getattr(config, name))} has no effect on this run"
        for name, effect in matters.items()
        if not effect and getattr(config, name) != getattr(base, name)
    ]
    if config.keep_checkpoint and (because := why_not_longer(config)):
        notes.append(f"--keep-checkpoint does not allow this run to be extended: {because}")
    return notes


def _typed(name: str, value: object) -> str:
    """Return a field and its value as a user types them."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    return f"--{flag} {value}"
