"""Run studies on real local Ray clusters, including killed workers and separate clusters."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import sysconfig
import uuid
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import ray

import children
from children import has_handler, wait_until, waiting
from hostile.small import STUDY as SMALL
from resuming import results
from sparl.cli import main
from sparl.studies.progress import progress
from sparl.studies.study import read_study
from sparl.training.start import train
from sparl.user_modules import import_module_of

STUDY = """
methods = ["DS-TD3"]
environments = ["bad_environments:Waits-v0"]
seeds = 3
[fields]
steps = 300
warmup_env_steps = 50
evaluate_every_env_steps = 50
checkpoint_every_env_steps = 50
evaluation_episodes = 1
hidden = [16, 16]
batch_size = 16
"""


IMPORT = ["--import", "bad_environments"]


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def study_words(path: Path, folder: Path) -> list[str]:
    """Return the command line of a study on a separate cluster with two workers."""
    return [
        *IMPORT,
        "study",
        "run",
        str(path),
        "--folder",
        str(folder),
        "--processes",
        "2",
        "--ray",
    ]


def test_another_worker_resumes_a_killed_workers_run_bit_for_bit(
    tmp_path: Path, waits: Path
) -> None:
    path, folder = tmp_path / "study.toml", tmp_path / "runs"
    path.write_text(STUDY)
    units = read_study(path).units
    with children.sparl(*study_words(path, folder)) as study:
        run, other = waiting(waits, 2)
        assert parent(run) != parent(other)
        # Kill the worker and then the run that it started, as if the machine were lost.
        os.kill(parent(run), signal.SIGKILL)
        os.kill(run, signal.SIGKILL)
        waits.rename(tmp_path / "waited")
        printed, _ = study.communicate(timeout=240)
    assert study.returncode == 0, printed
    assert "3 runs: 3 finished" in printed
    resumed = [(folder / u.id / "output.txt").read_text().count(", bit for bit") for u in units]
    assert sorted(resumed) == [0, 0, 1]
    lost = units[resumed.index(1)]
    import_module_of(lost.config.env)
    config = replace(lost.config, run_dir=str(tmp_path / "undisturbed"), threads=1)
    assert results(folder / lost.id) == results(train(config, quiet=True).path)


def test_a_stopped_study_stops_its_runs(tmp_path: Path, waits: Path) -> None:
    """This works even if the workers ignore SIGINT from the start, like jobs of a script."""
    path, folder = tmp_path / "study.toml", tmp_path / "runs"
    path.write_text(STUDY)
    units = read_study(path).units
    with children.sparl(*study_words(path, folder), deaf=True) as study:
        runs = waiting(waits, 2)
        study.send_signal(signal.SIGINT)
        wait_until(lambda: not any(has_handler(run, signal.SIGTERM) for run in runs))
        waits.rename(tmp_path / "waited")
        printed, _ = study.communicate(timeout=120)
    assert study.returncode == 130, printed
    assert [progress(folder, u).state for u in units] == ["stopped", "stopped", "waiting"]


def test_custom_modules_are_found_on_a_cluster_that_was_started_elsewhere(tmp_path: Path) -> None:
    """The cluster uses the directory and the PYTHONPATH of the command that starts the study."""
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    for folder, name in ((project, "Here"), (project / "lib", "There")):
        folder.mkdir()
        (folder / f"own_{name.lower()}.py").write_text(
            "import gymnasium\n"
            f"gymnasium.register('{name}-v0', max_episode_steps=20,\n"
            "    entry_point='gymnasium.envs.classic_control:PendulumEnv')\n"
        )
    elsewhere.mkdir()
    (project / "study.toml").write_text(
        STUDY.replace('"bad_environments:Waits-v0"', '"own_here:Here-v0", "own_there:There-v0"')
        .replace("seeds = 3", "seeds = 1")
    )  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    ray = Path(sysconfig.get_path("scripts")) / "ray"
    words = ["start", "--head", f"--port={port}", "--num-cpus=1", "--include-dashboard=false"]
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid.uuid4().hex}
    with children.command(str(ray), *words, "--block", cwd=elsewhere, env=token, stdout=None):
        wait_until(lambda: listens(port))
        path = f"lib{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        words = ["--import", "own_here", "--import", "own_there"]
        words += ["study", "run", "study.toml", "--ray", f"127.0.0.1:{port}"]
        with children.sparl(*words, cwd=project, env={"PYTHONPATH": path, **token}) as study:
            printed, _ = study.communicate(timeout=240)
    assert study.returncode == 0, printed
    assert "2 runs: 2 finished" in printed


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_an_unreachable_cluster_is_reported_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(STUDY)
    words = [*IMPORT, "study", "run", str(path), "--folder", str(tmp_path / "runs")]
    words += ["--ray", "127.0.0.1:1"]
    with children.sparl(*words, env={"PYTHONPATH": str(Path(__file__).parents[1])}) as study:
        printed, _ = study.communicate(timeout=120)
    assert study.returncode == 2
    assert printed.strip().splitlines()[-1].startswith("sparl: study: no Ray cluster at")


def listening(processes: set[int]) -> set[tuple[bool, int]]:
    """Return (whether the interface is loopback, port) for each socket that listens."""
    inodes = set()
    for process in processes:
        for descriptor in Path(f"/proc/{process}/fd").glob("*"):
            with suppress(OSError):
                inodes.add(descriptor.readlink().name.removeprefix("socket:[").rstrip("]"))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, address, _, state, *rest = line.split()
            if state == "0A" and rest[5] in inodes:
                host, port = address.split(":")
                loopback = ("0100007F", "0000000000000000FFFF00000100007F", "0" * 24 + "01000000")
                found.add((host in loopback, int(port, 16)))
    return found


def descendants(process: int) -> set[int]:
    every = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    parents = {}
    for each in every:
        with suppress(OSError):
            parents[each] = parent(each)
    found = {process}
    while more := {each for each in parents if parents[each] in found} - found:
        found |= more
    return found


CLIENT = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False)
print("task:", ray.get(ray.remote(num_cpus=0)(lambda: "executed").remote()))
"""


def client(address: str, **token: str) -> str:
    """Return the output of a Ray client that executes a task on the cluster at an address."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")} | token
    environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = (
        "0"  # otherwise Ray treats 127.0.0.1 as a different address
    )
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, address], env=environment, check=False, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
    )  # fmt: skip
    return done.stdout


def test_only_its_study_can_use_a_local_cluster(tmp_path: Path, waits: Path) -> None:
    """Nothing listens beyond loopback, and a client without the token cannot execute anything."""
    path = tmp_path / "study.toml"
    path.write_text(STUDY)
    token = uuid.uuid4().hex
    words = study_words(path, tmp_path / "runs")
    with children.sparl(*words, env={"RAY_AUTH_TOKEN": token}) as study:
        waiting(waits, 2)
        processes = descendants(study.pid)
        ports = listening(processes)
        assert len(ports) >= 4
        assert all(loopback for loopback, _ in ports)
        lines = [Path(f"/proc/{each}/cmdline").read_text().replace("\0", " ") for each in processes]
        (server,) = [line for line in lines if "gcs_server --" in line]
        port = server.partition("--gcs_server_port=")[2].split()[0]
        if port == "0":
            raylet = next(line for line in lines if "--gcs-address=" in line)
            port = raylet.partition("--gcs-address=")[2].split()[0].rpartition(":")[2]
        address = f"127.0.0.1:{port}"
        for how in (
            {"RAY_AUTH_MODE": "disabled"},
            {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid.uuid4().hex},
        ):
            printed = client(address, **how)
            assert "executed" not in printed
            assert "uthenticat" in printed, printed
        with_token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
        assert "executed" in client(address, **with_token)
        waits.rename(tmp_path / "waited")
        printed, _ = study.communicate(timeout=240)
    assert study.returncode == 0, printed


def test_no_run_outlives_a_study_on_ray_that_is_killed(tmp_path: Path, waits: Path) -> None:
    path, folder = tmp_path / "study.toml", tmp_path / "runs"
    path.write_text(STUDY)
    with children.sparl(*study_words(path, folder)) as study:
        runs = waiting(waits, 2)
        study.kill()
        wait_until(
            lambda: (
                not any(process_exists(run) and has_handler(run, signal.SIGTERM) for run in runs)
            )
        )
        waits.rename(tmp_path / "waited")
        wait_until(lambda: not any(map(process_exists, runs)))
    assert [progress(folder, unit).state for unit in read_study(path).units][2] == "waiting"


def process_exists(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


@pytest.mark.parametrize(
    ("environment", "version", "says"),
    [
        ({"RAY_AUTH_MODE": "disabled"}, ray.__version__, "RAY_AUTH_MODE is 'disabled'"),
        ({}, "2.58.0", "Ray is 2.58.0 but must be at least 2.59"),
    ],
    ids=["no tokens", "old"],
)
def test_a_cluster_that_would_not_be_protected_is_not_started(
    environment: dict[str, str], version: str, says: str,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path = tmp_path / "study.toml"
    path.write_text(STUDY)
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"):
        monkeypatch.setenv(name, "token" if name == "RAY_AUTH_MODE" else "0")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(ray, "__version__", version)
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("a cluster was started"))
    assert main(study_words(path, tmp_path / "runs")) == 2
    said = capsys.readouterr().err
    assert said.startswith("sparl: study: ")
    assert says in said
    assert said.count("\n") == 1


def test_a_study_on_ray_imports_nothing_from_the_folder_where_it_is_started(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(SMALL)
    executed = tmp_path / "executed"
    for name in ("google", "numpy", "psutil", "sparl", "rich"):
        (tmp_path / f"{name}.py").write_text(f"open({str(executed)!r}, 'w').close()\n")
    words = [sys.executable, "-P", "-m", "sparl", "study", "run", "study.toml", "--ray"]
    done = subprocess.run([*words, "--processes", "1"], cwd=tmp_path, check=False, timeout=180)
    assert not executed.exists()
    assert done.returncode == 0
