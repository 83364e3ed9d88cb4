"""Test study files, the names of runs, and runs that are skipped, resumed or fail."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import pytest
from gymnasium.envs.classic_control import PendulumEnv

import children
from children import has_handler, release, wait_until, waiting
from layouts import sizes_of
from resuming import results
from run_folders import SIZES, write_run
from sparl.architecture import architecture
from sparl.archive.archive import Archive
from sparl.cli import main
from sparl.identity import results_version, run_id
from sparl.methods import METHODS, preset
from sparl.report.runs import collect
from sparl.studies import command, estimate, execute
from sparl.studies.command import RunOptions, _again
from sparl.studies.estimate import Estimate
from sparl.studies.progress import Progress, progress, table
from sparl.studies.study import Unit, read_studies, read_study
from sparl.studies.unit import words
from sparl.training.machine import versions
from sparl.training.run_folder import RunFolder
from sparl.training.start import train
from sparl.user_modules import import_module_of

pytestmark = pytest.mark.slow

STUDIES = sorted((Path(__file__).parents[1] / "studies").glob("*.toml"))
SMALL = """
environments = ["Pendulum-v1"]
methods = ["DS-TD3"]
seeds = 2
[fields]
steps = 300
warmup_env_steps = 100
evaluate_every_env_steps = 100
evaluation_episodes = 1
hidden = [16, 16]
batch_size = 16
"""


def study_file(tmp_path: Path, text: str, name: str = "small.toml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_study_warns_of_runs_that_end_during_the_warm_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = "[grid]\nwarmup_env_steps = [100, 300]\n"
    text = SMALL.replace("warmup_env_steps = 100\n", "") + grid
    assert main(["study", "run", str(study_file(tmp_path, text)), "--dry-run"]) == 0
    said = capsys.readouterr().err
    assert said.startswith(
        "warning: 2 of 4 runs WILL END BEFORE THEIR FIRST UPDATE, for example DS-TD3_Pendulum"
    )
    assert "ends at step 300, but the first 300 steps are a warm-up without updates" in said
    one = study_file(tmp_path, text.replace("seeds = 2", "seeds = 1"))
    assert main(["study", "run", str(one), "--dry-run"]) == 0
    assert capsys.readouterr().err.startswith(
        "warning: 1 of 2 runs WILL END BEFORE ITS FIRST UPDATE, for example"
    )
    assert main(["study", "run", str(study_file(tmp_path, SMALL)), "--dry-run"]) == 0
    assert capsys.readouterr().err == ""


# ------------------------------------------------------------------ files


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_studies_of_the_papers_resolve(path: Path) -> None:
    study = read_study(path)
    assert len({unit.id for unit in study.units}) == len(study.units) >= 6
    for unit in study.units:
        config = unit.config
        n_obs, n_act = SIZES[config.env.rpartition("-")[0]]
        nets = architecture(config, n_obs, n_act)
        layers = sizes_of(nets.networks["actor"])
        assert all(0 < count <= n_in * n_out for (n_in, n_out), count in layers)


def test_settings_of_the_papers_tables() -> None:
    studies = {path.stem: [u.config for u in read_study(path).units] for path in STUDIES}
    counts = {name: len(configs) for name, configs in studies.items()}
    assert counts == {
        "ds-table-1": 100, "ds-table-1-in-ten-minutes": 6, "ds-topology-update-period": 25,
        "ds-sparsity-level": 25, "ds-sac-table": 50, "rlx2-main-table": 384, "rlx2-ablations": 352,
        "evidence-1": 60, "evidence-2": 27, "evidence-3": 24,
    }  # fmt: skip
    assert {c.rewire_every_updates for c in studies["ds-topology-update-period"]} == {
        0, 200, 500, 1000, 2000,
    }  # fmt: skip
    assert {c.hard_target_every for c in studies["ds-sac-table"]} == {1000}
    assert {c.hard_target_every for c in studies["ds-table-1"]} == {0}
    dense = [c for c in studies["rlx2-main-table"] if c.method in ("TD3", "SAC")]
    assert {(c.settings, c.learning_rate, c.steps) for c in dense} == {("rlx2", 3e-4, 3_000_000)}
    assert {c.n_step for c in studies["rlx2-ablations"]} == {1, 2, 3, 4, 5}


def test_grid_and_variants_make_all_combinations(tmp_path: Path) -> None:
    text = SMALL + "[grid]\ngamma = [0.9, 0.99]\n[[variants]]\n[[variants]]\nmethods = ['SAC']\n"
    study = read_study(study_file(tmp_path, text + "seeds = [7]\nalpha = 0.1\n"))
    found = {(c.method, c.seed, c.gamma, c.alpha) for c in (u.config for u in study.units)}
    assert found == {
        *(("DS-TD3", seed, gamma, 0.2) for seed in (0, 1) for gamma in (0.9, 0.99)),
        *(("SAC", 7, gamma, 0.1) for gamma in (0.9, 0.99)),
    }
    assert [u.config.seed for u in study.units] == [0, 0, 1, 1, 7, 7]


def test_the_first_seed_of_a_configuration_is_its_smallest_in_any_file(tmp_path: Path) -> None:
    grid = "[grid]\ngamma = [0.9, 0.99]\n"
    study = read_studies([
        study_file(tmp_path, SMALL.replace("seeds = 2", "seeds = [3, 2]"), "one.toml"),
        study_file(tmp_path, SMALL.replace("seeds = 2", "seeds = [5, 1]") + grid, "two.toml"),
    ])  # fmt: skip
    runs = [(unit.config.seed, unit.config.gamma) for unit in study.units]
    assert runs == [(2, 0.99), (3, 0.99), (1, 0.9), (1, 0.99), (5, 0.9), (5, 0.99)]
    assert study.first_seeds == {study.units[2].id, study.units[3].id}


def test_ids_depend_on_the_resolved_configuration_and_the_presets_version() -> None:
    # These digests are pinned; with other digests, all finished studies would start again.
    for method, digest in (("DS-SAC", "915ceeb3"), ("DS-TD3", "82fa68ea")):
        config = preset(method, "HalfCheetah-v3", steps=10)
        assert run_id(config) == f"{method}_HalfCheetah-v3_seed0_{digest}"
    assert run_id(replace(config, gamma=0.9)) != run_id(config)
    assert run_id(replace(config, tensorboard=True)) == run_id(config)
    assert run_id(config, version=1) != run_id(config) == run_id(config, version=2)


@pytest.mark.parametrize(
    "fields",
    [
        {"gamma": 0.99},  # the preset's own value
        {"rewire_every_updates": 1000},
        {"horizon_env_steps": 1_000_000},
        {"steps": 3_000_000, "horizon_env_steps": 1_000_000, "stop_at": 1_000_000},
        {"checkpoint_every_env_steps": 1},
        {"lambda_1": 7},  # an integer instead of a float
        {"tau": 0.005, "target_noise": 0.2, "noise_clip": 0.5},
    ],
    ids=lambda fields: ",".join(fields),
)
def test_the_same_run_has_one_id_however_its_fields_are_given(fields: dict[str, Any]) -> None:
    usual = preset("DS-TD3", "HalfCheetah-v3", steps=1_000_000)
    asked = preset("DS-TD3", "HalfCheetah-v3", **{"steps": 1_000_000, **fields})
    assert run_id(asked) == run_id(usual)


def test_a_run_that_two_studies_contain_is_trained_once() -> None:
    table, period = (
        STUDIES[0].parent / f"ds-{name}.toml" for name in ("table-1", "topology-update-period")
    )
    both = read_studies([table, period])
    assert both.name == "ds-table-1+ds-topology-update-period"
    ids = [unit.id for unit in both.units]
    assert len(set(ids)) == len(ids)
    named = [unit.id for study in (table, period) for unit in read_study(study).units]
    shared = len(named) - len(ids)
    assert shared == 10  # DS-TD3 of e = 1000 and TD3, five seeds each
    assert ids[: len(read_study(table).units)] == named[: len(read_study(table).units)]


def test_presets_whose_results_changed_have_a_new_version() -> None:
    """The preset's version increases with its results; another version is another run."""
    kinds = ("DS", "SET", "RigL", "RLx2", "Tiny")
    changed = {f"{kind}-{agent}" for kind in kinds for agent in ("TD3", "SAC")}
    for settings, raised in (
        ("ds", changed),
        ("rlx2", changed | {name for name in METHODS if name.endswith("SAC")}),
    ):
        found = {
            name: results_version(preset(name, "Ant-v3", settings=settings)) for name in METHODS
        }
        assert {name for name, version in found.items() if version == 2} == raised
        assert set(found.values()) == {1, 2}


@pytest.mark.parametrize(
    ("method", "fields", "version"),
    [
        ("SAC", {"learn_alpha": True}, 2),
        ("TD3", {"n_step": 3, "n_step_delay_updates": 100}, 2),
        ("TD3", {"n_step": 3}, 1),
        ("SS-TD3", {"rewire_every_updates": 50}, 2),
        ("DS-TD3", {"rewire": "none"}, 1),
    ],
)
def test_a_version_belongs_to_the_resolved_configuration(
    method: str, fields: dict[str, Any], version: int
) -> None:
    assert results_version(preset(method, "Hopper-v5", **fields)) == version


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds = 2", "methods is None"),
        ("methods = 'TD3'\nenvironments = ['a']\nseeds = 1", "methods is 'TD3'"),
        ("methods = ['TD3']\nenvironments = ['a']\nseeds = 0", "seeds is 0"),
        ("methods = ['TD3']\nenvironments = ['a']\nseeds = [true]", "seeds is [True]"),
        ("methods = ['TD4']\nenvironments = ['a']\nseeds = 1", "did you mean TD3"),
        (SMALL + "gama = 1", "did you mean gamma"),
        (SMALL + "gamma = 7", "gamma is 7"),
        (SMALL + "seed = 7", "seed cannot be set as a field"),
        (SMALL + "resume = 'auto'", "resume cannot be set as a field"),
        (SMALL + "[grid]\ngamma = 0.9", "a table, [grid], with a non-empty"),
        (SMALL + "[[variants]]\nthreads = 2", "threads cannot be set as a field"),
        ("variants = 3\n" + SMALL, "but must be tables, [[variants]]"),
        ("fieldz = 3\n" + SMALL, "unknown keys: 'fieldz' (did you mean fields?)"),
        (
            "method = 'TD3'\nseeds = 1\nsteps = 5",
            "unknown keys: 'method' (did you mean methods?), 'steps' (a field of the "
            "configuration; move it to [fields])",
        ),
        (
            "methods = ['TD3']\nenvironments = ['a']\nseeds = 1\nfields = 3",
            "fields is 3 but must be",
        ),
        ("methods = [", "cannot be read"),
    ],
)
def test_invalid_study_files_are_rejected(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", "status", str(study_file(tmp_path, text))]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "must be run or status"),
        (["start"], "must be run or status"),
        (["run", "no.toml"], "no.toml does not exist"),
        (["run", "."], "study file . is a folder but must be a TOML file"),
        (["run", "no.toml", "--processes", "0"], "must be at least 1"),
        (["run", "no.toml", "--processes", "10k"], "--processes is '10k' but must be an integer"),
    ],
)
def test_invalid_study_commands_are_rejected(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("Hoper-v5", "unknown environment 'Hoper-v5'; did you mean Hopper-v5 or"),
        ("CartPole-v1", "environment CartPole-v1: the action space is Discrete(2)"),
    ],
)
def test_an_unusable_environment_is_rejected_before_any_run(
    env: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = study_file(tmp_path, SMALL.replace('"Pendulum-v1"', f'"Pendulum-v1", "{env}"'))
    assert main(["study", "run", str(path), "--folder", str(tmp_path / "runs")]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"sparl: {message}")
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert not (tmp_path / "runs").exists()


# ------------------------------------------------------------------ running


@pytest.fixture
def only_here() -> Iterator[str]:
    """Register an environment in this process, so that its runs fail in theirs."""
    env = "OnlyHere-v0"
    gymnasium.register(env, PendulumEnv, max_episode_steps=200)
    yield env
    del gymnasium.registry[env]


def test_no_report_is_suggested_if_all_runs_failed(
    only_here: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SMALL.replace('"Pendulum-v1"', f'"{only_here}"')
    path = study_file(tmp_path, text.replace("seeds = 2", "seeds = [0]"))
    assert main(["study", "run", str(path), "--folder", str(tmp_path / "runs")]) == 1
    printed = capsys.readouterr().out
    assert "1 run: 1 failed" in printed
    assert "sparl report" not in printed


def test_a_study_skips_finished_runs_and_continues_after_failures(
    only_here: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SMALL.replace('"Pendulum-v1"', f'"Pendulum-v1", "{only_here}"')
    path = study_file(tmp_path, text.replace("seeds = 2", "seeds = [0]"))
    words = ["study", "run", str(path), "--folder", str(tmp_path / "runs"), "--processes", "2"]
    assert main(words) == 1
    printed = capsys.readouterr().out
    assert "2 runs: 1 finished, 1 failed" in printed
    good, bad = read_study(path).units
    folder = tmp_path / "runs"
    error = json.loads((folder / bad.id / "failure.json").read_text())["error"]
    assert len(error) > 80  # it is on a separate line below the counts
    assert f"1 failed\n{bad.id}: {error}\n" in printed
    assert progress(folder, good).state == "finished"
    failed = progress(folder, bad)
    assert (failed.state, failed.env_step) == ("failed", 0)
    assert json.loads((folder / bad.id / "failure.json").read_text())["exit_code"] == 2

    # Run the study again with one more seed; finished runs do not change.
    before = (folder / good.id / "evaluations.csv").stat().st_mtime_ns
    path.write_text(SMALL)
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "2 runs, 1 of them unfinished, in:" in printed
    assert (folder / good.id / "evaluations.csv").stat().st_mtime_ns == before
    assert main(["study", "status", str(path), "--folder", str(folder)]) == 0
    assert capsys.readouterr().out.count("finished: DS-TD3_Pendulum-v1_seed") == 2
    (group,) = collect([folder]).groups
    assert (len(group.runs), group.planned) == (2, 2)


@pytest.mark.parametrize("kind", ["text", "list", "nothing", "link", "pipe"])
def test_a_damaged_failure_file_counts_as_a_failure(kind: str, tmp_path: Path) -> None:
    unit = read_study(study_file(tmp_path, SMALL)).units[0]
    file = tmp_path / unit.id / "failure.json"
    file.parent.mkdir()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "link":
        (tmp_path / "elsewhere").write_text('{"error": "a secret"}')
        file.symlink_to(tmp_path / "elsewhere")
    else:
        file.write_text({"text": "{", "list": "[]", "nothing": "{}"}[kind])
    found = progress(tmp_path, unit)
    assert (found.state, found.error) == ("failed", "")


# A run writes a checkpoint before the step at which it waits for the test to interrupt it.
LONG = SMALL.replace("Pendulum-v1", "bad_environments:Waits-v0").replace("= 100", "= 50")
LONG += "checkpoint_every_env_steps = 50\n"
IMPORT = ["--import", "bad_environments"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The results of both runs of LONG without interruption."""
    import_module_of("bad_environments:Waits-v0")
    folder = tmp_path_factory.mktemp("undisturbed")
    units = read_study(study_file(folder, LONG)).units
    for unit in units:
        train(replace(unit.config, run_dir=str(folder / unit.id), threads=1), quiet=True)
    return [results(folder / unit.id) for unit in units]


def said(printed: Path) -> int:
    """Return how often the output in this file says that a run was resumed bit for bit."""
    return printed.read_text().count(", bit for bit")


def test_a_stopped_study_resumes_bit_for_bit(
    tmp_path: Path, waits: Path, undisturbed: list[dict[str, Any]]
) -> None:
    path, folder = study_file(tmp_path, LONG), tmp_path / "runs"
    units = read_study(path).units
    words = [*IMPORT, "study", "run", str(path), "--folder", str(folder)]
    with children.sparl(*words, "--processes", "1") as study:
        (run,) = waiting(waits, 1)
        assert [progress(folder, u).state for u in units] == ["running", "waiting"]
        study.send_signal(signal.SIGINT)
        wait_until(lambda: not has_handler(run, signal.SIGTERM))  # once it has received a signal
        release(waits)
        printed, _ = study.communicate(timeout=60)
    assert study.returncode == 130
    assert "to resume:\n  sparl --import bad_environments study run" in printed
    states = [progress(folder, u) for u in units]
    assert [p.state for p in states] == ["stopped", "waiting"]
    assert states[0].env_step > 0
    assert not (folder / units[0].id / "failure.json").exists()

    assert main(words) == 0
    assert [results(folder / u.id) for u in units] == undisturbed
    assert [said(folder / u.id / "output.txt") for u in units] == [1, 0]


def test_a_killed_run_is_recorded_and_resumes_bit_for_bit(
    tmp_path: Path, waits: Path, undisturbed: list[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path, folder = study_file(tmp_path, LONG), tmp_path / "runs"
    units = read_study(path).units
    words = [*IMPORT, "study", "run", str(path), "--folder", str(folder)]
    with children.sparl(*words, "--processes", "1") as study:
        (run,) = waiting(waits, 1)
        os.kill(run, signal.SIGKILL)
        release(waits)
        study.communicate(timeout=60)
    assert study.returncode == 1
    killed, other = (progress(folder, u) for u in units)
    assert (killed.state, other.state) == ("failed", "finished")
    assert killed.error.startswith("killed by signal 9")

    assert main(words) == 0
    assert "2 runs: 2 finished" in capsys.readouterr().out
    assert [results(folder / u.id) for u in units] == undisturbed
    assert [said(folder / u.id / "output.txt") for u in units] == [1, 0]
    assert not (folder / units[0].id / "failure.json").exists()


def test_a_study_waits_for_the_runs_of_a_lost_study(
    tmp_path: Path, waits: Path, undisturbed: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A study waits until the runs of a killed study have saved and ended."""
    path, folder = study_file(tmp_path, LONG), tmp_path / "runs"
    units = read_study(path).units
    words = [*IMPORT, "study", "run", str(path), "--folder", str(folder), "--processes", "2"]
    with children.sparl(*words) as study:
        waiting(waits, 2)
        study.kill()
        study.wait()
        found: list[str] = []

        def seen(folder: Path, unit: Unit) -> Progress:
            found.append((now := progress(folder, unit)).state)
            if len(found) == 2:  # the study has looked at both runs
                release(waits)
            return now

        monkeypatch.setattr(execute, "progress", seen)
        assert main(words) == 0
    assert found[:2] == ["running", "running"]
    assert [results(folder / u.id) for u in units] == undisturbed


def test_a_study_reads_the_files_of_finished_runs_only_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = read_study(study_file(tmp_path, SMALL))
    done, waits = study.units
    write_run(tmp_path / done.id, "DS-TD3", "Pendulum-v1", [1.0, 2.0])
    read: list[str] = []

    def counted(folder: Path, unit: Unit) -> Progress:
        read.append(unit.id)
        return progress(folder, unit)

    monkeypatch.setattr(command, "progress", counted)
    runs = command._Runs(study, tmp_path, None)
    first = runs.progress()
    assert [(p.state, p.last_return) for p in first] == [("finished", 2.0), ("waiting", None)]
    assert runs.progress() == first
    assert read == [done.id, waits.id, waits.id]


def test_status_truncates_no_name_in_a_pipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    file = study_file(tmp_path, SMALL.replace("Pendulum-v1", f"a_package:{'Long' * 30}-v0"))
    units = read_study(file).units
    for unit in units:
        folder = tmp_path / "runs" / unit.id
        folder.mkdir(parents=True)
        (folder / "run.json").write_text('{"state": "stopped by SIGTERM"}')
    assert main(["study", "status", str(file), "--folder", str(tmp_path / "runs")]) == 0
    lines = capsys.readouterr().out.splitlines()
    for unit in units:
        assert [line.split()[:2] for line in lines if unit.id in line] == [[unit.id, "stopped"]]


def test_dry_run_estimates_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = study_file(tmp_path, SMALL.replace("steps = 300", "steps = 200_000"))
    folder = tmp_path / "runs"
    assert main(["study", "run", str(path), "--folder", str(folder), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("DS-TD3_Pendulum-v1_seed") == 2
    assert "estimated from 1 short trial" in printed
    assert not folder.exists()


def test_the_remaining_time_is_that_of_the_remaining_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "_trial", lambda config: Estimate(80.0, 5))
    one, two = read_study(study_file(tmp_path, SMALL)).units  # of 300 steps
    needs, trials = estimate.estimates({one: 0, two: 75})
    assert (needs, trials) == ({one.id: Estimate(80.0, 5), two.id: Estimate(60.0, 5)}, 1)
    # 225 and 300 steps remain, at 1.25 steps per second; a finished run does not count.
    every = [
        Progress(two, "running", 75, 1.25),
        Progress(one, "waiting"),
        Progress(one, "finished"),
    ]
    assert table(every, 80).endswith("1 finished, 1 running, 1 waiting; about 7 min left")


def test_one_run_is_reported_in_the_singular(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = study_file(tmp_path, SMALL.replace("seeds = 2", "seeds = 1"))
    assert main(["study", "status", str(path), "--folder", str(tmp_path / "runs")]) == 0
    assert "1 run: 1 waiting" in capsys.readouterr().out
    assert main(["study", "run", str(path), "--folder", str(tmp_path / "runs"), "--dry-run"]) == 0
    assert "1 run to train, " in capsys.readouterr().out


def test_a_study_folder_that_cannot_be_created_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    path = study_file(tmp_path, SMALL)
    assert main(["study", "run", str(path), "--folder", str(tmp_path / "file" / "runs")]) == 2
    assert "cannot be written" in capsys.readouterr().err


# ------------------------------------------------------------------ an archive


@pytest.fixture
def with_commit(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Make training record a known commit."""
    sha = "0123456789abcdef0123456789abcdef01234567"
    for module in ("sparl.training.machine", "sparl.studies.command"):
        monkeypatch.setattr(f"{module}.commit", lambda: sha)
    versions.cache_clear()  # earlier tests may have cached the actual commit
    yield sha
    versions.cache_clear()


def start_here(folder: Path, unit: Unit, *_: object) -> Any:
    """Train one of a study's runs in this process."""
    code = main(words(folder, unit))
    return SimpleNamespace(returncode=code, poll=lambda: code, wait=lambda: code)


def test_a_finished_run_is_archived_at_once_and_never_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    with_commit: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(execute, "start", start_here)
    small = SMALL + "max_episode_steps = 20\n"
    path, archive = study_file(tmp_path, small), tmp_path / "archive"
    (first, second) = read_study(path).units
    to_archive = ["--archive", str(archive)]
    assert main(["study", "run", str(path), "--folder", str(tmp_path / "runs"), *to_archive]) == 0

    kept = archive / "Pendulum-v1" / "DS-TD3_seed0"
    about = json.loads((kept / "run.json").read_text())
    assert (about["versions"]["commit"], about["preset"]) == (with_commit, 2)
    assert about["actor"]["episodes"] == 100
    capsys.readouterr()
    assert main(["evaluate", str(kept), "--episodes", "100", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["mean"], again["std"]) == (about["actor"]["mean"], about["actor"]["std"])
    other = archive / "Pendulum-v1" / "DS-TD3_seed1"
    assert "actor" not in json.loads((other / "run.json").read_text())
    assert not (other / "agent.json").exists()
    assert collect([archive]).groups[0].label == "DS-TD3"

    # Use another folder and another file, with the same runs described differently and one more.
    monkeypatch.setattr(execute, "start", lambda folder, unit, *_: started.append(unit.id))
    started: list[str] = []
    words_ = small.replace("seeds = 2", "seeds = [1, 0]").replace("steps = 300", "steps = 400")
    asked = study_file(tmp_path, words_ + "stop_at = 300\nhorizon_env_steps = 300\n", "other.toml")
    assert {unit.id for unit in read_study(asked).units} == {first.id, second.id}
    elsewhere = ["--folder", str(tmp_path / "elsewhere")]
    capsys.readouterr()
    assert main(["study", "run", str(asked), str(path), *elsewhere, *to_archive]) == 0
    assert started == []
    assert "2 runs: 2 finished" in capsys.readouterr().out
    assert main(["study", "status", str(path), *elsewhere, *to_archive]) == 0
    assert f"finished: {first.id}, last mean return" in capsys.readouterr().out
    assert main(["study", "status", str(path), *elsewhere]) == 0
    assert "2 waiting" in capsys.readouterr().out


def test_a_run_that_finished_without_the_archive_is_archived_when_the_study_runs_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    with_commit: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(execute, "start", start_here)
    monkeypatch.setattr("sparl.archive.archive.ACTOR_EPISODES", 1)
    path = study_file(tmp_path, SMALL.replace("seeds = 2", "seeds = [3]"))
    words_ = ["study", "run", str(path), "--folder", str(tmp_path / "runs")]
    assert main(words_) == 0
    archive = tmp_path / "archive"
    # An interrupted copy, perhaps of another run, is not a run and leaves no files.
    interrupted = archive / "Pendulum-v1" / "DS-TD3_seed3"
    shutil.copytree(next((tmp_path / "runs").glob("*/run.json")).parent, interrupted)
    (interrupted / "run.json").unlink()
    (interrupted / "topology.csv").write_text("junk")
    (interrupted / "agent.json").write_text("junk")
    assert main([*words_, "--archive", str(archive)]) == 0
    kept = archive / "Pendulum-v1" / "DS-TD3_seed3"
    assert json.loads((kept / "run.json").read_text())["actor"]["episodes"] == 1
    assert (kept / "agent.json").exists()
    assert "junk" not in (kept / "topology.csv").read_text()
    assert [path.name for path in kept.parent.iterdir()] == ["DS-TD3_seed3"]
    capsys.readouterr()
    assert main([*words_, "--archive", str(path)]) == 2
    assert "must be a folder" in capsys.readouterr().err


def test_runs_of_an_older_preset_version_are_different_runs(tmp_path: Path) -> None:
    """An archived run that records no version is of version 1."""
    path = write_run(tmp_path / "Pendulum-v1" / "run", "DS-TD3", "Pendulum-v1", [1.0] * 3)
    config = RunFolder.open(path).config()
    assert Archive.read(tmp_path).runs == {run_id(config): path}
    about = json.loads((path / "run.json").read_text())
    assert about.pop("preset") == 2
    (path / "run.json").write_text(json.dumps(about))
    assert Archive.read(tmp_path).runs == {run_id(config, version=1): path}


def test_a_stopped_study_says_how_to_resume_it_with_all_its_options(tmp_path: Path) -> None:
    options = RunOptions(
        (Path("a.toml"), Path("b.toml")), Path("f"), Path("results/runs"), 2, "local"
    )
    assert _again(options) == (
        "sparl study run a.toml b.toml --folder f --archive results/runs --processes 2 --ray"
    )
