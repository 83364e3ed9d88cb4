"""Names from earlier versions that files and random streams still use.

Old names in a file are translated when the file is read. Random streams keep their old names,
because a stream's name determines its random numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Keys of DynamicSparsity.state_dict, and of `sparse_topology` in a Stable-Baselines3 model.
TOPOLOGY_STATE = {"evolutions": "topology_updates"}

# Name of an array in checkpoints of format 2; see `sparl.training.checkpoint_format_2`.
TOPOLOGY_ROWS = "evolutions"

# Streams are seeded by their names, so the streams of topology updates keep their old names: "actor
# evolution" and "critics evolution".
TOPOLOGY_STREAM = "evolution"


# Names in a checkpoint's environment state; earlier versions wrote either of the two names.
_ENVIRONMENT = {"elapsed": "episode_steps"}


def current(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return values from a file with the current names as keys.

    Args:
        values: the values, by the names in the file, which may be old or current.
        names: a table of this module, from old to current names.
    """
    return {names.get(name, name): value for name, value in values.items()}


def current_state(state: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's state in which current names have replaced old ones."""
    environment = state.get("environment")
    if not isinstance(environment, dict):
        return state
    return {**state, "environment": current(environment, _ENVIRONMENT)}
