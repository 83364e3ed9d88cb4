"""Agents: algorithms that act and update, independent of topology, environments and logging."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from sparl.agents.agent import Agent
from sparl.agents.network_role import NetworkRole
from sparl.agents.sac import SAC
from sparl.agents.td3 import TD3

AGENTS: dict[str, type[Agent]] = {"TD3": TD3, "SAC": SAC}


def settings_of(config: Any) -> Any:
    """Return the settings of the agent that a configuration selects.

    Each setting is copied from the configuration's field of the same name.
    """
    kind = AGENTS[config.agent].settings_type
    return kind(**{name: getattr(config, name) for name in field_names(kind)})


def roles_of(config: Any, n_obs: int = 1, n_act: int = 1) -> dict[str, NetworkRole]:
    """Return the role of each network of the agent that a configuration selects, by name.

    n_obs and n_act affect only the sizes of the networks.
    """
    return AGENTS[config.agent].network_roles(settings_of(config), n_obs, n_act)


def field_names(settings: Any) -> list[str]:
    """Return the field names of an agent's settings or of a settings class."""
    return [field.name for field in fields(settings)]
