"""Test environments that are passed to `sparl.train` as an object, a class or a function."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from gymnasium.wrappers import RescaleAction, TimeLimit

import sparl
from bad_environments import Good, Walks
from resuming import results
from sparl.archive.archive import archive_run
from sparl.cli import main
from sparl.errors import DataError, EnvironmentFault, UsageError
from sparl.training.environment_factory import EnvironmentFactory

FIELDS: dict[str, Any] = {
    "steps": 90, "hidden": (8,), "warmup_env_steps": 30, "evaluate_every_env_steps": 30,
    "evaluation_episodes": 3, "quiet": True,
}  # fmt: skip


def train(path: Path, env: Any, **fields: Any) -> sparl.training.run.Run:
    return sparl.train("DS-TD3", env, run_dir=path, **{**FIELDS, **fields})


def walks() -> gymnasium.Env[Any, Any]:
    return TimeLimit(Walks(), 20)


def test_all_sources_give_the_run_of_a_registered_environment(tmp_path: Path) -> None:
    train(tmp_path / "id", "Walks-v0")
    one = TimeLimit(Walks(), 20)
    for name, source in {"object": one, "function": walks, "lambda": lambda: walks()}.items():
        train(tmp_path / name, source)
        assert results(tmp_path / name) == results(tmp_path / "id")
    assert one.unwrapped.steps == 0  # type: ignore[attr-defined]  # only copies are used
    train(tmp_path / "class", Walks, max_episode_steps=20)
    assert results(tmp_path / "class") == results(tmp_path / "id")


@pytest.mark.parametrize("source", [walks, TimeLimit(Walks(), 20)], ids=["function", "object"])
def test_a_run_is_resumed_bit_for_bit(source: Any, tmp_path: Path) -> None:
    train(tmp_path / "whole", source)
    run = train(tmp_path / "run", source, stop_at=47)
    sparl.resume(run, env=source, stop_at=90, quiet=True)
    assert results(tmp_path / "whole") == results(tmp_path / "run")
    assert json.loads((run.path / "run.json").read_text())["bit_exact"] is True


def test_the_command_line_names_the_call_that_resumes_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(tmp_path / "run", walks, stop_at=47, quiet=False)
    assert f"again:\n  sparl.load('{run.path}')\n" in capsys.readouterr().out
    assert main(["info", str(run.path)]) == 0
    call = f"sparl.resume('{run.path}', env=..., stop_at=90)"
    assert call in capsys.readouterr().out
    call = f"sparl.resume('{run.path}', env=...)"
    assert main(["resume", str(run.path), "--stop-at", "90"]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"; in Python: {call}")
    with pytest.raises(DataError, match=r"in Python: sparl\.resume"):
        sparl.resume(run, stop_at=90)
    monkeypatch.setenv("DISPLAY", ":99")
    for command in ("evaluate", "play"):
        assert main([command, str(run.path)]) == 3
        assert f"in Python: sparl.load('{run.path}')" in capsys.readouterr().err
    assert main(["export", str(run.path), "--format", "npz"]) == 0  # needs no environment
    sparl.resume(run, env=walks, stop_at=90, quiet=True)
    assert main(["resume", str(run.path)]) == 0  # the run has already finished


@pytest.mark.parametrize("error", [RuntimeError("close failed"), SystemExit(5)])
def test_an_exception_while_an_environment_is_closed_is_ignored(
    error: BaseException, tmp_path: Path
) -> None:
    class Stuck(Walks):
        def close(self) -> None:
            raise error

    assert train(tmp_path / "run", lambda: TimeLimit(Stuck(), 20)).evaluations


def test_the_command_line_cannot_train_in_such_an_environment(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["train", "--env", "Walks()"]) == 2
    assert "pass it in Python: sparl.train(method, env=...)" in capsys.readouterr().err


def test_resume_auto_starts_and_resumes(tmp_path: Path) -> None:
    train(tmp_path / "whole", walks)
    for stop_at in (40, 90):
        train(tmp_path / "run", walks, resume="auto", stop_at=stop_at)
    assert results(tmp_path / "whole") == results(tmp_path / "run")


def test_resume_rejects_another_environment(tmp_path: Path) -> None:
    run = train(tmp_path / "run", walks, stop_at=40)
    with pytest.raises(UsageError, match=r"env is Good\(\), but .* is Walks\(\)"):
        sparl.resume(run, env=lambda: TimeLimit(Good(), 20), stop_at=90)
    run = train(tmp_path / "id", "Walks-v0", stop_at=40)
    with pytest.raises(UsageError, match=r"env is Walks\(\), but .* is Walks-v0; omit env"):
        sparl.resume(run, env=walks, stop_at=90)


def test_an_environment_with_a_spec_has_the_preset_of_its_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def hopper() -> gymnasium.Env[Any, Any]:
        return RescaleAction(gymnasium.make("Hopper-v5", frame_skip=2), -1, 1)

    run = sparl.train("DS-TD3", hopper, **{**FIELDS, "steps": 20, "hidden": (16, 16)})
    assert run.config.env == "Hopper-v5()"
    assert (run.config.lambda_1, run.config.lambda_2) == (7, 64)
    assert run.path.name == "DS-TD3_Hopper-v5_seed0"


def test_a_copied_environment_has_the_id_of_the_original() -> None:
    """Copies of Gymnasium's MuJoCo tasks lose the spec, and with it the id."""
    assert EnvironmentFactory(gymnasium.make("Hopper-v5")).env_id == "Hopper-v5()"


def test_a_run_can_be_archived(tmp_path: Path) -> None:
    run = train(tmp_path / "run", walks)
    recorded = json.loads((run.path / "run.json").read_text())["versions"]["commit"]
    kept = archive_run(run.path, tmp_path / "archive", None if recorded else "1234567")
    assert kept == tmp_path / "archive" / "Walks" / "DS-TD3_seed0"


class Uncopyable(Walks):
    def __deepcopy__(self, _memo: Any) -> Any:
        raise TypeError("cannot copy a socket")


def test_an_object_that_creates_no_environments_is_rejected(tmp_path: Path) -> None:
    one = walks()

    def fails() -> gymnasium.Env[Any, Any]:
        raise SystemExit(3)

    cases: dict[str, tuple[type[Exception], Any]] = {
        r"env is 5 but must be a gymnasium.Env.* \(sparl.train also accepts an id": (UsageError, 5),
        "env returned 'Walks' but must return a gymnasium.Env": (UsageError, lambda: "Walks"),
        "env returned the same Walks twice": (UsageError, lambda: TimeLimit(one.unwrapped, 20)),
        r"environment given in Python cannot be created \(SystemExit: 3": (EnvironmentFault, fails),
        r"cannot be copied \(TypeError: cannot copy a socket\); pass a function that creates it":
            (EnvironmentFault, Uncopyable()),
        r"Walks\(\) has no time limit": (UsageError, Walks),
    }  # fmt: skip
    for message, (error, env) in cases.items():
        with pytest.raises(error, match=message):
            train(tmp_path / "run", env)
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match=r"env is 'Walks-v0' but must be a gymnasium.Env"):
        sparl.resume(tmp_path, env="Walks-v0")  # type: ignore[arg-type]


def test_names_of_classes_become_names_of_files() -> None:
    for name in ("_Hidden", "Überflug", "A" * 300, "__"):
        kind = type(name, (Walks,), {})
        factory = EnvironmentFactory(kind)
        assert factory.env_id.endswith("()")
        assert factory.env_id.isascii()
        assert len(factory.env_id) <= 102
        assert factory.env_id[0].isalnum()
