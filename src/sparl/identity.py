"""Which run a configuration describes: its name, its identity, and the digest of that."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from sparl.agents import field_names, settings_of
from sparl.configuration import FIELDS, WITHOUT_INFLUENCE, Config
from sparl.labels import contradictions, value_text


def run_name(config: Config) -> str:
    """METHOD_ENV_seedN, one path component; of a contradicted method with those fields."""
    method = config.method
    for name in contradictions(config):
        method += f"-{name}-{value_text(getattr(config, name))}"
    return f"{method}_{config.env.replace('/', '-')}_seed{config.seed}"


def results_version(config: Config) -> int:
    """Version of what a resolved configuration computes; two runs of different ones differ.

    1 in sparl 0.1, whose runs do not record it. Raised to 2 in 0.2 for every configuration whose
    results changed then: topology updates, narrow networks, the learned temperature, and the delay
    of n-step targets.
    """
    delayed = config.n_step > 1 and config.n_step_delay_updates > 0
    learned = config.learn_alpha and "learn_alpha" in field_names(settings_of(config))
    scheduled = config.rewire_every_updates > 0 and config.rewire != "none"
    return 2 if scheduled or config.narrow or learned or delayed else 1


def identity(config: Config, version: int | None = None) -> dict[str, Any]:
    """What two configurations must have in common for their runs to be the same run.

    The resolved fields that differ from Config's defaults, and the version of what they compute:
    so a field that is unknown to an old file takes its default. Where a run stops and the horizon
    of its schedules count, however they were given; fields without influence on results do not.

    Args:
        config: resolved, as `preset` or a run's file gives it.
        version: of the run, see `results_version`; None: today's.
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
    """The value with its numbers as floats where the field's type is one of floats."""
    if "float" not in kind:
        return value
    return tuple(map(float, value)) if isinstance(value, tuple) else float(value)


def run_id(config: Config, version: int | None = None) -> str:
    """METHOD_ENV_seedN and eight digits of a digest of the run's identity; see `identity`.

    The id is the same however the run is described: explicitly or by defaults.
    """
    known = json.dumps(identity(config, version), sort_keys=True)
    return f"{run_name(config)}_{hashlib.sha256(known.encode()).hexdigest()[:8]}"
