"""Test the faults of a run, one per section, with their messages and exit codes.

Other faults are tested elsewhere: kills, signals and resuming in test_resume.py and test_kill.py,
full disks and damaged files in test_checkpoint.py, hostile files in test_hostile_files.py, and
failures within studies in test_studies.py.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import bad_environments as bad
import children
import sparl
from children import has_handler, wait_until
from resuming import results, stopped_at
from sparl import _native
from sparl.architecture import architecture
from sparl.cli import main
from sparl.configuration import FIELDS
from sparl.configuration_checks import typed_fields
from sparl.errors import DataError, EnvironmentFault, UsageError
from sparl.methods import METHODS, check, preset
from sparl.training import assemble, loop, machine, memory
from sparl.training.environment import Environment
from sparl.training.interrupt import StoppedBy
from sparl.training.loop import Training
from sparl.training.plan_text import plan_text
from sparl.training.run_folder import RunFolder

FIELDS_OF_RUNS: dict[str, Any] = {
    "steps": 90, "hidden": (8,), "batch_size": 4, "warmup_env_steps": 20, "evaluation_episodes": 2,
    "evaluate_every_env_steps": 40, "checkpoint_every_env_steps": 25, "threads": 1,
}  # fmt: skip


def flags(**fields: Any) -> list[str]:
    words: list[str] = []
    for name, value in {**FIELDS_OF_RUNS, **fields}.items():
        values = value if isinstance(value, tuple) else (value,)
        words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return words


@pytest.fixture
def error_line(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that runs a command, expects an exit code and returns the error line."""

    def error_line(code: int, *words: str) -> str:
        capsys.readouterr()
        assert main(words) == code
        said = capsys.readouterr().err
        assert said.count("\n") == 1, said
        assert said.startswith("sparl: ")
        return said

    return error_line


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[Training]:
    """All objects of class Training that are created from now on."""
    made: list[Training] = []
    original = Training.__init__

    def remember(self: Training, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        made.append(self)

    monkeypatch.setattr(Training, "__init__", remember)
    return made


# ------------- environment raises, returns NaN, a wrong shape or dtype, reuses its array,
# ------------- never ends


@pytest.mark.parametrize(("name", "says"), [(n, says) for n, _, says in bad.STEPS + bad.RESETS])
def test_an_invalid_environment_is_named_and_its_values_are_not_stored(
    name: str, says: str, tmp_path: Path, error_line: Callable[..., str], trainings: list[Training]
) -> None:
    env, run = f"bad_environments:{name}-v0", tmp_path / "run"
    said = error_line(4, "train", "--env", env, "--run-dir", str(run), *flags())
    assert f"environment {env}: " in said
    assert says in said
    assert re.search(r"; at step \d+ of episode \d+ after reset\(seed=\d+\)", said)
    assert name.startswith("Reset") or re.search(r", action \[-?\d.*, -?\d.*\]$", said.rstrip())
    (training,) = trainings
    assert json.loads((run / "run.json").read_text())["state"] == "failed"
    replay = training.replay
    assert replay.size in range(10, bad.AT + 12) or name == "NeverEnds"  # the evaluation detects it
    for values in (replay.observation, replay.reward, replay.action):
        assert np.isfinite(values).all()


def test_after_a_fault_the_run_resumes_from_its_checkpoint(
    tmp_path: Path, error_line: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--env", "bad_environments:Raises-v0", "--run-dir", str(tmp_path / "run")]
    error_line(4, "train", *words, *flags())
    monkeypatch.setattr(bad, "AT", 10**6)  # the environment is repaired
    run = sparl.resume(tmp_path / "run")
    assert [step for step, _ in run.evaluations] == [0, 40, 80, 90]


def test_an_environment_may_reuse_its_arrays(tmp_path: Path) -> None:
    first, second = (
        sparl.train("TD3", f"bad_environments:{name}-v0", quiet=True,
                    run_dir=tmp_path / name, **FIELDS_OF_RUNS)
        for name in ("Good", "Reuses")
    )  # fmt: skip
    assert results(first.path) == results(second.path)


@pytest.mark.parametrize("path", ["a\0b", "\ud800"])
def test_an_impossible_path_is_an_error(path: str) -> None:
    for use in (sparl.load, sparl.resume):
        with pytest.raises(DataError, match="cannot be read"):
            use(path)


def test_an_environment_that_cannot_be_closed_loses_nothing(tmp_path: Path) -> None:
    words = ["--env", "bad_environments:BadClose-v0", "--run-dir", str(tmp_path / "run")]
    assert main(["train", *words, *flags()]) == 0


def test_an_episode_without_a_time_limit_is_rejected_unless_one_is_given(
    tmp_path: Path, error_line: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--env", "bad_environments:NoLimit-v0", "--run-dir", str(tmp_path / "run"), *flags()]
    assert "has no time limit; set one with --max-episode-steps N" in error_line(2, "train", *words)
    assert main(["train", *words, "--max-episode-steps", "15"]) == 0
    note = "an episode of bad_environments:Forever-v0 can last 1,000,000,000 steps"
    assert note in Environment("bad_environments:Forever-v0").notes[0]
    assert Environment("HalfCheetah-v5").notes == []


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_an_evaluation_without_end_can_be_stopped(command: str, tmp_path: Path) -> None:
    env, run = "bad_environments:Forever-v0", str(tmp_path / "run")
    words = ["train", "--env", env, "--run-dir", run, *flags()]
    if command == "evaluate":
        assert main([*words, "--max-episode-steps", "15"]) == 0
        config = tmp_path / "run" / "config.toml"
        config.write_text(config.read_text().replace("max_episode_steps = 15\n", ""))
        words = ["--import", "bad_environments", "evaluate", run]
    mark = tmp_path / "mark"
    environment = {"PYTHONPATH": str(Path(__file__).parent), "MARK": str(mark)}
    with children.sparl(*words, env=environment) as process:
        wait_until(lambda: mark.exists() or process.poll() is not None)  # an episode is running
        process.send_signal(signal.SIGINT)
        if command == (
            "train"
        ):  # after the first signal, the run waits until the evaluation has ended
            wait_until(lambda: not has_handler(process.pid, signal.SIGTERM))
            process.send_signal(signal.SIGINT)
        assert "Traceback" not in process.communicate(timeout=60)[0]
    assert process.returncode in (130, -signal.SIGINT)


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.complex_numbers(),
    st.lists(st.one_of(st.none(), st.floats(), st.lists(st.integers(), max_size=2)), max_size=4),
    arrays.arrays(
        st.one_of(arrays.floating_dtypes(), arrays.integer_dtypes(), arrays.boolean_dtypes(),
                  arrays.complex_number_dtypes(), arrays.unicode_string_dtypes(max_len=2)),
        st.sampled_from([(), (3,), (2,), (3, 1), (0,)]),
    ),
)  # fmt: skip
OBSERVATIONS = st.one_of(ANYTHING, st.lists(st.floats(width=32), min_size=3, max_size=3))


@given(st.one_of(ANYTHING, st.tuples(OBSERVATIONS, ANYTHING, ANYTHING, ANYTHING, st.just({}))))
@pytest.mark.slow
def test_any_value_returned_by_a_step_is_rejected_or_valid(returned: Any) -> None:
    environment = Environment("bad_environments:Good-v0")
    environment.reset(seed=0)
    environment.gym.unwrapped.step = lambda action: returned  # type: ignore[method-assign]
    try:
        step = environment.step(np.zeros(2, np.float32))
    except EnvironmentFault:
        return
    assert step.observation.dtype == np.float32
    assert step.observation.shape == (3,)
    assert np.isfinite(step.observation).all()
    assert np.isfinite(np.float32(step.reward))
    assert type(step.terminated) is type(step.truncated) is bool


# ----------------------- action space not a bounded Box, observation not a flat Box


@pytest.mark.parametrize(
    ("name", "what"),
    [*((n, "action") for n in bad.ACTIONS), *((n, "observation") for n in bad.OBSERVATIONS)],
)
def test_unsupported_spaces_are_rejected_at_the_start(
    name: str, what: str, tmp_path: Path, error_line: Callable[..., str]
) -> None:
    run = tmp_path / "run"
    env = f"bad_environments:{name}-v0"
    said = error_line(2, "train", "--env", env, "--run-dir", str(run), *flags())
    assert f"environment {env}: the {what} space is " in said
    assert (
        "sparl supports a one-dimensional Box observation and a one-dimensional Box action"
    ) in said
    assert not run.exists()


# ----------------------- NaN or infinite loss, weight, action


def poison(network: str, value: float) -> Callable[[Training], None]:
    def poisoned(training: Training) -> None:
        owner: Any = training.agent
        for name in network.split("."):
            owner = getattr(owner, name)
        owner.parameters[:1] = value

    return poisoned


def poison_alpha(training: Training) -> None:
    training.agent.temperature.log_alpha = np.nan  # type: ignore[union-attr]


def poison_rewards(training: Training) -> None:
    training.replay.reward[:] = 3e38  # finite, but their squares are not


NUMBERS: list[tuple[int, str, Callable[[Training], None]]] = [
    *((at, method, poison(network, np.nan))
      for at in (60, 90) for method in ("DS-TD3", "SAC")
      for network in ("actor", "critics", "critics_target.network")),
    # After step 90, the last one, no update uses the temperature or the rewards.
    (60, "SAC", poison_alpha), (60, "TD3", poison_rewards), (60, "SAC", poison_rewards),
]  # fmt: skip


@pytest.mark.parametrize("method", ["RigL-TD3", "RLx2-SAC"])
def test_growth_by_a_gradient_that_is_not_finite_stops_the_run(
    method: str, tmp_path: Path, error_line: Callable[..., str]
) -> None:
    said = error_line(
        5, "train", "--method", method, "--env", "bad_environments:Extreme-v0",
        "--run-dir", str(tmp_path / "run"), *flags(rewire_every_updates=1, n_step=1),
    )  # fmt: skip
    assert re.search(r"diverged at step \d+ \(update 1\): a gradient is not finite; the same", said)
    assert not (tmp_path / "run" / "agent.json").exists()


@pytest.mark.parametrize(("at", "method", "poisoned"), NUMBERS)
def test_a_value_that_is_not_finite_stops_the_run_within_an_update(
    at: int, method: str, poisoned: Callable[[Training], None], tmp_path: Path,
    error_line: Callable[..., str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    original = Training.step

    def step(self: Training) -> None:
        original(self)
        if self.env_step == at:
            poisoned(self)

    monkeypatch.setattr(Training, "step", step)
    run = tmp_path / "run"
    env = ("--env", "bad_environments:Good-v0")
    said = error_line(5, "train", "--method", method, *env, "--run-dir", str(run), *flags(seed=3))
    steps = re.search(r"diverged at step (\d+) \(update \d+\): ", said)
    assert steps is not None, said
    assert int(steps[1]) in (at, at + 1)
    assert (
        "the same configuration and --seed 3 always diverge at this step; try a smaller "
        "--learning-rate"
    ) in said
    assert not (run / "agent.json").exists()
    monkeypatch.undo()
    kept = 50 if at == 60 else 75
    assert f'last_checkpoint": {kept}' in info(run)
    assert sparl.resume(run, tensorboard=False).evaluations[-1][0] == 90
    assert np.isfinite(sparl.load(run).predict(np.ones(3))).all()


def info(run: Path) -> str:
    from sparl.training.about import about_run

    return json.dumps(about_run(run))


def test_a_trained_agent_whose_weights_are_not_finite_is_named(
    tmp_path: Path, error_line: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    words = ["--env", "bad_environments:Good-v0", "--run-dir", str(run), *flags()]
    write_results = loop.write_results

    def too_late(run: Training, stopped_by: StoppedBy | None) -> None:
        poison("actor", np.nan)(run)
        write_results(run, stopped_by)

    monkeypatch.setattr(loop, "write_results", too_late)
    assert main(["train", *words]) == 0
    assert "contains a value that is NaN or infinite" in error_line(3, "evaluate", str(run))


# ----------------------- replay larger than memory


def test_a_replay_that_exceeds_the_memory_is_rejected_with_a_capacity_that_fits(
    tmp_path: Path, error_line: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["train", "--env", "bad_environments:Good-v0", "--run-dir", str(tmp_path / "run")]
    monkeypatch.setattr(assemble, "memory_bytes", lambda: 1_000_000_000)
    end = ["--steps", "1_000_000_000", "--stop-at", "1_000_000_000"]
    said = error_line(6, *words, *flags(), *end, "--replay-capacity", "1_000_000_000")
    assert "a run may use at most 0.9 GB (90 % of the memory)" in said
    monkeypatch.setattr(assemble, "memory_bytes", lambda: 10_000_000)
    words += [*flags(), "--steps", "1_000_000", "--stop-at", "1_000_000"]
    said = error_line(6, *words)
    fits = re.search(r"--replay-capacity (\d+) would fit", said)
    assert fits is not None, said
    one_more = str(int(fits[1]) + 1)
    error_line(6, *words, "--replay-capacity", one_more)
    assert not (tmp_path / "run").exists()

    def end_at_once(training: Training) -> SimpleNamespace:
        training.close()
        return SimpleNamespace(stopped_by=None)

    monkeypatch.setattr(Training, "run", end_at_once)
    assert main([*words, "--replay-capacity", fits[1]]) == 0


def test_available_memory_respects_control_groups_and_ulimit(tmp_path: Path) -> None:
    groups = tmp_path / "cgroup"
    groups.write_text("9:cpu:/\n5:memory:/job/1\n0::/user/session\n")
    for path, limit in {
        "memory/memory.limit_in_bytes": "9223372036854771712", "user/memory.max": "5000000",
        "memory/job/memory.limit_in_bytes": "7000000", "user/session/memory.max": "max",
    }.items():  # fmt: skip
        file = tmp_path / "fs" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{limit}\n")
    found = memory._group_limits(tmp_path / "fs", groups)
    assert sorted(found) == [5_000_000, 7_000_000, 9223372036854771712]
    assert memory._group_limits(tmp_path, tmp_path / "nowhere") == []
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))\n"
        "from sparl.training.memory import memory_bytes; print(memory_bytes())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == min(2**32, memory.memory_bytes())


# ----------------------- two processes on one run folder; read-only folder; path is a file


def test_a_run_folder_in_use_by_another_process_is_rejected(
    tmp_path: Path, error_line: Callable[..., str]
) -> None:
    with stopped_at(33):
        run = sparl.train("TD3", "bad_environments:Good-v0", quiet=True,
                          run_dir=tmp_path / "run", **FIELDS_OF_RUNS).path  # fmt: skip
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    folder = RunFolder(run)
    folder.lock()
    train = ["train", "--method", "TD3", "--env", "bad_environments:Good-v0", *flags()]
    for words in (
        ["resume", str(run)],
        [*train, "--run-dir", str(run), "--resume", "auto"],
        [*train, "--run-dir", str(run), "--overwrite"],
    ):
        assert f"run folder {run} is in use by another process" in error_line(7, *words)
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before
    folder.close()
    assert main(["resume", str(run)]) == 0


def test_unwritable_run_folders_are_errors(tmp_path: Path, error_line: Callable[..., str]) -> None:
    words = ["train", "--env", "Pendulum-v1", *flags(), "--run-dir"]
    file = tmp_path / "file"
    file.write_text("mine")
    assert f"run folder {file} is a file; choose another --run-dir" in error_line(
        2, *words, str(file)
    )
    for place in (str(file / "below"), "/proc/sparl-run", "x" * 300):
        assert "cannot be written: " in error_line(2, *words, place)
    assert "must not contain control characters" in error_line(2, *words, "a\0b")
    assert file.read_text() == "mine"


@pytest.mark.skipif(os.name != "posix", reason="needs users")
def test_a_folder_without_write_permission_is_reported(tmp_path: Path) -> None:
    """Use a process without privileges, even if root runs the tests."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    for parent in [closed, *closed.parents]:
        if str(parent).startswith(str(tmp_path.parents[1])):
            parent.chmod(parent.stat().st_mode | 0o055)
    code = (
        "import os, sys\nfrom sparl.cli import main\n"
        "assert main([*sys.argv[1:-1], os.devnull]) == 2\n"  # as root, to import everything
        "os.getuid() or os.setuid(65534)\nsys.exit(main(sys.argv[1:]))"
    )
    words = ["train", "--env", "Pendulum-v1", *flags(), "--run-dir"]
    for place in (closed, closed / "run"):
        done = subprocess.run([sys.executable, "-c", code, *words, str(place)],
                              capture_output=True, text=True)  # fmt: skip
        assert done.returncode == 2, done.stderr
        assert f"sparl: run folder {place} cannot be written: Permission denied\n" in done.stderr


# ----------------------- malformed values


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--steps ten --seed x --stepz 5 --tau 3 --gama 1",
         ["--steps is 'ten' but must be an integer; ", "--seed is 'x' but must be an integer; ",
          "unknown option --stepz (did you mean --steps?); ",
          "unknown option --gama (did you mean --gamma?); ", "tau is 3.0 but must be in [0, 1]"]),
        ("--actor-sparsity 1.5 --gamma nan --hidden 0", [(
            "actor_sparsity is 1.5 but must be in [0, 1]"
        ),
         "gamma is nan", "hidden is (0,) but must be 1 to 100 widths in [1, 2^28) (units)"]),
        ("--learning-rate inf --batch-size -1 --threads 0",
         ["learning_rate is inf but must be in [0, 1000] (step size)", "batch_size is -1",
          "threads is 0 but must be in [1, 1024] (threads)"]),
        ("--drop largest", ["'nearest_zero_of_each_sign'", "'smallest'"]),
        ("--hidden", ["--hidden needs a value"]),
        ("--run-dir", ["--run-dir needs a value"]),
    ],
)  # fmt: skip
def test_all_malformed_values_are_reported_at_once(
    words: str, says: list[str], error_line: Callable[..., str]
) -> None:
    said = error_line(2, "train", *words.split())
    assert [text for text in says if text not in said] == []


def test_arrays_and_numbers_of_numpy_are_values_of_fields() -> None:
    fields = {"hidden": np.array([8, 4]), "seed": np.int64(3), "tau": np.float32(0.5)}
    assert typed_fields(fields, "train") == {"hidden": (8, 4), "seed": 3, "tau": 0.5}
    with pytest.raises(
        UsageError, match=r"hidden is array.* 0\], \[0.* but must be a list of integers"
    ):
        typed_fields({"hidden": np.zeros((2, 2), np.int64)}, "train")


def test_values_with_any_nesting_get_a_message() -> None:
    deep: list[Any] = []
    for _ in range(2000):
        deep = [deep]
    for value in (deep, [np.array([3, 4])]):
        with pytest.raises(UsageError, match=r"hidden is \[.* but must be a list of integers"):
            typed_fields({"hidden": value}, "train")


def test_what_is_not_a_run_is_rejected() -> None:
    for function in (sparl.load, sparl.resume):
        with pytest.raises(UsageError, match="run is None but must be the folder of a run"):
            function(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", ["is empty"]),
        ("# nothing\n", ["is empty"]),
        ("\0", ["cannot be read"]),
        ("seed = " + "9" * 6000, ["cannot be read"]),
        ("tau = " + "[" * 100_000, ["cannot be read"]),
        ("env = '" + "x" * 2_000_000 + "'", ["larger than the maximum of 524,288 bytes"]),
        ("learning_rat = 1\nsteps = 1.5\ntau = nan\nbatch_size = 0\nseed = 1979-05-27",
         ["did you mean learning_rate?", "steps is 1.5 but must be an integer",
          "tau is nan but must be in", "batch_size is 0 but must be in", "seed is datetime.date"]),
        ("[seed]\nx = 1", ["seed is {'x': 1} but must be an integer"]),
        ("unset = ['steps']", ["unset is ['steps'] but must be a list of names"]),
    ],
)  # fmt: skip
def test_all_errors_of_malformed_files_are_reported_at_once(
    content: str, says: list[str], tmp_path: Path, error_line: Callable[..., str]
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(content)
    said = error_line(2, "train", "--config", str(file))
    assert str(file) in said
    assert [text for text in says if text not in said] == []
    error_line(2, "study", "run", str(file))


def test_an_error_message_is_one_line_of_limited_length(error_line: Callable[..., str]) -> None:
    said = error_line(2, "train", "--method", "\x1b[31m\n" + 9000 * "y")
    assert len(said) < 4000
    assert "unknown method '\\x1b[31m\\n" in said


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-3, 300), st.floats(), st.floats(0, 1),
    st.text(max_size=5), st.lists(st.integers(0, 40), max_size=3),
    st.lists(st.floats(0, 1), max_size=4),
    st.sampled_from(["random", "gradient", "tanh", "both", "SAC", "erdos_renyi", "auto"]),
)  # fmt: skip


@given(
    st.sampled_from(sorted(METHODS)),
    st.dictionaries(st.sampled_from([*FIELDS, "gama", "lambda3"]), VALUES, max_size=6),
)
@settings(max_examples=100)
def test_any_configuration_is_rejected_or_can_be_planned(
    method: str, fields: dict[str, Any]
) -> None:
    fields = {k: v for k, v in fields.items() if k not in ("method", "env")}
    try:
        config = preset(method, "HalfCheetah-v5", **typed_fields(fields, "here"))
        check(config)
        nets = architecture(config, 17, 6)
    except UsageError as error:
        said = str(error)
    else:
        said = ""
    assert "\n" not in said
    assert [name for name in fields if name not in FIELDS and f"'{name}'" not in said] == []
    if said:
        return
    assert all(
        0 <= layer.connections <= layer.n_in * layer.n_out
        for spec in nets.networks.values()
        for layer in spec.layers
    )
    assert plan_text(config, nets)


@given(st.dictionaries(st.sampled_from([*FIELDS, "gama"]), VALUES, max_size=5))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_file_content_is_rejected_or_read(tmp_path: Path, fields: dict[str, Any]) -> None:
    from sparl.arguments import parse_config

    file = tmp_path / "config.toml"
    file.write_bytes(tomli_w.dumps({k: v for k, v in fields.items() if v is not None}).encode())
    try:
        config = parse_config(["--config", str(file)], "test")
    except UsageError:
        return
    assert config.method in METHODS


# ----------------------- clock jumps


def test_durations_do_not_depend_on_changes_of_the_system_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jumps = iter(range(10**9, 0, -(10**5)))
    for name in ("time", "time_ns"):
        monkeypatch.setattr(time, name, lambda: next(jumps))
    run = sparl.train("TD3", "bad_environments:Good-v0", quiet=True,
                      run_dir=tmp_path / "run", **FIELDS_OF_RUNS)  # fmt: skip
    seconds = [float(row["wall_seconds"]) for row in RunFolder(run.path).rows("evaluations.csv")]
    assert 0 <= seconds[0] <= seconds[1] <= seconds[-1] <= run.seconds < 600


# ----------------------- last line of a metrics file truncated


def test_a_truncated_line_is_omitted_and_written_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = {"quiet": True, **FIELDS_OF_RUNS}
    whole = sparl.train("TD3", "bad_environments:Good-v0", run_dir=tmp_path / "whole", **fields)
    with stopped_at(83):
        run = sparl.train("TD3", "bad_environments:Good-v0", run_dir=tmp_path / "run", **fields)
    for name in ("evaluations.csv", "metrics.csv"):
        content = (run.path / name).read_bytes()
        (run.path / name).write_bytes(content + content.splitlines()[-1][:-3])
        lines = [int(row["env_step"]) for row in RunFolder(run.path).rows(name)]
        assert lines == [0, 40, 80, 83][: len(lines)]
        assert len(lines) >= 3
    assert main(["info", str(run.path)]) == 0
    assert "evaluations: 3\n" in capsys.readouterr().out
    steps = [step for step, _ in sparl.resume(run).evaluations]
    assert steps == [step for step, _ in whole.evaluations] == [0, 40, 80, 90]


# ----------------------- resumed on another instruction set or library version


@pytest.fixture
def _isa() -> Iterator[None]:
    before = _native.isa()
    yield
    _native.use_isa(before)


@pytest.mark.usefixtures("_isa")
@pytest.mark.parametrize("what", ["instruction_set", "numpy", "mujoco"])
def test_a_run_resumed_on_another_machine_is_marked(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with stopped_at(33):
        run = sparl.train("TD3", "Hopper-v5", quiet=True, run_dir=tmp_path / "run",
                          **FIELDS_OF_RUNS).path  # fmt: skip
    if what == "instruction_set":
        was = _native.isa()
        others = [isa for isa in _native.available_isas() if isa != was]
        if not others:
            pytest.skip("this machine knows only one")
        now = others[0]
        _native.use_isa(now)
    else:
        versions = machine.versions()
        was, now = versions[what], "0.0"
        monkeypatch.setattr(machine, "versions", lambda: {**versions, what: now})
    assert main(["resume", str(run)]) == 0
    because = f"{what} is now {now} but was {was}"
    assert f"warning: resuming at step 33, not exactly: {because}\n" in capsys.readouterr().err
    about = json.loads((run / "run.json").read_text())
    assert (about["state"], about["bit_exact"]) == ("finished", False)
    assert about["continued"] == [{"env_step": 33, "not_exact_because": [because]}]


# ----------------------- one of a study's runs always fails


@pytest.mark.slow
def test_a_run_that_always_fails_does_not_affect_the_others_and_is_not_averaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    file = tmp_path / "study.toml"
    small = {k: v for k, v in FIELDS_OF_RUNS.items() if k != "threads"}
    file.write_bytes(tomli_w.dumps({
        "methods": ["TD3"], "environments": ["bad_environments:FailsForSeed1-v0"], "seeds": 3,
        "fields": small,
    }).encode())  # fmt: skip
    words = ["--import", "bad_environments", "study", "run", str(file)]
    words += ["--folder", str(tmp_path / "runs"), "--processes", "2"]
    for _ in range(2):
        assert main(words) == 1
        assert "3 runs: 2 finished, 1 failed" in capsys.readouterr().out
    words = ["report", "--tables-only", str(tmp_path / "runs"), "--out", str(tmp_path / "report")]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "2 of 3" in said
