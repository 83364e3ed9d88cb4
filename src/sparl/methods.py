"""The methods; each combines an agent with a family and determines all settings of a run."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sparl.configuration import Config
from sparl.configuration_checks import typed_fields, wrong_values
from sparl.errors import UsageError
from sparl.presets import AGENT_PRESETS, FAMILIES, Family, Fields, Paper
from sparl.user_modules import WITHOUT_ID


@dataclass(frozen=True)
class Method:
    """A named preset: an agent and a family."""

    name: str
    agent: str
    family: Family

    @property
    def source(self) -> str:
        """The paper and section that define the method."""
        return self.family.source or AGENT_PRESETS[self.agent].source

    @property
    def papers(self) -> tuple[Paper, ...]:
        """The papers of the family, followed by the paper of the agent."""
        paper = AGENT_PRESETS[self.agent].paper
        return (*self.family.papers, *([paper] if paper else []))

    @property
    def aliases(self) -> list[str]:
        """Other names of the method."""
        return [alias for alias, name in ALIASES.items() if name == self.name]


METHODS = {
    method.name: method
    for agent in AGENT_PRESETS
    for method in (Method(family.prefix + agent, agent, family) for family in FAMILIES)
}
ALIASES = {"StaticSparseTD3": "Static-TD3", "StaticSparseSAC": "Static-SAC"}

# Lengths of observations and actions in version v3 of the tasks whose newer versions have shorter
# observations. Networks for the newer versions have the densities of v3, because the same lambda
# would result in a different density.
_V3_SIZES = {"Ant": (111, 8), "Humanoid": (376, 17)}
_PAPER_WIDTH = 256  # units of each hidden layer
_UNKNOWN_DENSITY = 0.5  # for ds, in environments that the paper did not use
_UNKNOWN_LAMBDAS = (7, 64)  # for an agent that the paper did not use
_UNKNOWN_SPARSITIES = (0.90, 0.85)  # for rlx2, in environments that the paper did not use
TASKS = ("HalfCheetah", "Hopper", "Walker2d", "Ant", "Humanoid")
_MUJOCO_VERSIONS = ("v3", "v4", "v5")


def find_method(name: str) -> Method:
    """Return the method that has this name or alias.

    Raises:
        UsageError: if the name is unknown; the message suggests the nearest names.
    """
    name = ALIASES.get(name, name)
    if name not in METHODS:
        lower = {known.lower(): known for known in [*METHODS, *ALIASES]}
        same = [name.lower()] if name.lower() in lower else []
        near = same or difflib.get_close_matches(name.lower(), lower, cutoff=0.4)
        names = " or ".join(lower[each] for each in near)
        hint = f"did you mean {names}?" if near else f"known: {', '.join(METHODS)}"
        raise UsageError(f"unknown method '{name}'; {hint}")
    return METHODS[name]


def preset(method: str, env: str, **overrides: Any) -> Config:
    """Return the configuration of a method in an environment.

    Args:
        method: name or alias of the method.
        env: id of the environment.
        overrides: field values that replace those of the preset. They are not checked; see
            `check`.

    Raises:
        UsageError: if the method or the settings are unknown.
        TypeError: if a field is unknown.
    """
    chosen = find_method(method)
    settings = overrides.get("settings", chosen.family.settings)
    if settings not in ("ds", "rlx2"):
        raise UsageError(f"settings is {settings!r} but must be 'ds' or 'rlx2'")
    values = (  # later ones take precedence
        {"method": chosen.name, "env": env, "settings": settings, "agent": chosen.agent}
        | AGENT_PRESETS[chosen.agent].topology
        | _base_settings(chosen, settings)
        | chosen.family.fields
        | (_density(chosen.agent, settings, env, overrides) if chosen.family.sparse else {})
        | overrides
    )
    return Config(**values)


def _base_settings(method: Method, settings: str) -> Fields:
    """Return the fields of a method's settings that differ from Config's defaults."""
    presets = AGENT_PRESETS[method.agent]
    if settings == "rlx2":
        return presets.rlx2
    return presets.ds | (presets.ds_sparse if method.family.sparse else {})


def _density(agent: str, settings: str, env: str, overrides: Fields) -> Fields:
    """Return the fields that set the number of connections of a sparse method."""
    if settings == "rlx2":
        return _rlx2_sparsities(agent, env)
    if {"lambda_1", "lambda_2"} & overrides.keys():
        return _lambdas(agent, env)
    return _ds_densities(agent, env, len(overrides.get("hidden", Config.hidden)))


def check(config: Config) -> None:
    """Check that the command line would accept a configuration.

    Every configuration is checked before it is used, regardless of its source. This function checks
    only the syntax of rule names; whether the rules are registered is checked when the topology is
    built.

    Raises:
        UsageError: if the configuration has errors; the message lists all of them on one line.
    """
    wrong = wrong_values(config)
    method = METHODS.get(config.method)
    if method is None:
        wrong.append(f"method is {config.method!r} but must be one of {', '.join(METHODS)}")
    elif method.agent != config.agent:
        wrong.append(f"agent is {config.agent!r}, but the agent of {method.name} is {method.agent}")
    if wrong:
        raise UsageError("; ".join(wrong))


def config_of(fields: Mapping[str, Any], where: object) -> Config:
    """Return the configuration that a file's fields describe; missing fields have their defaults.

    Raises:
        UsageError: if a field is unknown or the command line would not accept its value.
    """
    config = Config(**typed_fields(dict(fields), str(where)))
    try:
        check(config)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    return config


def _task(env: str) -> tuple[str, str]:
    """Return the name and version of a MuJoCo task, or the id and "" for other environments."""
    env = env.removesuffix(WITHOUT_ID)
    name, _, version = env.rpartition("-")
    return (name, version) if version in _MUJOCO_VERSIONS else (env, "")


def _lambdas(agent: str, env: str) -> Fields:
    """Return the paper's lambdas, or HalfCheetah's for an environment that is not in the paper."""
    lambdas = AGENT_PRESETS[agent].lambdas
    first, further = lambdas.get(_task(env)[0]) or lambdas.get("HalfCheetah", _UNKNOWN_LAMBDAS)
    return {"lambda_1": float(first), "lambda_2": float(further)}


def _ds_densities(agent: str, env: str, hidden_layers: int) -> Fields:
    """Return lambda_1 and lambda_2, or the densities that they imply for version v3.

    In an environment that is not in the paper, the density of each hidden layer is 0.5.
    """
    task, version = _task(env)
    lambdas = AGENT_PRESETS[agent].lambdas
    if task not in lambdas:
        densities = (_UNKNOWN_DENSITY,) * hidden_layers + (1.0,)
        return {"actor_densities": densities, "critic_densities": densities}
    first, further = lambdas[task]
    same_observations = version == "v3" or task not in _V3_SIZES
    if same_observations or (task == "Humanoid" and version == "v4"):
        return _lambdas(agent, env)
    n_obs, n_act = _V3_SIZES[task]
    return {
        f"{network}_densities": (
            _density_of_lambda(first, n_in),
            *(_density_of_lambda(further, _PAPER_WIDTH),) * (hidden_layers - 1),
            1.0,
        )
        for network, n_in in (("actor", n_obs), ("critic", n_obs + n_act))
    }


def _density_of_lambda(lam: float, n_in: int) -> float:
    """Return the density that lambda implies for a layer with n_in inputs and 256 outputs."""
    return lam * (n_in + _PAPER_WIDTH) / (n_in * _PAPER_WIDTH)


def _rlx2_sparsities(agent: str, env: str) -> Fields:
    """Return the sparsities of actor and critic."""
    sparsities = AGENT_PRESETS[agent].sparsities
    actor, critic = sparsities.get(_task(env)[0], _UNKNOWN_SPARSITIES)
    return {"actor_sparsity": actor, "critic_sparsity": critic}
