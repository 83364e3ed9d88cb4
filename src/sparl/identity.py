"""Derive the name, the identity and the id of a run from its configuration."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from sparl.agents import AGENTS, settings_of
from sparl.configuration import FIELDS, WITHOUT_INFLUENCE, Config
from sparl.labels import contradictions, value_text
from sparl.user_modules import WITHOUT_ID


def run_name(config: Config) -> str:
    """Return METHOD_ENV_seedN, which is a single path component.

    Fields that contradict the method's definition are appended to METHOD.
    """
    method = config.method
    for name in contradictions(config):
        method += f"-{name}-{value_text(getattr(config, name))}"
    return f"{method}_{env_name(config)}_seed{config.seed}"


def env_name(config: Config) -> str:
    """Return the environment's id as a single path component."""
    return config.env.removesuffix(WITHOUT_ID).replace("/", "-")


def results_version(config: Config) -> int:
    """Return the version of the results of a resolved configuration.

    Runs with different versions have different results. Every run of sparl 0.1 has version 1, which
    its files do not record. Since sparl 0.2, the version is 2 for every configuration whose results
    changed in that release: those with topology updates, narrow networks, a learned temperature, or
    a delay of n-step targets. Changes of rounding alone, such as another instruction set or the
    treatment of subnormal numbers, do not raise the version.
    """
    delayed = config.n_step > 1 and config.n_step_delay_updates > 0
    changed = config.topology_scheduled or config.narrow or delayed
    return max(2 if changed else 1, AGENTS[config.agent].results_version(settings_of(config)))


def identity(config: Config, version: int | None = None) -> dict[str, Any]:
    """Return the values that two configurations have in common if they describe the same run.

    These values are the fields that differ from Config's defaults, and the version of the results.
    A field that is missing from an old file has its default value. The method, the environment, the
    seed, the end of the run and the horizon of its schedules are always included, whichever fields
    set them. Fields that do not affect the results are not included.

    Args:
        config: a resolved configuration, from `preset` or from a run's file.
        version: version of the run's results, see `results_version`; None means the current
            version.
    """
    varying = {"steps", "horizon_env_steps", "stop_at"}
    fields = {
        name: _of_type(value, str(FIELDS[name].type))
        for name, value in config.as_dict().items()
        if name not in WITHOUT_INFLUENCE | varying and value != getattr(Config, name)
    }
    return {
        **fields,
        "method": config.method,
        "env": config.env,
        "seed": config.seed,
        "end": config.end,
        "horizon": config.horizon,
        "preset": results_version(config) if version is None else version,
    }


def _of_type(value: Any, kind: str) -> Any:
    """Convert the numbers in a field's value to floats if the field's type is float."""
    if "float" not in kind:
        return value
    return tuple(map(float, value)) if isinstance(value, tuple) else float(value)


def run_id(config: Config, version: int | None = None) -> str:
    """Return the run's name followed by eight hexadecimal digits of a digest of its `identity`.

    The id does not depend on whether values are given explicitly or by default.
    """
    known = json.dumps(identity(config, version), sort_keys=True)
    return f"{run_name(config)}_{hashlib.sha256(known.encode()).hexdigest()[:8]}"
