"""Work beside a simulator: the step is the same to the last bit, and errors are told apart."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.spaces import Box

from sparl import _native
from sparl.errors import Diverged, EnvironmentFault
from sparl.training import meanwhile
from sparl.training.environment import Environment, Step

TASKS = ["HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5", "Ant-v3"]


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = _native.threads()
    yield
    _native.set_threads(before)


def actions(env: Environment, count: int) -> list[Any]:
    return list(np.random.default_rng(0).uniform(-1, 1, (count, env.n_act)).astype(np.float32))


def played(env: Environment, count: int, work: Callable[[], None] | None = None) -> list[Step]:
    """Steps over several episodes, each with this work."""
    env.reset(seed=0)
    steps = []
    for action in actions(env, count):
        steps.append(env.step(action, work))
        if steps[-1].terminated or steps[-1].truncated:
            env.reset()
    return steps


def assert_same(got: list[Step], wanted: list[Step]) -> None:
    for one, other in zip(got, wanted, strict=True):
        assert one.observation.tobytes() == other.observation.tobytes()
        assert one[1:] == other[1:]


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("task", TASKS)
def test_mujocos_tasks_step_as_ever(task: str, threads: int) -> None:
    wanted = played(Environment(task), 80)
    _native.set_threads(threads)
    env = Environment(task)
    bare: Any = env.gym.unwrapped
    step, begun, went_on = bare.step, 0.0, []

    def noting_the_time(action: Any) -> Any:
        nonlocal begun
        begun = bare.data.time
        return step(action)

    def work() -> None:
        """It is done when the simulator's time has moved, which only another thread can do."""
        deadline = time.monotonic() + 10
        while bare.data.time == begun and time.monotonic() < deadline:
            time.sleep(0)
        went_on.append(time.monotonic() < deadline)

    bare.step = noting_the_time
    assert_same(played(env, 80, work), wanted)
    assert went_on == [True] * 80  # with one thread all at once
    env.close()


def test_a_closed_environment_is_gone() -> None:
    env = Environment("Hopper-v5")
    bare = weakref.ref(env.gym.unwrapped)
    env.close()
    gc.disable()
    try:
        del env
        assert bare() is None
    finally:
        gc.enable()


def test_without_mujocos_library_the_work_is_done_behind_the_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = played(Environment("Hopper-v5"), 50)
    monkeypatch.setattr(meanwhile, "_addresses", lambda: None)
    monkeypatch.setattr(_native, "Simulation", lambda *_: pytest.fail("made"))
    work = list[int]()
    assert_same(played(Environment("Hopper-v5"), 50, lambda: work.append(1)), wanted)
    assert len(work) == 50


class Toy(gymnasium.Env[Any, Any]):
    """Raises when it is told to; notes when it has stepped."""

    observation_space = Box(-np.inf, np.inf, (1,), np.float64)
    action_space: Any = Box(-1.0, 1.0, (1,), np.float64)
    raises = False

    def __init__(self) -> None:
        self.notes: list[str] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(1), {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        if self.raises:
            raise ValueError("no")
        self.notes.append("step")
        return np.ones(1), 1.0, False, False, {}


@pytest.fixture
def toy() -> Iterator[Environment]:
    gymnasium.register("Toy-v0", Toy, max_episode_steps=20)
    yield Environment("Toy-v0")
    del gymnasium.registry["Toy-v0"]


def test_elsewhere_the_work_is_done_behind_the_step_and_not_at_all_after_a_fault(
    toy: Environment,
) -> None:
    bare: Any = toy.gym.unwrapped
    toy.reset(seed=0)
    action = np.zeros(1, np.float32)
    toy.step(action, lambda: bare.notes.append("work"))
    toy.step(action)
    assert bare.notes == ["step", "work", "step"]
    bare.raises = True
    with pytest.raises(EnvironmentFault, match="step raised ValueError: no"):
        toy.step(action, lambda: bare.notes.append("work"))
    bare.raises = False
    toy.step(action)
    assert bare.notes == ["step", "work", "step", "step"]


@pytest.mark.parametrize("returned", ["raises", "returns NaN"])
def test_a_fault_of_the_environment_comes_before_what_the_work_raised(returned: str) -> None:
    """As it does where the work is an update that follows the step."""
    _native.set_threads(2)
    env = Environment("HalfCheetah-v5")
    env.reset(seed=0)
    bare: Any = env.gym.unwrapped
    step = bare.step

    def fault(action: Any) -> Any:
        if returned == "raises":
            raise ValueError("no")  # the simulator was not called
        observation, *rest = step(action)
        return (observation * np.nan, *rest)

    bare.step = fault
    done = []

    def work() -> None:
        done.append(1)
        raise Diverged("diverged")

    action = np.zeros(6, np.float32)
    with pytest.raises(EnvironmentFault):
        env.step(action, work)
    bare.step = step
    env.step(action)  # what was not done then is not done now, nor raised
    assert len(done) == (returned == "returns NaN")


@pytest.mark.parametrize("threads", [1, 2])
def test_what_the_work_raises_is_no_fault_of_the_environment(threads: int) -> None:
    _native.set_threads(threads)
    env, reference = Environment("HalfCheetah-v5"), Environment("HalfCheetah-v5")
    env.reset(seed=0)
    reference.reset(seed=0)
    first, second = actions(env, 2)
    reference.step(first)
    error = Diverged("diverged")

    def fails() -> None:
        raise error

    with pytest.raises(Diverged) as caught:
        env.step(first, fails)
    assert caught.value is error
    assert_same([env.step(second, lambda: None)], [reference.step(second)])  # the step was taken


def too_small() -> mujoco.MjModel:
    """A model of 30 balls in a heap and six motors, with less memory than a step of it needs."""
    balls = "".join(
        f'<body pos="{i / 10} 0 .05"><freejoint name="f{i}"/><geom size=".1"/></body>'
        for i in range(30)
    )
    motors = "".join(f'<motor joint="f{i}"/>' for i in range(6))
    for kib in range(16, 1024, 8):
        try:
            model = mujoco.MjModel.from_xml_string(
                f'<mujoco><size memory="{kib}K"/><worldbody><geom type="plane" size="5 5 1"/>'
                f"{balls}</worldbody><actuator>{motors}</actuator></mujoco>"
            )
        except ValueError:
            continue
        try:
            mujoco.mj_step(model, mujoco.MjData(model))
        except mujoco.FatalError:
            return model
    pytest.fail("this MuJoCo gives up at no size")


@pytest.mark.parametrize("threads", [1, 2])
def test_a_simulator_that_gives_up_is_a_fault_and_not_the_end_of_the_process(
    threads: int, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo's log
    model = too_small()
    _native.set_threads(threads)
    env, work = Environment("HalfCheetah-v5"), []
    env.reset(seed=0)
    bare: Any = env.gym.unwrapped
    bare.model, bare.data = model, mujoco.MjData(model)
    for _ in range(2):
        with pytest.raises(EnvironmentFault, match=r"step raised FatalError: mj_\w+: .*at step"):
            env.step(np.zeros(6, np.float32), lambda: work.append(1))
    assert work == [1, 1]
    with pytest.raises(mujoco.FatalError):  # as ever where MuJoCo is called from Python
        mujoco.mj_step(model, mujoco.MjData(model))
