"""What the pictures show."""

from __future__ import annotations

from typing import Any

from sparl.training.environment import Environment


def follow(environment: Environment) -> None:
    """Let MuJoCo's pictures follow the body, where the model has a camera for that.

    Gymnasium's own choice is a camera that stays where the episode began, which the body leaves.
    """
    bare: Any = environment.gym.unwrapped
    renderer = getattr(bare, "mujoco_renderer", None)
    if renderer is None:
        return
    import mujoco

    camera = mujoco.mj_name2id(bare.model, mujoco.mjtObj.mjOBJ_CAMERA, "track")
    if camera >= 0:
        renderer.camera_id = camera  # pictures
        fixed = {"type": mujoco.mjtCamera.mjCAMERA_FIXED, "fixedcamid": camera}
        renderer.default_cam_config = {**(renderer.default_cam_config or {}), **fixed}  # the window
