"""Test the encoding of constants, exported C code, rejected exports, and sizes."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import io
import re
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import sparl
from sparl.cli import main
from sparl.export import arrays, c_check, command
from sparl.export.c_header import TOLERANCE, VECTORS
from sparl.export.c_source import CodedLayer, CSource, Tanh, c_source
from sparl.export.policy import Layer, Policy
from sparl.export.task import describe
from sparl.networks.spec import Activation
from sparl.sparse.pattern import Pattern
from sparl.training.environment import Environment, make_environment
from sparl.training.evaluate import Evaluator
from sparl.training.run_folder import RunFolder
from sparl.types import Array

SMALL = {
    "env": "Pendulum-v1", "steps": 300, "warmup_env_steps": 100, "hidden": (40, 24),
    "batch_size": 16, "evaluate_every_env_steps": 300, "evaluation_episodes": 3, "threads": 1,
}  # fmt: skip


CPP_FLAGS = ("-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O2")


@pytest.fixture(scope="module", params=["DS-TD3", "RLx2-SAC"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    sparl.train(request.param, quiet=True, run_dir=str(path), **SMALL)
    return path


def layer(rng: np.random.Generator, n_in: int, n_out: int, count: int) -> Layer:
    positions = np.sort(rng.choice(n_in * n_out, count, replace=False)).astype(np.int64)
    weight = rng.normal(0, 0.3, count).astype(np.float32)
    return Layer(Pattern(n_in, n_out, positions), weight, rng.normal(size=n_out).astype(np.float32))


def policy(rng: np.random.Generator, *shapes: tuple[int, int, int], bound: float = 1) -> Policy:
    n_act = shapes[-1][1]
    layers = [replace(layer(rng, *shape), activation="relu") for shape in shapes]
    layers[-1] = replace(layers[-1], activation="tanh")
    return Policy(layers, np.full(n_act, -bound), np.full(n_act, bound + (bound > 1)))


def compiled_actions(policy: Policy, observations: Array, tanh: Tanh = "tanhf") -> Array:
    command = c_check.compiler()
    assert command is not None
    source = c_source(policy, "policy", observations[:VECTORS], tanh, [])
    return c_check.run(command, source, "policy", observations)


# ------------------------------------------------------------------ coding


def test_coding_equals_a_table_computed_by_hand() -> None:
    pattern = Pattern(4, 3, np.array([1, 3, 8, 9, 11]))  # inputs 1, 3 | none | 0, 1, 3
    coded = CodedLayer.of(Layer(pattern, np.ones(5, np.float32), np.zeros(3, np.float32)))
    assert coded.counts is not None
    assert coded.gaps is not None
    assert (coded.counts.dtype, coded.gaps.dtype) == (np.uint8, np.uint8)
    assert coded.counts.tolist() == [2, 0, 3]
    assert coded.gaps.tolist() == [1, 2, 0, 1, 2]


def test_sixteen_bits_only_where_eight_do_not_suffice() -> None:
    def kind(n_in: int, positions: list[int] | range) -> str:
        values = np.ones(len(positions), np.float32)
        pattern = Pattern(n_in, 1, np.array(positions))
        return CodedLayer.of(Layer(pattern, values, np.zeros(1, np.float32))).kind

    assert kind(600, [255, 510]) == "sparse_gaps8"
    assert kind(600, [256]) == "sparse_gaps16"
    assert kind(600, range(255)) == "sparse_gaps8"
    assert kind(600, range(256)) == "sparse_gaps8_counts16"
    assert kind(600, range(600)) == "dense"


def test_eight_bit_weights_equal_those_computed_by_hand() -> None:
    pattern = Pattern(3, 2, np.array([0, 1, 2]))  # the second output has none
    weight = np.array([-2.54, 0.011, 1.27], np.float32)
    quantised = Layer(pattern, weight, np.zeros(2, np.float32)).quantised()
    assert quantised.codes is not None
    assert quantised.codes.tolist() == [-127, 1, 64]
    assert quantised.weight == pytest.approx([-2.54, 0.02, 1.28])


# ------------------------------------------------------------------ compiled


@pytest.mark.parametrize("tanh", ["tanhf", "built-in"])
@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize(
    ("shapes", "bound"),
    [
        (((17, 64, 300), (64, 64, 200), (64, 6, 384)), 1),  # the last layer is dense
        (((700, 40, 60), (40, 30, 200), (30, 2, 20)), 2.5),  # 16-bit distances, scaled actions
        (((700, 2, 900), (2, 1, 1)), 1),  # 16-bit counts
        (((5, 3, 7),), 1),  # no hidden layer
        (((5, 8, 0), (8, 3, 0)), 1),  # no connections
    ],
)
def test_compiled_c_gives_the_policys_actions(
    shapes: tuple[tuple[int, int, int], ...], bound: float, int8: bool, tanh: Tanh
) -> None:
    rng = np.random.default_rng(0)
    exported = policy(rng, *shapes, bound=bound)
    if int8:
        exported = exported.quantised()
    observations = rng.normal(size=(200, exported.n_obs)).astype(np.float32)
    actions = compiled_actions(exported, observations, tanh)
    assert exported.distances(actions, observations).max() < TOLERANCE


@pytest.mark.parametrize("tanh", ["tanhf", "built-in"])
@pytest.mark.parametrize("hidden", ["linear", "relu", "tanh"])
@pytest.mark.parametrize("last", ["linear", "relu", "tanh"])
def test_every_activation_is_exported(hidden: Activation, last: Activation, tanh: Tanh) -> None:
    rng = np.random.default_rng(2)
    first, second, third = policy(rng, (5, 8, 20), (8, 6, 30), (6, 2, 9)).layers
    layers = [replace(layer, activation=hidden) for layer in (first, second)]
    exported = Policy([*layers, replace(third, activation=last)], -np.ones(2), np.ones(2))
    x = rng.normal(size=(VECTORS, 5)).astype(np.float32)
    y = x.astype(np.float64)
    functions = {"linear": lambda v: v, "relu": lambda v: np.maximum(v, 0), "tanh": np.tanh}
    for each in exported.layers:
        dense = np.zeros((each.pattern.n_out, each.pattern.n_in))
        dense[each.pattern.outputs, each.pattern.inputs] = each.weight
        y = functions[each.activation](y @ dense.T + each.bias)
    wanted = np.clip(y, -1, 1)
    for actions in (
        exported.predict(x),
        compiled_actions(exported, x, tanh),
        arrays.actions(arrays.npz(exported), x),
    ):
        np.testing.assert_allclose(actions, wanted, atol=1e-5)


def test_the_built_in_tanh_is_accurate() -> None:
    identity = Layer(Pattern.dense(1, 1), np.ones(1, np.float32), np.zeros(1, np.float32), "tanh")
    x = np.linspace(-12, 12, 20_001, dtype=np.float32)[:, None]
    actions = compiled_actions(Policy([identity], -np.ones(1), np.ones(1)), x, "built-in")
    assert np.abs(actions - np.tanh(x.astype(np.float64))).max() < 4e-7
    assert np.abs(actions).max() == 1


def test_self_check_finds_a_wrong_constant() -> None:
    rng = np.random.default_rng(1)
    exported = policy(rng, (5, 8, 20), (8, 2, 9))
    first, last = exported.layers
    other = replace(last, bias=last.bias + np.float32(1e-4))
    observations = rng.normal(size=(VECTORS, 5)).astype(np.float32)
    right = c_source(exported, "policy", observations, "tanhf", [])
    changed = Policy([first, other], exported.low, exported.high)
    wrong = c_source(changed, "policy", observations, "tanhf", [])
    vectors = right.source[right.source.index("#ifdef POLICY_SELF_CHECK") :]
    constants = wrong.source[: wrong.source.index("#ifdef POLICY_SELF_CHECK")]
    mixed = type(right)(right.header, constants + vectors, 0, 0)
    command = c_check.compiler()
    assert command is not None
    with pytest.raises(sparl.errors.DataError, match="failed its check: an action differs by"):
        c_check.run(command, mixed, "policy", observations)


def written(folder: Path, exported: Policy, about: list[str] | None = None) -> Path:
    """The folder with policy.h and policy.c."""
    observations = np.random.default_rng(2).normal(size=(VECTORS, exported.n_obs))
    source = c_source(exported, "policy", observations.astype(np.float32), "tanhf", about or [])
    folder.mkdir(exist_ok=True)
    (folder / "policy.h").write_text(source.header)
    (folder / "policy.c").write_text(source.source)
    return folder


def compiled(*words: str | Path) -> None:
    subprocess.run([*words], check=True)


@pytest.mark.parametrize("language", [("gcc", *c_check.FLAGS), ("g++", *CPP_FLAGS, "-x", "c++")])
@pytest.mark.parametrize("bound", [1, 2.5])
def test_exported_c_links_from_cpp(tmp_path: Path, bound: float, language: tuple[str, ...]) -> None:
    folder = written(tmp_path, policy(np.random.default_rng(1), (5, 8, 20), (8, 2, 9), bound=bound))
    library, program, check = folder / "policy.o", folder / "program", "-DPOLICY_SELF_CHECK"
    compiled(*language, check, "-c", folder / "policy.c", "-o", library)
    harness = Path(__file__).parent / "exported.cpp"
    compiled("g++", *CPP_FLAGS, check, f"-I{folder}", harness, library, "-o", program, "-lm")
    assert subprocess.run([program], check=False).returncode == 0


def test_a_macro_puts_activations_in_static_memory(tmp_path: Path) -> None:
    exported = policy(np.random.default_rng(1), (5, 256, 200), (256, 256, 900), (256, 2, 90))
    folder = written(tmp_path, exported)
    command = ("gcc", *c_check.FLAGS, "-Wframe-larger-than=512", "-c", folder / "policy.c", "-o")
    compiled(*command, folder / "static.o", "-DPOLICY_STATIC_BUFFERS")
    with pytest.raises(subprocess.CalledProcessError):
        compiled(*command, folder / "stack.o")
    sizes = subprocess.run(
        ["size", "-A", folder / "static.o"], check=True, capture_output=True, text=True
    ).stdout
    assert re.search(r"^\.bss\s+2048\b", sizes, re.M)
    observations = np.random.default_rng(3).normal(size=(50, 5)).astype(np.float32)
    source = c_source(exported, "policy", observations[:VECTORS], "tanhf", [])
    static = "#define POLICY_STATIC_BUFFERS\n" + source.source
    actions = c_check.run("gcc", replace(source, source=static), "policy", observations)
    assert exported.distances(actions, observations).max() < TOLERANCE


@pytest.mark.parametrize("tanh", ["tanhf", "built-in"])
@pytest.mark.parametrize("bound", [1, 2.5])
def test_a_nan_makes_the_actions_that_depend_on_it_nan(tanh: Tanh, bound: float) -> None:
    ones = np.ones(2, np.float32)
    hidden = Layer(Pattern(3, 2, np.array([0, 5])), ones, ones, "relu")
    last = Layer(Pattern(2, 2, np.array([0, 3])), ones, ones, "tanh")
    exported = Policy([hidden, last], np.full(2, -bound), np.full(2, bound))
    observations = np.zeros((VECTORS, 3), np.float32)
    observations[1, 0] = observations[2, 1] = observations[3, 2] = np.nan
    command = c_check.compiler()
    assert command is not None
    source = c_source(exported, "policy", np.zeros((VECTORS, 3), np.float32), tanh, [])
    actions = c_check.run(command, source, "policy", observations)
    assert np.isnan(actions[:4]).tolist() == [
        [False, False], [True, False], [False, False], [False, True],
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "*/ int injected; /*", "/* opened", "ends with a backslash \\", "*\\\n/ int injected; /*",
        "*??/\n/ int injected; /*", "??/", "two\nlines */ int injected;", "\r*/ int injected;",
        "\x1b[2J", "\u202e\u2066", "L\xe4ufer \u8d70\u308b", "\x00\udcff", "\u2028*/",
        "*//*/ int injected; /*/*", "*", "/",
    ],
)  # fmt: skip
def test_a_text_in_the_header_stays_in_its_comment(text: str, tmp_path: Path) -> None:
    exported = policy(np.random.default_rng(1), (5, 8, 20), (8, 2, 9))

    def preprocessed(about: list[str]) -> str:
        folder = written(tmp_path, exported, about)
        compiled("gcc", *c_check.FLAGS, "-c", folder / "policy.c", "-o", folder / "policy.o")
        return subprocess.run(
            ["gcc", "-std=c99", "-E", "-P", folder / "policy.h"],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip

    assert preprocessed([text, text]) == preprocessed([])
    comment = (tmp_path / "policy.h").read_text().partition("*/")[0]
    assert comment.isascii()
    assert comment.replace("\n", "").isprintable()


def test_bounds_are_not_exceeded_after_rounding() -> None:
    """The float32 number nearest to 0.1 is greater than 0.1."""
    layer_ = Layer(Pattern.dense(1, 1), np.ones(1, np.float32), np.zeros(1, np.float32))
    exported = Policy([layer_], np.full(1, -0.1), np.full(1, 0.1))
    observations = np.array([[-50], [50]] * VECTORS, np.float32)
    stored = np.load(io.BytesIO(arrays.npz(exported)))
    for actions in (
        exported.predict(observations),
        compiled_actions(exported, observations),
        arrays.actions(arrays.npz(exported), observations),
        np.array([[stored["low"][0]], [stored["high"][0]]]),
    ):
        assert actions.min() == pytest.approx(-0.1)
        assert actions.max() == pytest.approx(0.1)
        assert np.abs(actions.astype(np.float64)).max() <= 0.1


def test_sizes_of_a_95_percent_sparse_actor() -> None:
    rng = np.random.default_rng(0)
    actor = policy(rng, (17, 256, 932), (256, 256, 1747), (256, 6, 894))
    assert actor.connections == 3573
    observations = np.zeros((VECTORS, 17), np.float32)
    size = c_source(actor, "policy", observations, "tanhf", []).constant_bytes
    assert size == 3573 * 5 + (256 + 256 + 6) * 5 <= 21_000
    size = c_source(actor.quantised(), "policy", observations, "tanhf", []).constant_bytes
    assert size == 3573 * 2 + (256 + 256 + 6) * 9 <= 12_000


# ------------------------------------------------------------------ the header


def described(env: str, **fields: Any) -> tuple[Environment, list[str]]:
    """Return an environment and its description in the header."""
    environment = Environment(env, **fields)
    n_obs, n_act, scale = environment.n_obs, environment.n_act, environment.action_scale
    linear = layer(np.random.default_rng(0), n_obs, n_act, n_act)
    return environment, describe(
        environment.env_id, environment, Policy([linear], scale.low, scale.high)
    )


@pytest.mark.parametrize(
    ("env", "skipped", "n_qpos"),
    [("HalfCheetah-v5", 1, 8), ("Hopper-v5", 1, 5), ("Swimmer-v5", 2, 3)],
)
def test_the_order_of_a_mujoco_tasks_observation(env: str, skipped: int, n_qpos: int) -> None:
    environment, lines = described(env)
    last = environment.n_obs - 1
    assert lines[0] == f"Observation: {last + 1} numbers, in the order and units of {env}"
    assert lines[1].startswith(f"  [0] to [{n_qpos - 1}]: unbounded, MuJoCo's qpos from entry ")
    assert lines[1].endswith(f"entry {skipped} onwards")
    assert lines[2] == f"  [{n_qpos}] to [{last}]: unbounded, MuJoCo's qvel"
    observation = environment.reset(seed=0)
    data = environment.gym.unwrapped.data  # type: ignore[attr-defined]
    np.testing.assert_array_equal(observation[:n_qpos], data.qpos[skipped:].astype(np.float32))
    np.testing.assert_array_equal(observation[n_qpos:], data.qvel.astype(np.float32))
    environment.close()


def test_actions_and_control_period_are_described() -> None:
    _, lines = described("Walker2d-v5")
    assert (
        "  [1]: from -1.0 to 1.0, control of MuJoCo's actuator 1 (joint leg_joint, gear 100)"
        in lines
    )
    assert lines[-1].endswith(": 0.008 s of simulated time (4 simulator steps of 0.002 s)")
    _, lines = described("Pendulum-v1")
    assert lines == [
        "Observation: 3 numbers, in the order and units of Pendulum-v1",
        "  [0] to [1]: from -1.0 to 1.0",
        "  [2]: from -8.0 to 8.0",
        "Action: 1 numbers, in the order and units of Pendulum-v1",
        "  [0]: from -2.0 to 2.0",
        "Units: see the documentation of the environment; Gymnasium has no field for them.",
        "Control period (time between two actions): unknown",
    ]


def test_a_simulator_behind_a_wrapper_is_not_described(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wrapper may repeat or change actions."""
    monkeypatch.setattr(gymnasium.envs.registration, "registry", dict(gymnasium.registry))
    gymnasium.register(
        "Rescaled-v0",
        lambda: gymnasium.wrappers.RescaleAction(gymnasium.make("HalfCheetah-v5"), -0.5, 0.5),
        max_episode_steps=50,
    )
    environment, lines = described("Rescaled-v0")
    environment.close()
    assert "MuJoCo" not in "".join(lines)
    assert "  [0] to [5]: from -0.5 to 0.5" in lines
    assert lines[-1].endswith("unknown")


def test_the_header_describes_the_agent(run: Path, tmp_path: Path) -> None:
    assert main(["export", str(run), "--format", "c", "--out", str(tmp_path)]) == 0
    header = (tmp_path / "policy.h").read_text()
    digest = hashlib.sha256((run / "agent.safetensors").read_bytes()).hexdigest()
    method = RunFolder.open(run).config().method
    for wanted in (
        f"Exported by sparl {version('sparl')}\n",
        f"Agent: {method} on Pendulum-v1, seed 0, agent saved at step 300\n",
        f"SHA-256 of agent.safetensors: {digest}\n",
        "[2]: from -8.0 to 8.0\n",
        "Control period (time between two actions): unknown\n",
        "Reentrancy: policy_act is reentrant",
        "MIT No Attribution (MIT-0)",
        "WITHOUT WARRANTY OF ANY KIND",
    ):
        assert wanted in header
    for name in ("policy.h", "policy.c"):
        first = (tmp_path / name).read_text().splitlines()[0]
        assert "SPDX-License-Identifier: MIT-0" in first


def test_the_header_says_that_contact_forces_are_zero(tmp_path: Path) -> None:
    run = tmp_path / "run"
    sparl.train(
        "Static-TD3", "Ant-v3", quiet=True, run_dir=str(run), steps=60, warmup_env_steps=50,
        batch_size=4, hidden=(8,), evaluation_episodes=1, max_episode_steps=20, threads=1,
    )  # fmt: skip
    assert main(["export", str(run), "--format", "c"]) == 0
    header = (run / "export" / "policy.h").read_text()
    assert "84 contact-force entries of Ant-v3 are zeros" in header
    assert (
        "[7]: from -1.0 to 1.0, control of MuJoCo's actuator 7 (joint ankle_3, gear 150)" in header
    )


# ------------------------------------------------------------------ the command


@pytest.mark.parametrize("int8", [False, True])
def test_the_compiled_c_plays_complete_episodes(
    run: Path, tmp_path: Path, int8: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--int8"] if int8 else []
    assert main(["export", str(run), "--format", "c", "--out", str(tmp_path), *flags]) == 0
    printed = capsys.readouterr().out
    assert "checked on 600 observations" in printed
    assert ("8-bit weights: return" in printed) == int8
    library = tmp_path / "policy.so"
    compiler = c_check.compiler()
    assert compiler is not None
    subprocess.run(
        [compiler, *c_check.FLAGS, "-fPIC", "-shared", tmp_path / "policy.c", "-o", library, "-lm"],
        check=True,
    )
    act = ctypes.CDLL(str(library)).policy_act

    def through_c(observations: Array) -> Array:
        actions = np.empty((len(observations), 1), np.float32)
        for observation, action in zip(observations, actions, strict=True):
            pointers = (
                row.ctypes.data_as(ctypes.POINTER(ctypes.c_float)) for row in (observation, action)
            )
            act(*pointers)
        return actions / 2  # Pendulum's torque is in [-2, 2]

    exported = Policy.of(sparl.load(run))
    if int8:
        exported = exported.quantised()
    config = RunFolder.open(run).config()
    evaluator = Evaluator(lambda: make_environment(config), 3, config.evaluation_seed)
    ours, theirs = evaluator.evaluate(exported), evaluator.evaluate(through_c)
    evaluator.close()
    assert theirs.returns == pytest.approx(ours.returns, rel=1e-3)
    if int8:
        assert f"return {ours.mean:,.3f}" in printed


@pytest.mark.parametrize(
    ("every", "one", "code"), [(5e-7, 5e-6, 0), (1.8e-6, 0, 3), (0, 1.8e-5, 3), (0, np.nan, 3)]
)
def test_an_export_that_gives_other_actions_is_not_written(
    every: float, one: float, code: int,
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The differences of every action and of a single one are in units of half the range, 2."""

    def run_c(compiler: str, source: CSource, name: str, observations: Array) -> Array:
        actions = Policy.of(sparl.load(run)).predict(observations) + np.float32(2 * every)
        actions[7] += 2 * one
        return actions

    monkeypatch.setattr(command.c_check, "run", run_c)
    assert main(["export", str(run), "--format", "c", "--out", str(tmp_path / "out")]) == code
    assert ("nothing was written" in capsys.readouterr().err) == (code == 3)
    assert (tmp_path / "out").exists() == (code == 0)


@pytest.mark.parametrize("flags", [["--int8"], ["--tanh", "built-in"]])
def test_options_of_c_are_rejected_for_other_formats(
    run: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(run), "--format", "npz", *flags]) == 2
    assert "can be used only with --format c" in capsys.readouterr().err


def test_exported_arrays_give_the_policys_actions(run: Path) -> None:
    assert main(["export", str(run), "--format", "npz", "--name", "mine"]) == 0
    data = (run / "export" / "mine.npz").read_bytes()
    agent = sparl.load(run)
    observations = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    assert arrays.actions(data, observations) == pytest.approx(
        agent.predict(observations), abs=2e-6
    )
    with np.load(run / "export" / "mine.npz") as stored:
        assert stored["layer1.weight"].size == agent.actor.layout.pattern((0, 1)).connections
        assert (stored["low"], stored["high"]) == (-2, 2)


def test_a_folder_named_like_a_format_does_not_select_it(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "c-trainer"
    with contextlib.chdir(tmp_path):
        assert main(["export", str(run), "--format", "npz", "--out", "c-trainer"]) == 0
    assert (out / "policy.npz").exists()


def test_names_must_be_c_names(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run), "--format", "c", "--name", "a-b"]) == 2
    assert "--name is 'a-b' but must be a C identifier" in capsys.readouterr().err
    for name in ("math", "a" * 64):
        assert main(["export", str(run), "--format", "c", "--name", name]) == 2
        assert "must not be the name of a header" in capsys.readouterr().err


def test_a_missing_extra_is_reported_in_one_line(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "sparl.export.onnx_model", raising=False)
    monkeypatch.delattr("sparl.export.onnx_model", raising=False)
    assert main(["export", str(run), "--format", "onnx"]) == 2
    assert "pip install 'sparl[onnx]'" in capsys.readouterr().err
