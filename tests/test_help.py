"""Test the help of the commands and the descriptions of methods on terminals of any width."""

from __future__ import annotations

import json
import re

import pytest

from sparl.cli import MODULES, main
from sparl.configuration import FIELDS
from sparl.field_texts import GROUPS, LONGEST
from sparl.labels import topology_changes
from sparl.methods import METHODS, preset
from terminals import WIDTHS, MakeTerminal, check_lines

HELP = [
    "", "help", "help train", "train --help", "train -h --method RLx2-SAC --env Ant-v5",
    "help train lambda-1 critics drop initial_topology", "help methods", "methods",
    "methods DS-TD3", "methods RLx2-SAC", "methods SAC", "help study", "help study run",
    "study status --help",
    *(f"{command} --help" for command in MODULES),
]  # fmt: skip


def said(words: str) -> int:
    try:
        return main(words.split())
    except SystemExit as exit_:
        return int(exit_.code or 0)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("words", HELP)
def test_help_fits_into_a_terminal_of_any_width(
    words: str, width: int, terminal: MakeTerminal
) -> None:
    printed = []
    for columns in (10_000, width):
        screen = terminal(columns)
        assert said(words) == (0 if words else 2)
        printed.append(screen.getvalue())
    check_lines(printed[1], width, printed[0])
    assert "None" not in printed[1]
    assert "{" not in printed[1]
    if words == "methods" and width >= 80:
        assert len(printed[1].splitlines()) == len(METHODS) + 4


def test_help_shows_every_field_with_its_default(terminal: MakeTerminal) -> None:
    screen = terminal(80)
    assert said("train --method DS-TD3 --env Ant-v3 --help") == 0
    lines = screen.getvalue().splitlines()
    for name in FIELDS:
        flag = f"--{name.replace('_', '-')}"
        assert sum(line.split()[:1] == [flag] for line in lines) == 1, name
    assert "  --lambda-1 40                         connections/neuron, first layer" in lines
    titles = [line for line in lines if re.fullmatch("[a-z]+", line)]
    assert titles == [
        "run", "environment", "network", "topology", "agent", "replay", "evaluation"
    ]  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_each_field_takes_one_line_of_80_characters(method: str, terminal: MakeTerminal) -> None:
    screen = terminal(80)
    assert said(f"train --method {method} --env HalfCheetah-v5 --help") == 0
    groups = screen.getvalue().split("\n\n")[2:]
    lines = [line for group in groups for line in group.splitlines()[1:]]
    assert all(re.match(r"  --\S+( \S+)*  +\S", line) for line in lines)
    assert len(lines) == len(FIELDS) + 4  # --config, --seeds, --quiet, --progress


def test_each_field_has_one_short_description() -> None:
    texts = [(name, text) for group in GROUPS.values() for name, text in group.items()]
    assert sorted(name for name, _ in texts) == sorted(FIELDS)
    assert all(len(text) <= LONGEST for _, text in texts)


def test_a_field_is_described_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    assert said("help train lambda_1 --initial-topology") == 0
    assert said("help train lambda_1 initial-topology") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--lambda-1 7" in text
    assert "(n_in + n_out) connections. Range: 0 to 1e+09 (connections per neuron)." in text
    assert "One of random, largest_weights." in text
    assert said("help train horizon_env_steps actor_densities") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "[environment steps]; by default `steps`." in text
    assert "by default the densities that lambda_1 and lambda_2 determine." in text
    assert said("help train lambda") == 2
    assert "'lambda' is not a field of a run; did you mean lambda_2?" in capsys.readouterr().err


@pytest.mark.parametrize("name", METHODS)
def test_a_method_shows_its_papers_with_links(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(f"methods {name}") == 0
    lines = capsys.readouterr().out.splitlines()
    links = [line for line in lines if re.fullmatch("  https://(arxiv|doi).org/\\S+", line)]
    assert len(links) == len(METHODS[name].papers) >= 1
    changes = topology_changes(preset(name, ""))
    for field, value in METHODS[name].family.fields.items():
        if field in GROUPS["topology"] and not changes:
            continue  # without effect
        assert any(line.startswith(f"  {field} = {json.dumps(value)} ") for line in lines), field


@pytest.mark.parametrize("command", ["study run", "chip read"])
def test_a_subcommand_is_described(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(f"help {command}") == 0
    text = capsys.readouterr().out
    assert f"usage: sparl {command}" in text
    assert "\noptions\n" in text


def test_an_unknown_method_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert said("methods DS-TD") == 2
    assert "unknown method 'DS-TD'; did you mean DS-TD3" in capsys.readouterr().err
