"""Test that files run no code, import nothing, and control no terminal."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import tomli_w
from rich.console import Group
from rich.table import Table
from rich.text import Text

import sparl
from hostile.changes import change_json
from resuming import stopped_at
from run_folders import write_run
from sparl import user_modules
from sparl.cli import main
from sparl.console import PlainConsole
from sparl.export import c_check
from sparl.export.c_header import comment_text
from sparl.report.escape import in_csv, in_html, in_markdown
from sparl.studies.unit import record_loss
from sparl.training.console import RunConsole
from sparl.training.environment import Environment
from sparl.training.evaluate import OBSERVATIONS, Evaluator
from sparl.training.run_folder import RunFolder
from sparl.training.toml_files import parse_toml
from test_hostile_files import sha256

FIELDS: dict[str, Any] = {
    "steps": 60, "hidden": (4,), "batch_size": 4, "warmup_env_steps": 10, "evaluation_episodes": 2,
    "evaluate_every_env_steps": 30, "threads": 1, "quiet": True,
}  # fmt: skip
CONTROL = "\x1b]0;owned\x07\x1b[2J\u202egnp"
MODULE = """
from pathlib import Path
import gymnasium
Path(__file__).with_name("was_imported").touch()
gymnasium.register("Evil-v0", "gymnasium.envs.classic_control:PendulumEnv", max_episode_steps=20)
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    sparl.train("TD3", "Pendulum-v1", run_dir=path, **FIELDS)
    return path


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a checkpoint."""
    path = tmp_path_factory.mktemp("runs") / "run"
    with stopped_at(37):
        sparl.train("TD3", "Pendulum-v1", run_dir=path, **FIELDS)
    return path


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run to change."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Create a module that Python would find and that creates a file when it is imported."""
    (tmp_path / "evil_module.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(user_modules, "_imported", [])
    yield tmp_path / "was_imported"
    sys.modules.pop("evil_module", None)
    gymnasium.registry.pop("Evil-v0", None)


def set_fields(run: Path, **fields: Any) -> None:
    """Change fields of a run's configuration."""
    path = run / "config.toml"
    config = {**parse_toml(path.read_bytes(), path, "configuration"), **fields}
    config["unset"] = [name for name in config["unset"] if name not in fields]
    path.write_bytes(tomli_w.dumps(config).encode())


def commands(run: Path) -> dict[str, list[str]]:
    """Return the commands that read a run's configuration."""
    out = str(run.parent / "out")
    return {
        "evaluate": ["evaluate", str(run)],
        "info": ["info", str(run)],
        "resume": ["resume", str(run)],
        "play": ["play", str(run), "--video", f"{out}.mp4"],
        "export c": ["export", str(run), "--format", "c", "--out", out],
        "export npz": ["export", str(run), "--format", "npz", "--out", out],
        "report": ["report", "--tables-only", str(run), "--out", out],
        "archive": ["archive", str(run), "--to", out, "--commit", "abcdef0"],
    }


def rejected(capsys: pytest.CaptureFixture[str], words: list[str], code: int = 3) -> str:
    """Run a command that must fail, and return the one line that it prints."""
    capsys.readouterr()
    assert main(words) == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    assert said[:-1].isprintable(), said
    return said


def table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# ------------------------------------------------------------------ validation of input

HOSTILE_FIELDS: list[dict[str, Any]] = [
    {"method": 'x */ static int x = system("touch owned"); /*'},
    {"method": "<script>alert(1)</script>"},
    {"method": "=cmd|' /C calc'!A0"},
    {"method": CONTROL},
    {"method": "../../x"},
    {"method": "SAC"},  # registered, but the agent is TD3
    {"agent": "*/"},
    {"settings": "*/"},
    {"env": "x */ /*"},
    {"env": "../../x-v0"},
    {"env": "a/../../x-v0"},
    {"env": "/etc/x-v0"},
    {"env": "..-v0"},
    {"env": "-rf-v0"},
    {"env": "a/b/c-v0"},
    {"env": "os.system('x'):X-v0"},
    {"env": "a:b:X-v0"},
    {"env": ":X-v0"},
    {"env": f"X{CONTROL}-v0"},
    {"env": "X" * 200 + "-v0"},
    {"env": "Pendulum\u2010v1"},
    {"drop": "smallest; x"},
    {"grow": "../random"},
    {"warm_start": f"/tmp/{CONTROL}"},
    {"hidden": [2**40]},
    {"replay_capacity": 10**15},
    {"learning_rate": float("nan")},
]


@pytest.mark.parametrize("fields", HOSTILE_FIELDS, ids=str)
@pytest.mark.parametrize(
    "command",
    ["evaluate", "info", "resume", "export c", "export npz", "report", "archive"],
)
def test_a_runs_configuration_passes_the_check_of_the_command_line(
    command: str, fields: dict[str, Any], run: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(c_check, "run", lambda *_: pytest.fail("C was compiled"))
    set_fields(run, **fields)
    assert "config.toml" in rejected(capsys, commands(run)[command])
    assert not (run.parent / "out").exists()


@pytest.mark.parametrize("fields", HOSTILE_FIELDS, ids=str)
def test_configuration_and_study_files_pass_the_same_check(
    fields: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    config = {"method": "TD3", "env": "Pendulum-v1", "agent": "TD3", "steps": 60, **fields}
    Path("config.toml").write_bytes(tomli_w.dumps(config).encode())
    rejected(capsys, ["train", "--config", "config.toml", "--run-dir", "run"], 2)
    names = {"methods": [config.pop("method")], "environments": [config.pop("env")], "seeds": 1}
    Path("study.toml").write_bytes(tomli_w.dumps({**names, "fields": config}).encode())
    for words in (["run", "--processes", "1"], ["status"]):
        rejected(capsys, ["study", words[0], "study.toml", *words[1:]], 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.toml", "study.toml"]


@pytest.mark.parametrize("fields", HOSTILE_FIELDS, ids=str)
def test_a_checkpoints_configuration_passes_the_same_check(
    fields: dict[str, Any], stopped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(stopped, tmp_path / "run"))
    path = run / "checkpoint-37" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["about"]["config"] |= fields
    manifest.pop("sha256")
    manifest["sha256"] = sha256(json.dumps(manifest, sort_keys=True).encode())
    path.write_text(json.dumps(manifest))
    rejected(capsys, ["resume", str(run)])


def test_names_that_the_command_line_accepts_are_accepted_in_a_file(run: Path) -> None:
    for env in ("Pendulum-v1", "Unversioned", "a_module.b:ALE/Pong.x-v5", "phys2d/CartPole-v1"):
        set_fields(run, env=env)
        assert RunFolder.open(run).config().env == env


@pytest.mark.parametrize("name", ["run.json", "agent.json", "degrees.json"])
@pytest.mark.parametrize("text", ["\x1b[2J", "\u202e", "\x9b31m", "a\nb", "\x7f"], ids=ascii)
@pytest.mark.parametrize("where", ["value", "key", "nested"])
def test_json_files_contain_no_control_characters(
    where: str, text: str, name: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((run / name).read_text())
    content |= {"value": {"x": text}, "key": {text: 1}, "nested": {"x": [[{"y": text}]]}}[where]
    (run / name).write_text(json.dumps(content))
    words = commands(run)["evaluate" if name == "agent.json" else "report"]
    assert f"{run / name}: cannot be read" in rejected(capsys, words)


# ------------------------------------------------------------------ nothing is imported


@pytest.mark.parametrize("command", ["evaluate", "resume", "export c", "export npz"])
def test_a_module_that_a_run_names_is_not_imported(
    command: str, run: Path, module: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_fields(run, env="evil_module:Evil-v0", steps=90)
    (run / "observations.safetensors").unlink()
    manifest = json.loads((run / "agent.json").read_text())
    del manifest["observations"]
    (run / "agent.json").write_text(json.dumps(manifest))
    said = rejected(capsys, commands(run)[command])
    assert f"sparl --import evil_module {command.split()[0]} {run}" in said
    assert not module.exists()
    assert "evil_module" not in sys.modules


def test_a_module_that_the_user_imports_is_used(
    run: Path, module: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_fields(run, env="evil_module:Evil-v0")
    assert main(["--import", "evil_module", "evaluate", str(run)]) == 0
    assert module.exists()
    assert main(["evaluate", str(run)]) == 0  # this process has imported the module


def test_an_environment_of_the_command_line_is_imported_and_the_hint_imports_it(
    tmp_path: Path, module: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--steps", "20", "--hidden", "4", "--evaluation-episodes", "1"]
    assert main(["train", "--env=evil_module:Evil-v0", "--run-dir", "own", *words]) == 0
    assert "again:\n  sparl --import evil_module evaluate own\n" in capsys.readouterr().out
    assert module.exists()


@pytest.mark.parametrize("kind", ["config", "study", "dry run", "asked.toml"])
def test_a_module_that_a_configuration_or_study_file_names_is_not_imported(
    kind: str, tmp_path: Path, module: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("c.toml").write_text('method = "TD3"\nenv = "evil_module:Evil-v0"\nsteps = 20\n')
    Path("s.toml").write_text(
        'methods = ["TD3"]\nenvironments = ["evil_module:Evil-v0"]\nseeds = 1\n'
        "[fields]\nsteps = 20\nhidden = [4]\nevaluation_episodes = 1\n"
    )
    words = {
        "config": ["train", "--config", "c.toml", "--run-dir", "run"],
        "asked.toml": ["train", "--config", "c.toml", "--run-dir", "run", "--resume", "auto"],
        "study": ["study", "run", "s.toml", "--processes", "1"],
        "dry run": ["study", "run", "s.toml", "--dry-run"],
    }[kind]
    said = rejected(capsys, words, 2)
    assert "sparl --import evil_module " in said
    if "study" in words:
        assert f"sparl --import evil_module {' '.join(words[:3])}" in said
    assert not module.exists()
    assert not Path("runs").exists()
    if kind == "study":
        assert main(["--import", "evil_module", *words]) == 0


def test_report_archive_and_info_need_no_environment(
    tmp_path: Path, module: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_run(tmp_path / "own", "DS-TD3", "evil_module:Evil-v0", [1.0, 2.0])
    about = json.loads((path / "run.json").read_text())
    about["environment"] = {"id": "x", "notes": [], "observations": 3, "actions": 1}
    (path / "run.json").write_text(json.dumps(about))
    assert main(["report", "--tables-only", str(path), "--out", "out"]) == 0
    (row,) = table(Path("out/tables/costs.csv"))
    assert int(row["dense_connections"]) == (3 + 256 + 1) * 256 + 2 * (4 + 256 + 1) * 256
    assert main(["archive", str(path), "--to", "kept", "--commit", "abcdef0"]) == 0
    assert main(["info", str(path)]) == 0
    assert not module.exists()


def test_the_costs_of_older_runs_come_from_their_degrees(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about = json.loads((run / "run.json").read_text())
    costs = []
    for _ in range(2):
        assert main(["report", "--tables-only", str(run), "--out", str(run / "out")]) == 0
        costs.append((run / "out/tables/costs.csv").read_text())
        about["environment"].pop("observations", None)
        (run / "run.json").write_text(json.dumps(about))
    assert costs[0] == costs[1]


# ------------------------------------------------------------------ exports


def test_an_export_is_checked_on_saved_observations_without_the_environment(
    run: Path, module: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about = json.loads((run / "agent.json").read_text())["observations"]
    assert 0 < about["rows"] <= OBSERVATIONS
    set_fields(run, env="evil_module:Evil-v0")
    for name, words in commands(run).items():
        if name.startswith("export"):
            assert main(words) == 0
            assert f"checked on {about['rows']:,} observations" in capsys.readouterr().out
    assert main([*commands(run)["export c"], "--int8"]) == 0
    words = f"sparl --import evil_module export {run} --format c --int8"
    said = capsys.readouterr().out
    assert "return not measured, because evil_module:Evil-v0 is not registered" in said
    assert words in said
    assert not module.exists()
    assert main(["--import", "evil_module", *commands(run)["export c"], "--int8"]) == 0
    assert "(2 episodes)" in capsys.readouterr().out


@pytest.mark.parametrize("rows", [0, -1, 10**9, True, "3", None])
def test_saved_observations_with_false_values_are_rejected(
    rows: Any, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads((run / "agent.json").read_text())
    manifest["observations"]["rows"] = rows
    (run / "agent.json").write_text(json.dumps(manifest))
    rejected(capsys, commands(run)["export npz"])


def test_saved_observations_that_were_changed_are_rejected(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / "observations.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert str(path) in rejected(capsys, commands(run)["export npz"])
    path.unlink()
    assert str(path) in rejected(capsys, commands(run)["export npz"])


@pytest.mark.parametrize("episodes", [1, 2, 3, 7])
def test_the_saved_observations_are_a_sample_of_those_in_the_evaluations(episodes: int) -> None:
    seen: list[np.ndarray[Any, Any]] = []

    def policy(observation: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        seen.extend(observation)
        return observation[:, :6] * np.float32(0.1)

    evaluator = Evaluator(lambda: Environment("HalfCheetah-v5"), episodes, 100)
    try:
        found = evaluator.evaluate(policy).observations
    finally:
        evaluator.close()
    assert OBSERVATIONS / 2 <= len(found) <= OBSERVATIONS
    assert {row.tobytes() for row in found} <= {row.tobytes() for row in seen}
    assert len(np.unique(found, axis=0)) == len(found)


# ------------------------------------------------------------------ escaping of output

TEXTS = [
    "x */ int main; /*", "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>',
    "| a | `b` [c](javascript:d) **e** ![f](http://g)", "=1+1", "+1", "-1", "@SUM(A1)", "\uff1d1+1",
    CONTROL, "www.example.org", "a\r\nb", "_x_", "]]>", "&lt;",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_text_is_escaped_in_every_output_format(text: str) -> None:
    comment = comment_text(text)
    assert comment.isascii()
    assert comment.isprintable()
    assert "*/" not in comment
    assert "/*" not in comment

    parts: list[tuple[str, str]] = []
    parser = HTMLParser()
    parser.handle_data = lambda data: parts.append(("text", data))  # type: ignore[method-assign]
    parser.handle_starttag = lambda tag, _: parts.append(("tag", tag))  # type: ignore[method-assign]
    parser.feed(f"<p>{in_html(text)}")
    parser.close()
    assert [kind for kind, _ in parts] == ["tag", "text"]
    assert '"' not in in_html(text)

    line = in_markdown(text)
    assert line.isprintable()
    assert not re.search(r"(?<!\\)[`*\[\]<>|]|(?<!\\)://|www\.", line.replace("\\\\", ""))

    cell = str(in_csv(text))
    assert cell[0] not in "=+-@\uff1d\t\r\n"
    assert cell.isprintable()


def test_numbers_of_a_csv_file_stay_numbers() -> None:
    assert [in_csv(v) for v in (-1.5, 3, None, True)] == [-1.5, 3, None, True]


@pytest.mark.usefixtures("empty_drawings")
@pytest.mark.parametrize(
    "folder",
    ["=1+1", "@x", "<script>alert(1)<", "| `x` [a](b:c)", f"a{CONTROL}b", "+x,y", '"><b>'],
    ids=ascii,
)
def test_the_name_of_a_folder_is_escaped_in_a_report(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("good", "bad"):
        write_run(tmp_path / folder / name, "TD3", "Pendulum-v1", [1.0, 2.0])
    (tmp_path / folder / "good").rename(tmp_path / folder / folder)
    (tmp_path / folder / "bad" / "run.json").write_text("{")
    out = tmp_path / "out"
    assert main(["report", str(tmp_path / folder), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert all(line.isprintable() for line in said.splitlines())
    (row,) = table(out / "tables/runs.csv")
    assert row["folder"][0] not in "=+-@"
    page, readme = (out / "report.html").read_text(), (out / "README.md").read_text()
    assert "not included" in page
    assert "\x1b" not in page + readme
    if any(each in folder for each in '<"'):
        assert folder not in page
    if any(each in folder for each in "<|"):
        assert folder not in readme
    assert page.count("<script>") == 2


def test_control_characters_reach_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    columns = Table(box=None)
    columns.add_column(CONTROL)
    columns.add_row(CONTROL)
    for stream in ("out", "err"):
        console = PlainConsole(stderr=stream == "err")
        for shown in (CONTROL, columns, Group(CONTROL, Text(CONTROL)), f"two\nlines {CONTROL}"):
            console.print(shown)
            said = getattr(capsys.readouterr(), stream)
            assert all(line.isprintable() for line in said.splitlines())
            assert "\\x1b[2J\\u202egnp" in said.replace("\n", "")
    RunConsole(10).warn(CONTROL)
    assert capsys.readouterr().err[:-1].isprintable()


def test_the_text_of_an_environments_failure_is_shown_escaped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.toml").write_text(
        'methods = ["TD3"]\nenvironments = ["Pendulum-v1"]\nseeds = 1\n[fields]\nsteps = 20\n'
    )
    from sparl.studies.study import read_study

    (unit,) = read_study(Path("s.toml")).units
    folder = Path("runs/s") / unit.id
    folder.mkdir(parents=True)
    record_loss(Path("runs/s"), unit, f"raised {CONTROL}")
    assert main(["study", "status", "s.toml"]) == 0
    said = capsys.readouterr().out
    assert "raised \\x1b]0;owned" in said.replace("\n", "")
    assert all(line.isprintable() for line in said.splitlines())


# ------------------------------------------------------------------ one bad run is a note


def change_csv(name: str, column: str, value: str) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        rows = table(run / name)
        rows[-1][column] = value
        with (run / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    return change


def change_config(**fields: Any) -> Callable[[Path], None]:
    return lambda run: set_fields(run, **fields)


def into_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


VALUES = [None, -1, 10**400, float("nan"), float("inf"), "x", [], {}, True, [[1]], CONTROL]
DAMAGE: dict[str, Callable[[Path], None]] = {
    **{
        f"{name} {'.'.join(map(str, path))} {str(value)[:20]!a}": change_json(
            name, *path, value=value
        )
        for name, path in (
            ("run.json", ("state",)), ("run.json", ("env_step",)), ("run.json", ("versions",)),
            ("run.json", ("versions", "commit")), ("run.json", ("machine", "threads")),
            ("run.json", ("peak_memory_bytes",)), ("run.json", ("continued",)),
            ("run.json", ("bit_exact",)), ("run.json", ("preset",)),
            ("run.json", ("environment",)), ("run.json", ("wall_seconds",)),
            ("run.json", ("environment", "observations")), ("run.json", ("environment", "actions")),
            ("degrees.json", ("now",)), ("degrees.json", ("now", "actor")),
            ("degrees.json", ("now", "actor", 0)), ("degrees.json", ("now", "critics", 0, 0)),
            ("degrees.json", ("initial", "actor", 0, 0, "out")),
            ("degrees.json", ("now", "actor", 0, 0, "in", 0)),
        )
        for value in VALUES
    },
    **{
        f"{name} {column} {value[:20]}": change_csv(name, column, value)
        for name, column in (
            ("evaluations.csv", "env_step"), ("evaluations.csv", "mean"),
            ("evaluations.csv", "wall_seconds"), ("evaluations.csv", "updates"),
            ("metrics.csv", "env_step"), ("metrics.csv", "policy_distance"),
            ("metrics.csv", "n_step"), ("topology.csv", "agent_update"),
            ("topology.csv", "connections"), ("topology.csv", "initial_overlap"),
        )
        for value in ("nan", "inf", "-inf", "-1", "1e300", "9" * 400, "x", "", "0", "\x1b[2J")
    },
    **{
        f"config {fields}": change_config(**fields)
        for fields in (
            {"actor_sparsity": 0.9999}, {"critic_sparsity": 1.0}, {"hidden": [1]},
            {"hidden": [2**27, 2**27], "narrow": True}, {"actor_densities": [0.5]},
            {"method": "x"}, {"settings": "rlx2"}, {"agent": "SAC"}, {"env": "x y"},
            {"steps": 10**12}, {"warm_start": "x" * 5000}, {"hidden": [4] * 5000},
        )
    },
    "run.json is a folder": lambda run: into_folder(run / "run.json"),
    "config.toml is a folder": lambda run: into_folder(run / "config.toml"),
    "evaluations.csv is empty": lambda run: (run / "evaluations.csv").write_text("") and None,
    "degrees.json nests": lambda run: (run / "degrees.json").write_text("[" * 10**5) and None,
    "plan.json": lambda run: (run / "plan.json").write_text('{"runs": {"x": {"env": 1}}}') and None,
    "plan.json list": lambda run: (run / "plan.json").write_text('{"runs": []}') and None,
    "plan.json method": lambda run: (run / "plan.json").write_text(
        '{"runs": {"x": {"env": "X-v0", "method": "*/", "seed": 1}}}') and None,
}  # fmt: skip


@pytest.mark.parametrize("file", sorted({name.split()[0] for name in DAMAGE}))
@pytest.mark.slow
def test_bad_runs_do_not_affect_the_rest_of_a_report(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, method in (("runs/good", "DS-TD3"), ("DS-TD3",) * 2, ("RigL-TD3",) * 2):
        write_run(tmp_path / name, method, "Hopper-v5", [1.0, 2.0, 4.0])
    damages = [damage for name, damage in DAMAGE.items() if name.split()[0] == file]
    for seed, damage in enumerate(damages, 1):
        for method in ("DS-TD3", "RigL-TD3"):
            run = Path(shutil.copytree(tmp_path / method, tmp_path / "runs" / f"{method}-{seed}"))
            set_fields(run, seed=seed)
            damage(run)
    out = tmp_path / "out"
    assert main(["report", "--tables-only", str(tmp_path / "runs"), "--out", str(out)]) == 0, (
        capsys.readouterr()
    )
    reported = {Path(row["folder"]).name for row in table(out / "tables/runs.csv")}
    assert "good" in reported
    said = capsys.readouterr().out
    assert all(line.isprintable() for line in said.splitlines())
    noted = set(re.findall(rf"{re.escape(str(tmp_path / 'runs'))}/([\w-]+)", said))
    assert {path.name for path in (tmp_path / "runs").iterdir()} <= reported | noted


def test_one_bad_run_does_not_prevent_archiving_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [
        str(write_run(tmp_path / name, "TD3", "Hopper-v5", [1.0, 2.0], seed=seed))
        for seed, name in enumerate(("good", "bad", "fine"))
    ]
    set_fields(tmp_path / "bad", method="*/")
    words = ["archive", *runs, "--to", str(tmp_path / "kept"), "--commit", "abcdef0"]
    assert str(tmp_path / "bad") in rejected(capsys, words)
    assert len(list((tmp_path / "kept").rglob("run.json"))) == 2
