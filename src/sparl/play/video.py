"""Record episodes as an MP4 file, with or without a screen. Requires `sparl[video]`."""

from __future__ import annotations

import ctypes.util
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparl.configuration import Config
from sparl.errors import EnvironmentFault, ResourceError, UsageError
from sparl.play.camera import track_body
from sparl.play.screen import has_screen
from sparl.random_streams import integer_seed
from sparl.training.durable import temporary_name
from sparl.training.environment import Environment, make_environment
from sparl.training.evaluate import Evaluator
from sparl.training.trained_agent import TrainedAgent
from sparl.wording import name_and_text

try:
    import imageio.v2 as imageio
    import imageio_ffmpeg  # noqa: F401  imageio writes MP4 with it
    from PIL import Image, ImageDraw
except ImportError as error:
    raise UsageError(
        f"play: --video needs {error.name}; install it with pip install 'sparl[video]'"
    ) from None

Frame = NDArray[np.uint8]  # [height, width, 3]

FASTEST = 30  # maximum frames per second; frames of faster simulators are skipped


def record(
    config: Config, agent: TrainedAgent, episodes: int, seed: int, path: Path
) -> Iterator[str]:
    """Evaluate an agent and record its best and its worst episode side by side.

    Args:
        config: configuration of the agent's training.
        agent: the agent.
        episodes: number of episodes.
        seed: the evaluation seed.
        path: the MP4 file.

    Yields:
        Lines to print for the user.

    Raises:
        UsageError: if `path` is not an .mp4 file in an existing folder, or if the environment has
            no render mode for images.
        EnvironmentFault: if rendering fails.
        ResourceError: if the file cannot be written.
    """
    if path.suffix != ".mp4" or not path.parent.is_dir():
        raise UsageError(f"play: --video is {path} but must be an .mp4 file in an existing folder")
    _choose_renderer()
    evaluator = Evaluator(lambda: make_environment(config), episodes, seed)
    try:
        returns = evaluator.evaluate(agent.policy).returns
    finally:
        evaluator.close()
    best, worst = int(np.argmax(returns)), int(np.argmin(returns))
    chosen = {"best": best} if best == worst else {"best": best, "worst": worst}
    for name, episode in chosen.items():
        yield f"{name}: episode {episode}, return {returns[episode]:,.3f}"
    recordings = [
        _Recording(config, agent, integer_seed(seed, episode), f"{name}: {returns[episode]:,.1f}")
        for name, episode in chosen.items()
    ]
    temporary = path.with_name(f"{temporary_name(path.stem)}.mp4")
    try:
        count = _write(temporary, recordings)
        temporary.replace(path)
    except OSError as error:
        raise ResourceError(f"play: cannot write {path}: {error}") from None
    finally:
        temporary.unlink(missing_ok=True)
        for recording in recordings:
            recording.environment.close()
    yield f"{path}: {count:,} frames, {path.stat().st_size:,} bytes"


def _write(path: Path, recordings: list[_Recording]) -> int:
    """Write recordings side by side until the longest one ends; return the number of frames."""
    frames = 0
    writer: Any
    with imageio.get_writer(path, fps=recordings[0].fps, macro_block_size=2) as writer:
        while not all(recording.over for recording in recordings):
            writer.append_data(np.hstack([recording.next_frame() for recording in recordings]))
            frames += 1
    return frames


class _Recording:
    """An episode that is played frame by frame; its last frame is repeated after its end.

    Args:
        config: configuration of the agent's training.
        agent: the agent.
        seed: seed of the episode.
        title: text on every frame.
    """

    def __init__(self, config: Config, agent: TrainedAgent, seed: int, title: str) -> None:
        self.environment = make_environment(config, "rgb_array")
        track_body(self.environment)
        _disable_shadows(self.environment)
        self._agent, self._title = agent, title
        fps = float(self.environment.gym.metadata.get("render_fps") or FASTEST)
        self._steps = max(1, round(fps / FASTEST))  # environment steps per frame
        self.fps = fps / self._steps
        self.over = False
        self._observation = self.environment.reset(seed=seed)
        self._frame = self._draw()

    def next_frame(self) -> Frame:
        """Return the current frame, and advance the episode to the next one."""
        frame = self._frame
        for _ in range(self._steps):
            if not self.over:
                step = self.environment.step(self._agent.policy(self._observation[np.newaxis])[0])
                self._observation, self.over = step.observation, step.terminated or step.truncated
        if not self.over:
            self._frame = self._draw()
        return frame

    def _draw(self) -> Frame:
        name = self.environment.env_id
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # GLFW also raises the errors that it warns about
                drawn: Any = self.environment.gym.render()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            _release(error)
            reason = name_and_text(error)[:200]
            if hasattr(self.environment.gym.unwrapped, "mujoco_renderer"):
                reason += (
                    "; without a screen, rendering needs EGL (apt-get install libegl1, "
                    "MUJOCO_GL=egl) or OSMesa (apt-get install libosmesa6, MUJOCO_GL=osmesa)"
                )
            raise EnvironmentFault(f"environment {name} cannot render images: {reason}") from None
        if not isinstance(drawn, np.ndarray):
            raise UsageError(
                f"play: environment {name} does not render images (render mode rgb_array)"
            )
        picture = Image.fromarray(drawn[: drawn.shape[0] // 2 * 2, : drawn.shape[1] // 2 * 2])
        ImageDraw.Draw(picture).text((10, 10), self._title, fill="black", stroke_width=1,
                                     stroke_fill="white", font_size=20)  # fmt: skip
        return np.asarray(picture)


def _release(error: BaseException) -> None:
    """Release a partly created renderer; suppress the error that the destructor would print."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        traceback.clear_frames(error.__traceback__)
    finally:
        sys.unraisablehook = hook


def _choose_renderer() -> None:
    """Select an off-screen renderer if there is no screen; call this before rendering."""
    if sys.platform == "linux" and "MUJOCO_GL" not in os.environ and not has_screen():
        os.environ["MUJOCO_GL"] = "egl" if ctypes.util.find_library("EGL") else "osmesa"


def _disable_shadows(environment: Environment) -> None:
    """Disable MuJoCo's shadows and reflections, which triple the time of software rendering."""
    model: Any = getattr(environment.gym.unwrapped, "model", None)
    if hasattr(model, "light_castshadow"):
        model.light_castshadow[:] = 0
        model.mat_reflectance[:] = 0
