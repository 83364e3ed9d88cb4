"""Test that printed commands name the module that registers a custom environment."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import pytest

import bad_environments
import sparl
from sparl.cli import main
from sparl.training.tasks import module_of

FIELDS: dict[str, Any] = {
    "steps": 60, "hidden": (8,), "warmup_env_steps": 50, "evaluate_every_env_steps": 60,
    "evaluation_episodes": 1,
}  # fmt: skip
COMMANDS = (["evaluate"], ["play"], ["export", "--format", "npz"])


def train(path: Path, env: str = "Walks-v0", **fields: Any) -> str:
    return str(sparl.train("TD3", env, run_dir=str(path), **{**FIELDS, **fields}).path)


@pytest.mark.parametrize("env", ["Walks-v0", "bad_environments:Walks-v0"])
def test_the_summary_prints_a_command_that_imports_the_environment(
    env: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(tmp_path / "run", env, stop_at=55)
    words = f"sparl --import bad_environments {{}} {run}"
    assert f"again:\n  {words.format('evaluate')}\n" in capsys.readouterr().out
    assert main(["info", run]) == 0
    assert (
        f"{words.format('resume')} --stop-at 60 resumes the run, bit for bit"
    ) in capsys.readouterr().out


def test_gymnasiums_own_environments_need_no_import(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(tmp_path / "run", "Pendulum-v1")
    assert f"again:\n  sparl evaluate {run}\n" in capsys.readouterr().out


def test_the_summary_of_a_script_asks_for_a_module(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import gymnasium, sparl, bad_environments\n"
        "class Own(bad_environments.Good): pass\n"
        "gymnasium.register('Own-v0', Own, max_episode_steps=20)\n"
        f"sparl.train('TD3', 'Own-v0', run_dir='run', **{FIELDS})\n"
    )
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    again = (
        "again:\n  sparl --import MODULE evaluate run (MODULE is the module that registers the "
        "environment)"
    )
    assert again in done.stdout


@pytest.mark.parametrize("module", ["bad_environments", "x; touch hacked", "__main__", None])
def test_an_unknown_environment_of_a_run_names_the_command_that_imports_it(
    module: str | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = train(tmp_path / "run", stop_at=55)
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    assert about["environment"]["module"] == "bad_environments"
    about["environment"]["module"] = module
    if module is None:
        del about["environment"]["module"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(about))
    manifest = json.loads((tmp_path / "run" / "agent.json").read_text())
    del manifest["observations"]  # with these, an export needs no environment
    (tmp_path / "run" / "agent.json").write_text(json.dumps(manifest))
    monkeypatch.delitem(gymnasium.registry, "Walks-v0")
    monkeypatch.setenv("DISPLAY", ":99")
    named = module if module == "bad_environments" else "MODULE"
    for command, *options in (*COMMANDS, ["resume", "--stop-at", "60"]):
        capsys.readouterr()
        assert main([command, run, *options]) == 3
        error = capsys.readouterr().err
        last = error.splitlines()[-1]
        assert f"sparl --import {named} {command} {run}" in last
        assert last.count("--import") == 1  # one remedy only
        if command == "export":  # whose format is not optional
            assert last.endswith(f"{run} {' '.join(options)}") or module == "__main__"
        assert "unknown environment 'Walks-v0'" in error


def test_the_module_is_where_the_environment_is_defined(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(entry: Any) -> str:
        spec = gymnasium.envs.registration.EnvSpec("Own-v0", entry_point=entry)
        monkeypatch.setitem(gymnasium.registry, "Own-v0", spec)
        return module_of("Own-v0")

    assert make("package.module:Class") == "package.module"
    assert make(bad_environments.Good) == "bad_environments"
    assert make(functools.partial(bad_environments.Good)) == "bad_environments"
    assert make(lambda: bad_environments.Good()) == __name__
    assert [module_of(env) for env in ("Hopper-v5", "Ant-v3", "NoSuch-v0")] == ["", "", ""]
