"""Create Gymnasium environments from their ids, including the ids that the papers use."""

from __future__ import annotations

import difflib
import functools
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from sparl.errors import EnvironmentFault, UnknownEnvironment, UsageError
from sparl.training.interrupt import handlers_kept, interrupt_held
from sparl.user_modules import WITHOUT_ID, is_imported, named_module
from sparl.wording import name_and_text, text_of

# The papers' -v3 ids need the retired mujoco-py, so they are mapped to the -v4 tasks, which have
# the same observations, rewards and terminations, and bodies of the same shapes.
_V3 = {
    f"{task}-v3": f"{task}-v4" for task in ("HalfCheetah", "Hopper", "Walker2d", "Ant", "Humanoid")
}
# MuJoCo 2.1.1 made the masses of capsules exact; before, they were those of cylinders that are too
# small. The model of HalfCheetah sets the total mass.
_MASSES = {
    "HalfCheetah-v3": "have the same total mass, but their masses differ by -2 to 4 %",
    **{
        f"{task}-v3": f"are {percent} % heavier"
        for task, percent in (("Hopper", 3.6), ("Walker2d", 4.3), ("Ant", 3.7), ("Humanoid", 6.2))
    },
}
# Number of contact forces at the end of Ant-v3's and Humanoid-v3's observations, which presumably
# were zero under MuJoCo 2.0.
_CONTACT_FORCES = 84


class ZeroContactForces(gymnasium.ObservationWrapper[NDArray[Any], NDArray[Any], NDArray[Any]]):
    """Sets the contact forces in observations of Ant-v3 or Humanoid-v3 to zero.

    Args:
        env: the environment.
        append: whether the observations of `env` lack contact forces, so that zeros are appended.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], *, append: bool) -> None:
        super().__init__(env)
        assert isinstance(env.observation_space, Box)
        self._append = append
        n_obs = env.observation_space.shape[0] + (_CONTACT_FORCES if append else 0)
        self.observation_space = Box(-np.inf, np.inf, (n_obs,), np.float64)

    def observation(self, observation: NDArray[Any]) -> NDArray[Any]:
        """Return the observation with 84 zeros as its last entries."""
        if self._append:
            return np.concatenate([observation, np.zeros(_CONTACT_FORCES)])
        observation[-_CONTACT_FORCES:] = 0.0
        return observation


def make_task(
    env_id: str, max_episode_steps: int | None, contact_forces: str, render_mode: str | None
) -> gymnasium.Env[Any, Any]:
    """Create the Gymnasium environment with this id, which may be one of the papers' -v3 ids.

    For an id MODULE:ID, the module must already have been imported. This function does not import
    it, because the id may come from a file.

    Raises:
        UnknownEnvironment: if the id is unknown, or the module in it has not been imported.
        UsageError: if the id has no version, or a package that the environment needs is not
            installed.
        EnvironmentFault: if the environment cannot be constructed.
    """
    if env_id.endswith(WITHOUT_ID):
        raise UnknownEnvironment(
            f"the environment {env_id} has no id, because it was given in Python as an object, a "
            "class or a function",
            "pass it in Python: sparl.train(method, env=...)",
        )
    module = named_module(env_id)
    if module and not is_imported(module):
        raise UnknownEnvironment(
            f"unknown environment '{env_id}': the module {module} has not been imported, and sparl "
            "does not import modules that are named in files",
            f"import the module on the command line: sparl --import {module} COMMAND",
        )
    registered = _V3.get(env_id, env_id.removeprefix(f"{module}:"))
    options: dict[str, Any] = {"disable_env_checker": True}
    if render_mode is not None:
        options["render_mode"] = render_mode
    if max_episode_steps is not None:
        options["max_episode_steps"] = max_episode_steps
    if env_id == "Ant-v3" and contact_forces == "live":
        options["use_contact_forces"] = True
    env = _make(env_id, registered, options)
    made = env.spec.id if env.spec is not None else registered
    if made != registered:  # Gymnasium chose the newest version
        env.close()
        raise UsageError(f"environment {env_id} has no version; did you mean {made}?")
    if env_id in ("Ant-v3", "Humanoid-v3") and contact_forces == "zero":
        env = ZeroContactForces(env, append=env_id == "Ant-v3")
    return env


def _make(env_id: str, registered: str, options: dict[str, Any]) -> gymnasium.Env[Any, Any]:
    """Create the environment that Gymnasium knows as `registered` and the user as `env_id`.

    Raises:
        UnknownEnvironment, UsageError, EnvironmentFault: under the same conditions as make_task.
    """
    with interrupt_held(), handlers_kept(), warnings.catch_warnings(), _model_warnings_ignored():
        warnings.simplefilter("ignore")  # -v4 is deprecated but used on purpose
        try:
            env: gymnasium.Env[Any, Any] = gymnasium.make(registered, **options)
        except gymnasium.error.DependencyNotInstalled as error:
            raise UsageError(f"environment {env_id}: {name_and_text(error)}") from None
        except ModuleNotFoundError as error:
            raise UsageError(
                f"environment {env_id} needs the module {error.name}, which is not installed; "
                "install the package that contains it"
            ) from None
        except (gymnasium.error.Error, ImportError) as error:
            raise UnknownEnvironment(*_unknown(env_id, error)) from None
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit, for example, would end training silently
            raise EnvironmentFault(
                f"environment {env_id} cannot be constructed: {name_and_text(error)}"
            ) from None
    return env


def _import_mujoco() -> Any:
    """Import MuJoCo, even if MUJOCO_GL is set to an invalid value.

    MuJoCo cannot be imported if MUJOCO_GL names a renderer that is unknown or not installed. It is
    then imported with rendering disabled, so that only code that renders fails.

    Raises:
        ImportError: if MuJoCo is not installed.
    """
    wanted = os.environ.get("MUJOCO_GL")
    try:
        import mujoco
    except Exception:
        if wanted is None:
            raise
        os.environ["MUJOCO_GL"] = "disable"
        try:
            import mujoco
        finally:
            os.environ["MUJOCO_GL"] = wanted
    return mujoco


def module_of(env_id: str) -> str:
    """Return the module that registers an id, or "" if Gymnasium itself registers it.

    This is the module that the id names (MODULE:ID), or else the module that defines the
    environment's class or function, which is "__main__" for a script. For an environment without an
    id, WITHOUT_ID is returned.
    """
    if env_id.endswith(WITHOUT_ID):
        return WITHOUT_ID
    named = named_module(env_id)
    if named:
        return named
    spec = gymnasium.registry.get(_V3.get(env_id, env_id))
    entry: Any = spec.entry_point if spec is not None else None
    while isinstance(entry, functools.partial):
        entry = entry.func
    named = entry.partition(":")[0] if isinstance(entry, str) else getattr(entry, "__module__", "")
    return "" if not named or named.split(".")[0] == "gymnasium" else named


@contextmanager
def _model_warnings_ignored() -> Iterator[None]:
    """Suppress MuJoCo's warnings; users cannot change the model files that most of them concern."""
    try:
        mujoco = _import_mujoco()
    except ImportError:
        yield
        return
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)


def _unknown(env_id: str, error: Exception) -> tuple[str, str]:
    """Return why Gymnasium does not know an id, and the remedy."""
    # Gymnasium also lists ids that it cannot make, such as HalfCheetah-v2.
    lower = {name.lower(): name for name in [*gymnasium.registry, *_V3] if name != env_id}
    near = [lower[n] for n in difflib.get_close_matches(env_id.lower(), lower, cutoff=0.7)]
    if near:
        return (
            f"unknown environment '{env_id}'",
            f"did you mean {' or '.join(near)}? To use an environment of your own, import its "
            "module: sparl --import MODULE COMMAND",
        )
    if not isinstance(error, gymnasium.error.UnregisteredEnv):
        return f"unknown environment '{env_id}': {text_of(error) or type(error).__name__}", ""
    family, slash, _ = env_id.rpartition("/")
    return (
        f"unknown environment '{env_id}': no imported package registers "
        f"{f'the family {family}/' if slash else 'it'}",
        "install the package that does, and import its module: sparl --import MODULE COMMAND",
    )


def notes_of(env_id: str, contact_forces: str, mujoco: str | None = None) -> list[str]:
    """Describe how an environment differs from the papers' environment with the same id.

    Args:
        env_id: the Gymnasium id.
        contact_forces: "zero" or "live".
        mujoco: version of the simulator; None means the installed version.
    """
    if env_id not in _V3:
        return []
    simulator = version("mujoco") if mujoco is None else mujoco
    notes = [
        f"{env_id} uses Gymnasium's {_V3[env_id]} and MuJoCo {simulator}, with the observations, "
        "rewards, terminations and shapes of -v3; RLx2 used MuJoCo 2.0.0, and DS does not state a "
        "version; since MuJoCo 2.1.1, which changed the masses of capsules, the bodies "
        f"{_MASSES[env_id]}"
    ]
    if env_id in ("Ant-v3", "Humanoid-v3"):
        notes.append(
            f"the 84 contact-force entries of {env_id} are "
            + (
                "zeros and have no cost, as they presumably were under MuJoCo 2.0"
                if contact_forces == "zero"
                else "those that the simulator computes"
            )
        )
    return notes
