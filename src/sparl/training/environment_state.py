"""The state of an environment in the middle of an episode: what can be saved of it, and how."""

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

_ARRAY = "__array__"  # marks an array in the text of an environment's own state
_DTYPES = ("float32", "float64", "int32", "int64", "uint8", "bool")
_OWN_BYTES = 1 << 23


def can_be_resumed(state: EnvironmentState | None) -> TypeGuard[EnvironmentState]:
    """Whether an environment can be resumed from what Environment.state returned."""
    return state is not None and state.get("own") != ""


def wrappers_have_no_state(env: gymnasium.Env[Any, Any]) -> bool:
    """Whether no wrapper has a state, but for one time limit, whose steps Environment counts."""
    others = [wrapper for wrapper in wrappers_of(env) if not is_memoryless(wrapper)]
    return not others or (len(others) == 1 and type(others[0]) is TimeLimit)


def is_mujoco(bare: Any) -> bool:
    """Whether the simulator's state is all there is; who writes another task may add to it."""
    return type(bare).__module__.startswith("gymnasium.envs.mujoco.") and hasattr(bare, "data")


def mujoco_state(bare: Any) -> EnvironmentState:
    """The integration state of Gymnasium's MuJoCo tasks, and positions that rewards depend on."""
    import mujoco

    size = mujoco.mj_stateSize(bare.model, mujoco.mjtState.mjSTATE_INTEGRATION)
    physics = np.empty(size)
    mujoco.mj_getState(bare.model, bare.data, physics, mujoco.mjtState.mjSTATE_INTEGRATION)
    return {"physics": physics, "xpos": bare.data.xpos.copy(), "xipos": bare.data.xipos.copy()}


def restore_mujoco(bare: Any, state: EnvironmentState) -> None:
    """Restore what mujoco_state returned.

    Raises:
        ValueError: a number is larger than MuJoCo allows.
    """
    import mujoco

    if not (np.abs(state["physics"]) <= mujoco.mjMAXVAL).all():
        raise ValueError(f"the simulator's state holds a number beyond {mujoco.mjMAXVAL:g}")
    mujoco.mj_setState(bare.model, bare.data, state["physics"], mujoco.mjtState.mjSTATE_INTEGRATION)
    bare.data.xpos[:] = state["xpos"]
    bare.data.xipos[:] = state["xipos"]


def has_own_state(bare: Any) -> bool:
    """Whether there is a pair get_state() and set_state(state); MuJoCo's is of two arguments."""
    try:
        inspect.signature(bare.get_state).bind()
        inspect.signature(bare.set_state).bind(None)
    except (AttributeError, TypeError, ValueError):
        return False
    return True


def to_text(own: Any) -> str:
    """A state as JSON, "" if it has more than arrays, numbers and texts, in dicts by name."""
    text = json.dumps(own, default=_words_of_array) if _can_be_saved(own) else ""
    return text if len(text) <= _OWN_BYTES else ""


def from_text(text: str) -> Any:
    """The inverse of to_text.

    Raises:
        ValueError, TypeError, KeyError: the text was not written by it.
    """
    return json.loads(text, object_hook=_array)


def _words_of_array(array: NDArray[Any] | np.generic) -> dict[str, Any]:
    return {_ARRAY: array.dtype.name, "shape": array.shape, "values": array.ravel().tolist()}


def _array(words: dict[str, Any]) -> Any:
    if _ARRAY not in words:
        return words
    if words[_ARRAY] not in _DTYPES:
        raise ValueError(f"an array of dtype {str(words[_ARRAY])[:40]}")
    return np.array(words["values"], words[_ARRAY]).reshape(words["shape"])[()]


def _can_be_saved(own: Any) -> bool:
    if isinstance(own, dict):
        return all(isinstance(k, str) and k != _ARRAY and _can_be_saved(v) for k, v in own.items())
    if isinstance(own, np.ndarray | np.generic):
        return own.dtype.name in _DTYPES
    return own is None or isinstance(own, bool | int | float | str)
