"""Damaged and hostile files against everything that reads them.

    python tests/fuzz/loaders.py --seconds 600        # look for something new
    python tests/fuzz/loaders.py --cases 1000 --seed 7

A case is a small valid run folder with a few changes: bytes, numbers and names in JSON, entries of
arrays, offsets; digests are mended afterwards more often than not, so that what lies behind them is
reached. Whatever is read must be refused by a SparlError or be fit for use. The files of a case
that was not are kept in tests/fuzz/corpus, and tried by the tests from then on.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import csv
import hashlib
import io
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

sys.path.insert(0, str(Path(__file__).parents[1]))

import gymnasium

import sparl
from bad_environments import Walks
from resuming import stopped_at
from sparl.errors import SparlError
from sparl.report.command import write_report
from sparl.training.about import about_run
from sparl.training.agent_file import load_agent
from sparl.training.checkpoint import Checkpoints
from sparl.training.loop import Training
from sparl.training.restore import expected_state, restore_checkpoint
from sparl.training.run_folder import RunFolder

CORPUS = Path(__file__).parent / "corpus"
ROOM = 1 << 30  # bytes that a case may take
SECONDS = 20  # that it may last
Files = dict[str, bytes]

FIELDS: dict[str, Any] = {
    "steps": 60, "hidden": (3,), "batch_size": 4, "warmup_env_steps": 10, "evaluation_episodes": 1,
    "evaluate_every_env_steps": 20, "max_episode_steps": 15, "threads": 1, "seed": 3,
}  # fmt: skip
RUNS = {
    "ds-td3": ("DS-TD3", "Hopper-v5", {"rewire_every_updates": 5,
               "actor_densities": (0.5, 1.0), "critic_densities": (0.5, 1.0)}),
    "rlx2-sac": ("RLx2-SAC", "Tells-v0", {"rewire_every_updates": 5,
                 "n_step_delay_updates": 0, "replay_capacity": 30, "replay_minimum": 10,
                 "actor_sparsity": 0.3, "critic_sparsity": 0.3}),
}  # fmt: skip
NASTY: list[Any] = [
    None, True, False, 0, 1, -1, 2, 255, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63, 2**64, 10**40,
    -(2**63), 0.5, -0.0, 1e308, float("nan"), float("inf"), "", "0", "../x", "/etc/passwd", "\0",
    "x" * 3000, "F32", "I64", "U64", "BOOL", "linear", "tanh", [], {}, [[]], [0], [0, 0], [-1, 5],
    [2**62, 2**62], {"a": 1}, {"__metadata__": {}},
]  # fmt: skip


gymnasium.register("Tells-v0", Walks, max_episode_steps=15)


class Victim:
    """A run that was stopped, its files, and what would go on with them."""

    def __init__(self, name: str, folder: Path) -> None:
        method, env, fields = RUNS[name]
        # By its name alone: what is kept of it says nothing of this machine's folders.
        with contextlib.chdir(folder.parent), stopped_at(37):
            run = sparl.train(method, env, run_dir=folder.name, quiet=True, **FIELDS, **fields)
        self.path = folder
        self.files: Files = {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != ".lock"
        }
        self.checkpoint = next(name.split("/")[0] for name in self.files if "state." in name)
        self.training = Training(run.config, quiet=True, folder=RunFolder.open(folder))
        self.training.environment.reset(seed=0)
        self.like = copy.deepcopy(expected_state(self.training))
        self.write(self.files)
        self.try_checkpoint()  # the valid one is usable

    def write(self, files: Files) -> None:
        """Make the folder hold these files and no others."""
        for path in list(self.path.iterdir()):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        for name, data in files.items():
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).write_bytes(data)

    def try_all(self) -> None:
        """Everything that reads a run's folder."""
        for attempt in (self.try_agent, self.try_checkpoint, self.try_others):
            with contextlib.suppress(SparlError):
                attempt()

    def try_agent(self) -> None:
        agent = load_agent(self.path)
        agent.predict(np.zeros((2, agent.n_obs), np.float32))

    def try_checkpoint(self) -> None:
        for path in Checkpoints(self.path).newest_first():
            restore_checkpoint(self.training, path, *copy.deepcopy(self.like))
            for _ in range(3):
                self.training.step()

    def try_others(self) -> None:
        with contextlib.suppress(SparlError):
            about_run(self.path)
        RunFolder.open(self.path).config()
        with contextlib.redirect_stdout(io.StringIO()):
            write_report([self.path], self.path.with_name("report"))

    def close(self) -> None:
        self.training.close()


# ------------------------------------------------------------------ changes


def changed(files: Files, rng: Generator) -> Files:
    """The files with one to three changes."""
    files, names = dict(files), sorted(files)
    if rng.random() < 0.4:  # reports read what has finished, and no checkpoint
        files["run.json"] = files["run.json"].replace(b"stopped by SIGTERM", b"finished")
        files["evaluations.csv"] = files["evaluations.csv"].replace(b"\n20,", b"\n37,")
        names = [name for name in names if "/" not in name]
    for _ in range(1 + int(rng.integers(3))):
        name = str(rng.choice(names))
        data = files[name]
        if rng.random() < 0.15:
            files[name] = _raw(data, rng)
        elif name.endswith(".json"):
            files[name] = _json(data, rng)
        elif name.endswith(".safetensors"):
            files[name] = _tensors(data, rng)
        else:
            files[name] = _lines(data, rng)
    return _signed(files) if rng.random() < 0.8 else files


def _raw(data: bytes, rng: Generator) -> bytes:
    if not data:
        return rng.bytes(5)
    at = int(rng.integers(len(data)))
    kind = int(rng.integers(5))
    if kind == 0:  # a bit
        return data[:at] + bytes([data[at] ^ (1 << int(rng.integers(8)))]) + data[at + 1 :]
    if kind == 1:
        return data[:at]
    if kind == 2:
        return data[:at] + rng.bytes(int(rng.integers(9))) + data[at:]
    if kind == 3:
        return data[:at] + data[at + int(rng.integers(1, 20)) :]
    return data + data


def _nodes(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(tree, dict | list):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from _nodes(value, (*path, key))


def _changed_tree(tree: Any, rng: Generator) -> Any:
    """A tree with one node replaced, moved by one, renamed or taken away."""
    paths = list(_nodes(tree))
    path = paths[int(rng.integers(len(paths)))]
    if not path:
        return _nasty(rng)
    parent = tree
    for key in path[:-1]:
        parent = parent[key]
    key, kind = path[-1], int(rng.integers(6))
    value = parent[key]
    if kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(parent, dict):
        parent[str(_nasty(rng))[:100]] = parent.pop(key)
    elif kind == 2 and type(value) in (int, float):
        parent[key] = value + int(rng.choice([-1, 1, 2, -value, 7]))
    elif kind == 3:
        other = tree
        for step in paths[int(rng.integers(len(paths)))]:
            other = other[step]
        parent[key] = copy.deepcopy(other)
    elif kind == 4 and isinstance(value, list):
        parent[key] = (value * 3)[: int(rng.integers(3 * len(value) + 1))]
    else:
        parent[key] = _nasty(rng)
    return tree


def _nasty(rng: Generator) -> Any:
    if rng.random() < 0.02:
        deep: Any = []
        for _ in range(int(rng.integers(50, 250))):
            deep = [deep]
        return deep
    return copy.deepcopy(NASTY[int(rng.integers(len(NASTY)))])


def _json(data: bytes, rng: Generator) -> bytes:
    try:
        tree = json.loads(data)
    except ValueError:
        return _raw(data, rng)
    text = json.dumps(_changed_tree(tree, rng)).encode()
    if rng.random() < 0.02:  # the same name twice
        text = text.replace(b'{"', b'{"format": 1, "format": 2, "', 1)
    return text


def _tensors(data: bytes, rng: Generator) -> bytes:
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
        payload = bytearray(data[8 + length :])
        names = [name for name in header if name != "__metadata__"]
        if rng.random() < 0.5 and names and payload:  # an entry of an array
            about = header[names[int(rng.integers(len(names)))]]
            begin, end = about["data_offsets"]
            kind = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "U64": "<u8", "U8": "u1",
                    "BOOL": "u1", "U32": "<u4", "I32": "<i4"}[about["dtype"]]  # fmt: skip
            values = np.frombuffer(bytes(payload[begin:end]), kind).copy()
            if values.size:
                at = int(rng.integers(values.size))
                odd = [np.nan, np.inf, -np.inf, 3e38, 0.0, -1.0]
                whole = [0, 1, 2, 255, 2**31, 2**32, -1, 2**62, -(2**63), int(values.flat[at]) + 1
                         if kind[-2] != "f" else 0]  # fmt: skip
                if rng.random() < 0.3:
                    values[:] = values[rng.permutation(values.size)]
                elif "f" in kind:
                    values[at] = odd[int(rng.integers(len(odd)))]
                else:
                    with np.errstate(all="ignore"):
                        chosen = whole[int(rng.integers(len(whole)))]
                        values[at] = np.array(chosen % 2**64, np.uint64).astype(kind)
                payload[begin:end] = values.tobytes()
        else:
            header = _changed_tree(header, rng)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        return _raw(data, rng)
    text = json.dumps(header).encode()
    size = len(text) + int(rng.choice([0, 0, 0, 0, 0, 0, 1, -1, 2**20, 2**62]))
    return (size % 2**64).to_bytes(8, "little") + text + bytes(payload)


def _lines(data: bytes, rng: Generator) -> bytes:
    """TOML or CSV: a value replaced, or a line gone, doubled or moved."""
    lines = data.split(b"\n")
    at = int(rng.integers(len(lines)))
    kind = int(rng.integers(4))
    value = _nasty(rng)
    text = (json.dumps(value) if rng.random() < 0.5 else str(value)).encode(errors="replace")
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(int(rng.integers(len(lines))), lines[at])
    elif b"=" in lines[at]:
        lines[at] = lines[at].split(b"=")[0] + b"= " + text
    else:
        row = next(csv.reader(io.StringIO(lines[at].decode(errors="replace"))), [""])
        row[int(rng.integers(len(row) or 1)) :][:1] = [text.decode()]
        cells = [cell.encode() for cell in row]
        cells[int(rng.integers(len(cells)))] = text
        lines[at] = b",".join(cells)
    return b"\n".join(lines)


def _signed(files: Files) -> Files:
    """With sizes and digests that fit, so far as there is a place for them."""
    files = dict(files)
    for name in [name for name in files if name.endswith(".json")]:
        folder, _, base = name.rpartition("/")
        try:
            tree = json.loads(files[name])
            if base == "agent.json":
                data = files["agent.safetensors"]
                tree["file"] |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            elif base == "manifest.json":
                data = files[f"{folder}/state.safetensors"]
                tree["file"] |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                for entry in tree["replay"]["segments"]:
                    _sign_segment(files, entry)
                tree.pop("sha256", None)
                text = json.dumps(tree, sort_keys=True).encode()
                tree["sha256"] = hashlib.sha256(text).hexdigest()
            else:
                continue
            files[name] = json.dumps(tree).encode()
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue
    return files


def _sign_segment(files: Files, entry: dict[str, Any]) -> None:
    """Rename a segment after its content, and say so in its entry."""
    old = [name for name in files if name.startswith("replay/") and entry["sha256"][:16] in name]
    for name in old:
        data = files.pop(name)
        entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        name = f"{entry['begin']}-{entry['end']}-{entry['sha256'][:16]}.safetensors"
        files[f"replay/{name}"[:200].replace("\0", "")] = data


# ------------------------------------------------------------------ trying


class TooLong(BaseException):
    """A case lasts too long."""


def _alarm(*_: object) -> None:
    raise TooLong


@contextlib.contextmanager
def limits() -> Iterator[None]:
    """Bounds memory from here on, and the time of what is inside."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    most = pages * os.sysconf("SC_PAGE_SIZE") + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    handler = signal.signal(signal.SIGALRM, _alarm)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGALRM, handler)


def attempt(victim: Victim, files: Files) -> str:
    """Try files; what went wrong, "" if nothing did."""
    victim.write(files)
    signal.alarm(SECONDS)
    try:
        victim.try_all()
    except (Exception, TooLong, SystemExit):
        return traceback.format_exc()
    finally:
        signal.alarm(0)
    return ""


def corpus() -> Iterator[tuple[str, str, Files]]:
    """Name, victim and files of every case that was found."""
    for case in sorted(CORPUS.iterdir()):
        files = {str(p.relative_to(case)): p.read_bytes() for p in case.rglob("*") if p.is_file()}
        yield case.name, case.name.rsplit("-", 1)[0], files


def keep(name: str, files: Files) -> Path:
    """Store a case."""
    digest = hashlib.sha256(b"".join(k.encode() + v for k, v in sorted(files.items())))
    case = CORPUS / f"{name}-{digest.hexdigest()[:8]}"
    for file, data in files.items():
        (case / file).parent.mkdir(parents=True, exist_ok=True)
        (case / file).write_bytes(data)
    return case


def main() -> int:
    """Try the corpus, then new cases until the time is over."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--cases", type=int, default=10**9)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--keep", action="store_true", help="store what is found in the corpus")
    chosen = options.parse_args()
    warnings.simplefilter("ignore")
    found: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        victims = {name: Victim(name, Path(folder) / name) for name in RUNS}
        with limits():
            for name, victim, files in corpus():
                if trouble := attempt(victims[victim], files):
                    print(f"{name}:\n{trouble}")
                    found[trouble] = 1
            start, case = time.monotonic(), 0
            while case < chosen.cases and time.monotonic() - start < chosen.seconds:
                rng = np.random.default_rng([chosen.seed, case])
                name = list(victims)[case % len(victims)]
                files = changed(victims[name].files, rng)
                trouble = attempt(victims[name], files)
                where = "".join(trouble.splitlines(keepends=True)[-7:])
                if trouble and where not in found:
                    kept = keep(name, files) if chosen.keep else "not kept (--keep)"
                    print(f"case {case} of seed {chosen.seed}, {kept}:\n{trouble}", flush=True)
                found |= {where: found.get(where, 0) + 1} if trouble else {}
                case += 1
        for victim in victims.values():
            victim.write({})
            victim.close()
    print(f"{case:,} cases, {len(found)} kinds of trouble")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
