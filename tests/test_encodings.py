"""Test that every command works with paths of arbitrary bytes and with any output encoding."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

import sparl
from sparl.cli import main
from sparl.console import PlainConsole
from sparl.training.run_folder import RunFolder
from sparl.wording import shell_word

pytestmark = pytest.mark.slow

SMALL = [
    "--env", "Pendulum-v1", "--method", "TD3", "--hidden", "8", "--warmup-env-steps", "60",
    "--evaluate-every-env-steps", "50", "--evaluation-episodes", "1", "--threads", "1",
]  # fmt: skip
LOCALES = {
    "ascii output": {"PYTHONIOENCODING": "ascii"},
    "ascii everywhere": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "latin-1 output": {"PYTHONIOENCODING": "latin-1"},
}
NAME = b"r\xc3\xa9 '\xff"  # e with an accent in UTF-8, a quote, and a byte that is not UTF-8


def run_sparl(locale: dict[str, str], folder: Path, *words: str | bytes) -> bytes:
    """Return the output of a command, which must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "sparl", *words], cwd=folder, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **locale},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("name", LOCALES)
def test_every_command_accepts_a_folder_name_of_any_bytes(name: str, tmp_path: Path) -> None:
    def run(*words: str | bytes) -> bytes:
        return run_sparl(LOCALES[name], tmp_path, *words)

    there = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + NAME))
    first = run("train", *SMALL, "--steps", "100", "--run-dir", NAME)
    assert b"again:\n  sparl evaluate" in first
    assert (there / "agent.json").is_file()
    for words in (
        ["evaluate"], ["info"], ["resume"], ["export", "--format", "npz"],
        ["export", "--format", "c", "--out", NAME + b".c"],
        ["report", "--tables-only", "--out", NAME + b".report"],
    ):  # fmt: skip
        run(words[0], NAME, *words[1:])
    assert (there.with_name(there.name + ".report") / "README.md").is_file()

    warm = [*SMALL, "--warm-start", NAME, "--run-dir", NAME + b"2"]
    run("train", *warm, "--steps", "90", "--stop-at", "55")
    run("train", *warm, "--steps", "90", "--resume", "auto")
    run("train", "--config", NAME + b"2/config.toml", "--run-dir", NAME + b"3")


@pytest.mark.parametrize("name", ["ascii output", "ascii everywhere"])
def test_study_and_archive_folders_may_have_names_of_any_bytes(name: str, tmp_path: Path) -> None:
    study = os.fsencode(tmp_path) + b"/" + NAME + b".toml"
    Path(os.fsdecode(study)).write_text(
        'methods = ["TD3"]\nenvironments = ["Pendulum-v1"]\nseeds = 1\n[fields]\nsteps = 40\n'
        "hidden = [8]\nevaluation_episodes = 1\nwarmup_env_steps = 20\n"
    )
    for words in (["run", "--processes", "1"], ["status"]):
        run_sparl(LOCALES[name], tmp_path, "study", words[0], study, "--folder", NAME, *words[1:])
    (run,) = [
        path.parent
        for path in Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + NAME)).glob("*/run.json")
    ]
    commit = [] if RunFolder.open(run).run()["versions"]["commit"] else ["--commit", "abcdef0"]
    run_sparl(LOCALES[name], tmp_path, "archive", os.fsencode(run), "--to", NAME + b"4", *commit)


def test_errors_in_options_with_any_bytes_are_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words in (
        ["--steps", "\udcff"],
        ["--\udcff"],
        ["--env", "\udcff-v0"],
        ["--config", "\udcff"],
    ):
        assert main(["train", *words]) == 2
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("path", ["plain", "two words", "it's", "\udcff", "a\nb", "é $x `y` \\"])
def test_a_path_in_a_command_line_is_one_word_of_the_shell(path: str) -> None:
    words = ["bash", "-c", f"printf %s {shell_word(path)}"]
    assert subprocess.run(words, capture_output=True, check=True).stdout == os.fsencode(path)


def test_a_stream_that_cannot_encode_a_character_gets_an_escape_sequence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii"))
    PlainConsole().print("1 ± 2 in \udcff")
    assert written.getvalue() == b"1 \\xb1 2 in \\udcff\n"


def test_a_tilde_is_the_home_folder_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path)
    commit = ["--commit", "abcdef0"]
    assert main(["train", *SMALL, "--steps", "100", "--run-dir", "~/run"]) == 0
    if RunFolder.open(tmp_path / "home/run").run()["versions"]["commit"]:
        commit = []
    for command, *words in (
        ["evaluate", "~/run"], ["info", "~/run"], ["resume", "~/run"],
        ["export", "~/run", "--format", "npz", "--out", "~/exported"],
        ["archive", "~/run", "--to", "~/archive", *commit],
        ["report", "--tables-only", "~/run", "--out", "~/report"],
        ["train", *SMALL, "--steps", "100", "--run-dir", "~/run", "--resume", "auto"],
        ["train", *SMALL, "--steps", "100", "--run-dir", "~/warm", "--warm-start", "~/run"],
        ["train", "--config", "~/run/config.toml", "--run-dir", "~/again"],
    ):  # fmt: skip
        assert main([command, *words]) == 0, capsys.readouterr().err
    fields = {"steps": 50, "hidden": (8,), "evaluation_episodes": 1, "quiet": True}
    sparl.train("TD3", "Pendulum-v1", run_dir="~/python", **fields)
    assert sparl.load("~/python").env_step == sparl.load(Path("~/python")).env_step == 50
    assert sparl.resume("~/python", quiet=True).path == tmp_path / "home/python"
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
