"""Agents: learning algorithms that do not depend on topology, environments or logging."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from sparl.agents.action_head import ActionHead
from sparl.agents.agent import Agent
from sparl.agents.sac import SAC
from sparl.agents.td3 import TD3
from sparl.networks.spec import NetworkSpec
from sparl.wording import shown

AGENTS: dict[str, type[Agent]] = {"TD3": TD3, "SAC": SAC}


def settings_of(config: Any) -> Any:
    """Return the settings of the agent that a configuration selects.

    Each setting is copied from the configuration's field of the same name.
    """
    kind = AGENTS[config.agent].settings_type
    return kind(**{name: getattr(config, name) for name in field_names(kind)})


def specs_of(
    config: Any, n_obs: int = 1, n_act: int = 1, hidden: Sequence[int] | None = None
) -> dict[str, NetworkSpec]:
    """Return the dense specifications of a configured agent's networks, by name.

    Args:
        config: the configuration.
        n_obs: length of an observation; like n_act, it affects only the sizes of the networks.
        n_act: length of an action.
        hidden: units of each hidden layer; None means those of the configuration.
    """
    hidden = config.hidden if hidden is None else hidden
    return AGENTS[config.agent].network_specs(settings_of(config), hidden, n_obs, n_act)


def head_of(formula: str) -> ActionHead:
    """Return the action head whose formula an agent file names.

    Raises:
        ValueError: if no agent declares such a head.
    """
    heads = {agent.head.formula: agent.head for agent in AGENTS.values()}
    if formula not in heads:
        raise ValueError(
            f"the formula of the actions is {shown(formula)} but must be one of "
            f"{', '.join(heads)}; use the version of sparl that trained the agent"
        )
    return heads[formula]


def field_names(settings: Any) -> list[str]:
    """Return the field names of an agent's settings or of a settings class."""
    return [field.name for field in fields(settings)]
