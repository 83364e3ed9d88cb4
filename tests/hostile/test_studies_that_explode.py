"""Test that small study files that describe too many runs are rejected at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

STUDY = 'methods = ["TD3"]\nenvironments = ["Pendulum-v1"]\nseeds = 2\n'
FIELDS = ("learning_rate", "weight_decay", "gamma", "tau", "exploration_noise", "target_noise",
          "noise_clip")  # fmt: skip
GRID = "[grid]\n" + "".join(f"{name} = [{','.join(['0.1'] * 20)}]\n" for name in FIELDS)
BIG = "0x" + "f" * 100_000  # an integer that Python does not print

# The content of the file, and a part of the message.
FILES = {
    "a grid of 20^7": (STUDY + GRID, "is 2560000000 but"),
    "10^10 seeds": (STUDY.replace("2", "10_000_000_000"), "is 10000000000 but"),
    "seeds without end": (STUDY.replace("2", BIG), "runs (methods x environments x seeds x grid"),
    "a large grid of unknown fields": (
        STUDY + "[grid]\n" + "".join(f"k{i} = [1, 2]\n" for i in range(20_000)), "runs (methods"
    ),
    "variants": (STUDY + "[[variants]]\n" * 30_000, "is 60000 but"),
    "a long list of seeds": (STUDY.replace("2", f"[{'1,' * 200_000}]"), "is 200000 but"),
    "deeply nested": (STUDY + "x = " + "[" * 100_000, "cannot be read as TOML"),
    "nested tables": (STUDY + "fields = " + "{a = " * 300 + "1" + "}" * 300, "unknown field 'a'"),
    "a deep value": (STUDY + "[fields]\nsteps = " + "[" * 400 + "]" * 400, "steps is [["),
    "unknown keys": ("".join(f"k{i}=1\n" for i in range(50_000)), "and 49,995 more; the known"),
    "80,000 unknown keys": ("".join(f"key_{i} = 1\n" for i in range(80_000)), (
        "larger than the maximum of 524,288"
    )),
    "unknown fields": (
        STUDY + "[fields]\n" + "".join(f"k{i}=1\n" for i in range(50_000)), "unknown field 'k0'"
    ),
    "a long key": (STUDY + "k" * 500_000 + " = 1\n", "unknown keys: 'kkk"),
    "200,000 layers": (STUDY + f"[fields]\nhidden = [{'1,' * 200_000}]\n", "hidden is (1, 1,"),
    "dotted keys": (STUDY + "x." + "a." * 200_000 + "b = 1\n", "parts (at line 4)"),
    "a dotted header": (STUDY + "\n[" + "a." * 200_000 + "b]\n", "parts (at line 5)"),
    "a dotted key of strings": (STUDY + '"a".\'b\'.' * 60_000 + "a = 1\n", "parts (at line 4)"),
    "a dotted key behind a string": (
        STUDY + 'x = {y = """b"""", ' + "k." * 100_000 + "a = 1}\n", "parts (at line 4)"
    ),
    "a NUL": (STUDY + "x = 'a\0b'\n", "invalid character '\\x00' (at line 4"),
    "fields that are a number": (STUDY + "fields = 5\n", "fields is 5 but must be a table"),
    "a grid that is a number": (STUDY + "grid = 5\n", "a table, [grid], with a non-empty"),
    "a grid of a number": (STUDY + "[grid]\nsteps = 5\n", "a table, [grid], with a non-empty"),
    "variants that are a number": (STUDY + "variants = 5\n", "but must be tables, [[variants]]"),
    "no variants": (STUDY + "variants = []\n", "variants is empty"),
    "a huge number": (STUDY + f"[fields]\nsteps = {BIG}\n", "steps is an integer of 400,000 bits"),
    "a huge width": (STUDY + f"[fields]\nhidden = [{BIG}]\n", "hidden is (an integer of 400,000"),
    "a huge seed": (STUDY.replace("2", f"[{BIG}]"), "seed is an integer of 400,000 bits"),
    "unset that is nested": (STUDY + "[fields]\nunset = [[1]]\n", "unknown field 'unset'"),
    "open strings": (STUDY + "'x" * 200_000, "cannot be read as TOML"),
    "dots": ("." * 500_000, "cannot be read as TOML"),
    "words and dots": ("a.b " * 120_000, "cannot be read as TOML"),
}  # fmt: skip

MEASURED = """
import resource, sys, time
import sparl.studies.command
from sparl.cli import main
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
code = main(["study", "status", sys.argv[1]])
seconds = time.process_time() - start
print(code, seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize("name", FILES)
def test_a_study_with_too_many_runs_is_rejected_at_once(name: str, tmp_path: Path) -> None:
    text, named = FILES[name]
    path = tmp_path / "study.toml"
    path.write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(path)], capture_output=True, text=True, timeout=60,
        cwd=tmp_path,
    )  # fmt: skip
    assert done.stderr.count("\n") == 1, done.stderr
    assert named in done.stderr
    assert len(done.stderr) < 3500
    code, seconds, megabytes = done.stdout.split()
    assert code == "2"
    assert float(seconds) < 2  # seconds of CPU time; about one on an idle machine
    assert int(megabytes) < 200
    assert [path.name for path in tmp_path.iterdir()] == ["study.toml"]


def test_a_study_may_have_many_runs(tmp_path: Path) -> None:
    from sparl.studies.study import MOST_RUNS, read_plan, read_study, write_plan

    path = tmp_path / "study.toml"
    path.write_text(STUDY.replace("2", str(MOST_RUNS)))
    study = read_study(path)
    assert len(study.units) == MOST_RUNS
    write_plan(tmp_path / "runs", study)
    assert len(read_plan(tmp_path / "runs")) == MOST_RUNS
