"""Define environments for tests, `bad_environments:NAME-v0`; most break Gymnasium's rules."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete
from numpy.typing import NDArray

from sparl.random_streams import integer_seed

AT = 30  # the first faulty step, counted over all episodes
LIMIT = 20  # steps of an episode
WAITS_AT = 140


class Good(gymnasium.Env[Any, Any]):
    """A state of three numbers, which decay and are pushed by the sum of two actions."""

    observation_space: Any = Box(-np.inf, np.inf, (3,), np.float32)
    action_space: Any = Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self) -> None:
        self.steps = 0
        self.place = np.zeros(3, np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.place = self.np_random.normal(size=3).astype(np.float32)
        return self.place, {}

    def step(self, action: NDArray[Any]) -> Any:
        self.steps += 1
        self.place = (0.9 * self.place + 0.1 * action.sum()).astype(np.float32)
        return self.place, float(self.place[0]), False, False, {}


class Extreme(Good):
    """Returns finite observations and rewards whose products are not finite."""

    def step(self, action: NDArray[Any]) -> Any:
        place, _, *rest = super().step(action)
        return 1e10 * place, 1e38, *rest


class Forever(Good):
    """Never ends an episode; creates the file named by MARK at step 100."""

    def step(self, action: NDArray[Any]) -> Any:
        if self.steps == 100 and "MARK" in os.environ:
            Path(os.environ["MARK"]).touch()
        return super().step(action)


class Walks(Good):
    """Can save and restore its state."""

    def get_state(self) -> dict[str, Any]:
        return {"place": self.place.copy(), "steps": self.steps}

    def set_state(self, state: dict[str, Any]) -> None:
        self.place, self.steps = np.array(state["place"], np.float32), int(state["steps"])


class Prints(Walks):
    """Prints more than a buffer can contain at every step, to both streams."""

    def step(self, action: NDArray[Any]) -> Any:
        print("printed by the environment " * 500)
        print("printed by the environment", file=sys.stderr)
        os.write(1, b"printed by the environment\n")
        return super().step(action)


class Waits(Walks):
    """Creates a file in the folder WAITS at step WAITS_AT; waits until the folder is removed."""

    def step(self, action: NDArray[Any]) -> Any:
        folder = Path(os.environ.get("WAITS", os.devnull))
        if self.steps == WAITS_AT and folder.is_dir():
            (folder / str(os.getpid())).touch()
            while folder.is_dir():
                time.sleep(0.01)
        return super().step(action)


class Reuses(Good):
    """Returns the same array at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.reused = np.zeros(3, np.float32)

    def _reuse(self, returned: Any) -> Any:
        self.reused[:] = returned[0]
        return self.reused, *returned[1:]

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self._reuse(super().reset(seed=seed))

    def step(self, action: NDArray[Any]) -> Any:
        return self._reuse(super().step(action))


class BadStep(Good):
    """Returns an invalid value from step AT on."""

    instead: ClassVar[Callable[[Any], Any]]

    def step(self, action: NDArray[Any]) -> Any:
        returned = super().step(action)
        return type(self).instead(returned) if self.steps >= AT else returned


class BadReset(Good):
    """Returns an invalid value from `reset`."""

    instead: ClassVar[Callable[[Any], Any]]

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        returned = super().reset(seed=seed)
        return type(self).instead(returned) if self.steps >= AT else returned


class NeverTruncates(gymnasium.Wrapper[Any, Any, Any, Any], gymnasium.utils.RecordConstructorArgs):
    """Hides the time limit."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)

    def step(self, action: Any) -> Any:
        observation, reward, terminated, _, info = self.env.step(action)
        return observation, reward, terminated, False, info


class FailsForSeed1(Good):
    """Fails in every attempt to train with seed 1."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        if seed == integer_seed(1):
            raise RuntimeError("not this one")
        return super().reset(seed=seed)


class BadClose(Good):
    def close(self) -> None:
        raise RuntimeError("cannot close")


def raising(error: BaseException) -> Callable[[Any], Any]:
    def instead(returned: Any) -> Any:
        raise error

    return instead


def with_part(index: int, value: Any) -> Callable[[Any], Any]:
    """Replace one value of a step: 0 is the observation, 1 reward, 2 terminated, 3 truncated."""
    return lambda returned: (*returned[:index], value, *returned[index + 1 :])


# Name of the environment, a function that replaces the values that a step returns, and a part of
# the message.
STEPS: list[tuple[str, Callable[[Any], Any], str]] = [
    ("Raises", raising(RuntimeError("it\nblew up")), "step raised RuntimeError: it blew up;"),
    ("Exits", raising(SystemExit(0)), "step raised SystemExit: 0;"),
    ("NoMemory", raising(MemoryError()), "step raised MemoryError;"),
    ("Nothing", lambda _: None, "step raised TypeError: cannot unpack"),
    ("OldStep", lambda r: (*r[:3], {}), "step raised ValueError: not enough values to unpack"),
    ("NaN", with_part(0, np.array([0, np.nan, 0])), "observation[1] = nan, which is not a finite"),
    ("Infinite", with_part(0, np.array([0, 0, -np.inf])), "observation[2] = -inf, which is not a"),
    (
        "Huge",
        with_part(0, np.array([1e300, 0, 0])),
        "observation[0] = 1e+300, which is not a finite",
    ),
    ("Short", with_part(0, np.zeros(2)), "shape (2,) and dtype float64 instead of (3,) and a real"),
    ("Scalar", with_part(0, 1.0), "shape () and dtype float64 instead of (3,)"),
    ("Matrix", with_part(0, np.zeros((3, 1))), "shape (3, 1) and dtype float64 instead of (3,)"),
    ("Texts", with_part(0, ["a", "b", "c"]), "shape (3,) and dtype <U1 instead of (3,) and a real"),
    ("Complex", with_part(0, np.ones(3) * 1j), "dtype complex128 instead of (3,) and a real"),
    ("Objects", with_part(0, [1, None, 2]), "dtype object instead of (3,) and a real"),
    ("Ragged", with_part(0, [[1], [2, 3], 4]), "an observation that is not an array ("),
    ("NaNReward", with_part(1, float("nan")), "the reward nan, which is not a finite float32"),
    ("HugeReward", with_part(1, -1e39), "the reward -1e+39, which is not a finite float32"),
    ("NoReward", with_part(1, None), "the reward None, which is not a finite float32"),
    ("Rewards", with_part(1, np.ones(2)), "the reward array([1., 1.]), which is not a finite"),
    ("SaysNo", with_part(2, "no"), "terminated = 'no', which is not a bool"),
    ("SaysNothing", with_part(3, None), "truncated = None, which is not a bool"),
    (
        "SaysTwo",
        with_part(2, np.array([True, False])),
        "array([ True, False]), which is not a bool",
    ),
]
RESETS: list[tuple[str, Callable[[Any], Any], str]] = [
    ("ResetRaises", raising(OSError("gone")), "reset raised OSError: gone;"),
    ("ResetAlone", lambda returned: returned[0], "instead of (observation, info)"),
    (
        "ResetNaN",
        lambda returned: (returned[0] * np.nan, {}),
        "reset returned observation[0] = nan",
    ),
]
# Spaces that are rejected before training.
ACTIONS = {
    "Choice": Discrete(3), "Unbounded": Box(-np.inf, np.inf, (2,)),
    "HalfBounded": Box(0, np.inf, (2,)), "ActionMatrix": Box(-1, 1, (2, 2)),
    "NoAction": Box(-1, 1, (0,)), "Integers": Box(0, 3, (2,), np.int32),
    "OneAction": Box(np.float32([0, 0]), np.float32([0, 1])), "NoSpace": None,
}  # fmt: skip
OBSERVATIONS = {
    "Picture": Box(0, 1, (4, 4)), "Named": Dict({"x": Box(0, 1, (3,))}), "State": Discrete(5),
    "NoObservation": Box(0, 1, (0,)), "NoObservationSpace": None,
}  # fmt: skip


def _register(name: str, base: type[Good], **attributes: Any) -> None:
    gymnasium.register(f"{name}-v0", type(name, (base,), attributes), max_episode_steps=LIMIT)


for _name, _instead, _ in STEPS:
    _register(_name, BadStep, instead=staticmethod(_instead))
for _name, _instead, _ in RESETS:
    _register(_name, BadReset, instead=staticmethod(_instead))
for _name, _space in ACTIONS.items():
    _register(_name, Good, action_space=_space)
for _name, _space in OBSERVATIONS.items():
    _register(_name, Good, observation_space=_space)
for _base in (Good, Extreme, Reuses, BadClose, FailsForSeed1, Walks, Prints, Waits):
    _register(_base.__name__, _base)
gymnasium.register("NoLimit-v0", Good)
gymnasium.register("Forever-v0", Forever, max_episode_steps=10**9)
_register("NeverEnds", Good)
gymnasium.registry["NeverEnds-v0"].additional_wrappers = (
    gymnasium.envs.registration.WrapperSpec(
        "NeverTruncates", "bad_environments:NeverTruncates", {}
    ),
)
