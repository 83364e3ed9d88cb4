"""Compile and run the exported C code."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from sparl.errors import DataError
from sparl.export.c_source import CSource
from sparl.types import Array

FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O2")

# This program runs the self-check, and then computes an action for each observation that it reads
# from standard input.
_PROGRAM = """\
#include <stdio.h>
#include "{name}.h"

int main(void)
{{
    float observation[{upper}_OBSERVATIONS], action[{upper}_ACTIONS], largest;
    if ({name}_self_check(&largest) != 0) {{
        fprintf(stderr, "an action differs by %g of half its range", (double)largest); return 1;
    }}
    while (fread(observation, sizeof observation, 1, stdin) == 1) {{
        {name}_act(observation, action);
        fwrite(action, sizeof action, 1, stdout);
    }}
    return 0;
}}
"""


def compiler() -> str | None:
    """Return the path of a C compiler on this machine, or None if no compiler is installed."""
    return next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)


def run(command: str, source: CSource, name: str, observations: Array) -> Array:
    """Return the actions that the compiled C code computes, float32 [B, n_act].

    Args:
        command: the compiler.
        source: the C source.
        name: prefix of the C names in the source.
        observations: float32 [B, n_obs].

    Raises:
        DataError: if the source does not compile, or if its self-check fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        (here / f"{name}.h").write_text(source.header, "ascii")
        (here / f"{name}.c").write_text(source.source, "ascii")
        main = _PROGRAM.format(name=name, upper=name.upper())
        (here / "check_main.c").write_text(main, "ascii")
        program = here / "check_main"
        define = f"-D{name.upper()}_SELF_CHECK"
        files = [str(here / file) for file in ("check_main.c", f"{name}.c")]
        compiling = [command, *FLAGS, define, *files, "-o", str(program), "-lm"]
        _run(compiling, b"", f"{command} cannot compile the exported C code")
        given = np.ascontiguousarray(observations).tobytes()
        actions = _run([str(program)], given, "the exported C code failed its check")
        return np.frombuffer(actions, np.float32).reshape(len(observations), -1)


def _run(command: list[str], given: bytes, failure: str) -> bytes:
    """Run a command with input, and return its output.

    Raises:
        DataError: if the command fails; `failure` is the beginning of the message.
    """
    done = subprocess.run(command, input=given, capture_output=True, check=False)
    if done.returncode:
        reason = " ".join(done.stderr.decode(errors="replace").split())
        raise DataError(f"export: {failure}: {reason[:500] or f'exit code {done.returncode}'}")
    return done.stdout
