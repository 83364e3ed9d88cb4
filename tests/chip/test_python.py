"""Test that agents can be exported from Python to a device and read back."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sparl
from chip.library import DAMAGED, OK, UPDATED, Chip
from sparl.chip.sizes import Sizes
from sparl.chip.state import read_block
from sparl.cli import main
from sparl.training.agent_file import load_networks
from sparl.training.run_folder import RunFolder

METHODS = ("TD3", "Static-TD3", "SET-TD3", "DS-TD3")


def train(folder: Path, method: str, **changes: Any) -> Path:
    run = folder / "run"
    sparse = {} if method == "TD3" else {
        "allocation": "erdos_renyi", "sparse_output": True, "actor_sparsity": 0.6,
        "critic_sparsity": 0.5,
    }  # fmt: skip
    sparl.train(
        method, "Pendulum-v1", quiet=True, run_dir=str(run), steps=220, warmup_env_steps=100,
        hidden=(24, 16), batch_size=16, evaluate_every_env_steps=220, evaluation_episodes=1,
        **{**sparse, **changes},
    )  # fmt: skip
    return run


@pytest.fixture(scope="module")
def ds_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(
        tmp_path_factory.mktemp("ds"), "DS-TD3", rewire_every_updates=10, rewire_fraction=0.3
    )


def exported(out: Path, *args: object) -> Chip:
    """Export an agent, compile the sources, and return the loaded agent."""
    assert main(["export", "--format", "c-trainer", "--out", str(out), *map(str, args)]) == 0
    chip = Chip(out, header=out / "sparl_chip_config.h")
    chip.init(99)
    assert chip.load((out / "sparl_chip_state.bin").read_bytes()) == OK
    return chip


@pytest.mark.parametrize("method", METHODS)
def test_a_run_continues_on_the_device_and_returns(method: str, tmp_path: Path) -> None:
    run = train(tmp_path, method)
    chip = exported(tmp_path / "out", run, "--capacity", 500)
    agent, networks, optimizer = load_networks(run)
    assert optimizer is not None
    moments, steps = optimizer
    assert steps == {"actor": 60, "critics": 120}
    for index, place in enumerate(chip.places()):
        name, member = ("actor", 0) if index < 3 else ("critics", index // 3 - 1)
        key = f"member{member}.layer{index % 3}"
        np.testing.assert_array_equal(chip.positions(place), networks[f"{name}.{key}.positions"])
        for field, values, prefix in (
            ("parameters", networks, name), ("m", moments, f"{name}.m"),
            ("v", moments, f"{name}.v"),
        ):  # fmt: skip
            flat = np.concatenate([values[f"{prefix}.{key}.{b}"] for b in ("weight", "bias")])
            np.testing.assert_array_equal(chip.state[field][place.weights : place.end], flat)
        target = np.zeros(place.n_in * place.n_out)
        target[networks[f"{name}_target.{key}.positions"]] = networks[f"{name}_target.{key}.weight"]
        np.testing.assert_array_equal(chip.dense(place, "target").reshape(-1), target)
    assert [int(adam["steps"]) for adam in chip.state["adam"]] == [60, 120, 120]
    observations = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    for observation in observations:
        action = chip.act(observation)[1]
        np.testing.assert_allclose(2 * action, agent.predict(observation), atol=2e-6)
    noise = [chip.act(observations[0], explore=True)[1] - chip.act(observations[0])[1]
             for _ in range(200)]  # fmt: skip
    assert np.abs(noise).mean() < 0.1  # the policy acts in the warm-up, not a random policy

    rng = np.random.default_rng(1)
    chip.begin(rng.normal(size=3))
    while chip.state["updates"] < 12:
        action = chip.act(rng.normal(size=3), explore=True)[1]
        chip.store(action, rng.normal(), rng.normal(size=3))
        assert chip.work() >= 0
    dump = tmp_path / "dump.bin"
    dump.write_bytes(chip.save() + b"\xff" * 100)  # the rest of a flash page
    back = tmp_path / "back"
    assert main(["chip", "read", str(dump), "--like", str(run), "--out", str(back)]) == 0
    learned = sparl.load(back)
    for observation in observations:
        action = chip.act(observation)[1]
        np.testing.assert_allclose(2 * action, learned.predict(observation), atol=2e-6)
    assert main(["evaluate", str(back), "--episodes", "1"]) == 0
    assert main(["export", str(back), "--format", "npz", "--out", str(tmp_path / "npz")]) == 0
    again = exported(tmp_path / "again", back, "--capacity", 500)
    assert int(again.state["adam"][1]["steps"]) == int(chip.state["adam"][1]["steps"])
    np.testing.assert_array_equal(again.state["parameters"], chip.state["parameters"])
    np.testing.assert_array_equal(again.state["m"], chip.state["m"])


def test_an_agent_of_another_method_than_the_run(
    ds_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["--method", "SET-TD3", "--env", "Pendulum-v1", "--hidden", "24", "16"]
    chip = exported(tmp_path / "a", *args)
    dump, back = tmp_path / "dump.bin", tmp_path / "back"
    dump.write_bytes(chip.save())
    assert main(["chip", "read", str(dump), "--like", str(ds_run), "--out", str(back)]) == 0
    config, like = RunFolder(back).config(), RunFolder(ds_run).config()
    assert (config.method, config.hidden) == ("SET-TD3", (24, 16))
    assert config.evaluation_episodes == like.evaluation_episodes
    assert main(["evaluate", str(back), "--episodes", "1"]) == 0
    assert "SET-TD3 on Pendulum-v1" in capsys.readouterr().out
    assert exported(tmp_path / "again", back).sizes.method == chip.sizes.method


def test_an_output_folder_that_cannot_be_written(
    ds_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A failed command leaves no folder, so that it can be repeated after a correction."""
    export = ["export", "--format", "c-trainer", "--method", "SET-TD3", "--out", str(tmp_path)]
    dump = tmp_path / "sparl_chip_state.bin"
    back = tmp_path / "back"
    words = ["chip", "read", str(dump), "--like", str(ds_run), "--out"]
    assert main([*export, "--env", "MountainCarContinuous-v0"]) == 0
    assert main([*words, str(back)]) == 3
    assert "name a run in the same task" in capsys.readouterr().err
    assert not back.exists()
    assert main([*export, "--env", "Pendulum-v1"]) == 0
    assert main([*words, str(dump / "x")]) == 2
    assert f"{dump / 'x'} cannot be created: Not a directory" in capsys.readouterr().err
    assert main([*words, str(back)]) == 0
    assert repr(sparl.load(back)).startswith("<TrainedAgent SET-TD3 on Pendulum-v1, update 0 on a ")
    capsys.readouterr()
    assert main(["evaluate", str(back), "--episodes", "1"]) == 0
    assert "agent saved at update 0 on a device" in capsys.readouterr().out


def test_own_patterns_of_targets(ds_run: Path, tmp_path: Path) -> None:
    chip = exported(tmp_path, ds_run, "--capacity", 500)
    networks = load_networks(ds_run)[1]
    differ = 0
    for index, place in enumerate(chip.places()):
        name, member = ("actor", 0) if index < 3 else ("critics", index // 3 - 1)
        key = f"{name}_target.member{member}.layer{index % 3}"
        target = chip.positions(place, target=True)
        np.testing.assert_array_equal(target, networks[f"{key}.positions"])
        differ += not np.array_equal(target, chip.positions(place))
    assert differ


def test_an_untrained_agent(tmp_path: Path) -> None:
    args = ["--method", "SET-TD3", "--env", "Pendulum-v1", "--seed", "3"]
    chip = exported(tmp_path / "a", *args)
    assert chip.sizes.actor == (192, 615, 64)
    assert chip.sizes.critic == (256, 564, 64)
    assert not chip.state["m"].any()
    again, other = exported(tmp_path / "b", *args), exported(tmp_path / "c", *args[:-1], 4)
    assert (chip.memory == again.memory).all()
    assert (chip.memory != other.memory).any()
    text = (tmp_path / "a" / "sparl_chip_config.h").read_text()
    assert "untrained SET-TD3 for Pendulum-v1, seed 3" in text
    assert "#define SPARL_CHIP_RANDOM_WARMUP 1" in text


@pytest.mark.parametrize("method", ["SET-TD3", "DS-TD3"])
def test_an_untrained_dense_agent_of_a_sparse_method(method: str, tmp_path: Path) -> None:
    chip = exported(tmp_path, "--env", "Pendulum-v1", "--method", method, "--sparsity", "0")
    assert not any(place.sparse for place in chip.places())


@pytest.mark.parametrize("storage", [("float16", "bfloat16"), ("float32", "float32")])
def test_storage(ds_run: Path, tmp_path: Path, storage: tuple[str, str]) -> None:
    replay, moments = storage
    chip = exported(tmp_path, ds_run, "--replay", replay, "--moments", moments)
    values = load_networks(ds_run)[2]
    assert values is not None
    place = chip.places()[1]
    m = chip.moment("m")[place.weights : place.biases]
    np.testing.assert_allclose(m, values[0]["actor.m.member0.layer1.weight"], rtol=4e-3, atol=1e-30)


def test_the_state_as_a_c_header(ds_run: Path, tmp_path: Path) -> None:
    exported(tmp_path, ds_run, "--capacity", 500)
    program = tmp_path / "program.c"
    program.write_text(
        '#include "sparl_chip.h"\n#include "sparl_chip_state.h"\n#include <stdio.h>\n'
        "static sparl_chip chip;\nint main(void) {\n"
        "    float observation[3] = {0.5f, 0.5f, 1}, action[1];\n"
        "    if (sparl_chip_load(&chip, sparl_chip_read_state, 0) != SPARL_CHIP_OK) return 1;\n"
        "    (void)sparl_chip_act(&chip, observation, SPARL_CHIP_EXPLOIT, action);\n"
        '    printf("%.9g\\n", (double)action[0]);\n    return 0;\n}\n'
    )
    done = tmp_path / "program"
    subprocess.run(
        ["cc", "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror",
         f"-I{tmp_path}", program, tmp_path / "sparl_chip.c", "-o", done, "-lm"],
        check=True,
    )  # fmt: skip
    printed = subprocess.run([done], check=True, capture_output=True, text=True).stdout
    expected = sparl.load(ds_run).predict([0.5, 0.5, 1])[0]
    assert 2 * float(printed) == pytest.approx(expected, abs=1e-5)


def test_agents_without_optimizer_or_critics(
    ds_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "old"
    subprocess.run(["cp", "-r", ds_run, old], check=True)
    manifest = json.loads((old / "agent.json").read_text())
    del manifest["optimizer"]
    (old / "agent.json").write_text(json.dumps(manifest))
    args = ["export", str(old), "--format", "c-trainer", "--out", str(tmp_path / "out")]
    assert main(args) == 3
    assert "--fresh-optimizer" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    chip = exported(tmp_path / "out", old, "--fresh-optimizer")
    assert not chip.state["v"].any()
    assert [int(adam["steps"]) for adam in chip.state["adam"]] == [0, 0, 0]
    manifest["networks"] = {"actor": manifest["networks"]["actor"]}
    arrays = {k: v for k, v in load_networks(old)[1].items() if k.startswith("actor.")}
    from sparl.training.tensors import digest, pack

    data = pack(arrays)
    (old / "agent.safetensors").write_bytes(data)
    manifest["file"]["sha256"] = digest(data)
    (old / "agent.json").write_text(json.dumps(manifest))
    assert main(args) == 3
    assert "lacks actor_target, critics, critics_target" in capsys.readouterr().err


def test_damaged_optimizer(
    ds_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "old"
    subprocess.run(["cp", "-r", ds_run, old], check=True)
    data = bytearray((old / "optimizer.safetensors").read_bytes())
    data[-1] ^= 1
    (old / "optimizer.safetensors").write_bytes(data)
    args = ["export", str(old), "--format", "c-trainer", "--out", str(tmp_path / "out")]
    assert main(args) == 3
    assert "damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--env", "Pendulum-v1", "--method", "RigL-TD3"], "TD3, Static-TD3, SET-TD3, DS-TD3"),
        (["--env", "Pendulum-v1", "--hidden", "8"], "two hidden layers"),
        (["--env", "Pendulum-v1", "--capacity", "5"], "at least 100"),
        (["--env", "Pendulum-v1", "--capacity", "20000000"], "less than 16,777,216"),
        (["--env", "Pendulum-v1", "--seed", "-1"], "seed is -1"),
        (["--env", "Pendulum-v1", "--hidden", "0", "8"], "hidden is (0, 8)"),
        (["--env", "Pendulum-v1", "--sparsity", "nan"], "--sparsity is nan"),
        (["--env", "Pendulum-v1", "--hidden", "512", "512", "--sparsity", "0.5"], "at most 65,535"),
        (["--env", "Pendulum-v1", "--hidden", "100000", "100000"], "too large for a microcontr"),
        (["--env", "Pendulum-v1", "--method", "TD3", "--sparsity", "0.5"], "TD3 is dense"),
        (["--env", "Pendulum-v1", "--sparsity", "1"], "--sparsity is 1.0 but must be"),
        (["--env", "Pendulum-v1", "--fresh-optimizer"], "--fresh-optimizer needs a RUN"),
        (["run", "--hidden", "8", "8"], "--hidden describes an untrained agent, but RUN is given"),
        ([], "either a RUN or --env"),
    ],
)  # fmt: skip
def test_wrong_exports(
    args: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "--format", "c-trainer", "--out", str(tmp_path / "x"), *args]) == 2
    assert message in capsys.readouterr().err


def test_wrong_dumps(ds_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exported(tmp_path / "out", ds_run, "--capacity", 500)
    block = (tmp_path / "out" / "sparl_chip_state.bin").read_bytes()
    dump = tmp_path / "dump.bin"

    def code(data: bytes, message: str) -> None:
        dump.write_bytes(data)
        back = str(tmp_path / "back")
        assert main(["chip", "read", str(dump), "--like", str(ds_run), "--out", back]) == 3
        assert message in capsys.readouterr().err
        assert not Path(back).exists()

    code(b"", "not a block")
    code(b"x" * 500, "not a block")
    code(block[:4] + b"\x07" + block[5:], "format 7")
    code(block[:20] + b"\x07" + block[21:], "checksum of its header")
    code(block[:-1], "truncated")
    code(block[:-1] + bytes([block[-1] ^ 1]), "damaged")


def test_every_size_agrees_with_c(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    for case in range(4):
        folder = tmp_path / str(case)
        folder.mkdir()
        chip = Chip(
            folder, method=METHODS[rng.integers(4)], n_obs=int(rng.integers(1, 30)),
            n_act=int(rng.integers(1, 5)), hidden=(int(rng.integers(2, 300)), 40),
            sparsity=float(rng.uniform(0.1, 0.9)), CAPACITY=int(rng.integers(100, 999)), WARMUP=17,
            BATCH=int(rng.integers(1, 70)),
            REPLAY=f"SPARL_CHIP_{('FLOAT32', 'FLOAT16', 'INT8')[rng.integers(3)]}",
            MOMENTS=f"SPARL_CHIP_{('FLOAT32', 'BFLOAT16')[rng.integers(2)]}",
        )  # fmt: skip
        chip.init(case)
        sizes, state = read_block(chip.save(), "memory")
        assert isinstance(sizes, Sizes)
        assert state.tobytes() == chip.memory.tobytes()
        assert chip.load(chip.save()[:-1] + b"\1") == DAMAGED
        assert UPDATED == 1


def test_agents_that_normalize_observations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(tmp_path, "TD3", normalize_observations=True)
    args = ["export", str(run), "--format", "c-trainer", "--out", str(tmp_path / "out")]
    assert main(args) == 2
    assert "normalizes observations" in capsys.readouterr().err
