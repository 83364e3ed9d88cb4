"""Meanwhile: work that goes on beside the simulator, in the middle of an environment's step."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from sparl import _native

Work = Callable[[], None]


class Meanwhile:
    """What is done once during a step of an environment.

    Gymnasium's MuJoCo tasks call the simulator in the middle of their step. Where there is work to
    do, it computes on another thread, by the same function of MuJoCo's library, so the results are
    the same. In other environments, and where that library is not found, the work is done behind
    the step.

    Args:
        bare: Gymnasium's MuJoCo task without its wrappers; None: another environment.
    """

    def __init__(self, bare: Any) -> None:
        self._bare = bare
        self._work: Work | None = None
        self._error: BaseException | None = None
        self._alone = getattr(bare, "_step_mujoco_simulation", None)
        possible = self._alone is not None and hasattr(bare.data, "_address")
        self._simulator = _addresses() if possible else None
        if self._simulator is not None:
            bare._step_mujoco_simulation = self._simulate

    def begin(self, work: Work) -> None:
        """A step follows, during which this is to be done."""
        self._work, self._error = work, None

    def end(self) -> None:
        """The step is over; raises what the work raised."""
        self._do()
        if self._error is not None:
            raise self._error

    def drop(self) -> None:
        """The step failed: what is not done by now is not done at all."""
        self._work = None

    def close(self) -> None:
        """Let go of the environment."""
        if self._simulator is not None:
            vars(self._bare).pop("_step_mujoco_simulation", None)

    def _do(self) -> None:
        work, self._work = self._work, None
        if work is not None:
            try:
                work()
            except (Exception, SystemExit) as error:  # no fault of the environment's
                self._error = error

    def _simulate(self, ctrl: Any, n_frames: int) -> None:
        """Gymnasium's MujocoEnv._step_mujoco_simulation, with the work beside it."""
        assert self._alone is not None
        assert self._simulator is not None
        if self._work is None:
            self._alone(ctrl, n_frames)
            return
        import mujoco

        model, data = self._bare.model, self._bare.data
        data.ctrl[:] = ctrl
        going = _native.Simulation(*self._simulator, model._address, data._address, n_frames)
        try:
            self._do()
        finally:
            try:
                going.finish()
            except RuntimeError as error:
                raise mujoco.FatalError(str(error)) from None
        mujoco.mj_rnePostConstraint(model, data)


@cache
def _addresses() -> tuple[int, int] | None:
    """Of mj_step and mju_user_error in the library that the package mujoco has loaded."""
    import mujoco

    for path in Path(mujoco.__file__).parent.glob("libmujoco*"):
        try:
            library = ctypes.CDLL(str(path), mode=os.RTLD_NOLOAD | os.RTLD_NOW)
            step = ctypes.cast(library.mj_step, ctypes.c_void_p).value
            user_error = ctypes.addressof(ctypes.c_void_p.in_dll(library, "mju_user_error"))
        except (OSError, AttributeError, ValueError):
            continue
        if step:
            return step, user_error
    return None
