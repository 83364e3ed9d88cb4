"""Test that a report states why it excludes a bad run, and includes the other runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hostile.changes import change_json
from run_folders import write_run
from sparl.cli import main
from sparl.report.runs import collect
from sparl.studies.study import PLAN

pytestmark = pytest.mark.slow

Damage = Callable[[Path], object]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three finished runs that differ in their seeds."""
    folder = tmp_path_factory.mktemp("good")
    for seed in range(3):
        returns = [1.0 * seed, 5.0, 9.0 + seed]
        write_run(folder / f"run{seed}", "RLx2-TD3", "Hopper-v5", returns, seed=seed, dead=1)
    return folder


@pytest.fixture
def study(good: Path, tmp_path: Path) -> Path:
    """A copy of the runs, of which the tests damage run1."""
    shutil.copytree(good, tmp_path / "study")
    return tmp_path / "study"


def written(name: str, data: bytes) -> Damage:
    return lambda run: (run / name).write_bytes(data)


def replaced(name: str, old: str, new: str) -> Damage:
    def damage(run: Path) -> None:
        text = (run / name).read_text()
        assert old in text
        (run / name).write_text(text.replace(old, new, 1))

    return damage


def a_folder(name: str) -> Damage:
    def damage(run: Path) -> None:
        (run / name).unlink()
        (run / name).mkdir()

    return damage


def a_link(name: str) -> Damage:
    def damage(run: Path) -> None:
        (run / name).rename(run / "elsewhere")
        (run / name).symlink_to(run / "elsewhere")

    return damage


TABLES = ("evaluations.csv", "metrics.csv", "topology.csv")
DAMAGES: dict[str, Damage] = {
    "an unknown method": replaced("config.toml", '"RLx2-TD3"', '"NoSuch-TD3"'),
    "a method that is a path": replaced("config.toml", '"RLx2-TD3"', '"../../x"'),
    "an unknown field": replaced("config.toml", "tau = ", "tauu = 1\ntau = "),
    "settings that do not exist": replaced("config.toml", 'settings = "rlx2"', 'settings = "x"'),
    "a number beyond float": replaced("config.toml", "tau = ", "tau = 1e400 #"),
    "an integer that cannot be printed": replaced(
        "config.toml", "steps = ", f"steps=0x{'f' * 9999}#"
    ),
    "a seed that is a list": replaced("config.toml", "seed = 1", "seed = [1]"),
    "no TOML": written("config.toml", b"\xff\xfe\0"),
    "deep TOML": written("config.toml", b"x = " + b"[" * 100_000),
    "layers without end": replaced("config.toml", "hidden = [", f"hidden = [{'1,' * 100_000}"),
    "deep JSON": written("run.json", b"[" * 100_000),
    "deeper JSON": written("run.json", b'{"a":' * 100_000),
    "no object": written("run.json", b"null"),
    "a huge step": change_json("run.json", "env_step", value=10**30),
    "a step that is a text": change_json("run.json", "env_step", value="x"),
    "a state that is a list": change_json("run.json", "state", value=[]),
    "a preset that is a text": change_json("run.json", "preset", value="x"),
    "versions that are a list": change_json("run.json", "versions", value=["x"]),
    "no memory": change_json("run.json", "peak_memory_bytes", value=-1),
    "degrees of another size": change_json("degrees.json", "now", "actor", 0, value=[]),
    "degrees beyond the layer": change_json(
        "degrees.json", "now", "actor", 0, 0, "in", 0, value=10**30
    ),
    "degrees that are texts": change_json("degrees.json", "now", "actor", 0, 0, "in", 0, value="x"),
    "deep degrees": written("degrees.json", b"[" * 100_000),
    "a mean that is NaN": replaced("evaluations.csv", "5.0", "nan"),
    "a mean that is infinite": replaced("evaluations.csv", "5.0", "inf"),
    "a mean that overflows": replaced("evaluations.csv", "5.0", "1e200"),
    "a mean that is a text": replaced("evaluations.csv", "5.0", "=1+1"),
    "a column too many": replaced("evaluations.csv", "5.0", "5.0,1,1,1"),
    "a column too few": replaced("evaluations.csv", "env_step,", ""),
    "an evaluation out of order": replaced("evaluations.csv", "5000,", "20000,"),
    "an evaluation elsewhere": replaced("evaluations.csv", "5000,", "4999,"),
    "columns without end": written("evaluations.csv", b"," * 60_000 + b"\n" + b"1\n" * 60_000),
    "a cell without end": written("evaluations.csv", b"env_step\n" + b"1" * 200_000 + b"\n"),
    **{f"{name} of NUL bytes": written(name, b"\0" * 50) for name in TABLES},
    **{f"{name} cut off": written(name, b"env_step,upd") for name in TABLES},
    **{f"a folder in place of {name}": a_folder(name) for name in (*TABLES, "run.json")},
    **{f"a link in place of {name}": a_link(name) for name in (*TABLES, "run.json")},
}  # fmt: skip


def printed_report(study: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    code = main(["report", "--tables-only", str(study), "--out", str(study.parent / "out")])
    captured = capsys.readouterr()
    assert (code, captured.err) == (0, "")
    return captured.out


@pytest.mark.parametrize("name", DAMAGES)
def test_a_bad_run_is_listed_in_a_note_and_the_others_are_reported(
    name: str, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    DAMAGES[name](study / "run1")
    printed = printed_report(study, capsys)
    notes = [line for line in printed.splitlines() if line.startswith("note: not included: ")]
    assert len(notes) == 1, printed
    assert str(study / "run1") in notes[0]
    assert len(notes[0]) < 1500
    (group,) = collect([study]).groups
    assert [run.config.seed for run in group.runs] == [0, 2]


def test_a_report_of_a_single_bad_run_is_an_error(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    DAMAGES["an unknown method"](study / "run1")
    assert main(["report", "--tables-only", str(study / "run1"), "--out", str(study / "out")]) == 3
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "NoSuch-TD3" in said


@pytest.mark.parametrize(
    "content", [b"null", b"[" * 100_000, b'{"runs": 5}', b"\xff"], ids=range(4)
)
def test_a_damaged_plan_is_listed_in_a_note(
    content: bytes, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (study / PLAN).write_bytes(content)
    assert f"note: the planned runs are unknown: {study / PLAN}: " in printed_report(study, capsys)
    assert len(collect([study]).groups[0].runs) == 3


@pytest.mark.parametrize("name", DAMAGES)
def test_a_bad_run_in_an_archive_is_listed_in_a_note(
    name: str, study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from sparl.archive.archive import Archive

    for run in study.iterdir():
        assert (
            main(["archive", str(run), "--to", str(tmp_path / "archive"), "--commit", "a" * 40])
            == 0
        )
    capsys.readouterr()
    (bad,) = (tmp_path / "archive").glob("*/*seed1")
    DAMAGES[name](bad)
    archive = Archive.read(tmp_path / "archive")
    assert len(archive.runs) == 2
    (note,) = archive.notes
    assert str(bad) in note


def test_archiving_continues_after_a_bad_run(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    DAMAGES["a mean that is NaN"](study / "run1")
    runs = [str(study / f"run{seed}") for seed in range(3)]
    assert main(["archive", *runs, "--to", str(tmp_path / "archive"), "--commit", "a" * 40]) == 3
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert str(study / "run1") in said.err
    assert said.out.count("archived:") == 2
