"""Choose the camera with which the simulator renders images."""

from __future__ import annotations

from typing import Any

from sparl.training.environment import Environment


def track_body(environment: Environment) -> None:
    """Use the camera that tracks the body, if the MuJoCo model has one.

    Gymnasium's default camera stays where the episode started, so the body moves out of view.
    """
    bare: Any = environment.gym.unwrapped
    renderer = getattr(bare, "mujoco_renderer", None)
    if renderer is None:
        return
    import mujoco

    camera = mujoco.mj_name2id(bare.model, mujoco.mjtObj.mjOBJ_CAMERA, "track")
    if camera >= 0:
        renderer.camera_id = camera  # images
        fixed = {"type": mujoco.mjtCamera.mjCAMERA_FIXED, "fixedcamid": camera}
        renderer.default_cam_config = {**(renderer.default_cam_config or {}), **fixed}  # the window
