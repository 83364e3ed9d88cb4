"""Test what programs that use sparl_chip.c rely on: codes, slices, replay, blocks and memory."""

from __future__ import annotations

import ctypes
import math
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chip.library import (
    CHIP,
    DAMAGED,
    DIVERGED,
    FOREIGN,
    FULL,
    IO,
    NO_EPISODE,
    NOT_FINITE,
    OK,
    STRICT,
    TERMINAL,
    TIME_LIMIT,
    UPDATED,
    VERSION,
    WAITING,
    Chip,
    config,
)

SMALL: dict[str, Any] = {
    "n_obs": 3, "n_act": 2, "hidden": (16, 16), "sparsity": 0.6, "CAPACITY": 100, "WARMUP": 20,
    "BATCH": 8, "REWIRE_EVERY": 4, "REWIRE_FRACTION": "0.2f",
}  # fmt: skip
METHODS = ("TD3", "Static-TD3", "SET-TD3", "DS-TD3")


@pytest.fixture
def chip(tmp_path: Path) -> Chip:
    chip = Chip(tmp_path, **SMALL)
    chip.init(1)
    return chip


def play(
    chip: Chip, steps: int, seed: int = 0, updates: bool = True, budget: int = 1 << 30
) -> None:
    """Store random transitions; after the warm-up, complete an update after each of them."""
    rng = np.random.default_rng(seed)
    chip.begin(rng.normal(size=3))
    for step in range(steps):
        _, action = chip.act(rng.normal(size=3), explore=True)
        end = {11: TIME_LIMIT, 5: TERMINAL}.get(step % 12, 0)
        chip.store(action, rng.normal(), rng.normal(size=3), end)
        if end:
            chip.begin(rng.normal(size=3))
        if updates:
            while (code := chip.work(budget)) == OK:
                pass
            assert code in (UPDATED, WAITING)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("replay", ["FLOAT32", "FLOAT16", "INT8"])
def test_memory_is_what_the_header_says(method: str, replay: str, tmp_path: Path) -> None:
    chip = Chip(
        tmp_path, method=method, REPLAY=f"SPARL_CHIP_{replay}", MOMENTS="SPARL_CHIP_BFLOAT16",
        **{**SMALL, "hidden": (300, 20)},
    )  # fmt: skip
    assert chip.ram == chip.sizes.dtype().itemsize == len(chip.save()) - 104
    assert chip.block_bytes == 104 + chip.ram
    assert len(chip.save(what=0)) == chip.agent_block_bytes
    chip.init(3)
    for place in chip.places():
        assert chip.positions(place).size == place.connections


@pytest.mark.parametrize("method", METHODS)
def test_slices_do_not_change_results(method: str, tmp_path: Path) -> None:
    whole = Chip(tmp_path, method=method, **SMALL)
    (tmp_path / "b").mkdir()
    sliced = Chip(tmp_path / "b", method=method, **SMALL)
    for chip, budget in ((whole, 1 << 30), (sliced, 1)):
        chip.init(5)
        play(chip, 80, budget=budget)
    np.testing.assert_array_equal(whole.memory, sliced.memory)


@pytest.mark.parametrize("method", ["Static-TD3", "SET-TD3", "DS-TD3"])
def test_without_sparsity_all_methods_are_td3(method: str, tmp_path: Path) -> None:
    dense = Chip(tmp_path, method="TD3", **SMALL)
    (tmp_path / "b").mkdir()
    other = Chip(tmp_path / "b", method=method, **{**SMALL, "sparsity": 0.0})
    for chip in (dense, other):
        chip.init(5)
        play(chip, 80)
    for name in ("parameters", "target", "m", "v"):
        np.testing.assert_array_equal(other.state[name], dense.state[name])


@pytest.mark.parametrize("method", ["SET-TD3", "DS-TD3"])
def test_patterns_stay_valid_at_the_budget(method: str, tmp_path: Path) -> None:
    chip = Chip(tmp_path, method=method, **SMALL)
    chip.init(2)
    before = [chip.positions(place).copy() for place in chip.places()]
    play(chip, 200)
    moved = 0
    for place, positions in zip(chip.places(), before, strict=True):
        for target in (False, True):
            now = chip.positions(place, target)
            assert (np.diff(now) > 0).all()
            assert now.size <= place.connections
            assert now.size == place.connections or target
            if now.size:
                assert 0 <= now[0] <= now[-1] < place.n_in * place.n_out
        moved += np.setdiff1d(chip.positions(place), positions).size
    assert moved > 20


def test_the_same_seed_gives_the_same_agent_and_another_seed_another(tmp_path: Path) -> None:
    chip = Chip(tmp_path, **SMALL)
    states = []
    for seed in (1, 1, 2):
        chip.init(seed)
        play(chip, 40)
        states.append(chip.memory.copy())
    assert (states[0] == states[1]).all()
    assert (states[0] != states[2]).any()


def test_actions(chip: Chip) -> None:
    code, action = chip.act([0.1, 0.2, 0.3])
    assert code == OK
    x = np.array([0.1, 0.2, 0.3])
    for place in chip.places()[:3]:
        x = chip.dense(place) @ x + chip.biases(place)
        x = np.maximum(x, 0) if place.n_out > 2 else np.tanh(x)
    np.testing.assert_allclose(action, x, atol=1e-6)
    drawn = np.array([chip.act([0.1, 0.2, 0.3], explore=True)[1] for _ in range(2000)])
    assert drawn.std() == pytest.approx(1 / math.sqrt(3), rel=0.05)  # uniform during the warm-up
    play(chip, 40, updates=False)
    drawn = np.array([chip.act([0.1, 0.2, 0.3], explore=True)[1] for _ in range(2000)])
    assert drawn.std(0) == pytest.approx(0.1, rel=0.1)
    np.testing.assert_allclose(drawn.mean(0), action, atol=0.01)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite(chip: Chip, bad: float) -> None:
    assert chip.begin([0, bad, 0]) == NOT_FINITE
    assert chip.store([0, 0], 0, [0, 0, 0]) == NO_EPISODE
    play(chip, 40)
    before = chip.state["parameters"].copy()
    code, action = chip.act([0, bad, 0])
    assert code == NOT_FINITE
    assert (action == 0).all()
    for action, reward, after in (([0, bad], 0, [0, 0, 0]), ([0, 0], bad, [0, 0, 0]),
                                  ([0, 0], 0, [bad, 0, 0])):  # fmt: skip
        assert chip.begin([0, 0, 0]) in (OK, FULL)
        assert chip.store(action, reward, after) == NOT_FINITE
        assert chip.store([0, 0], 0, [0, 0, 0]) == NO_EPISODE
    np.testing.assert_array_equal(chip.state["parameters"], before)
    play(chip, 100)
    assert np.isfinite(chip.state["parameters"]).all()


def test_an_episode_that_begins_without_a_finite_observation_ends_the_one_in_progress(
    chip: Chip,
) -> None:
    chip.begin([0, 0, 0])
    chip.store([0, 0], 0, [1, 1, 1])
    assert chip.begin([0, math.nan, 0]) == NOT_FINITE
    assert chip.store([0, 0], 0, [2, 2, 2]) == NO_EPISODE
    assert chip.begin([3, 3, 3]) == OK
    assert chip.store([0, 0], 0, [4, 4, 4]) == OK
    kinds = int(chip.state["replay"]["kinds"][0])
    assert [kinds >> 2 * slot & 3 for slot in range(4)] == [0, 2, 0, 2]  # 2: no transition


def test_scales_of_the_largest_observations_are_finite(tmp_path: Path) -> None:
    chip = Chip(tmp_path, **SMALL, REPLAY="SPARL_CHIP_INT8")
    chip.init(1)
    for size in (3e38, -3e38):
        chip.begin([size, 0, 0])
        chip.store([0, 0], 0, [0, 0, 0], TERMINAL)
    play(chip, 120, updates=False)  # overwrites the large observations
    assert np.isfinite(chip.state["replay"]["step"]).all()
    assert chip.work() == UPDATED


def test_divergence_leaves_finite_weights(tmp_path: Path) -> None:
    chip = Chip(tmp_path, method="Static-TD3", REPLAY="SPARL_CHIP_FLOAT32", **SMALL)
    chip.init(1)
    play(chip, 40)
    chip.state["parameters"][chip.places()[5].weights :] *= 1e25  # critic 1
    finite = chip.state["parameters"].copy()
    assert chip.work() == DIVERGED
    np.testing.assert_array_equal(chip.state["parameters"], finite)
    assert chip.act([0, 0, 0])[0] == OK
    assert chip.work() == DIVERGED


def test_a_full_replay_overwrites_its_oldest_slots(tmp_path: Path) -> None:
    chip = Chip(tmp_path, **SMALL, REPLAY="SPARL_CHIP_FLOAT32")
    chip.init(1)
    chip.begin([0, 0, 0])
    codes = [chip.store([0, 0], float(k), [k + 1, 0, 0]) for k in range(150)]
    assert codes == [OK] * 99 + [FULL] * 51
    rewards = chip.state["replay"]["values"][:, 5]
    assert set(rewards[rewards > 50].tolist()) >= {float(k) for k in range(52, 150)}


@pytest.mark.parametrize("replay", ["FLOAT32", "FLOAT16", "INT8"])
def test_replay_stores_each_observation_once(replay: str, tmp_path: Path) -> None:
    chip = Chip(tmp_path, **SMALL, REPLAY=f"SPARL_CHIP_{replay}")
    chip.init(1)
    rng = np.random.default_rng(0)
    expected = []  # observation, action, reward, next observation, terminal
    observation = rng.uniform(-2, 2, 3)
    chip.begin(observation)
    for step in range(70):
        action, reward, after = rng.uniform(-1, 1, 2), rng.uniform(-5, 5), rng.uniform(-2, 2, 3)
        end = {11: TIME_LIMIT, 5: TERMINAL}.get(step % 12, 0)
        chip.store(action, reward, after, end)
        expected.append((*observation, *action, reward, *after, end == TERMINAL))
        observation = after
        if end:
            observation = rng.uniform(-2, 2, 3)
            chip.begin(observation)
    time_limits = sum(step % 12 == 11 for step in range(70))
    assert chip.state["replay"]["filled"] == 70 + time_limits + 1
    rows = np.array(expected)
    seen = set()
    for _ in range(60):
        while chip.state["progress"]["phase"] != 1:  # until a batch has been picked
            assert chip.work(1) in (OK, UPDATED)
        got = batch(chip)
        for row in got:
            match = np.abs(rows[:, :6] - row[:6]).max(1)
            tolerance = {"FLOAT32": 1e-6, "FLOAT16": 3e-3, "INT8": 0.06}[replay]
            index = int(match.argmin())
            assert match[index] < tolerance
            assert row[9] == rows[index, 9]
            if not row[9]:
                assert np.abs(row[6:9] - rows[index, 6:9]).max() < tolerance
            seen.add(index)
        chip.work()
    assert len(seen) > 60  # of 70


def batch(chip: Chip) -> np.ndarray:
    """Return the batch of the update in progress, float64 [B, 10]; the last column is terminal."""
    replay, sizes = chip.state["replay"], chip.sizes
    values = chip.state["batch"][: sizes.batch * 9].reshape(sizes.batch, 9)
    if values.dtype == np.uint16:
        values = values.view(np.float16)
    x = values.astype(np.float64)
    if values.dtype == np.int8:
        offset, step = (np.append(replay[n], replay[n][:3]) for n in ("offset", "step"))
        offset, step = np.insert(offset, 3, [0, 0]), np.insert(step, 3, [1 / 127, 1 / 127])
        x = offset + x * step
    terminal = chip.state["batch_terminal"][0] >> np.arange(sizes.batch, dtype=np.uint32) & 1
    return np.hstack([x, terminal[:, None]])


@pytest.mark.parametrize("value", [0.0, 1.0, -2.5, 65504.0, 1e9, 6e-8, 1e-5, 0.1, 2048.6, -1e-9])
def test_half_precision(tmp_path: Path, value: float) -> None:
    chip = Chip(tmp_path, **SMALL, REPLAY="SPARL_CHIP_FLOAT16")
    chip.init(1)
    chip.begin([value, 0, 0])
    stored = chip.state["replay"]["values"][0, :1].view(np.float16)[0]
    assert stored == np.float16(np.clip(np.float32(value), -65504, 65504))


def test_a_picked_batch_is_not_overwritten(chip: Chip) -> None:
    play(chip, 40, updates=False)
    while chip.state["progress"]["phase"] != 1:
        chip.work(1)
    picked = chip.state["batch"].copy()
    play(chip, 300, seed=1, updates=False)
    np.testing.assert_array_equal(chip.state["batch"], picked)
    assert chip.work() == UPDATED


@pytest.mark.parametrize("at", ["begin", "middle"])
@pytest.mark.parametrize("method", METHODS)
def test_a_loaded_run_continues_bit_for_bit(method: str, at: str, tmp_path: Path) -> None:
    chip = Chip(tmp_path, method=method, **SMALL)
    chip.init(1)
    play(chip, 60)
    if at == "middle":
        chip.work(11)
    block = chip.save()
    play(chip, 60, seed=1)
    continued = chip.memory.copy()
    chip.init(99)
    assert chip.load(block) == OK
    play(chip, 60, seed=1)
    np.testing.assert_array_equal(chip.memory, continued)


def test_a_block_without_replay(chip: Chip) -> None:
    play(chip, 60)
    weights = chip.state["parameters"].copy()
    block = chip.save(what=0)
    chip.init(5)
    assert chip.load(block) == OK
    np.testing.assert_array_equal(chip.state["parameters"], weights)
    assert chip.state["replay"]["filled"] == 0
    assert chip.work() == WAITING
    play(chip, 60)


@pytest.mark.parametrize("method", ["TD3", "SET-TD3", "DS-TD3"])
def test_an_update_is_abandoned_if_its_replay_is_not_saved(method: str, tmp_path: Path) -> None:
    chip = Chip(tmp_path, method=method, **SMALL, REPLAY="SPARL_CHIP_INT8")
    chip.init(1)
    play(chip, 40)
    blocks, phases = [], set()
    rng = np.random.default_rng(0)
    for _ in range(4):  # topology updates are due in every fourth update
        while chip.work(1) == OK:
            blocks.append(chip.save(what=0))
            phases.add(int(chip.state["progress"]["phase"]))
        chip.store([0, 0], 0.0, rng.normal(size=3))
    assert phases == ({1, 2, 3, 4, 8} if method == "TD3" else set(range(1, 9)))
    for block in blocks[::7]:
        assert chip.load(block) == OK
        assert chip.work() in (WAITING, UPDATED)  # UPDATED: the target updates were completed
        play(chip, 30)  # which checks the codes
        assert np.isfinite(chip.state["parameters"]).all()


def test_blocks_that_are_not_this_programs(chip: Chip, tmp_path: Path) -> None:
    play(chip, 60)
    block = chip.save()
    before = chip.memory.copy()

    def changed(at: int, to: int) -> bytes:
        return block[:at] + bytes([to]) + block[at + 1 :]

    assert chip.load(b"") == IO
    assert chip.load(block[:50]) == IO
    assert chip.load(block[:-1]) == IO
    assert chip.load(changed(0, 0)) == FOREIGN
    assert chip.load(changed(4, 9)) == VERSION
    assert chip.load(changed(20, 9)) == DAMAGED
    for at in range(104, len(block), 97):
        assert chip.load(changed(at, block[at] ^ 1)) == DAMAGED
    (tmp_path / "other").mkdir()
    other = Chip(tmp_path / "other", **{**SMALL, "CAPACITY": 101})
    assert chip.load(other.save()) == FOREIGN
    np.testing.assert_array_equal(chip.memory, before)
    chip.save(fail_at=100)
    assert chip.load(block) == OK
    assert chip.save(what=2) == chip.save(what=1)


def test_the_distribution_of_the_noise(chip: Chip) -> None:
    play(chip, 40, updates=False)
    noise = np.array([chip.act([0, 0, 0], explore=True)[1][0] for _ in range(20000)])
    noise = (noise - chip.act([0, 0, 0])[1][0]) / 0.1
    assert abs(noise.mean()) < 0.03
    assert noise.std() == pytest.approx(1, rel=0.02)
    assert (np.abs(noise) > 2).mean() == pytest.approx(0.0455, abs=0.006)


FUNCTIONS = """
#include "sparl_chip.c"
void map(int function, const float *x, float *y, uint32_t n)
{
    uint32_t i;
    for (i = 0u; i < n; ++i) {
        y[i] = (function == 0) ? exponential(x[i])
               : (function == 1) ? hyperbolic_tangent(x[i]) : cosine_of_half_turns(x[i]);
    }
}
"""


def test_the_accuracy_of_the_functions_defined_in_the_library(tmp_path: Path) -> None:
    source, program = tmp_path / "functions.c", tmp_path / "functions.so"
    source.write_text(FUNCTIONS)
    subprocess.run(
        ["cc", "-std=c99", "-O2", f"-I{CHIP}", "-shared", "-fPIC", source, "-o", program, "-lm"],
        check=True,
    )  # fmt: skip
    library = ctypes.CDLL(str(program))

    def errors(function: int, x: np.ndarray, expected: Any) -> tuple[float, float]:
        """Return the largest absolute error, and the largest error in units in the last place."""
        x, y = x.astype(np.float32), np.empty(x.size, np.float32)
        pointers = (ctypes.c_void_p(a.ctypes.data) for a in (x, y))
        library.map(function, *pointers, ctypes.c_uint32(x.size))
        exact = expected(x.astype(np.float64))
        error = np.abs(y - exact)
        return error.max(), (error / np.spacing(np.abs(exact).astype(np.float32))).max()

    x = np.linspace(-20, 20, 400_001)
    assert errors(0, x, np.exp)[1] <= 1
    assert errors(1, x[x != 0], np.tanh)[1] <= 2
    assert errors(2, np.linspace(0, 1, 100_001), lambda p: np.cos(np.pi * p))[0] <= 1e-6


@pytest.mark.parametrize("compiler", ["gcc -std=c99", "g++ -std=c++17 -x c++", "clang -std=c99"])
@pytest.mark.parametrize("method", METHODS)
def test_no_warnings(compiler: str, method: str, tmp_path: Path) -> None:
    name, *language = compiler.split()
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    for storage in (["-DSPARL_CHIP_REPLAY=0"], ["-DSPARL_CHIP_REPLAY=1"],
                    ["-DSPARL_CHIP_MOMENTS=3"]):  # fmt: skip
        subprocess.run(
            [name, *language, *STRICT[1:], "-O2", "-c", CHIP / "sparl_chip.c", *storage,
             f"-DSPARL_CHIP_METHOD={METHODS.index(method)}", "-o", tmp_path / "chip.o"],
            check=True,
        )  # fmt: skip


@pytest.mark.parametrize("flags", [["-ffast-math"], ["-DSPARL_CHIP_METHOD=2", "-ffast-math"]])
def test_fast_math_is_an_error(flags: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        ["cc", *flags, "-c", CHIP / "sparl_chip.c", "-o", tmp_path / "chip.o"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "compile sparl_chip.c without -ffast-math" in done.stderr


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"BATCH": 0}, "SPARL_CHIP_BATCH and SPARL_CHIP_POLICY_DELAY must be at least 1"),
        ({"POLICY_DELAY": 0, "method": "TD3"}, "SPARL_CHIP_POLICY_DELAY must be at least 1"),
        ({"REWIRE_FRACTION": "1.5f"}, "rewire_fraction_is_below_1"),
    ],
)
def test_a_configuration_out_of_range_is_an_error(
    changes: dict[str, Any], error: str, tmp_path: Path
) -> None:
    header = config(tmp_path / "config.h", **changes)
    done = subprocess.run(
        ["cc", "-fsyntax-only", f'-DSPARL_CHIP_CONFIG="{header}"', CHIP / "sparl_chip.c"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert error in done.stderr


@pytest.mark.parametrize("language", [["gcc", "-std=gnu99"], ["g++", "-std=gnu++17", "-x", "c++"]])
def test_multiply_adds_are_not_fused(language: list[str], tmp_path: Path) -> None:
    program = tmp_path / "chip.s"
    subprocess.run(
        [*language, "-O3", "-mfma", "-mavx2", "-ffp-contract=fast", "-S", CHIP / "sparl_chip.c",
         "-o", program],
        check=True,
    )  # fmt: skip
    assert "vmul" in program.read_text()
    assert "vfmadd" not in program.read_text()
