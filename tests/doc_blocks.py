"""Read the code blocks of the documentation, and run their shell commands in shortened form.

The numbers of steps in the blocks are reduced. Shell commands run in Bash, where this file replaces
`sparl`, `pip`, `make` and `tensorboard`: the first runs sparl with flags that shorten runs, and the
others only check their arguments, or that event files exist.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tomli_w

REPOSITORY = Path(__file__).parents[1]
FENCE = re.compile(r'^( *)```(\w*)(?: title="(.*?)")?\n(.*?)^\1```$', re.M | re.S)
STEPS = {
    "1_000": "60", "2_000": "220", "10_000": "100", "20_000": "160", "40_000": "200",
    "100_000": "160", "200_000": "200", "500_000": "240", "1_000_000": "240", "1M": "240",
    "2M": "300",
}  # fmt: skip
FIELDS = {
    "steps": 240, "warmup_env_steps": 60, "evaluate_every_env_steps": 80, "evaluation_episodes": 1,
    "max_episode_steps": 50, "threads": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Block:
    """A fenced block: its language and title ("" if it has none), its code and its line number."""

    language: str
    title: str
    code: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    """Return the fenced blocks of a page, without the indentation of blocks in lists."""
    text = page.read_text()
    for indent, language, title, code in (match.groups() for match in FENCE.finditer(text)):
        line = text[: text.index(code)].count("\n") + 1
        yield Block(language, title or "", re.sub(f"^{indent}", "", code, flags=re.M), line)


def shortened(code: str) -> str:
    """Replace numbers such as 20_000 and 1M; raise KeyError for one that STEPS does not contain."""
    return re.sub(r"\b\d+(?:_000)+\b|\b\dM\b", lambda match: STEPS[match[0]], code)


def _sparl(arguments: list[str]) -> int:
    """Run a sparl command with flags that shorten it."""
    from sparl.__main__ import main

    if "train" in arguments and "--help" not in arguments:
        for name, value in FIELDS.items():
            flag = "--" + name.replace("_", "-")
            if flag not in arguments and not (name == "threads" and "--seeds" in arguments):
                arguments += [flag, str(value)]
    if arguments[:2] == ["study", "run"]:
        _shorten_study(Path(arguments[2]))
    sys.argv = ["sparl", *arguments]
    return main()


def _shorten_study(path: Path) -> None:
    study = tomllib.loads(path.read_text())
    study["seeds"] = 1
    study["fields"] |= {name: value for name, value in FIELDS.items() if name != "threads"}
    path.write_text(tomli_w.dumps(study))


def _pip(arguments: list[str]) -> int:
    """Check that pyproject.toml defines the extras."""
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    named = re.findall(r"[\w-]+", " ".join(re.findall(r"\[(.*?)\]", " ".join(arguments))))
    return int(arguments[0] != "install" or not set(named) <= set(extras))


def _make(arguments: list[str]) -> int:
    """Check that the Makefile defines the targets."""
    targets = set(re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.M))
    return int(not {name for name in arguments if "=" not in name} <= targets)


def _tensorboard(arguments: list[str]) -> int:
    """Check that event files exist."""
    assert arguments[0] == "--logdir"
    return int(not list(Path(arguments[1]).rglob("events.out.tfevents*")))


if __name__ == "__main__":
    command, *rest = sys.argv[1:]
    run = {"sparl": _sparl, "pip": _pip, "make": _make, "tensorboard": _tensorboard}[command]
    sys.exit(run(rest))
