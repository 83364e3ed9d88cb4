"""Adapt Gymnasium environments with one-dimensional Box observations and bounded Box actions.

Inside sparl, actions are in [-1, 1] and observations are float32; both are converted here. The
values returned by the environment are checked before an agent learns from them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from gymnasium.spaces import Box
from numpy.random import Generator
from numpy.typing import NDArray

from sparl.configuration import Config
from sparl.errors import EnvironmentFault, SparlError, UsageError
from sparl.training.action_scale import ActionScale, rounded_within
from sparl.training.environment_factory import EnvironmentFactory, close_quietly
from sparl.training.environment_state import (
    EnvironmentState,
    can_be_resumed,
    from_text,
    has_own_state,
    is_mujoco,
    mujoco_state,
    restore_mujoco,
    to_text,
    wrappers_have_no_state,
)
from sparl.training.tasks import make_task, notes_of
from sparl.training.wrappers import reject_running_statistics, time_limits
from sparl.types import Array
from sparl.wording import name_and_text

SUPPORTED = (
    "sparl supports a one-dimensional Box observation and a one-dimensional Box action with a "
    "floating-point dtype and finite bounds low < high"
)

_FLOAT32_MAX = float(np.finfo(np.float32).max)
_LONG = 100_000  # environment steps; for a longer time limit, a note warns of slow evaluations


class Step(NamedTuple):
    """The result of a step; the observation is float32 [n_obs]."""

    observation: Array
    reward: float
    terminated: bool
    truncated: bool


class Environment:
    """A Gymnasium environment with scaled actions, float32 observations and checked return values.

    Args:
        env_id: a Gymnasium id; the -v3 id of HalfCheetah, Hopper, Walker2d, Ant or Humanoid; or the
            factory's env_id.
        max_episode_steps: the time limit [environment steps]; None keeps the environment's own
            limit.
        contact_forces: whether the contact forces in the observations of Ant-v3 and Humanoid-v3 are
            "zero", or "live", that is, computed by the simulator.
        render_mode: Gymnasium's render mode: None, "human" (a window) or "rgb_array" (images).
        factory: creates the environment instead of Gymnasium, if env_id is not a Gymnasium id.

    Attributes:
        n_obs: length of an observation.
        n_act: length of an action.
        notes: remarks on this environment for the user.

    Raises:
        UsageError: if the id is unknown, a space is not supported, there is no time limit, or a
            wrapper keeps running statistics.
        EnvironmentFault: if the environment cannot be constructed.
    """

    def __init__(
        self,
        env_id: str,
        max_episode_steps: int | None = None,
        contact_forces: str = "zero",
        render_mode: str | None = None,
        factory: EnvironmentFactory | None = None,
    ) -> None:
        self.env_id = env_id
        if factory is None:
            self.gym = make_task(env_id, max_episode_steps, contact_forces, render_mode)
        else:
            self.gym = factory()
        self.notes = notes_of(env_id, contact_forces)
        with _faults(lambda what: EnvironmentFault(f"environment {env_id}: {what}"), "its spaces"):
            reject_running_statistics(env_id, self.gym)
            self._read_spaces()
            self._limit = self._time_limit(max_episode_steps)
        self._episode_steps = 0
        self._seed: int | None = None  # the seed of the last seeded reset
        self._episodes = 0  # number of episodes since that reset

    def _read_spaces(self) -> None:
        """Set the attributes that depend on the spaces.

        Raises:
            UsageError: if a space is not supported.
        """
        observation, action = self.gym.observation_space, self.gym.action_space
        if (
            not isinstance(observation, Box)
            or len(observation.shape) != 1
            or not observation.shape[0]
        ):
            raise UsageError(
                f"environment {self.env_id}: the observation space is {observation}; {SUPPORTED}"
            )
        if (
            not isinstance(action, Box)
            or len(action.shape) != 1
            or not action.shape[0]
            or not np.issubdtype(action.dtype, np.floating)
            or not np.isfinite(action.low).all()
            or not np.isfinite(action.high).all()
            or not (action.low < action.high).all()
        ):
            raise UsageError(
                f"environment {self.env_id}: the action space is {action}; {SUPPORTED}"
            )
        self.n_obs, self.n_act = observation.shape[0], action.shape[0]
        self.action_scale = ActionScale(
            rounded_within(action.low, np.inf, np.dtype(np.float64)),
            rounded_within(action.high, -np.inf, np.dtype(np.float64)),
            action.dtype.name,
        )

    def _time_limit(self, max_episode_steps: int | None) -> int:
        """Return the maximum length of an episode; add a note if it makes evaluation slow.

        Raises:
            UsageError: if there is no time limit.
        """
        limits = [max_episode_steps, *time_limits(self.gym)]
        limit = min((each for each in limits if each is not None), default=None)
        if limit is None:
            raise UsageError(
                f"environment {self.env_id} has no time limit; set one with --max-episode-steps N"
            )
        if limit > _LONG:
            self.notes.append(
                f"an episode of {self.env_id} can last {limit:,} steps, which makes evaluation "
                "slow; to limit it, use --max-episode-steps N"
            )
        return limit

    def scale(self, action: Array) -> NDArray[Any]:
        """Convert actions in [-1, 1], [..., n_act], to the environment's units."""
        return self.action_scale(action)

    def reset(self, seed: int | None = None) -> Array:
        """Start an episode, and return its first observation, float32 [n_obs].

        Args:
            seed: the seed of the episode; None continues the environment's random stream.

        Raises:
            EnvironmentFault: if the environment raised an exception or returned an invalid value.
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
                    f"reset returned {_short(returned)} instead of (observation, info)"
                ) from None
            return self._observation(observation, "reset")

    def step(self, action: Array) -> Step:
        """Take an action in [-1, 1], float32 [n_act].

        Raises:
            EnvironmentFault: if the environment raised an exception or returned an invalid value.
        """
        self._episode_steps += 1
        with _faults(lambda what: self._fault(what, action), "step"):
            return self._checked(self.gym.step(self.scale(action)), action)

    def _checked(self, returned: Any, action: Array) -> Step:
        """Check the values returned by the environment's step, and convert them."""
        try:
            observation, reward, terminated, truncated, _ = returned
        except (TypeError, ValueError):
            raise self._fault(
                f"step returned {_short(returned)} instead of (observation, reward, terminated, "
                "truncated, info)",
                action,
            ) from None
        number = _number(reward)
        if not abs(number) <= _FLOAT32_MAX:
            raise self._fault(
                f"step returned the reward {_short(reward)}, which is not a finite float32", action
            )
        for name, value in (("terminated", terminated), ("truncated", truncated)):
            if value is True or value is False:
                continue
            if not isinstance(value, bool | np.bool_ | int | np.integer) or value not in (0, 1):
                raise self._fault(
                    f"step returned {name} = {_short(value)}, which is not a bool", action
                )
        checked = self._observation(observation, "step", action)
        truncated = truncated or self._episode_steps >= self._limit
        return Step(checked, number, bool(terminated), bool(truncated))

    def close(self) -> None:
        """Release the simulator; ignore errors, because no more results are needed."""
        close_quietly(self.gym)

    def _observation(self, observation: Any, where: str, action: Array | None = None) -> Array:
        try:
            array = np.asarray(observation)
        except Exception as error:
            raise self._fault(
                f"{where} returned an observation that is not an array ({name_and_text(error)})",
                action,
            ) from None
        if array.shape != (self.n_obs,) or array.dtype.kind not in "fiub":
            raise self._fault(
                f"{where} returned an observation of shape {array.shape} and dtype {array.dtype} "
                f"instead of {(self.n_obs,)} and a real dtype",
                action,
            )
        with np.errstate(over="ignore", invalid="ignore"):
            copied = np.array(array, np.float32)
        finite = np.isfinite(copied)
        if not finite.all():
            bad = int(np.flatnonzero(~finite)[0])
            raise self._fault(
                f"{where} returned observation[{bad}] = {array[bad]}, which is not a finite "
                "float32",
                action,
            )
        return copied

    def _fault(self, what: str, action: Array | None = None) -> EnvironmentFault:
        taken = "" if action is None else f", action {self.scale(action).tolist()}"
        return EnvironmentFault(
            f"environment {self.env_id}: {what}; at step {self._episode_steps} of episode "
            f"{self._episodes} after reset(seed={self._seed}){taken}"
        )

    def state(self) -> EnvironmentState | None:
        """Return the state that the next steps depend on, or None if it is not available.

        The state consists of the random stream, the counters and the simulator's state, which is
        available for Gymnasium's MuJoCo tasks. For other tasks, the result of the environment's
        get_state method replaces the simulator's state; if `to_text` cannot save this result, ""
        replaces it.

        Raises:
            EnvironmentFault: if get_state raised an exception.
        """
        bare: Any = self.gym.unwrapped
        if not wrappers_have_no_state(self.gym) or not isinstance(bare.np_random, Generator):
            return None
        state: EnvironmentState = {
            "episode_steps": self._episode_steps, "episodes": self._episodes, "seed": self._seed,
            "np_random": bare.np_random.bit_generator.state,
        }  # fmt: skip
        if is_mujoco(bare):
            return state | mujoco_state(bare)
        if has_own_state(bare):
            with _faults(self._fault, "get_state"):
                return state | {"own": to_text(bare.get_state())}
        return None

    def restore(self, state: EnvironmentState | None) -> bool:
        """Restore a state; the environment must have been reset once.

        Returns:
            Whether the state was restored. If not, the episode that the reset started continues.

        Raises:
            EnvironmentFault: if set_state raised an exception.
            KeyError, TypeError, ValueError: if the state is malformed.
        """
        if not can_be_resumed(state):
            return False
        bare: Any = self.gym.unwrapped
        self._episode_steps, self._episodes = state["episode_steps"], state["episodes"]
        self._seed = state["seed"]
        bare.np_random.bit_generator.state = state["np_random"]
        if "own" in state:
            own = from_text(state["own"])
            with _faults(self._fault, "set_state"):
                bare.set_state(own)
        else:
            restore_mujoco(bare, state)
        return True


def make_environment(
    config: Config, render_mode: str | None = None, *, factory: EnvironmentFactory | None = None
) -> Environment:
    """Construct the environment of a configuration; see Environment."""
    return Environment(
        config.env, config.max_episode_steps, config.contact_forces, render_mode, factory
    )


@contextmanager
def _faults(fault: Callable[[str], EnvironmentFault], what: str) -> Iterator[None]:
    """Convert exceptions that the environment raises in the block.

    Raises:
        SparlError, KeyboardInterrupt: if the block raises one of these, which are not converted.
        EnvironmentFault: if the block raises another exception, even SystemExit or GeneratorExit.
    """
    try:
        yield
    except (SparlError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise fault(f"{what} raised {name_and_text(error)}") from error


def _number(reward: Any) -> float:
    """Convert a reward to a float, or return NaN if it is not a number."""
    if isinstance(reward, np.ndarray | np.generic) and reward.size == 1:
        if np.ma.is_masked(reward):
            return math.nan
        reward = reward.item()  # NumPy deprecates float() of an array that is not 0-dimensional
    try:
        return float(reward)
    except (TypeError, ValueError, OverflowError):  # OverflowError: an int that is too large
        return math.nan


def _short(value: object) -> str:
    try:
        text = " ".join(repr(value).split())
    except Exception:
        text = f"an object of type {type(value).__name__}"  # its repr() raised an exception
    return text if len(text) <= 60 else f"{text[:60]}..."
