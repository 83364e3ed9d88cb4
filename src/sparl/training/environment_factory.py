"""Create the environments of a run from a class, a function or an object that the user passes."""

from __future__ import annotations

import copy
import re
import weakref
from collections.abc import Callable
from typing import Any

import gymnasium

from sparl.errors import EnvironmentFault, SparlError, UsageError
from sparl.training.interrupt import handlers_kept, interrupt_held
from sparl.user_modules import WITHOUT_ID
from sparl.wording import name_and_text, shown

AnyEnv = gymnasium.Env[Any, Any]
_LONGEST_NAME = 100


class EnvironmentFactory:
    """Creates the environments of a run, which trains in one and evaluates in up to ten others.

    Args:
        source: a class or a function that returns a new environment each time it is called without
            arguments, or an environment, which is deep-copied each time.

    Attributes:
        env_id: the value of the field `env` in the configuration: the id in the environment's spec,
            or the name of the environment's class, followed by "()".

    Raises:
        UsageError: if the source is none of these, or does not create new environments.
        EnvironmentFault: if the source raises an exception.
    """

    def __init__(self, source: AnyEnv | Callable[[], AnyEnv]) -> None:
        if isinstance(source, gymnasium.Env):
            self._make: Callable[[], Any] = lambda: copy.deepcopy(source)
            self._action, self._remedy = "be copied", "; pass a function that creates it"
        elif callable(source):
            self._make = source
            self._action, self._remedy = "be created", ""
        else:
            raise UsageError(
                f"env is {shown(source)} but must be a gymnasium.Env, or a class or function that "
                "creates one (sparl.train also accepts an id)"
            )
        self._made: list[weakref.ref[AnyEnv]] = []
        self.env_id = "given in Python"  # in the messages about the first environment
        made = self()
        # A copy of one of Gymnasium's MuJoCo tasks has no spec, so the original is named.
        self.env_id = _name(source if isinstance(source, gymnasium.Env) else made) + WITHOUT_ID
        close_quietly(made)

    def __call__(self) -> AnyEnv:
        """Create an environment.

        Raises:
            UsageError: if the source does not return a new gymnasium.Env.
            EnvironmentFault: if the source raises an exception.
        """
        with interrupt_held(), handlers_kept():
            try:
                made = self._make()
            except (SparlError, KeyboardInterrupt):
                raise
            except BaseException as error:  # SystemExit, for example
                raise EnvironmentFault(
                    f"environment {self.env_id} cannot {self._action} ({name_and_text(error)})"
                    + self._remedy
                ) from error
        if not isinstance(made, gymnasium.Env):
            raise UsageError(f"env returned {shown(made)} but must return a gymnasium.Env")
        if any(other() is made.unwrapped for other in self._made):
            raise UsageError(
                f"env returned the same {type(made.unwrapped).__name__} twice but must return a "
                "new environment each time"
            )
        self._made.append(weakref.ref(made.unwrapped))
        return made


def _name(env: AnyEnv) -> str:
    """Return the id in an environment's spec or the name of its class, restricted to ASCII."""
    spec = env.unwrapped.spec
    name = spec.id if spec is not None else type(env.unwrapped).__name__
    allowed = re.sub(r"[^\w./-]", "_", name, flags=re.ASCII).lstrip("_.-/")
    return allowed[:_LONGEST_NAME] or "Environment"


def close_quietly(env: AnyEnv) -> None:
    """Close an environment; ignore errors, because no more results are needed."""
    try:
        env.close()
    except KeyboardInterrupt:
        raise
    except BaseException:  # SystemExit, for example
        pass
