"""Test the commands as a user types them: results, one-line errors and exit codes."""

from __future__ import annotations

import csv
import importlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import safetensors.numpy
from gymnasium.envs.classic_control.pendulum import PendulumEnv

import children
import sparl
from children import wait_until
from layouts import schedule_of
from sparl import user_modules
from sparl.architecture import architecture
from sparl.arguments import parse_config
from sparl.build import build_agent
from sparl.cli import main
from sparl.configuration import Config
from sparl.methods import preset
from sparl.training import machine
from sparl.training.agent_file import load_agent
from sparl.training.run_folder import RunFolder

SMALL = [
    "--env", "Pendulum-v1", "--steps", "300", "--warmup-env-steps", "100",
    "--hidden", "16", "16", "--batch-size", "16", "--rewire-every-updates", "50",
    "--evaluate-every-env-steps", "100", "--evaluation-episodes", "2", "--threads", "1",
]  # fmt: skip


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", "--method", "DS-TD3", *SMALL, "--run-dir", str(path)]) == 0
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def error_line(capsys: pytest.CaptureFixture[str], code: int, *args: str) -> str:
    """Run a command that must fail, and return the error line that it prints."""
    assert main(args) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert "Traceback" not in error
    return error


# ------------------------------------------------------------------ a run and its files


def test_a_run_folder_contains_all_documented_files(finished_run: Path) -> None:
    config = tomllib.loads((finished_run / "config.toml").read_text())
    assert config["hidden"] == [16, 16]
    assert config["actor_densities"] == [0.5, 0.5, 1.0]

    evaluations = rows(finished_run / "evaluations.csv")
    assert [row["env_step"] for row in evaluations] == ["0", "100", "200", "300"]
    assert [row["updates"] for row in evaluations] == ["0", "0", "100", "200"]
    last = evaluations[-1]
    returns = [float(last["return_0"]), float(last["return_1"])]
    assert float(last["mean"]) == pytest.approx(np.mean(returns))
    assert float(last["std"]) == pytest.approx(np.std(returns))
    assert last["length_0"] == "200"
    assert float(last["wall_seconds"]) > float(evaluations[0]["wall_seconds"]) >= 0

    metrics = rows(finished_run / "metrics.csv")
    assert float(metrics[-1]["critic_loss"]) > 0
    assert metrics[0]["critic_loss"] == ""
    assert metrics[-1]["replay_size"] == "300"

    # The topology is frozen from step 285 on, so it changes at updates 2, 52, 102 and 152 of 185.
    topology = rows(finished_run / "topology.csv")
    assert sorted({int(row["agent_update"]) for row in topology}) == [2, 52, 102, 152]
    actor = [row for row in topology if row["network"] == "actor" and row["layer"] == "1"]
    assert {(row["connections"], row["fraction"]) for row in actor} == {("128", "0.05")}
    for row in actor:  # all dead links, and in addition 5 % of the live ones
        dead, live = int(row["dropped_dead"]), int(row["dropped_live"])
        assert live == int(0.05 * (128 - dead) + 0.5)
        assert int(row["moved"]) == live + dead
    assert any(row["dropped_dead"] != "0" for row in actor)
    overlaps = [float(row["initial_overlap"]) for row in actor]
    assert all(0.7 < overlap < 1 for overlap in overlaps)
    resolved = RunFolder.open(finished_run).config()
    untrained = build_agent(resolved, architecture(resolved, 3, 1))
    initial, final = (
        agent.actor.layout.pattern((0, 1)).positions
        for agent in (untrained, load_agent(finished_run))
    )
    kept = np.isin(final, initial).mean()
    assert overlaps[-1] == pytest.approx(kept)

    run = json.loads((finished_run / "run.json").read_text())
    assert run["state"] == "finished"
    assert run["machine"]["instruction_set"] in ("portable", "avx2", "avx512")
    assert {"python", "numpy", "gymnasium", "mujoco", "sparl"} <= run["versions"].keys()
    assert any("topology updates" in line for line in run["schedule"])
    assert run["peak_memory_bytes"] > 1e7


def test_degrees_are_recorded_at_the_start_and_at_the_end(finished_run: Path) -> None:
    degrees = json.loads((finished_run / "degrees.json").read_text())
    arrays = safetensors.numpy.load_file(finished_run / "agent.safetensors")
    for network, members in (("actor", 1), ("critics", 2)):
        start, end = degrees["initial"][network], degrees["now"][network]
        assert len(start) == len(end) == members
        assert start != end
        for member, layer in ((m, k) for m in range(members) for k in range(3)):
            positions = arrays[f"{network}.member{member}.layer{layer}.positions"]
            for when in (start, end):  # topology updates keep the number of connections
                assert sum(when[member][layer]["out"]) == positions.size
                assert sum(when[member][layer]["in"]) == positions.size
            n_in = len(end[member][layer]["out"])
            counts = np.bincount(positions % n_in, minlength=n_in)
            assert end[member][layer]["out"] == counts.tolist()


def test_the_commit_of_a_checkout_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """The commit is read once per process, so that later commits are not recorded."""

    def commit() -> str:
        machine.commit.cache_clear()
        return machine.commit()

    request.addfinalizer(machine.commit.cache_clear)
    package = tmp_path / "src" / "sparl"
    (package / "training").mkdir(parents=True)
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path))
    monkeypatch.setattr(machine, "__file__", str(package / "training" / "machine.py"))
    assert commit() == ""
    (package / "commit.txt").write_text("c0ffee\n")
    assert commit() == "c0ffee"
    add = [*git, "commit", "-q", "--allow-empty", "-m", "more"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run(add, check=True)
    first = commit()
    assert re.fullmatch("[0-9a-f]{40}", first)
    subprocess.run(add, check=True)
    assert machine.commit() == first != commit()


def test_an_agent_file_contains_patterns_weights_targets_and_both_critics(
    finished_run: Path,
) -> None:
    arrays = safetensors.numpy.load_file(finished_run / "agent.safetensors")
    manifest = json.loads((finished_run / "agent.json").read_text())
    assert set(manifest["networks"]) == {"actor", "critics", "actor_target", "critics_target"}
    assert len(manifest["networks"]["critics"]) == 2
    for network, members in manifest["networks"].items():
        for member, layers in enumerate(members):
            for layer in range(len(layers)):
                prefix = f"{network}.member{member}.layer{layer}"
                positions, weight = arrays[f"{prefix}.positions"], arrays[f"{prefix}.weight"]
                assert positions.shape == weight.shape
                assert (np.diff(positions) > 0).all()
                online = prefix.replace("_target", "")
                assert positions.size <= arrays[f"{online}.positions"].size
    # A dense product with the arrays of the file gives the agent's actions.
    x = np.linspace(-1, 1, 3, dtype=np.float32)
    y = x.astype(np.float64)
    for layer, (n_in, n_out) in enumerate([(3, 16), (16, 16), (16, 1)]):
        prefix = f"actor.member0.layer{layer}"
        w = np.zeros(n_in * n_out)
        w[arrays[f"{prefix}.positions"]] = arrays[f"{prefix}.weight"]
        y = w.reshape(n_out, n_in) @ y + arrays[f"{prefix}.bias"]
        y = np.maximum(y, 0) if layer < 2 else 2.0 * np.tanh(y)
    np.testing.assert_allclose(sparl.load(finished_run).predict(x), y, rtol=1e-5)


def test_predict_takes_one_observation_or_a_batch(finished_run: Path) -> None:
    agent = sparl.load(finished_run)
    batch = np.random.default_rng(0).normal(size=(40, 3))
    actions = agent.predict(batch)
    assert actions.shape == (40, 1)
    assert actions.dtype == np.float32
    assert np.abs(actions).max() <= 2.0
    for observation, action in zip(batch, actions, strict=True):
        np.testing.assert_array_equal(agent.predict(observation), action)
    assert agent.predict(np.zeros((0, 3))).shape == (0, 1)
    with pytest.raises(ValueError, match=r"\(4,\).*\(3,\)"):
        agent.predict(np.zeros(4))


def test_evaluate_repeats_the_returns_at_the_end_of_training(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(finished_run), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    last = rows(finished_run / "evaluations.csv")[-1]
    assert result["returns"] == [float(last["return_0"]), float(last["return_1"])]
    assert main(["evaluate", str(finished_run), "--episodes", "1", "--seed", "5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["returns"] != result["returns"][:1]


def test_the_same_seed_gives_the_same_run_for_any_number_of_threads(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "available_cores", lambda: 2)
    again, other = tmp_path / "again", tmp_path / "other"
    train = ["train", "--method", "DS-TD3", *SMALL]
    assert main([*train, "--threads", "2", "--run-dir", str(again)]) == 0
    assert main([*train, "--seed", "1", "--run-dir", str(other)]) == 0
    digest = (finished_run / "agent.safetensors").read_bytes()
    assert (again / "agent.safetensors").read_bytes() == digest
    assert (other / "agent.safetensors").read_bytes() != digest


def test_the_configuration_file_of_a_run_repeats_the_run(
    finished_run: Path, tmp_path: Path
) -> None:
    config = str(finished_run / "config.toml")
    assert main(["train", "--config", config, "--run-dir", str(tmp_path / "again")]) == 0
    digest = (finished_run / "agent.safetensors").read_bytes()
    assert (tmp_path / "again" / "agent.safetensors").read_bytes() == digest


def test_a_run_that_stops_early_is_a_prefix_of_the_longer_run(
    finished_run: Path, tmp_path: Path
) -> None:
    config = parse_config(["--method", "DS-TD3", *SMALL], "test")
    fields = {k: v for k, v in config.as_dict().items() if k not in ("method", "env")}
    run = sparl.train(
        "DS-TD3", "Pendulum-v1", quiet=True,
        **{**fields, "stop_at": 150, "run_dir": str(tmp_path / "prefix")},
    )  # fmt: skip
    whole = [(int(r["env_step"]), float(r["mean"])) for r in rows(finished_run / "evaluations.csv")]
    assert list(run.evaluations[:2]) == whole[:2]
    assert run.evaluations[-1][0] == 150  # the saved agent was evaluated
    assert run.final_return == run.evaluations[-1][1]


def test_progress_shows_the_documented_values(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["train", "--method", "DS-TD3", *SMALL, "--run-dir", str(tmp_path / "r")]) == 0
    out = capsys.readouterr().out
    plan, progress = out.split("step=0 ", 1)
    assert "4 topology updates of 5.0% of the connections" in plan
    assert "connections" in plan
    assert re.search(r"step=200 return=-[\d.]+ std=\S+ .*steps_per_s=\S+ .*left_s=\S+\n", progress)
    assert str(tmp_path / "r") in progress


# ------------------------------------------------------------------ the command line


PAPERS_LINES: list[tuple[str, str, dict[str, Any]]] = [
    # Sokar et al., README and main.py
    ("--env HalfCheetah-v3 --policy DS-TD3", "DS-TD3", {}),
    ("--env HalfCheetah-v3 --policy StaticSparseTD3", "Static-TD3", {}),
    ("--env HalfCheetah-v3 --policy TD3", "TD3", {}),
    ("--env HalfCheetah-v3 --max_timesteps=500000", "DS-TD3", {"steps": 500_000}),
    ("--policy DS-TD3 --env Ant-v3 --seed 2 --start_timesteps 1e4 --eval_freq 2500 "
     "--max_timesteps 2e6 --expl_noise 0.2 --batch_size 64 --discount 0.98 --tau 0.01 "
     "--policy_noise 0.3 --noise_clip 0.6 --policy_freq 3 --ann_noHidNeurons 128 "
     "--ann_epsilonHid1 9 --ann_epsilonHid2 20 --ann_setZeta 0.1 "
     "--ann_ascTopologyChangePeriod 500 --ann_earlyStopTopologyChange 5e4", "DS-TD3",
     {"seed": 2, "warmup_env_steps": 10_000, "evaluate_every_env_steps": 2500,
      "steps": 2_000_000, "exploration_noise": 0.2, "batch_size": 64, "gamma": 0.98, "tau": 0.01,
      "target_noise": 0.3, "noise_clip": 0.6, "policy_delay": 3, "hidden": (128, 128),
      "lambda_1": 9.0, "lambda_2": 20.0, "rewire_fraction": 0.1, "rewire_every_updates": 500,
      "freeze_fraction": 0.025}),
    # Tan et al., README and train.py
    ("--method RLx2-TD3 --env HalfCheetah-v3 --actor_sparsity 0.9 --critic_sparsity 0.85 --nstep 3 "
     "--delay_nstep 300000 --use_dynamic_buffer", "RLx2-TD3",
     {"actor_sparsity": 0.9, "critic_sparsity": 0.85, "n_step": 3,
      "n_step_delay_updates": 300_000, "dynamic_buffer": True}),
    ("--method RLx2-SAC --env Ant-v3 --actor_sparsity 0.8 --critic_sparsity 0.7 --nstep 2 "
     "--delay_nstep 1000 --use_dynamic_buffer --lr 1e-4 --actor_update_frequency 1 "
     "--critic_target_update_frequency 1 --hidden_dim 64", "RLx2-SAC",
     {"actor_sparsity": 0.8, "critic_sparsity": 0.7, "n_step": 2, "n_step_delay_updates": 1000,
      "dynamic_buffer": True, "learning_rate": 1e-4, "hidden": (64, 64)}),
    ("--policy RigL-TD3 --delta 5000 --zeta 0.3 --random_grow --buffer_max_size 500000 "
     "--buffer_min_size 50000 --buffer_threshold 0.1 --buffer_adjustment_interval 5000", "RigL-TD3",
     {"rewire_every_updates": 5000, "rewire_fraction": 0.3, "grow": "random",
      "replay_capacity": 500_000, "replay_minimum": 50_000, "replay_distance_threshold": 0.1,
      "replay_check_every_env_steps": 5000}),
    ("--method RLx2-TD3 --static_actor", "RLx2-TD3", {"rewire": "critics"}),
    ("--method RLx2-TD3 --static_critic", "RLx2-TD3", {"rewire": "actor"}),
    ("--method RLx2-TD3 --static_critic --static_actor", "RLx2-TD3", {"rewire": "none"}),
]  # fmt: skip


@pytest.mark.parametrize(("line", "method", "fields"), PAPERS_LINES)
def test_the_papers_command_lines_set_only_the_method_and_these_fields(
    line: str, method: str, fields: dict[str, Any]
) -> None:
    words = line.split()
    env = words[words.index("--env") + 1] if "--env" in words else Config.env
    assert parse_config(words, "test") == preset(method, env, **fields)


def test_steps_without_topology_updates_end_with_the_horizon_as_in_the_released_code() -> None:
    line = "--policy DS-TD3 --ann_earlyStopTopologyChange 30 --max_timesteps 300 --start_timesteps"
    config = parse_config([*line.split(), "100"], "test")
    assert schedule_of(config, "actor").last == 300 - 100 - 30  # counted in updates
    assert config.freeze_fraction == 0.1
    horizon = parse_config([*line.split(), "100", "--horizon-env-steps", "3000"], "test")
    assert horizon.freeze_fraction == 0.01


RLX2_SPELLINGS = [
    "--nstep 3", "--delay_nstep 9", "--use_dynamic_buffer", "--buffer_max_size 9",
    "--buffer_min_size 9", "--buffer_threshold 1", "--buffer_adjustment_interval 9", "--delta 9",
    "--zeta 0.1", "--random_grow", "--static_actor", "--static_critic", "--exp_id a",
    "--actor_update_frequency 2", "--critic_target_update_frequency 2", "--log_std_bounds 1",
    "--actor_sparsity 0.9", "--critic_sparsity=0.9",
]  # fmt: skip


@pytest.mark.parametrize("words", RLX2_SPELLINGS)
def test_rlx2s_spellings_without_a_method_are_an_error(
    words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    error = error_line(capsys, 2, "train", "--env", "HalfCheetah-v3", *words.split())
    assert f"sparl: {words.split()[0].split('=')[0]} is a flag of RLx2's scripts" in error
    assert "--method RLx2-TD3 or --method RLx2-SAC" in error
    file = tmp_path / "config.toml"  # this file names the method
    file.write_text('method = "RLx2-TD3"\n')
    said = main(["cost", "--config", str(file), "--env", "HalfCheetah-v3", *words.split()])
    without_equivalent = ("--exp_id", "--actor_update", "--critic_target", "--log_std_bounds")
    assert said == (2 if words.startswith(without_equivalent) else 0)


def test_sparls_spelling_of_a_sparsity_needs_no_method() -> None:
    config = parse_config(["--actor-sparsity", "0.6", "--critic-sparsity=0.6"], "test")
    assert config == preset("DS-TD3", Config.env, actor_sparsity=0.6, critic_sparsity=0.6)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--save_model True", "every run saves its agent"),
        ("--save_model_period 1e5", "--checkpoint-every-env-steps"),
        ("--load_model default", "sparl resume RUN"),
        ("--method RLx2-TD3 --exp_id a", "--run-dir"),
        ("--method RLx2-SAC --log_std_bounds [-5,2]", "--log-std tanh"),
        ("--method RLx2-SAC --actor_update_frequency 2", "updated at every update"),
        ("--method RLx2-SAC --critic_target_update_frequency 2", "--hard-target-every N"),
        ("--method RLx2-TD3 --actor_update_frequency 1", "use --policy-delay"),
        ("--method TD3 --critic_target_update_frequency 1", "--policy-delay"),
        ("--method RLx2-SAC --static_actor --rewire actor", "--rewire already determines"),
        ("--hidden_dim", "--hidden_dim needs a value"),
        ("--policy", "--method needs a value"),
        (
            "--ann_earlyStopTopologyChange x",
            "must be a number of environment steps, at most the horizon",
        ),
        (
            f"--ann_earlyStopTopologyChange {'9' * 5000}",
            "must be a number of environment steps, at most",
        ),
        ("--ann_earlyStopTopologyChange 2e6", "at most the horizon of 1,000,000"),
        ("--ann_earlyStopTopologyChange 1e5 --freeze-fraction 0.1", "set the same field"),
        ("--policy TD3 --ann_epsilonHid1 7", "TD3 is dense"),
        ("--policy StaticSparseTD3 --ann_setZeta 0.05", "topology of Static-TD3 never changes"),
        ("--method SS-TD3 --delta 100", "topology of SS-TD3 never changes"),
    ],
)
def test_released_flags_without_an_equivalent_name_the_replacement(
    words: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in error_line(capsys, 2, "train", *words.split())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--total-timesteps 1e5", "--steps"),
        ("--algo TD3", "--method TD3"),
        ("--density 0.1", "--actor-sparsity 0.9 --critic-sparsity 0.9"),
        ("--device cuda", "on the CPU"),
        ("--num-seeds 3", "--seeds 0 1 2"),
        ("--import my_rules", "sparl --import MODULE COMMAND"),
        (
            "--learning_starts 100 --buffer_size 10",
            "unknown option --learning_starts (--warmup-env-steps sets the number of steps before "
            "the first update); unknown option --buffer_size",
        ),
    ],
)
def test_flags_of_other_tools_get_a_hint(
    words: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in error_line(capsys, 2, "train", *words.split())


def test_integers_may_be_written_in_short_forms(tmp_path: Path) -> None:
    line = "--steps 1.5M --batch-size 1e2 --hidden 1k 2e2 --seed 1_0 --warmup-env-steps=25k"
    config = parse_config([*line.split(), "--learning-rate", "1e-4"], "test")
    assert (config.steps, config.batch_size, config.hidden) == (1_500_000, 100, (1000, 200))
    assert (config.seed, config.warmup_env_steps, config.learning_rate) == (10, 25_000, 1e-4)
    file = tmp_path / "config.toml"
    file.write_text("steps = 1e6\n")
    assert repr(parse_config(["--config", str(file)], "test").steps) == "1000000"
    file.write_text("steps = 1e6\r\n", "utf-8-sig")  # as editors on Windows may write it
    assert parse_config(["--config", str(file)], "test").steps == 1_000_000


@pytest.mark.parametrize("flag", ["--run-dir", "--warm-start", "--config"])
def test_an_empty_path_is_rejected(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is an empty path" in error_line(capsys, 2, "train", *SMALL, flag, "")


@pytest.mark.parametrize("value", ["1.5", "1e-3", "0.0015k", "1e400", "10kk", "k", "1e"])
def test_a_value_that_is_not_an_integer_is_rejected(
    value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = error_line(capsys, 2, "train", "--steps", value)
    assert f"--steps is {value!r} but must be an integer" in said


def test_the_flags_of_rlx2s_code_start_a_training(tmp_path: Path) -> None:
    line = (
        "--method RLx2-TD3 --actor_sparsity 0.5 --critic_sparsity=0.4 --nstep 3 --delay_nstep 50 "
        "--use_dynamic_buffer"
    )
    assert main(["train", *SMALL, *line.split(), "--run-dir", str(tmp_path / "r")]) == 0
    assert "policy_distance" in rows(tmp_path / "r" / "metrics.csv")[0]


@pytest.mark.parametrize("steps", ["--steps", "--stop-at"])
def test_a_run_that_trains_nothing_warns_once(
    steps: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["train", *SMALL, steps, "100", "--run-dir", str(tmp_path / "short")]
    assert main(words) == 0
    error = capsys.readouterr().err
    assert error.startswith("warning: THE AGENT WILL NOT BE TRAINED: the run ends at step 100")
    assert error.count("\n") == 1
    assert main(["train", *SMALL, steps, "101", "--run-dir", str(tmp_path / "long")]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("command", ["train --env Pendulum-v1", "resume RUN"])
def test_more_threads_than_cores_are_rejected(
    command: str, finished_run: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(machine, "available_cores", lambda: 2)
    words = command.replace("RUN", str(finished_run)).split()
    error = error_line(capsys, 2, *words, "--threads", "99")
    assert error == (
        "sparl: --threads is 99 but must be at most 2, the number of cores that this process may "
        "use\n"
    )


# ------------------------------------------------------------------ custom modules

MODULE = """
import gymnasium
from gymnasium.envs.classic_control.pendulum import PendulumEnv

import its_helper

gymnasium.register(its_helper.NAME, PendulumEnv, max_episode_steps=20)
"""


@pytest.fixture
def a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module in the current folder that registers the environment Mine-v0."""
    (tmp_path / "its_module.py").write_text(MODULE)
    (tmp_path / "its_helper.py").write_text("NAME = 'Mine-v0'\n")
    (tmp_path / "later.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(user_modules, "_imported", [])
    yield "its_module"
    gymnasium.registry.pop("Mine-v0", None)
    for name in ("its_module", "its_helper"):
        sys.modules.pop(name, None)


def test_a_module_registers_environments_for_a_command(
    a_module: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = list(sys.path)
    train = ["train", *SMALL, "--env", "Mine-v0"]
    assert "unknown environment 'Mine-v0'" in error_line(capsys, 2, *train)
    assert main(["--import", a_module, *train, "--run-dir", "r"]) == 0
    assert "again:\n  sparl --import its_module evaluate r\n" in capsys.readouterr().out
    assert sys.path == before
    with pytest.raises(ModuleNotFoundError):  # the folder was searched only during that import
        importlib.import_module("later")
    assert main(["--import=its_helper", "--import", a_module, "evaluate", "r"]) == 0


@pytest.mark.parametrize(
    ("env", "near"),
    [
        ("HalfCheetah-v2", "HalfCheetah-v5 or HalfCheetah-v4 or HalfCheetah-v3"),
        ("MyRobot-v0", "Acrobot-v1"),
    ],
)
def test_an_unknown_environment_may_be_misspelt_or_the_users_own(
    env: str, near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = (
        f"unknown environment '{env}'; did you mean {near}? To use an environment of your own, "
        "import its module: sparl --import MODULE COMMAND"
    )
    assert said in error_line(capsys, 2, "train", "--env", env)


def test_a_study_imports_the_module_for_every_run(
    a_module: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "study.toml").write_text(
        'methods = ["TD3"]\nenvironments = ["Mine-v0"]\nseeds = 1\n[fields]\nsteps = 60\n'
        "warmup_env_steps = 20\nhidden = [8]\nbatch_size = 4\nevaluation_episodes = 1\n"
    )
    assert main(["--import", a_module, "study", "run", "study.toml", "--processes", "1"]) == 0
    assert "1 run: 1 finished" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--import"], "--import requires the name of a module"),
        (["--import="], "--import requires the name of a module"),
        (["--import", "info"], "--import info: cannot be imported"),
        (["--import", "not_there", "info"], "ModuleNotFoundError: No module named 'not_there'"),
        (["--import", "mine.py", "info"], "is not the name of a module, such as my_rules"),
        (["--import", "../mine", "info"], "is not the name of a module, such as my_rules"),
        (["--import", "raises", "info"], "--import raises: cannot be imported (ValueError: a b)"),
        (["--import", "exits", "info"], "--import exits: cannot be imported (SystemExit: 0)"),
    ],
)
def test_a_module_that_cannot_be_imported_is_reported_in_one_line(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "raises.py").write_text("raise ValueError('a\\nb')\n")
    (tmp_path / "exits.py").write_text("raise SystemExit(0)\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    assert says in error_line(capsys, 2, *words)
    assert sys.path == before


def test_flags_take_precedence_over_the_file_and_the_file_over_the_preset(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        'method = "DS-TD3"\nlearning_rate = 1e-4\nbatch_size = 50\nhidden = [32, 32, 32]\n'
    )
    config = parse_config(["--config", str(file), "--batch-size", "70"], "test")
    assert (config.learning_rate, config.batch_size, config.policy_delay) == (1e-4, 70, 2)
    assert config.hidden == (32, 32, 32)
    assert config.rewire_every_updates == 1000


def test_a_flag_takes_precedence_over_values_that_depend_on_it() -> None:
    line = "--method SAC --dynamic-buffer --replay-capacity 1_000_000"
    assert parse_config(line.split(), "test").replay_capacity == 1_000_000
    line = "--method RLx2-SAC --no-dynamic-buffer"
    assert parse_config(line.split(), "test").replay_capacity == 3_000_000


def test_a_runs_configuration_is_not_mixed_with_another_method(
    finished_run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = ["train", "--config", str(finished_run / "config.toml"), "--run-dir", str(tmp_path)]
    assert "sets method to DS-TD3" in error_line(capsys, 2, *config, "--method", "TD3")
    assert "sets env to Pendulum-v1" in error_line(capsys, 2, *config, "--env", "Ant-v5")
    assert "sets settings to ds" in error_line(capsys, 2, *config, "--settings", "rlx2")
    assert "is TD3" in error_line(capsys, 2, "train", "--method", "DS-TD3", "--agent", "SAC")


def test_a_closed_pipe_does_not_end_training(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["train", *SMALL, "--run-dir", str(run)]
    with children.sparl(*words, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        error = process.stderr.read()
        assert process.wait(60) == 0, error
    assert error == ""
    assert json.loads((run / "run.json").read_text())["state"] == "finished"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_output_that_cannot_be_written_is_reported_in_one_line_and_does_not_end_training(
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    training = ["train", *SMALL, "--run-dir", str(run)]
    for words, code in ((["methods"], 6), (["help", "train"], 6), (training, 0)):
        with (
            Path("/dev/full").open("w") as full,
            children.sparl(*words, stdout=full, stderr=subprocess.PIPE) as process,
        ):
            error = process.communicate()[1]
        assert process.returncode == code
        said = "sparl: cannot write to standard output: No space left on device\n"
        assert error == (said if code else "")
    assert json.loads((run / "run.json").read_text())["state"] == "finished"


def test_densities_of_an_unknown_environment_fit_the_hidden_layers() -> None:
    config = parse_config(["--env", "Pendulum-v1", "--hidden", "8", "8", "8"], "test")
    assert config.actor_densities == (0.5, 0.5, 0.5, 1.0)


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["trian"], 2, "did you mean train"),
        (["--imoprt", "m", "train"], 2, "did you mean --import?"),
        (["train", "--method", "DSTD3"], 2, "did you mean DS-TD3"),
        (["train", "--env", "HalfCheeta-v5"], 2, "HalfCheetah-v5"),
        (["train", "--stepz", "5"], 2, "--steps"),
        (["train", "--steps", "ten"], 2, "ten"),
        (["train", "--drop", "largest"], 2, "nearest_zero_of_each_sign"),
        (["train", "--method"], 2, "--method needs a value"),
        (["train", "--config", "missing.toml"], 2, "missing.toml does not exist"),
        (["train", "--actor-sparsity", "1.5"], 2, "actor_sparsity is 1.5 but must be in [0, 1]"),
        (["train", "--learning-rate", "nan"], 2, "learning_rate is nan"),
        (["train", "--batch-size", "0", "--tau", "2"], 2, "tau is 2.0"),
        (["train", "--env", "CartPole-v1"], 2, "sparl supports a one-dimensional Box observation"),
        (["train", "--actor-sparsity", "0.999"], 2, "a sparsity of 0.0000 to"),
        (["train", "--env", "Pendulum-v1", "--replay-capacity", "9_000_000_000",
          "--steps", "9_000_000_000"], 6, "--replay-capacity"),
        (["train", "--seed", "9" * 401], 2, "seed is"),
        (["train", "--run-dir", "x" * 300], 2, "cannot be written"),
        (["info", "x" * 300], 3, "cannot be read (File name too long)"),
        (["train", "--env", ""], 2, "env is '' but must be a Gymnasium id"),
        (["train", "--env", "x" * 161], 2, "of at most 160 characters"),
        (["train", "--env", "ALE/Pong-v5"], 2,
         "'ALE/Pong-v5': no imported package registers the family ALE/; install the package that "
         "does, and import its module: sparl --import MODULE COMMAND"),
        (["train", "--env", "FetchReach-v3"], 2,
         "'FetchReach-v3': no imported package registers it; install"),
        (["train", "--config", "."], 2, "file . is a folder but must be a TOML file\n"),
        (["train", "--env", "Pendulum-v1", "--hidden", "200_000_000"], 6, "--hidden"),
        (["evaluate", "nowhere"], 3, "nowhere is not a run folder: it does not exist\n"),
        (["report", "--tables-only", "nowhere"], 3, "nowhere does not exist\n"),
        (["info", "nowhere"], 3, "is not a run folder"),
        (["cost", "--method", "TD4"], 2, "TD3"),
    ],
)  # fmt: skip
def test_bad_input_is_rejected_in_one_line(
    args: list[str], code: int, says: str,
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert says in error_line(capsys, code, *args)
    assert not list(tmp_path.iterdir())  # no run was created


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("resume", "missing RUN"),
        ("export", "missing RUN and --format (one of 'c', 'onnx', 'npz', 'c-trainer')"),
        ("export x --format d",
         "--format is 'd' but must be one of 'c', 'onnx', 'npz', 'c-trainer'"),
        ("export x --format", "--format needs a value"),
        ("chip read", "missing DUMP, --like RUN and --out DIR"),
        ("study run", "missing FILE..."),
        ("report", "missing PATH..."),
        ("archive --to x", "missing RUN..."),
        ("evaluate x y", "unexpected 'y'"),
        ("info --jason x", "unknown option --jason (did you mean --json?)"),
        ("train --cofnig x", "unknown option --cofnig (did you mean --config?)"),
        ("cost --jason", "unknown option --jason (did you mean --json?)"),
        ("info --no-jason", "unknown option --no-jason (did you mean --json?)"),
        ("evaluate x --no-seed", "unknown option --no-seed (did you mean --seed?)"),
        ("evaluate x --episodes=1 y", "unexpected 'y'"),
        ("evaluate x --episodes 1k", "--episodes is '1k' but must be an integer"),
        ("resume x --stop_at soon", "--stop_at is 'soon' but must be an integer"),
        ("resume x --total_timesteps 1e5",
         "unknown option --total_timesteps (--steps sets the number of environment steps)"),
        ("bench --steps 5", "unknown option --steps"),
        ("resume x --threads=some", "--threads is 'some' but must be an integer"),
        ("train --hidden 8 b", "--hidden is '8 b' but must be integers, separated by spaces"),
        ("cost --tau x", "--tau is 'x' but must be a number"),
        ("info ''", "RUN is '' but must be a path"),
        ("report '' --out x", "PATH... is '' but must be paths, separated by spaces"),
        ("report x --out ''", "--out is '' but must be a path"),
        ("bench --only all", "--only is 'all' but must be one of "
         "'kernels', 'update', 'training', 'growth'"),
    ],
)  # fmt: skip
def test_an_invalid_command_line_is_explained_in_one_line(
    words: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = words if words in ("study run", "chip read") else words.split()[0]
    line = f"sparl: {command}: {says} (all options: sparl {command} --help)\n"
    assert error_line(capsys, 2, *shlex.split(words)) == line


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--hlep", "unknown option '--hlep'; did you mean --help?"),
        ("--steps 100", "unknown option '--steps'; a command must precede its options"),
        ("trian --seed 1", "unknown command 'trian'; did you mean train?"),
        ("--version 2", "--version: unexpected '2'"),
    ],
)
def test_a_misspelt_first_word_is_named(
    words: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert error_line(capsys, 2, *words.split()) == f"sparl: {says}\n"


def test_files_of_another_kind_are_rejected_with_the_expected_kind(
    finished_run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Give each command a file of another kind than it expects."""
    config = finished_run / "config.toml"
    error = error_line(capsys, 2, "train", "--config", str(finished_run))
    assert f"{finished_run} is a folder but must be a TOML file; did you mean {config}?" in error
    for command in ("run", "status"):
        error = error_line(capsys, 2, "study", command, str(config))
        assert (
            f"{config} is the configuration of a single run; train it with sparl train --config "
            f"{config}"
        ) in error
        assert "did you mean" not in error_line(capsys, 2, "study", command, str(finished_run))
    for name, text in (("a.yaml", "seed: 1\n"), ("a.json", '{"seed": 1}'), ("a.yml", "- 1\n")):
        file = tmp_path / name
        file.write_text(text)
        says = f"file {file} is {name[2:].upper()} but must be TOML: lines such as seed = 0\n"
        assert says in error_line(capsys, 2, "train", "--config", str(file))
        assert says in error_line(capsys, 2, "study", "run", str(file))


def test_a_path_that_is_not_a_run_folder_is_explained_with_the_run_that_was_meant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "runs" / "TD3_Ant-v5_seed0"
    run.mkdir(parents=True)
    (run / "config.toml").touch()
    for path, reason in (
        (run.with_name("TD3_Ant-v5_seed1"), f"it does not exist; did you mean {run}?"),
        (run / "config.toml", f"it is a file; did you mean {run}?"),
        (run.parent, f"it has no config.toml, but contains runs, such as {run}"),
        (tmp_path, "it has no config.toml"),
    ):
        line = f"sparl: {path} is not a run folder: {reason}\n"
        assert error_line(capsys, 3, "evaluate", str(path)) == line


def test_all_errors_of_a_configuration_are_reported_together(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    error = error_line(capsys, 2, "train", "--gamma", "2", "--n-step", "0", "--hidden", "0")
    assert all(name in error for name in ("gamma", "n_step", "hidden"))
    file = tmp_path / "bad.toml"
    file.write_text('learning_rat = 1\nbatch_size = "ten"\nseed = true\n')
    error = error_line(capsys, 2, "train", "--config", str(file))
    assert all(text in error for text in ("did you mean learning_rate", "batch_size", "seed"))


def test_a_folder_with_a_run_is_rejected_unless_overwritten(
    finished_run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    args = ["train", "--method", "TD3", *SMALL, "--run-dir", str(run)]
    assert main(args) == 0
    before = (run / "agent.safetensors").read_bytes()
    capsys.readouterr()
    assert "--overwrite" in error_line(capsys, 2, *args, "--seed", "4")
    assert (run / "agent.safetensors").read_bytes() == before
    (run / "notes.txt").write_text("mine")
    assert main([*args, "--seed", "4", "--overwrite"]) == 0
    assert (run / "agent.safetensors").read_bytes() != before
    assert (run / "notes.txt").read_text() == "mine"
    assert len(rows(run / "evaluations.csv")) == 4


def test_unusable_run_folders_are_rejected(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.touch()
    assert "is a file" in error_line(capsys, 2, "train", *SMALL, "--run-dir", str(file))
    below = str(file / "run")
    assert "cannot be written" in error_line(capsys, 2, "train", *SMALL, "--run-dir", below)
    if os.getuid() != 0:  # root may write anywhere
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o500)
        args = ["train", *SMALL, "--run-dir", str(closed / "run")]
        assert "cannot be written" in error_line(capsys, 2, *args)


def test_new_runs_get_new_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert main(["train", "--method", "TD3", *SMALL, "--steps", "1"]) == 0
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert names == ["TD3_Pendulum-v1_seed0", "TD3_Pendulum-v1_seed0-2"]


def test_damaged_agent_files_are_rejected(
    finished_run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for file in finished_run.iterdir():
        if file.is_file():
            (run / file.name).write_bytes(file.read_bytes())
    whole = (run / "agent.safetensors").read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damaged in (bytes(flipped), whole[:-1], b""):
        (run / "agent.safetensors").write_bytes(damaged)
        assert "damaged" in error_line(capsys, 3, "evaluate", str(run))
    (run / "agent.safetensors").unlink()
    assert "missing" in error_line(capsys, 3, "evaluate", str(run))
    (run / "agent.json").write_text("{")
    assert "agent.json: cannot be read" in error_line(capsys, 3, "evaluate", str(run))


class HugeRewards(PendulumEnv):
    """Returns rewards that are finite in float32, but whose squares are not."""

    def step(self, u: Any) -> Any:
        observation, _, *rest = super().step(u)
        return observation, 3e38, *rest


def test_diverging_training_stops_with_exit_code_5(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    gymnasium.register("HugeRewards-v0", HugeRewards, max_episode_steps=50)
    try:
        args = ["train", *SMALL, "--env", "HugeRewards-v0", "--run-dir", str(tmp_path / "r")]
        error = error_line(capsys, 5, *args)
    finally:
        del gymnasium.registry["HugeRewards-v0"]
    assert "diverged at step 101 (update 1)" in error
    assert json.loads((tmp_path / "r" / "run.json").read_text())["state"] == "failed"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_the_evaluations(tmp_path: Path, number: signal.Signals, code: int) -> None:
    run = tmp_path / "run"
    words = ["train", *SMALL, "--run-dir", str(run), "--steps", "10_000_000"]
    evaluations = run / "evaluations.csv"
    with children.sparl(*words, stderr=subprocess.PIPE) as process:
        wait_until(lambda: evaluations.exists() and len(rows(evaluations)) >= 3)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert err == ""
    assert f"stopped by {number.name} at step" in out
    assert json.loads((run / "run.json").read_text())["state"] == f"stopped by {number.name}"
    assert len(rows(evaluations)) >= 3
    assert sparl.load(run).predict(np.zeros(3)).shape == (1,)


def test_two_processes_do_not_share_a_run_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:

    folder = RunFolder.create(Config(run_dir=str(tmp_path / "run")))
    try:
        args = ["train", *SMALL, "--run-dir", str(tmp_path / "run"), "--overwrite"]
        assert "in use" in error_line(capsys, 7, *args)
    finally:
        folder.close()


def test_cost_prints_the_papers_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    args = ["cost", "--method", "DS-TD3", "--env", "HalfCheetah-v3"]
    assert main(args) == 0
    text = capsys.readouterr().out
    assert "106,169 of 214,784" in text
    assert "1.07e+14" in text
    assert "0.4918" in text
    assert main([*args, "--json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert result["connections"] == 106_169
    assert result["networks"]["actor"]["copies"] == 1
    assert result["networks"]["critic"]["copies"] == 2
    assert [x["connections"] for x in result["networks"]["critic"]["layers"]] == [1953, 32768, 256]
    assert result["flops"]["paper"]["ratio"] == pytest.approx(0.4918, abs=5e-5)


def test_info_and_methods_print_their_tables(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", "--json"]) == 0
    assert "portable" in json.loads(capsys.readouterr().out)["instruction_sets"]
    assert main(["info", str(finished_run)]) == 0
    said = capsys.readouterr().out
    assert "state: finished" in said
    assert re.search(
        r"^last evaluation: env_step \d+, mean -[\d,]+\.\d{3}, std [\d,]+\.\d{3}$", said, re.M
    )
    assert re.search(r"^wall seconds: \d+\.\d{3}$", said, re.M)
    assert main(["info", str(finished_run), "--json"]) == 0
    assert type(json.loads(capsys.readouterr().out)["last_evaluation"]["env_step"]) is int
    assert main(["methods"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("TD3", "Static-TD3", "DS-TD3", "StaticSparseTD3"))


def test_an_instruction_set_can_be_forced_and_an_unknown_one_is_named() -> None:
    def info(isa: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sparl.cli", "info"]
        environment = {**os.environ, "SPARL_ISA": isa}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert "instruction_set portable" in info("portable").stdout
    wrong = info("sse9")
    assert wrong.returncode == 2
    assert "'sse9' is not available; choose one of portable" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_ctrl_c_while_the_command_line_is_loaded_prints_one_line(tmp_path: Path) -> None:
    """A library that the command loads replaces KeyboardInterrupt with another exception."""
    (tmp_path / "rich.py").write_text(
        "import signal\n"
        "try:\n    signal.raise_signal(signal.SIGINT)\n"
        "except KeyboardInterrupt:\n    raise ImportError('a part is missing') from None\n"
    )
    where = {"PYTHONPATH": str(tmp_path)}
    with children.sparl("methods", env=where, stderr=subprocess.PIPE) as process:
        assert process.communicate() == ("", "sparl: interrupted\n")
        assert process.returncode == 130


def test_core_imports_no_other_framework() -> None:
    code = (
        "import sys, sparl.cli, sparl.training.loop\n"
        "print([m for m in ('torch', 'tensorflow', 'jax') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_tensorboard_is_reported_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sparl.training.tensorboard.find_spec", lambda _: None)
    words = ["train", *SMALL, "--run-dir", str(tmp_path / "run"), "--tensorboard"]
    assert "pip install 'sparl[tensorboard]'" in error_line(capsys, 2, *words)
    assert not (tmp_path / "run").exists()
