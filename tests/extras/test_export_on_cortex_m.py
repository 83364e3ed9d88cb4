"""Compare an exported policy on an emulated Cortex-M4 board with its results on this machine.

Needs arm-none-eabi-gcc, arm-none-eabi-g++ and qemu-system-arm.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

import sparl
from sparl.cli import main
from sparl.export import c_check
from sparl.export.c_header import TOLERANCE, VECTORS
from sparl.types import Array

BOARD = Path(__file__).parent / "cortex_m"
HARNESS = Path(__file__).parents[1] / "exported.cpp"
CPU = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")
ROUNDED = "-ffp-contract=off"  # no fused multiply-adds, so that both machines round in the same way
CROSS = ("arm-none-eabi-gcc", *CPU, *c_check.FLAGS, "-Os", ROUNDED)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    sparl.train(
        "Static-TD3", "HalfCheetah-v5", quiet=True, run_dir=str(path), steps=200,
        warmup_env_steps=100, actor_densities=(0.2142, 0.0267, 0.5820), batch_size=16,
        evaluate_every_env_steps=200, evaluation_episodes=1, max_episode_steps=50,
    )  # fmt: skip
    return path


@pytest.fixture(scope="module", params=["", "--int8"])
def exported(
    request: pytest.FixtureRequest, run: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("c")
    flags = [request.param] if request.param else []
    arguments = ["export", str(run), "--format", "c", "--tanh", "built-in", "--out", str(path)]
    assert main([*arguments, *flags]) == 0
    return path


def on_the_board(folder: Path) -> tuple[float, Array]:
    """Return the largest distance of the self-check, and the actions for the test vectors."""
    program = folder / "board.elf"
    subprocess.run(
        [*CROSS, "-DPOLICY_SELF_CHECK", f"-I{folder}", BOARD / "main.c", folder / "policy.c",
         "-nostartfiles", "-T", BOARD / "board.ld", "-o", program],
        check=True,
    )  # fmt: skip
    done = subprocess.run(
        ["qemu-system-arm", "-M", "mps2-an386", "-nographic", "-kernel", program,
         "-semihosting-config", "enable=on,target=native"],
        check=True, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    bits = [int(line, 16) for line in (done.stdout + done.stderr).split()]
    values = np.array(bits, np.uint32).view(np.float32)
    return float(values[0]), values[1:].reshape(VECTORS, -1)


def on_this_machine(folder: Path) -> Array:
    """Return the actions for the test vectors, rounded as on the board."""
    upper = "POLICY"
    main_file = folder / "print.c"
    main_file.write_text(
        f"""\
#include <stdio.h>
#include "policy.h"
int main(void)
{{
    float action[{upper}_ACTIONS];
    for (int v = 0; v < {upper}_TEST_VECTORS; ++v) {{
        policy_act(policy_test_observations[v], action);
        fwrite(action, sizeof action, 1, stdout);
    }}
    return 0;
}}
"""
    )
    compiler = c_check.compiler()
    assert compiler is not None
    program = folder / "print"
    subprocess.run(
        [compiler, *c_check.FLAGS, ROUNDED, "-DPOLICY_SELF_CHECK", main_file, folder / "policy.c",
         "-o", program],
        check=True,
    )  # fmt: skip
    printed = subprocess.run([program], check=True, capture_output=True).stdout
    return np.frombuffer(printed, np.float32).reshape(VECTORS, -1)


def test_the_self_check_passes_on_the_board_with_the_bits_of_this_machine(exported: Path) -> None:
    largest, actions = on_the_board(exported)
    assert largest < TOLERANCE
    here = on_this_machine(exported)
    assert np.abs(here).max() > 0.01
    np.testing.assert_array_equal(actions.view(np.uint32), here.view(np.uint32))


@pytest.mark.parametrize("buffers", [(), ("-DPOLICY_STATIC_BUFFERS",)])
def test_an_export_links_from_cpp(exported: Path, tmp_path: Path, buffers: tuple[str, ...]) -> None:
    flags = ("-DPOLICY_SELF_CHECK", *buffers)
    library, program = tmp_path / "policy.o", tmp_path / "program.elf"
    subprocess.run([*CROSS, *flags, "-c", exported / "policy.c", "-o", library], check=True)
    subprocess.run(
        ["arm-none-eabi-g++", *CPU, "-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Werror",
         "-fno-exceptions", "-fno-rtti", *flags, f"-I{exported}", HARNESS, library,
         "-nostdlib", "-lgcc", "-Wl,--entry=main", "-o", program],
        check=True,
    )  # fmt: skip


def test_activations_can_be_in_static_memory(exported: Path, tmp_path: Path) -> None:
    object_file = tmp_path / "policy.o"
    flags = ("-DPOLICY_STATIC_BUFFERS", "-Wframe-larger-than=256")
    subprocess.run([*CROSS, *flags, "-c", exported / "policy.c", "-o", object_file], check=True)
    sizes = subprocess.run(
        ["arm-none-eabi-size", "-A", object_file], check=True, capture_output=True, text=True
    ).stdout
    assert re.search(r"^\.bss\s+2048\b", sizes, re.M)


def test_flash_memory_of_a_95_percent_sparse_actor(exported: Path) -> None:
    object_file = exported / "policy.o"
    subprocess.run([*CROSS, "-c", exported / "policy.c", "-o", object_file], check=True)
    sizes = subprocess.run(
        ["arm-none-eabi-size", "-A", object_file], check=True, capture_output=True, text=True
    ).stdout
    bytes_of = {name: int(size) for name, size in re.findall(r"^\.(\w+)\s+(\d+)", sizes, re.M)}
    assert bytes_of["text"] <= 1_500
    assert bytes_of["data"] == bytes_of["bss"] == 0
    int8 = "static const int8_t" in (exported / "policy.c").read_text()
    assert bytes_of["rodata"] <= (12_000 if int8 else 21_000)
