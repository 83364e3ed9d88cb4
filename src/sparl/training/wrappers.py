"""Distinguish memoryless wrappers of environments from wrappers that remember episodes.

Training and evaluation use separate copies of an environment. If a wrapper remembers something
about earlier episodes, such as running statistics, its memory differs between the copies, and a
policy would not get the same observations and rewards in evaluation as in training. Such wrappers
are rejected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium import wrappers

from sparl.errors import EnvironmentFault, UsageError
from sparl.training.tasks import ZeroContactForces

if TYPE_CHECKING:
    from sparl.training.environment import Environment

COMPARED_STEPS = 10  # maximum number of steps of an episode that are compared
STEPS_BETWEEN = 1_000  # maximum length of the episode between the two that are compared

# Types are compared exactly, because a subclass may add state.
_MEMORYLESS = (
    wrappers.ClipReward,
    wrappers.DtypeObservation,
    wrappers.FlattenObservation,
    wrappers.OrderEnforcing,
    wrappers.PassiveEnvChecker,
    wrappers.RescaleAction,
    wrappers.RescaleObservation,
    ZeroContactForces,
)
_RUNNING_STATISTICS = (wrappers.NormalizeObservation, wrappers.NormalizeReward)

AnyWrapper = gymnasium.Wrapper[Any, Any, Any, Any]


def wrappers_of(env: gymnasium.Env[Any, Any]) -> Iterator[AnyWrapper]:
    """Iterate over the wrappers of an environment, from the outermost to the innermost."""
    while isinstance(env, gymnasium.Wrapper):
        yield env
        env = env.env


def time_limits(env: gymnasium.Env[Any, Any]) -> list[int | None]:
    """Return the time limits of an environment's spec and wrappers [environment steps]."""
    of_spec = [env.spec.max_episode_steps] if env.spec is not None else []
    return of_spec + [
        getattr(wrapper, "_max_episode_steps", None)  # Gymnasium has no public name for it
        for wrapper in wrappers_of(env)
        if isinstance(wrapper, wrappers.TimeLimit)
    ]


def is_memoryless(wrapper: AnyWrapper) -> bool:
    """Return whether a wrapper is known to have no state."""
    return type(wrapper) in _MEMORYLESS


def reject_running_statistics(env_id: str, env: gymnasium.Env[Any, Any]) -> None:
    """Reject Gymnasium's wrappers that normalise with running statistics, unless these are fixed.

    Raises:
        UsageError: if the environment has such a wrapper.
    """
    for wrapper in wrappers_of(env):
        if isinstance(wrapper, _RUNNING_STATISTICS) and wrapper.update_running_mean:
            raise _rejection(env_id, [wrapper])


def reject_lasting_state(make: Callable[[], Environment]) -> None:
    """Reject wrappers that make an episode depend on the episodes before it.

    The same actions are taken after the same `reset(seed)`, first in a new copy of the environment
    and then again after another episode. Differences are ignored if the wrapped environment itself
    is the first to return different values, or if new copies differ because a wrapper is random.

    Args:
        make: a function that creates a copy of the environment.

    Raises:
        UsageError: if the environment has such a wrapper.
    """
    with closing(make()) as environment:
        suspects = [
            wrapper
            for wrapper in wrappers_of(environment.gym)
            if not is_memoryless(wrapper) and type(wrapper) is not wrappers.TimeLimit
        ]
        if not suspects:
            return
        try:
            player = _Player(environment)
            first = player.play(seed=0, steps=COMPARED_STEPS)
            player.play(seed=1, steps=STEPS_BETWEEN)
            again = player.play(seed=0, steps=COMPARED_STEPS)
            if not _wrappers_differ(first, again):
                return
            with closing(make()) as fresh:
                if _Player(fresh).play(seed=0, steps=COMPARED_STEPS) != first:
                    return
        except EnvironmentFault:  # training will encounter the same fault and report it
            return
        raise _rejection(environment.env_id, suspects)


def _rejection(env_id: str, suspects: list[AnyWrapper]) -> UsageError:
    names = " or ".join(type(wrapper).__name__ for wrapper in suspects)
    return UsageError(
        f"environment {env_id}: the wrapper {names} keeps state between episodes, so evaluation "
        "would not see the same values as training; normalise with constants inside the "
        "environment, or train without the wrapper"
    )


class _Player:
    """Takes random actions, and records the arguments and results of calls to the environment.

    An event is a pair: whether it is a result of the wrapped environment, and the values.
    """

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._events: list[tuple[bool, Any]] = []
        bare: Any = environment.gym.unwrapped
        bare.reset = self._recorded(bare.reset, slice(1))
        bare.step = self._recorded(bare.step, slice(4))

    def play(self, seed: int, steps: int) -> list[tuple[bool, Any]]:
        """Play the first `steps` steps of an episode and return their events."""
        self._events = []
        rng = np.random.default_rng(seed)
        self._events.append((False, _frozen(self._environment.reset(seed=seed))))
        for _ in range(steps):
            action = rng.uniform(-1, 1, self._environment.n_act).astype(np.float32)
            step = self._environment.step(action)
            self._events.append((False, _frozen(list(step))))
            if step.terminated or step.truncated:
                break
        return self._events

    def _recorded(self, call: Callable[..., Any], compared: slice) -> Callable[..., Any]:
        """Wrap a function to record its arguments and the slice `compared` of its results."""

        def recorded(*args: Any, **kwargs: Any) -> Any:
            self._events.append((False, _frozen([*args, kwargs])))
            returned = call(*args, **kwargs)
            self._events.append((True, _frozen(list(returned[compared]))))
            return returned

        return recorded


def _frozen(value: Any) -> Any:
    """Return a copy of a value that compares equal only to bit-identical values."""
    if isinstance(value, dict):
        return {key: _frozen(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_frozen(part) for part in value]
    array = np.asarray(value)
    return repr(value) if array.dtype.hasobject else (array.dtype.str, array.shape, array.tobytes())


def _wrappers_differ(first: list[tuple[bool, Any]], again: list[tuple[bool, Any]]) -> bool:
    """Return whether two records differ and the wrappers caused the first difference."""
    for before, now in zip_longest(first, again):
        if before != now:
            return not (before and now and before[0] and now[0])
    return False
