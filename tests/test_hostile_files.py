"""Test that hostile files are rejected with exit code 3 before memory is allocated for them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import sparl
from resuming import stopped_at, write_manifest
from sparl.cli import main
from sparl.training.run_json import check_run

pytestmark = pytest.mark.slow

FIELDS: dict[str, Any] = {
    "steps": 60, "hidden": (4,), "batch_size": 4, "warmup_env_steps": 10, "evaluation_episodes": 1,
    "evaluate_every_env_steps": 30, "threads": 1, "quiet": True,
}  # fmt: skip
CHECKPOINT = "checkpoint-37"
Tree = dict[str, Any]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stopped run with an agent and a checkpoint."""
    path = tmp_path_factory.mktemp("runs") / "run"
    with stopped_at(37):
        sparl.train("DS-TD3", "Hopper-v5", run_dir=path, **FIELDS)
    return path


@pytest.fixture
def run(stopped: Path, tmp_path: Path) -> Path:
    """A copy of the run to damage."""
    shutil.copytree(stopped, tmp_path / "run")
    return tmp_path / "run"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sign_agent(run: Path, change: Callable[[Tree], object] = lambda manifest: None) -> None:
    """Update agent.json to match agent.safetensors, and then apply a change to agent.json."""
    manifest = json.loads((run / "agent.json").read_text())
    data = (run / "agent.safetensors").read_bytes()
    manifest["file"] |= {"bytes": len(data), "sha256": sha256(data)}
    change(manifest)
    (run / "agent.json").write_text(json.dumps(manifest))


def sign_checkpoint(run: Path, change: Callable[[Tree], object] = lambda manifest: None) -> None:
    """Update the manifest to match the checkpoint's files, and then apply a change to it."""
    manifest = json.loads((run / CHECKPOINT / "manifest.json").read_text())
    data = (run / CHECKPOINT / "state.safetensors").read_bytes()
    manifest["file"] |= {"bytes": len(data), "sha256": sha256(data)}
    change(manifest)
    write_manifest(run / CHECKPOINT, manifest)


PLACES: dict[str, tuple[str, Callable[..., None]]] = {
    "agent": ("agent.safetensors", sign_agent),
    "checkpoint": (f"{CHECKPOINT}/state.safetensors", sign_checkpoint),
}


def with_header(data: bytes, change: Callable[[Tree], object]) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header = change(header) or header
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def renamed(header: Tree) -> None:
    header["../../../../tmp/x"] = header.pop(min(header.keys() - {"__metadata__"}))


def overlapping(header: Tree) -> None:
    names = sorted(header.keys() - {"__metadata__"}, key=lambda n: header[n]["data_offsets"])
    begin, end = header[names[1]]["data_offsets"]
    header[names[1]]["data_offsets"] = [begin - 4, end - 4]


def beyond(header: Tree) -> None:
    last = max(header.keys() - {"__metadata__"}, key=lambda n: header[n]["data_offsets"])
    header[last]["data_offsets"][1] += 1 << 40


def overflowing(header: Tree) -> None:
    header[min(header.keys() - {"__metadata__"})]["shape"] = [1 << 62, 1 << 62]


def negative(header: Tree) -> None:
    header[min(header.keys() - {"__metadata__"})]["shape"] = [-1]


def many(header: Tree) -> Tree:
    return header | {
        f"x{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(100_000)
    }


HEADERS: list[Callable[[Tree], object]] = [
    renamed, overlapping, beyond, overflowing, negative, many,
]  # fmt: skip


def rejection(capsys: pytest.CaptureFixture[str], *words: str, code: int = 3) -> str:
    capsys.readouterr()
    assert main(words) == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    assert len(said) < 1500
    return said


def commands(run: Path, place: str) -> list[list[str]]:
    """Return the commands that read the run."""
    if place == "checkpoint":
        return [["resume", str(run)]]
    out = str(run / "out")
    return [["evaluate", str(run)], ["export", str(run), "--format", "npz", "--out", out]]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("change", HEADERS, ids=lambda change: change.__name__)
def test_headers_with_false_values_are_rejected(
    place: str, change: Callable[[Tree], object], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, sign = PLACES[place]
    file = run / name
    file.write_bytes(with_header(file.read_bytes(), change))
    sign(run)
    for words in commands(run, place):
        assert str(file) in rejection(capsys, *words)
    assert not (run / "out").exists()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "data",
    [b"", b"\0" * 7, b"\xff" * 8, (1 << 62).to_bytes(8, "little"), (100).to_bytes(8, "little"),
     (2).to_bytes(8, "little") + b"[]", (2).to_bytes(8, "little") + b"{}",
     (200_000).to_bytes(8, "little") + b"[" * 200_000, (4).to_bytes(8, "little") + b"null",
     (6).to_bytes(8, "little") + b'{"":1}', b"PK\x03\x04" + bytes(100), b"\x80\x04K\x01." * 9],
)  # fmt: skip
def test_a_file_that_is_not_in_safetensors_format_is_rejected(
    place: str, data: bytes, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, sign = PLACES[place]
    (run / name).write_bytes(data)
    sign(run)
    for words in commands(run, place):
        assert str(run / name) in rejection(capsys, *words)


@pytest.mark.parametrize(
    "positions", [[0, 1, 2, 3, 10**6], [3, 2], [1, 1], [-1, 0], [0, 2**62]], ids=str
)
@pytest.mark.parametrize("place", PLACES)
def test_invalid_patterns_are_rejected_before_they_reach_the_engine(
    place: str, positions: list[int], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, sign = PLACES[place]
    arrays = safetensors.numpy.load_file(run / name)
    key = next(key for key in arrays if key.endswith("member0.layer1.positions"))
    arrays[key] = arrays[key].copy()
    if place == "agent":
        key = "actor.member0.layer1.positions"
    count = min(len(positions), len(arrays[key]))
    arrays[key][:count] = positions[-count:]
    (run / name).write_bytes(safetensors.numpy.save(arrays))
    sign(run)
    for words in commands(run, place):
        assert "must be strictly ascending and in [0, " in rejection(capsys, *words)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda m: m.update(format=2),
            ("format 2 is not supported; this version of sparl reads format 1"),
        ),
        (lambda m: m.update(format="x" * 5000), "this version of sparl reads format 1"),
        (lambda m: m["networks"]["actor"][0][0].update(connections=2**63), "9223372036854775808"),
        (lambda m: m["networks"]["actor"][0][0].update(connections=-1), "-1"),
        (lambda m: m["networks"]["actor"][0][0].update(connections=2**31), "must be"),
        (lambda m: m["networks"]["actor"][0][0].update(outputs=True), "True"),
        (lambda m: m["networks"]["actor"][0][0].update(outputs=5), "must be float32 [5]"),
        (lambda m: m["policy"].update(observations=2**62), "cannot be read"),
        (lambda m: m["policy"].update(action_low=["a"]), "cannot be read"),
        (
            lambda m: m["policy"].update(output_activation="exec"),
            "agent.json: output_activation is 'exec' but must be one of linear, relu, tanh; use",
        ),
        (
            lambda m: m["policy"].update(output_activation="relu"),
            "must be tanh for",
        ),
        (
            lambda m: m["policy"].update(actions="0 * outputs"),
            "'0 * outputs' but must be",
        ),
        (
            lambda m: m.update(hidden_activation="gelu"),
            "agent.json: hidden_activation is 'gelu' but must be one of linear, relu, tanh; use",
        ),
        (
            lambda m: m["networks"]["actor"][0][0].update(activation="gelu"),
            "is gelu but must",
        ),
        (lambda m: m["networks"].update(actor=[]), "the network actor has no layers"),
        (lambda m: m.update(networks=[]), "cannot be read"),
        (lambda m: m.pop("policy"), "cannot be read"),
    ],
)
def test_an_agent_manifest_with_false_values_is_rejected(
    change: Callable[[Tree], object], says: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sign_agent(run, change)
    for words in commands(run, "agent"):
        assert says in rejection(capsys, *words)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m.update(format=4), (
            "format 4 is not supported; this version of sparl reads formats 2 and 3"
        )),
        (lambda m: m.update(env_step=38), "env_step is 38, but the folder is named checkpoint-37"),
        (lambda m: m["file"].update(bytes=1 << 62), "bytes but expected 4611686018427387904"),
        (lambda m: m["replay"].update(size=1 << 61), "must end at 2305843009213693951"),
        (lambda m: m["replay"]["segments"][0].update(end=1 << 61), "transitions 0 to"),
        (lambda m: m["replay"]["segments"][0].update(sha256="../" * 22), "digest"),
        (lambda m: m["replay"]["segments"].append({}), "cannot be used"),
        (lambda m: m["state"]["counters"].update(env_step=-1), "must be at least 0"),
        (lambda m: m["state"]["counters"].update(env_step=50_000), (
            "is 50000 but must be between"
        )),
        (lambda m: m["state"].update(pickle="x"), "state.pickle is unexpected"),
        (lambda m: m["state"].pop("counters"), "state.counters is missing"),
        (lambda m: m["about"]["config"].update(env="Ant-v5"), "env is Ant-v5 instead of Hopper"),
        (lambda m: m["about"]["config"].update(hidden=[9]), "hidden is (9,) instead of (4,)"),
        (lambda m: m["about"].update(growing_files={"metrics.csv": 5}), "cannot be used"),
        (lambda m: m["about"].update(growing_files={"evaluations.csv": 10**9, "metrics.csv": 0,
                                                    "topology.csv": 0}), "at the checkpoint"),
    ],
)  # fmt: skip
def test_a_checkpoint_manifest_with_false_values_is_rejected(
    change: Callable[[Tree], object], says: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sign_checkpoint(run, change)
    assert says in rejection(capsys, "resume", str(run))
    assert main(["info", str(run)]) == 0  # it still describes the run


def test_an_agent_for_another_environment_is_rejected(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = run / "config.toml"
    config.write_text(config.read_text().replace("Hopper-v5", "Walker2d-v5"))
    said = rejection(capsys, "evaluate", str(run), code=2)
    assert "actions of length 3, but those of Walker2d-v5 have lengths 17" in said
    said = rejection(capsys, "resume", str(run))
    assert "actor/member0.layer0.positions is I64 [44] but must be int64 [68]" in said


FILES = [
    "agent.json", "agent.safetensors", f"{CHECKPOINT}/manifest.json",
    f"{CHECKPOINT}/state.safetensors", "run.json", "evaluations.csv", "config.toml",
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name"),
    [("link", "replay"), ("pipe", "replay")]
    + [(kind, name) for kind in ("link", "pipe", "folder") for name in FILES],
)
def test_links_pipes_and_folders_instead_of_a_file_are_rejected(
    kind: str, name: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, elsewhere = run / name, run.parent / "elsewhere"
    place.rename(elsewhere)
    if kind == "link":
        place.symlink_to(elsewhere)
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place.mkdir()
    command = {"a": "evaluate", "c": "resume", "r": "resume", "e": "info"}[name[0]]
    said = rejection(capsys, command, str(run))
    assert str(place) in said or f"{run} is not a run folder: it has no {name}" in said


@pytest.mark.parametrize("name", ["config.toml", "run.json", "agent.json", "evaluations.csv"])
@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 50, b"\xff\xfe", b"[" * 100_000, b'{"a": ' * 50_000, b"9" * 10_000,
     b"null", b"[]", b'"' + b"x" * 200_000 + b'"', b'{"state": 5, "env_step": "x"}',
     b"a,b\n" + b"1," * 100_000 + b"\n"],
    ids=range(11),
)  # fmt: skip
def test_every_command_reports_a_damaged_run_in_one_line(
    name: str, content: bytes, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / name).write_bytes(content)
    out = str(run / "out")
    for words in (
        ["evaluate", str(run)], ["info", str(run)], ["resume", str(run)],
        ["archive", str(run), "--to", f"{out}-archive"],
        ["play", str(run), "--video", f"{out}.mp4"],
        ["export", str(run), "--format", "c", "--out", out],
        ["report", "--tables-only", str(run), "--out", f"{out}-report"],
    ):  # fmt: skip
        before = (run / name).read_bytes()
        code = main(words)
        said = capsys.readouterr().err
        assert code in (0, 2, 3), words
        assert said.count("\n") == (code != 0), said
        if words[0] == "info" and name in ("config.toml", "run.json"):
            assert "; restore the file from a copy" in said
        if before != content:  # a resumed run
            (run / name).write_bytes(content)


LIMITED = """
import resource, sys
from sparl.cli import main
assert main(["evaluate", sys.argv[2], "--episodes", "1"]) == 0  # all modules are loaded
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 300 * 2**20,) * 2)
for words in (["evaluate", sys.argv[1]], ["resume", sys.argv[1]]):
    assert main(words) == 3, words
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) // 1024)
"""


def bomb(run: Path, name: str) -> None:
    """Sparse files of many terabytes, which use no disk space."""
    size = 1 << 42
    for file in ("agent.safetensors", f"{CHECKPOINT}/state.safetensors"):
        if name == "long files":
            with (run / file).open("r+b") as opened:
                opened.truncate(1 << 38)
        elif name == "long headers":
            (run / file).write_bytes((1 << 40).to_bytes(8, "little") + b"{" * 1000)
        else:
            change = many if name == "many arrays" else overflowing
            (run / file).write_bytes(with_header((run / file).read_bytes(), change))
    if name == "long files":
        sizes = {"connections": (1 << 32) - 1, "outputs": (1 << 32) - 1}
        manifest = json.loads((run / "agent.json").read_text())
        manifest["networks"] = {"actor": [[sizes] * 16]}
        manifest["file"]["bytes"] = size
        (run / "agent.json").write_text(json.dumps(manifest))
        path = run / CHECKPOINT / "manifest.json"
        path.write_text(path.read_text().replace('"bytes": ', '"bytes": 1000000000'))
    else:
        sign_agent(run)
        sign_checkpoint(run)


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS and /proc")
@pytest.mark.parametrize("name", ["long files", "long headers", "many arrays", "huge shapes"])
def test_rejecting_a_file_takes_no_memory(name: str, run: Path, stopped: Path) -> None:
    bomb(run, name)
    done = subprocess.run([sys.executable, "-c", LIMITED, str(run), str(stopped)],
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) < 60  # MiB


WITHOUT_CODE = """
import os, shutil, sys
import sparl
from sparl.report.runs import collect
from sparl.training.about import about_run

def everything():
    sparl.load(sys.argv[1])
    about_run(sys.argv[1])
    run = sparl.resume(sys.argv[1], quiet=True)
    assert run.evaluations[-1][0] == 60
    assert collect([run.path]).groups

shutil.copytree(sys.argv[1], sys.argv[2])
everything()                       # now all modules are loaded
sys.argv[1] = sys.argv[2]
seen = []
watched = ("pickle.", "marshal.", "exec", "compile", "import", "code.", "ctypes.", "os.system")
sys.addaudithook(lambda event, args: seen.append((event, str(args)[:200]))
                 if event.startswith(watched) else None)
import pickle, builtins
def never(*args, **kwargs):
    raise AssertionError("code in a file")
pickle.load = pickle.loads = pickle.Unpickler = builtins.eval = never
everything()
print("events:", seen)
"""


def test_nothing_that_is_read_can_execute_code(run: Path) -> None:
    """No audit event reports execution of code, and no function that could execute it is called."""
    words = [sys.executable, "-c", WITHOUT_CODE, str(run), str(run.with_name("copy"))]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "events: []"


def test_pickles_are_not_read_under_any_name(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pickle

    class Bomb:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(run / "executed"),)

    for place, (file, sign) in PLACES.items():
        (run / file).write_bytes(pickle.dumps(Bomb()))
        sign(run)
        for words in commands(run, place):
            rejection(capsys, *words)
    for file in ("agent.json", f"{CHECKPOINT}/manifest.json"):
        (run / file).write_bytes(pickle.dumps(Bomb()))
    rejection(capsys, "evaluate", str(run))
    rejection(capsys, "resume", str(run))
    np.save(run / "agent.npy", np.array([Bomb()], object), allow_pickle=True)
    (run / "agent.npy").rename(run / CHECKPOINT / "state.safetensors")
    rejection(capsys, "resume", str(run))
    assert not (run / "executed").exists()


def test_an_entry_of_run_json_of_another_type_is_rejected_with_the_type() -> None:
    about = {"state": "finished", "env_step": 5, "wall_seconds": 1.5}
    check_run(about)
    with pytest.raises(ValueError, match="env_step is five but must be of type int"):
        check_run({**about, "env_step": "five"})
    with pytest.raises(ValueError, match=r"wall_seconds is long but must be of type int \| float"):
        check_run({**about, "wall_seconds": "long"})
