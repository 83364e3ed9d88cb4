"""Environment: any Gymnasium task with a flat Box observation and a bounded Box action.

Inside sparl actions are in [-1, 1] and observations float32; both are converted here. What an
environment hands back is checked before anything learns from it.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeGuard

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from sparl.configuration import Config
from sparl.errors import EnvironmentFault, SparlError, UsageError
from sparl.networks.mlp import Array
from sparl.training.meanwhile import Meanwhile, Work
from sparl.training.tasks import make_task, notes_of
from sparl.training.wrappers import is_memoryless, reject_running_statistics, wrappers_of
from sparl.wording import name_and_text

State = dict[str, Any]

SUPPORTED = (
    "supported: a flat Box observation (one axis) and a bounded Box action (one axis, finite "
    "low < high)"
)

_ARRAY = "__array__"  # marks an array in the text of an environment's own state
_DTYPES = ("float32", "float64", "int32", "int64", "uint8", "bool")
_OWN_BYTES = 1 << 23
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_LONG = 100_000  # steps of an episode that evaluation may wait for without a word


class Step(NamedTuple):
    """What a step returns: observation float32 [n_obs], and whether and how the episode ended."""

    observation: Array
    reward: float
    terminated: bool
    truncated: bool


class Environment:
    """A Gymnasium environment with scaled actions, float32 observations and checked returns.

    Args:
        env_id: Gymnasium id, or one of the five MuJoCo tasks' -v3 ids.
        max_episode_steps: time limit; None: the environment's own.
        contact_forces: "zero" or "live", for Ant-v3 and Humanoid-v3.
        render_mode: Gymnasium's: None, "human" (a window) or "rgb_array" (pictures).

    Attributes:
        n_obs: length of an observation.
        n_act: length of an action.
        notes: what the user should be told of this environment.

    Raises:
        UsageError: unknown id, unsupported spaces, no time limit, or running statistics.
        EnvironmentFault: the environment cannot be made.
    """

    def __init__(
        self,
        env_id: str,
        max_episode_steps: int | None = None,
        contact_forces: str = "zero",
        render_mode: str | None = None,
    ) -> None:
        self.env_id = env_id
        self.gym = make_task(env_id, max_episode_steps, contact_forces, render_mode)
        self.notes = notes_of(env_id, contact_forces)
        with _faults(lambda what: EnvironmentFault(f"environment {env_id}: {what}"), "its spaces"):
            self._read_spaces(max_episode_steps)
        mujoco = _is_mujoco(self.gym.unwrapped)
        self._meanwhile = Meanwhile(self.gym.unwrapped if mujoco else None)
        self._zeros = np.zeros(self.n_obs, np.float32)
        self._episode_steps = 0
        self._seed: int | None = None  # of the last reset that had one
        self._episodes = 0  # since then

    def _read_spaces(self, max_episode_steps: int | None) -> None:
        """Set what depends on the spaces and the time limit.

        Raises:
            UsageError: unsupported spaces, no time limit, or running statistics.
        """
        env_id = self.env_id
        reject_running_statistics(env_id, self.gym)
        observation, action = self.gym.observation_space, self.gym.action_space
        if (
            not isinstance(observation, Box)
            or len(observation.shape) != 1
            or not observation.shape[0]
        ):
            raise UsageError(f"environment {env_id}: observation is {observation}; {SUPPORTED}")
        if (
            not isinstance(action, Box)
            or len(action.shape) != 1
            or not action.shape[0]
            or not np.issubdtype(action.dtype, np.floating)
            or not np.isfinite(action.low).all()
            or not np.isfinite(action.high).all()
            or not (action.low < action.high).all()
        ):
            raise UsageError(f"environment {env_id}: action is {action}; {SUPPORTED}")
        limit = max_episode_steps
        if limit is None and self.gym.spec is not None:
            limit = self.gym.spec.max_episode_steps
        if limit is None:
            raise UsageError(
                f"environment {env_id} has no time limit; give one with --max-episode-steps N"
            )
        if limit > _LONG:
            self.notes.append(
                f"an episode of {env_id} may last {limit:,} steps, and evaluation waits for its "
                "end; --max-episode-steps N makes it shorter"
            )
        self._limit = limit
        self.n_obs, self.n_act = observation.shape[0], action.shape[0]
        self.action_scale = ActionScale(
            _rounded_within(action.low, np.inf, np.dtype(np.float64)),
            _rounded_within(action.high, -np.inf, np.dtype(np.float64)),
            action.dtype.name,
        )

    def scale(self, action: Array) -> NDArray[Any]:
        """An action of [-1, 1], [..., n_act], in the environment's own units."""
        return self.action_scale(action)

    def reset(self, seed: int | None = None) -> Array:
        """Start an episode; with a seed, always the same one.

        Raises:
            EnvironmentFault: it raised, or returned what it must not.
        """
        self._episode_steps = 0
        self._episodes += 1
        if seed is not None:
            self._seed, self._episodes = seed, 1
        with _faults(self._fault, "reset"):
            returned = self.gym.reset(seed=seed)
            try:
                observation, _ = returned
            except (TypeError, ValueError):
                raise self._fault(
                    f"reset returned {_short(returned)}, must be (observation, info)"
                ) from None
            return self._observation(observation, "reset")

    def step(self, action: Array, meanwhile: Work | None = None) -> Step:
        """Take an action of [-1, 1], float32 [n_act].

        Args:
            action: the action.
            meanwhile: called once, at most once if there is a fault: beside a simulator that can
                go on alone, else when the step is taken. What it raises is raised at the end.

        Raises:
            EnvironmentFault: it raised, or returned what it must not.
        """
        if meanwhile is None:
            return self._step(action)
        self._meanwhile.begin(meanwhile)
        try:
            step = self._step(action)
        except BaseException:
            self._meanwhile.drop()
            raise
        self._meanwhile.end()
        return step

    def _step(self, action: Array) -> Step:
        self._episode_steps += 1
        try:  # _faults() would take as long as a step of a small environment
            return self._checked(self.gym.step(self.scale(action)), action)
        except (EnvironmentFault, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise self._fault(f"step raised {name_and_text(error)}", action) from error

    def _checked(self, returned: Any, action: Array) -> Step:
        """The values returned by the environment's step, if they are what they must be."""
        try:
            observation, reward, terminated, truncated, _ = returned
        except (TypeError, ValueError):
            raise self._fault(
                f"step returned {_short(returned)}, must be (observation, reward, terminated, "
                "truncated, info)",
                action,
            ) from None
        number = _number(reward)
        if not abs(number) <= _FLOAT32_MAX:
            raise self._fault(
                f"step returned the reward {_short(reward)}, must be a finite float32", action
            )
        for name, value in (("terminated", terminated), ("truncated", truncated)):
            if value is True or value is False:
                continue
            if not isinstance(value, bool | np.bool_ | int | np.integer) or value not in (0, 1):
                raise self._fault(f"step returned {name} {_short(value)}, must be a bool", action)
        checked = self._observation(observation, "step", action)
        if self._episode_steps >= self._limit and not (terminated or truncated):
            raise self._fault(f"the episode does not end at its limit of {self._limit:,}", action)
        return Step(checked, number, bool(terminated), bool(truncated))

    def close(self) -> None:
        """Release the simulator; its complaints would come too late to matter."""
        self._meanwhile.close()
        try:
            self.gym.close()
        except KeyboardInterrupt:
            raise
        except BaseException:  # SystemExit, for example
            pass

    def _observation(self, observation: Any, where: str, action: Array | None = None) -> Array:
        try:
            array = np.asarray(observation)
        except Exception as error:
            raise self._fault(
                f"{where} returned an observation that is no array ({name_and_text(error)})", action
            ) from None
        if array.shape != (self.n_obs,) or array.dtype.kind not in "fiub":
            raise self._fault(
                f"{where} returned an observation of shape {array.shape} and dtype {array.dtype}, "
                f"must be {(self.n_obs,)} and real numbers",
                action,
            )
        with np.errstate(over="ignore", invalid="ignore"):
            copied = np.array(array, np.float32)
            finite = math.isfinite(copied.dot(self._zeros))  # 0 x infinity and 0 x NaN are NaN
        if not finite:
            bad = int(np.flatnonzero(~np.isfinite(copied))[0])
            raise self._fault(
                f"{where} returned observation[{bad}] = {array[bad]}, must be a finite float32",
                action,
            )
        return copied

    def _fault(self, what: str, action: Array | None = None) -> EnvironmentFault:
        taken = "" if action is None else f", action {self.scale(action).tolist()}"
        return EnvironmentFault(
            f"environment {self.env_id}: {what}; at step {self._episode_steps} of episode "
            f"{self._episodes} after reset(seed={self._seed}){taken}"
        )

    def state(self) -> State | None:
        """Everything the next steps depend on, or None where the environment cannot tell.

        Gymnasium's MuJoCo tasks: the integration state, and body positions that rewards are read
        from. Others: what their get_state returns, "" if it is not made of arrays, numbers and
        texts. Both with the random stream and the elapsed steps.

        Raises:
            EnvironmentFault: get_state raised.
        """
        bare: Any = self.gym.unwrapped
        limits = _time_limits(self.gym)
        if limits is None or not isinstance(bare.np_random, np.random.Generator):
            return None
        state: State = {"elapsed": limits[0]._elapsed_steps or 0 if limits else 0}
        state |= {"episode_steps": self._episode_steps, "episodes": self._episodes}
        state["seed"] = self._seed
        state["np_random"] = bare.np_random.bit_generator.state
        if _is_mujoco(bare):
            import mujoco

            size = mujoco.mj_stateSize(bare.model, mujoco.mjtState.mjSTATE_INTEGRATION)
            physics = np.empty(size)
            mujoco.mj_getState(bare.model, bare.data, physics, mujoco.mjtState.mjSTATE_INTEGRATION)
            state |= {"physics": physics, "xpos": bare.data.xpos.copy()}
            state["xipos"] = bare.data.xipos.copy()
            return state
        if _has_state_of_its_own(bare):
            with _faults(self._fault, "get_state"):
                state["own"] = _as_text(bare.get_state())
            return state
        return None

    def restore(self, state: State | None) -> bool:
        """Continue, in an environment that was reset once, from a state.

        Returns:
            Whether it continues; False: the state tells nothing, and the new episode begins.

        Raises:
            EnvironmentFault: set_state raised.
        """
        if not can_go_on(state):
            return False
        bare: Any = self.gym.unwrapped
        for limit in _time_limits(self.gym) or ():
            limit._elapsed_steps = state["elapsed"]
        self._episode_steps, self._episodes = state["episode_steps"], state["episodes"]
        self._seed = state["seed"]
        bare.np_random.bit_generator.state = state["np_random"]
        if "own" in state:
            own = json.loads(state["own"], object_hook=_array)
            with _faults(self._fault, "set_state"):
                bare.set_state(own)
            return True
        import mujoco

        if not (np.abs(state["physics"]) <= mujoco.mjMAXVAL).all():
            raise ValueError(f"the simulator's state holds a number beyond {mujoco.mjMAXVAL:g}")
        mujoco.mj_setState(
            bare.model, bare.data, state["physics"], mujoco.mjtState.mjSTATE_INTEGRATION
        )
        bare.data.xpos[:] = state["xpos"]
        bare.data.xipos[:] = state["xipos"]
        return True


class ActionScale:
    """From [-1, 1] to [low, high], entry by entry; rounded to a dtype, and never beyond either.

    Args:
        low: float64 [n_act].
        high: float64 [n_act].
        dtype: of the actions that it gives, a real one.
    """

    def __init__(
        self, low: NDArray[np.float64], high: NDArray[np.float64], dtype: str = "float32"
    ) -> None:
        self.low, self.high, self.dtype = low, high, np.dtype(dtype)
        self.rounded_low = _rounded_within(low, np.inf, self.dtype)
        self.rounded_high = _rounded_within(high, -np.inf, self.dtype)
        self._middle, self._reach = low / 2 + high / 2, high / 2 - low / 2
        self._same = bool((low == -1).all() and (high == 1).all())

    def __call__(self, action: Array) -> NDArray[Any]:
        """Actions in the environment's units, [..., n_act] of the dtype."""
        if self._same:
            return action.astype(self.dtype)
        scaled = (self._middle + self._reach * action).astype(self.dtype)
        bounded: NDArray[Any] = np.minimum(np.maximum(scaled, self.rounded_low), self.rounded_high)
        return bounded


def _rounded_within(bound: NDArray[Any], inside: float, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Bounds rounded to a dtype, towards the inside where that is not exact."""
    with np.errstate(over="ignore"):
        rounded = bound.astype(dtype)
    beyond = rounded < bound if inside > 0 else rounded > bound
    within: NDArray[Any] = np.where(beyond, np.nextafter(rounded, dtype.type(inside)), rounded)
    return within


def can_go_on(state: State | None) -> TypeGuard[State]:
    """Whether an environment goes on from what Environment.state gave."""
    return state is not None and state.get("own") != ""


def make_environment(config: Config, render_mode: str | None = None) -> Environment:
    """The environment of a configuration."""
    return Environment(config.env, config.max_episode_steps, config.contact_forces, render_mode)


def _time_limits(env: gymnasium.Env[Any, Any]) -> list[Any] | None:
    """The TimeLimit wrapper, if there is one; None where another wrapper may keep a state."""
    limits: list[Any] = []
    for wrapper in wrappers_of(env):
        if type(wrapper) is gymnasium.wrappers.TimeLimit and not limits:
            limits.append(wrapper)
        elif not is_memoryless(wrapper):
            return None
    return limits


def _is_mujoco(bare: Any) -> bool:
    """Whether the simulator's state is all there is; who writes another task may add to it."""
    return type(bare).__module__.startswith("gymnasium.envs.mujoco.") and hasattr(bare, "data")


def _has_state_of_its_own(bare: Any) -> bool:
    """Whether there is a pair get_state() and set_state(state); MuJoCo's is of two arguments."""
    try:
        inspect.signature(bare.get_state).bind()
        inspect.signature(bare.set_state).bind(None)
    except (AttributeError, TypeError, ValueError):
        return False
    return True


def _as_text(own: Any) -> str:
    """A state as JSON, "" if it has more than arrays, numbers and texts, in dicts by name."""
    text = json.dumps(own, default=_words_of_array) if _can_be_saved(own) else ""
    return text if len(text) <= _OWN_BYTES else ""


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


@contextmanager
def _faults(fault: Callable[[str], EnvironmentFault], what: str) -> Iterator[None]:
    """Report whatever the environment's own code raises in the block, but for Ctrl-C.

    Raises:
        EnvironmentFault: instead of any other exception, SystemExit and GeneratorExit included.
    """
    try:
        yield
    except (SparlError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise fault(f"{what} raised {name_and_text(error)}") from error


def _number(reward: Any) -> float:
    """A reward as a float; NaN if float() does not accept it."""
    if isinstance(reward, np.ndarray | np.generic) and reward.size == 1:
        if np.ma.is_masked(reward):
            return math.nan
        reward = reward.item()  # NumPy deprecates float() of an array with axes
    try:
        return float(reward)
    except (TypeError, ValueError, OverflowError):  # OverflowError: an int that is too large
        return math.nan


def _short(value: object) -> str:
    try:
        text = " ".join(repr(value).split())
    except Exception:
        text = f"an object of type {type(value).__name__}"  # whose repr() raises
    return text if len(text) <= 60 else f"{text[:60]}..."
