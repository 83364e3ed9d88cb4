"""Test that type checkers know the keyword arguments of sparl.train and sparl.resume."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from sparl.configuration import CHANGEABLE, FIELDS, Config
from sparl.fields import ResumeFields, TrainFields

REPOSITORY = Path(__file__).parents[2]
HEAD = "import sparl, gymnasium\nfrom pathlib import Path\n"
RIGHT = [
    'sparl.train("TD3", "Hopper-v5", steps=3, hidden=[64, 64], run_dir=Path("run"), lambda_1=7)',
    'sparl.train("TD3", lambda: gymnasium.make("Hopper-v5"), max_episode_steps=None)',
    'sparl.train("TD3", gymnasium.make("Hopper-v5"), callback=[sparl.Callback()])',
    'sparl.resume("run", env=lambda: gymnasium.make("Hopper-v5"), stop_at=None, threads=2)',
    'sparl.load("run", best=True).networks["actor"].layers[0].mask().sum()',
    "class Stops(sparl.Callback):\n"
    "    def on_step(self, run: sparl.ActiveRun) -> None:\n"
    "        if run.env_step > 3: run.stop()\n"
    "sparl.train(callback=Stops())",
]
WRONG = {
    'sparl.train("TD3", stepz=3)': 'Unexpected keyword argument "stepz"',
    'sparl.train("TD3", steps="3")': 'has incompatible type "str"; expected "int"',
    'sparl.train("TD3", drop=3)': 'expected "str"',
    'sparl.train("TD3", settings="dx")': "expected \"Literal['ds', 'rlx2']\"",
    'sparl.train("TD3", callback=print)': 'expected "Callback | Sequence[Callback]"',
    'sparl.resume("run", seed=3)': 'Unexpected keyword argument "seed"',
}


def test_type_checkers_accept_valid_calls_and_reject_invalid_ones(tmp_path: Path) -> None:
    right = [HEAD, *(f"{code}\n" for code in RIGHT)]
    (tmp_path / "user.py").write_text("".join([*right, *(f"{code}\n" for code in WRONG)]))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", REPOSITORY / "pyproject.toml",
         "--cache-dir", tmp_path / "cache", "user.py"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env={"MYPYPATH": str(REPOSITORY / "src")},
    )  # fmt: skip
    found = re.findall(r"user\.py:(\d+): error: (.*)", done.stdout)
    first = "".join(right).count("\n") + 1
    assert [int(line) for line, _ in found] == list(range(first, first + len(WRONG))), done.stdout
    for (_, message), expected in zip(found, WRONG.values(), strict=True):
        assert expected in message


def accepted(name: str, hint: Any) -> Any:
    """Return the type that sparl.train accepts for a field of this type."""
    if name in ("run_dir", "warm_start"):
        return hint | PathLike[str]
    if get_origin(hint) is tuple:
        return Sequence[get_args(hint)[0]]  # type: ignore[misc]
    if tuple in map(get_origin, get_args(hint)):
        return Sequence[float] | None
    return hint


@pytest.mark.parametrize(
    ("fields", "names"),
    [(TrainFields, FIELDS.keys() - {"method", "env"}), (ResumeFields, CHANGEABLE | {"steps"})],
)
def test_the_keyword_arguments_are_the_fields_of_the_configuration(
    fields: Any, names: set[str]
) -> None:
    hints = get_type_hints(Config)
    assert get_type_hints(fields) == {name: accepted(name, hints[name]) for name in names}
