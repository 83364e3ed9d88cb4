"""Measure sparl_chip: learning, bit equality, memory, instructions.

    python benchmarks/chip/run.py seeds         # the pendulum on seeds 200 to 219, four methods
    python benchmarks/chip/run.py choices       # the same with 90 % sparsity, and with tau 0.005
    python benchmarks/chip/run.py equal         # whole trainings, host builds and both boards
    python benchmarks/chip/run.py memory        # RAM, code and stack
    python benchmarks/chip/run.py costs         # instructions, on the emulated Cortex-M4
    python benchmarks/chip/run.py halfcheetah   # a 256-256 agent: memory, instructions, equality
    python benchmarks/chip/run.py warm-start    # continue from a PC's agent after a change
    python benchmarks/chip/run.py all

Needs gcc, arm-none-eabi-gcc and qemu-system-arm; warm-start also needs sparl. tests/chip checks a
part of all of this in CI.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from statistics import mean, stdev

HERE = Path(__file__).resolve().parent
CHIP = HERE.parents[1] / "chip"
METHODS = {"SET-TD3": 2, "TD3": 0, "Static-TD3": 1, "DS-TD3": 3}
BOARDS = {
    "M4F": ("mps2-an386", ("-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16")),
    "M7": ("mps2-an500", ("-mcpu=cortex-m7", "-mfpu=fpv5-sp-d16")),
}
SPARSER = {
    "ACTOR_CONNECTIONS_1": 128, "ACTOR_CONNECTIONS_2": 244, "ACTOR_CONNECTIONS_3": 64,
    "CRITIC_CONNECTIONS_1": 132, "CRITIC_CONNECTIONS_2": 247, "CRITIC_CONNECTIONS_3": 64,
}  # fmt: skip
HOST = {"-O0": ["-O0"], "-O2": ["-O2"], "-O3 -march=native": ["-O3", "-march=native"]}
HALFCHEETAH = '-DSPARL_CHIP_CONFIG="halfcheetah_config.h"'
# Cycles per instruction are assumed; flash wait states and caches decide about the real ones.
PROCESSORS = (("Cortex-M4F, 168 MHz", 168e6, 1.5), ("Cortex-M7, 600 MHz", 600e6, 1.0))
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic")


class Programs:
    """Builds and runs the programs of this folder, in a temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def host(self, program: str, flags: Sequence[str], *args: object, include: Path = HERE) -> str:
        """Build a program for this machine, run it and return what it printed."""
        binary = self.folder / "host"
        self._build(["gcc"], program, "host.c", flags, ["-lm", "-o", binary], include)
        done = subprocess.run([binary, *map(str, args)], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def build(self, board: str, program: str, flags: Sequence[str]) -> Path:
        """Build a program for a board."""
        binary = self.folder / "board.elf"
        compiler = ["arm-none-eabi-gcc", *BOARDS[board][1], "-mthumb", "-mfloat-abi=hard",
                    "-fno-math-errno"]  # fmt: skip
        link = ["-nostartfiles", "-T", HERE / "board.ld", "-lm", "-o", binary]
        self._build(compiler, program, "board.c", flags, link, HERE)
        return binary

    def board(
        self, board: str, program: str, flags: Sequence[str], *args: object, count: bool = False
    ) -> str:
        """Build a program for a board, run it in the emulator and return what it printed."""
        binary = self.build(board, program, flags)
        counted = ["-icount", "shift=0"] if count else []
        config = ",".join(["enable=on,target=native,arg=p", *(f"arg={a}" for a in args)])
        done = subprocess.run(
            ["qemu-system-arm", "-M", BOARDS[board][0], "-nographic", *counted, "-kernel", binary,
             "-semihosting-config", config],
            capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return (done.stdout + done.stderr).strip()

    def _build(
        self, compiler: list[str], program: str, machine: str, flags: Sequence[str],
        link: Sequence[object], include: Path,
    ) -> None:  # fmt: skip
        library = (CHIP if include == HERE else include) / "sparl_chip.c"
        subprocess.run(
            [*compiler, *STRICT, *flags, f"-I{include}", f"-I{HERE}", f"-I{CHIP}",
             HERE / f"{program}.c", HERE / machine, library, *map(str, link)],
            check=True,
        )  # fmt: skip


def method_flags(method: str, moments: str = "float32") -> list[str]:
    """Flags that select a method and the storage of the moments."""
    kind = {"float32": 0, "bfloat16": 3}[moments]
    return [f"-DSPARL_CHIP_METHOD={METHODS[method]}", f"-DSPARL_CHIP_MOMENTS={kind}"]


def seeds(programs: Programs, first: int = 200, count: int = 20) -> None:
    """Train on every seed with every method."""
    for method in METHODS:
        train(programs, method, method_flags(method), range(first, first + count))


def choices(programs: Programs, first: int = 200, count: int = 10) -> None:
    """Train SET-TD3 with other settings than those of the library's configuration."""
    for name, values in (("90 % sparse", SPARSER), ("tau 0.005", {"TAU": "0.005f"})):
        header = programs.folder / "changed_config.h"
        changes = [f"#undef SPARL_CHIP_{k}\n#define SPARL_CHIP_{k} {v}" for k, v in values.items()]
        header.write_text("\n".join(['#include "sparl_chip_config.h"', *changes, ""]))
        flags = [*method_flags("SET-TD3"), f'-DSPARL_CHIP_CONFIG="{header}"']
        train(programs, f"SET-TD3, {name}", flags, range(first, first + count))


def train(programs: Programs, name: str, flags: list[str], chosen: Sequence[int]) -> None:
    """Train on every seed; print the returns and their summary."""
    values = []
    for seed in chosen:
        line = programs.host("pendulum", [*flags, "-O3", "-march=native"], seed, 1)
        values.append(float(line.split()[-1]))
        print(f"{name} {line}", flush=True)
    print(
        f"{name}: {sum(v >= -200 for v in values)} of {len(values)} at -200 or better, "
        f"mean {mean(values):.1f}, standard deviation {stdev(values):.1f}, worst {min(values):.1f}"
    )


def equal(programs: Programs, chosen: Sequence[int] = range(200, 205), steps: int = 10_000) -> bool:
    """Whole trainings with every build; the states must be equal."""
    same = True
    for seed in chosen:
        lines = {}
        flags = [*method_flags("SET-TD3"), f"-DSTEPS={steps}"]
        for name, optimised in HOST.items():
            lines[f"host {name}"] = programs.host("pendulum", [*flags, *optimised], seed, 1)
        for board in BOARDS:
            for level in ("-Os", "-O2"):
                text = programs.board(board, "pendulum", [*flags, level], seed, 1)
                lines[f"{board} {level}"] = text
                print(f"{board} {level}: {text}", flush=True)
        same &= len(set(lines.values())) == 1
        print(f"seed {seed}: {'equal' if len(set(lines.values())) == 1 else lines}", flush=True)
    return same


def size_of(binary: Path) -> dict[str, int]:
    """Return the sizes of a program's or object's sections."""
    text = subprocess.run(
        ["arm-none-eabi-size", "-A", binary], capture_output=True, text=True, check=True
    ).stdout
    found = re.findall(r"^\.([\w.]+)\s+(\d+)", text, re.M)
    sizes: dict[str, int] = {}
    for name, size in found:
        key = name.split(".")[0]
        sizes[key] = sizes.get(key, 0) + int(size)
    return sizes


def memory(programs: Programs) -> None:
    """RAM of the pendulum's program, code of the library, and stack."""
    for method in METHODS:
        for moments in ("float32", "bfloat16"):
            flags = [*method_flags(method, moments), "-Os", "-DSAVING"]
            sizes = size_of(programs.build("M4F", "pendulum", flags))
            ram = sizes.get("data", 0) + sizes.get("bss", 0)
            code, frame = library(programs, flags)
            print(
                f"{method}, {moments}: static RAM {ram:,} bytes ({ram / 1024:.1f} KiB), code "
                f"{code:,} bytes, largest stack frame {frame} bytes", flush=True,
            )  # fmt: skip
    flags = [*method_flags("SET-TD3"), "-Os", "-DSAVING", "-DSTEPS=1020", "-DEPISODES=1"]
    print(f"stack measured, with the program's: {programs.board('M4F', 'pendulum', flags)}")


def library(programs: Programs, flags: Sequence[str]) -> tuple[int, int]:
    """Bytes of the library's code and constants, and its largest stack frame."""
    obj = programs.folder / "library.o"
    subprocess.run(
        ["arm-none-eabi-gcc", *BOARDS["M4F"][1], "-mthumb", "-mfloat-abi=hard", *STRICT, *flags,
         "-fno-math-errno", "-fstack-usage", f"-I{HERE}", f"-I{CHIP}", "-c", CHIP / "sparl_chip.c",
         "-o", obj],
        check=True,
    )  # fmt: skip
    sizes = size_of(obj)
    frames = [int(line.split("\t")[1]) for line in obj.with_suffix(".su").read_text().splitlines()]
    return sizes["text"] + sizes.get("rodata", 0), max(frames)


def costs(programs: Programs, updates: int = 20) -> None:
    """Instructions per action, update and slice."""
    for method in METHODS:
        for level in ("-O2", "-Os"):
            flags = [*method_flags(method), level]
            text = programs.board("M4F", "costs", flags, updates, count=True)
            print(f"{method} {level}: {', '.join(text.splitlines())}", flush=True)
            if level == "-O2":
                per_update = int(re.findall(r"update (\d+)", text)[0])
                for line in estimates(per_update):
                    print(f"  {line}")


def estimates(instructions: int) -> Iterator[str]:
    """Seconds that instructions would take; estimates, not measurements."""
    for name, clock, cycles in PROCESSORS:
        seconds = instructions * cycles / clock
        yield (
            f"estimate, {name}, {cycles} cycles per instruction: {seconds * 1e3:.0f} ms per "
            f"update, {seconds * 9000 / 60:.1f} min for 9,000"
        )


def halfcheetah(programs: Programs, updates: int = 1000) -> bool:
    """A 95 % sparse 256-256 agent with a replay of 10,000."""
    for moments in ("float32", "bfloat16"):
        flags = [*method_flags("SET-TD3", moments), "-Os", HALFCHEETAH]
        sizes = size_of(programs.build("M4F", "synthetic", flags))
        ram = sizes.get("data", 0) + sizes.get("bss", 0)
        print(f"HalfCheetah, {moments}: static RAM {ram:,} bytes ({ram / 1024:.1f} KiB)")
    flags = [*method_flags("SET-TD3"), "-O2", HALFCHEETAH]
    text = programs.board("M4F", "costs", flags, 4, count=True)
    print(f"HalfCheetah -O2: {', '.join(text.splitlines())}", flush=True)
    host = programs.host("synthetic", flags, updates)
    board = programs.board("M4F", "synthetic", flags, updates)
    print(f"host: {host}\nM4F:  {board}", flush=True)
    return host == board


# Tasks of the warm start: strength of the motor in percent. A pendulum of 130 % of the mass moves
# as with a motor of 77 %, because the mass divides only the torque.
CHANGES = {"unchanged": 100, "masses +30 %": 77, "motor 60 %": 60}


def warm_start(programs: Programs, first: int = 1, count: int = 5) -> None:
    """Continue from agents of a PC after the task has changed."""
    from optimum import costs_to_go, optimum

    trainers = {seed: train_on_pc(programs.folder, seed) for seed in range(first, first + count)}
    flags = ["-O3", "-march=native"]
    for task, strength in CHANGES.items():
        table = costs_to_go(strength / 100)
        for seed, trainer in trainers.items():
            best = optimum(seed, table, strength / 100)
            line = programs.host("warm_start", flags, seed, strength, include=trainer)
            print(f"{task}, seed {seed}: {line}, best possible {best:.1f}", flush=True)
    for seed in trainers:
        line = programs.host("pendulum", [*method_flags("SET-TD3"), *flags], seed, 1, 60)
        print(f"motor 60 %, from the beginning: {line}", flush=True)


def train_on_pc(folder: Path, seed: int) -> Path:
    """Train the pendulum for 10,000 steps; return the folder of the exported trainer."""
    import sparl
    from sparl.cli import main

    run, steps = folder / f"run-{seed}", 10_000
    sparl.train(
        "SET-TD3", "Pendulum-v1", quiet=True, seed=seed, run_dir=str(run), steps=steps,
        warmup_env_steps=1000, hidden=(64, 64), actor_sparsity=0.8, critic_sparsity=0.8,
        batch_size=64, tau=0.02, learning_rate=1e-3, rewire_every_updates=1000,
        rewire_fraction=0.05, evaluate_every_env_steps=steps, threads=1,
    )  # fmt: skip
    with redirect_stdout(StringIO()):
        if main(["export", str(run), "--format", "c-trainer"]) != 0:
            raise RuntimeError(f"{run} cannot be exported")
    return run / "trainer"


COMMANDS = {
    "seeds": seeds, "choices": choices, "equal": equal, "memory": memory, "costs": costs,
    "halfcheetah": halfcheetah, "warm-start": warm_start,
}  # fmt: skip


def main() -> int:
    """Run the measurements that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=[*COMMANDS, "all"])
    what = parser.parse_args().what
    names = list(COMMANDS) if what == "all" else [what]
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            failed |= COMMANDS[name](Programs(Path(folder))) is False
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
