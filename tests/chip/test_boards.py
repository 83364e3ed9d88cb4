"""Test sparl_chip.c on emulated boards (memory, code, instructions, bit equality), and examples.

Needs arm-none-eabi-gcc, arm-none-eabi-g++ and qemu-system-arm. benchmarks/chip/run.py makes the
same and further measurements, some of them with whole training runs.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from chip.library import CHIP

ROOT = CHIP.parent
EXAMPLES = ROOT / "examples" / "chip"
ARM = ("-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16", "-mthumb", "-mfloat-abi=hard", "-Wall", "-Wextra",
       "-Wpedantic", "-Wconversion", "-Werror")  # fmt: skip


def _benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run", ROOT / "benchmarks" / "chip" / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["run"] = module
    spec.loader.exec_module(module)
    return module


run: Any = _benchmark()


@pytest.fixture
def programs(tmp_path: Path) -> Any:
    return run.Programs(tmp_path)


def ram(programs: Any, program: str, flags: list[str]) -> int:
    sizes = run.size_of(programs.build("M4F", program, flags))
    return int(sizes.get("data", 0) + sizes.get("bss", 0))


@pytest.mark.parametrize(("moments", "most"), [("float32", 112 * 1024), ("bfloat16", 100 * 1024)])
def test_memory_of_the_pendulum(programs: Any, moments: str, most: int) -> None:
    flags = [*run.method_flags("SET-TD3", moments), "-Os", "-DSAVING"]
    assert ram(programs, "pendulum", flags) <= most
    code, frame = run.library(programs, flags)
    assert code <= 14 * 1024
    assert frame <= 512


@pytest.mark.parametrize(("moments", "most"), [("float32", 480 * 1024), ("bfloat16", 430 * 1024)])
def test_memory_of_halfcheetah(programs: Any, moments: str, most: int) -> None:
    flags = [*run.method_flags("SET-TD3", moments), "-Os", run.HALFCHEETAH]
    assert ram(programs, "synthetic", flags) <= most


def costs(programs: Any, flags: list[str], updates: int) -> dict[str, int]:
    text = programs.board("M4F", "costs", flags, updates, count=True)
    return {name: int(count) for name, count in re.findall(r"^(.*) (\d+)$", text, re.M)}


@pytest.mark.parametrize("method", ["SET-TD3", "DS-TD3"])
def test_instructions_of_the_pendulum(programs: Any, method: str) -> None:
    counts = costs(programs, [*run.method_flags(method), "-O2"], 4)
    assert counts["update"] <= 6_500_000
    assert counts["act"] <= 12_000
    assert counts["stack (bytes)"] <= 1024
    slices = [name for name in counts if name not in ("init", "update", "stack (bytes)")]
    assert max(counts[name] for name in slices) <= counts["update"] / 64


def test_instructions_of_halfcheetah(programs: Any) -> None:
    counts = costs(programs, [*run.method_flags("SET-TD3"), "-O2", run.HALFCHEETAH], 2)
    for name in ("drop", "grow", "rewire"):
        assert 0 < counts[name] <= counts["update"] / 64


@pytest.mark.parametrize("method", ["SET-TD3", "DS-TD3"])
@pytest.mark.parametrize("moments", ["float32", "bfloat16"])
def test_the_same_bits_everywhere(programs: Any, method: str, moments: str) -> None:
    flags = [*run.method_flags(method, moments), "-DSTEPS=1040", "-DEPISODES=1"]
    lines = {programs.host("pendulum", [*flags, *level], 1, 1) for level in run.HOST.values()}
    for board, level in (("M4F", "-Os"), ("M7", "-O2")):
        lines.add(programs.board(board, "pendulum", [*flags, level], 1, 1))
    assert len(lines) == 1, lines


def test_halfcheetah_has_the_same_bits(programs: Any) -> None:
    flags = [*run.method_flags("SET-TD3"), "-O2", run.HALFCHEETAH]
    lines = {programs.host("synthetic", flags, 4), programs.board("M4F", "synthetic", flags, 4)}
    assert len(lines) == 1, lines


def test_the_desktop_loop_learns(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / "desktop", tmp_path, dirs_exist_ok=True)
    done = subprocess.run(
        ["make", "-s", "-C", tmp_path, f"SPARL_CHIP={CHIP}"], check=True, capture_output=True,
        text=True,
    )  # fmt: skip
    returns = [float(line.split()[-1]) for line in done.stdout.splitlines()]
    assert min(returns[-10:]) > -6 > returns[0]


ARDUINO = """\
#ifndef ARDUINO_H
#define ARDUINO_H
#include <stdint.h>
enum { A0 = 14, A1, A2 };
int analogRead(uint8_t pin);
void analogWrite(uint8_t pin, int value);
unsigned long micros(void);
struct SerialPort { void begin(unsigned long rate); void println(const char *text); };
extern SerialPort Serial;
#endif
"""


def test_the_arduino_library_compiles(tmp_path: Path) -> None:
    library = EXAMPLES / "arduino" / "SparlChip"
    properties = (library / "library.properties").read_text()
    assert {"name", "version", "includes"} <= {line.split("=")[0] for line in properties.split()}
    (tmp_path / "Arduino.h").write_text(ARDUINO)
    sketch = library / "examples" / "Pendulum" / "Pendulum.ino"
    program = tmp_path / "sketch.cpp"
    program.write_text(f'#include <Arduino.h>\n#line 1 "{sketch}"\n{sketch.read_text()}')
    subprocess.run(
        ["arm-none-eabi-g++", *ARM, "-std=gnu++17", "-Os", "-fno-exceptions", "-fno-rtti",
         f"-I{tmp_path}", f"-I{CHIP}", "-c", program, "-o", tmp_path / "sketch.o"],
        check=True,
    )  # fmt: skip
    subprocess.run(
        ["arm-none-eabi-gcc", *ARM, "-std=gnu17", "-Os", "-c", CHIP / "sparl_chip.c", "-o",
         tmp_path / "chip.o"],
        check=True,
    )  # fmt: skip


FREERTOS = """\
#include <stdint.h>
#include <stddef.h>
typedef uint32_t TickType_t;
#define pdMS_TO_TICKS(ms) ((TickType_t)(ms))
TickType_t xTaskGetTickCount(void);
void vTaskDelayUntil(TickType_t *previous, TickType_t increment);
int xTaskCreate(void (*task)(void *), const char *name, uint32_t stack, void *argument,
                unsigned priority, void *handle);
"""


def test_the_esp_idf_example_compiles(tmp_path: Path) -> None:
    (tmp_path / "freertos").mkdir()
    (tmp_path / "freertos" / "FreeRTOS.h").write_text(f"#pragma once\n{FREERTOS}")
    (tmp_path / "freertos" / "task.h").write_text("#pragma once\n")
    subprocess.run(
        ["arm-none-eabi-gcc", *ARM[:-4], "-Wall", "-Werror", "-std=gnu17", f"-I{tmp_path}",
         f"-I{CHIP}", "-c", EXAMPLES / "esp-idf" / "main" / "main.c", "-o", tmp_path / "main.o"],
        check=True,
    )  # fmt: skip


def test_the_library_needs_only_memcpy_and_sqrtf(tmp_path: Path) -> None:
    program = tmp_path / "chip.o"
    subprocess.run(
        ["arm-none-eabi-gcc", *ARM, "-std=c99", "-Os", "-fno-tree-loop-distribute-patterns", "-c",
         CHIP / "sparl_chip.c", "-o", program],
        check=True,
    )  # fmt: skip
    names = subprocess.run(
        ["arm-none-eabi-nm", "-u", program], check=True, capture_output=True, text=True
    ).stdout
    assert set(names.split()) - {"U"} <= {"memcpy", "sqrtf"}
