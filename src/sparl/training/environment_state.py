"""Save and restore the state of an environment in the middle of an episode, if possible."""

from __future__ import annotations

import inspect
import json
from typing import Any, TypeGuard

import gymnasium
import numpy as np
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray

from sparl.training.wrappers import is_memoryless, wrappers_of

EnvironmentState = dict[str, Any]

_ARRAY = "__array__"  # marks an array in the JSON text of an environment's state
_DTYPES = ("float32", "float64", "int32", "int64", "uint8", "bool")
_OWN_BYTES = 1 << 23  # maximum size of an environment's state as text


def can_be_resumed(state: EnvironmentState | None) -> TypeGuard[EnvironmentState]:
    """Return whether an environment can continue from a state that Environment.state returned."""
    return state is not None and state.get("own") != ""


def wrappers_have_no_state(env: gymnasium.Env[Any, Any]) -> bool:
    """Return whether all wrappers are stateless, except at most one TimeLimit.

    The state of a TimeLimit need not be saved, because Environment also enforces the limit.
    """
    others = [wrapper for wrapper in wrappers_of(env) if not is_memoryless(wrapper)]
    return not others or (len(others) == 1 and type(others[0]) is TimeLimit)


def is_mujoco(bare: Any) -> bool:
    """Return whether this is one of Gymnasium's MuJoCo tasks, whose simulator state is complete."""
    return type(bare).__module__.startswith("gymnasium.envs.mujoco.") and hasattr(bare, "data")


def mujoco_state(bare: Any) -> EnvironmentState:
    """Return the integration state of a MuJoCo task, and the positions that rewards depend on."""
    import mujoco

    size = mujoco.mj_stateSize(bare.model, mujoco.mjtState.mjSTATE_INTEGRATION)
    physics = np.empty(size)
    mujoco.mj_getState(bare.model, bare.data, physics, mujoco.mjtState.mjSTATE_INTEGRATION)
    return {"physics": physics, "xpos": bare.data.xpos.copy(), "xipos": bare.data.xipos.copy()}


def restore_mujoco(bare: Any, state: EnvironmentState) -> None:
    """Restore a state that mujoco_state returned.

    Raises:
        ValueError: if a number is larger than MuJoCo allows.
    """
    import mujoco

    if not (np.abs(state["physics"]) <= mujoco.mjMAXVAL).all():
        raise ValueError(
            f"the simulator's state contains a number whose magnitude exceeds {mujoco.mjMAXVAL:g}"
        )
    mujoco.mj_setState(bare.model, bare.data, state["physics"], mujoco.mjtState.mjSTATE_INTEGRATION)
    bare.data.xpos[:] = state["xpos"]
    bare.data.xipos[:] = state["xipos"]


def has_own_state(bare: Any) -> bool:
    """Return whether an environment has the methods get_state() and set_state(state)."""
    try:
        inspect.signature(bare.get_state).bind()
        inspect.signature(bare.set_state).bind(None)
    except (AttributeError, TypeError, ValueError):
        return False
    return True


def to_text(own: Any) -> str:
    """Convert a state to JSON; return "" if it is too large or cannot be saved.

    Numbers, strings, bools, None, arrays of the dtypes in _DTYPES, and dicts of these with string
    keys can be saved.
    """
    text = json.dumps(own, default=_encoded) if _can_be_saved(own) else ""
    return text if len(text) <= _OWN_BYTES else ""


def from_text(text: str) -> Any:
    """Convert the text that to_text returned back to a state.

    Raises:
        ValueError, TypeError, KeyError: if the text is malformed.
    """
    return json.loads(text, object_hook=_decoded)


def _encoded(array: NDArray[Any] | np.generic) -> dict[str, Any]:
    return {_ARRAY: array.dtype.name, "shape": array.shape, "values": array.ravel().tolist()}


def _decoded(encoded: dict[str, Any]) -> Any:
    if _ARRAY not in encoded:
        return encoded
    if encoded[_ARRAY] not in _DTYPES:
        raise ValueError(
            f"the dtype of an array is {str(encoded[_ARRAY])[:40]} but must be one of "
            f"{', '.join(_DTYPES)}"
        )
    return np.array(encoded["values"], encoded[_ARRAY]).reshape(encoded["shape"])[()]


def _can_be_saved(own: Any) -> bool:
    if isinstance(own, dict):
        return all(isinstance(k, str) and k != _ARRAY and _can_be_saved(v) for k, v in own.items())
    if isinstance(own, np.ndarray | np.generic):
        return own.dtype.name in _DTYPES
    return own is None or isinstance(own, bool | int | float | str)
