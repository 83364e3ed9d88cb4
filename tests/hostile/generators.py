"""Generate hostile cases: for each kind of file, a valid folder with a few hostile values.

A generator changes the files of a specimen, and returns them with a command that reads them, and
whether the command must reject them.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
from numpy.random import Generator

from hostile.changes import (
    MODULE,
    NASTY,
    TEXTS,
    Files,
    hostile_tree,
    json_file,
    lines,
    signed,
    tensors_file,
)

CHECKPOINT = "checkpoint-37"
# Paths that commands create, replace, append to or delete.
_WRITTEN = (
    "target/replay", f"target/{CHECKPOINT}", "target/evaluations.csv", "target/metrics.csv",
    "target/topology.csv", "target/export", "target/export/policy.npz", "target/.lock",
    "target/plan.json", "target/Pendulum-v1", "target/Pendulum-v1/DS-TD3_seed0",
    "out/report.html", "out/README.md", "out/tables", "out/figures", "out/.lock",
    "out/Pendulum-v1",
)  # fmt: skip
# Fields of a configuration that contain a registered name or the id of an environment.
_NAMES = ("method", "env", "agent", "settings", "drop", "grow", "allocation", "rewire")


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        files: the files of the folder `target`.
        words: the command line, relative to the parent folder of `target`.
        writes: paths that the command may change, including the content of folders.
        rejected: whether the command must reject the case.
        link: a path and its replacement (see `put_link`), or None.
    """

    files: Files
    words: tuple[str, ...]
    writes: tuple[str, ...] = ()
    rejected: bool = False
    link: tuple[str, str] | None = None


def _pick(rng: Generator, *choices: Any) -> Any:
    return choices[int(rng.integers(len(choices)))]


def _command(rng: Generator, *names: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return one of these commands for the run `target`, and the paths that it may write."""
    name = str(_pick(rng, *names))
    return {
        "evaluate": (("evaluate", "target", "--episodes", "1"), ()),
        "info": (("info", "target", *_pick(rng, (), ("--json",))), ()),
        "resume": (("resume", "target"), ("target",)),
        "export c": (("export", "target", "--format", "c", "--out", "out"), ("out",)),
        "export npz": (("export", "target", "--format", "npz"), ("target/export",)),
        # Only tables, because drawing reserves more address space than a case may use.
        "report": (("report", "target", "--out", "out", "--tables-only"), ("out",)),
        "archive": (("archive", "target", "--to", "out", "--commit", "abcdef0"), ("out",)),
        "train": (("train", "--config", "target/config.toml"), ("runs",)),
        "train to": (("train", "--config", "target/config.toml", "--run-dir", "out"), ("out",)),
        "cost": (("cost", "--config", "target/config.toml"), ()),
        "overwrite": (("train", "--env", "Pendulum-v1", "--method", "TD3", "--steps", "20",
                       "--hidden", "4", "--evaluation-episodes", "1", "--run-dir", "target",
                       "--overwrite"), ("target",)),
        "status": (("study", "status", "study.toml", "--folder", "target"), ()),
        "status archived": (("study", "status", "study.toml", "--archive", "target"), ()),
        "study": (("study", "run", "study.toml", "--folder", "target"), ("target",)),
        "report study": (("report", "target", "study.toml", "--out", "out", "--tables-only"),
                         ("out",)),
        "archive into": (("archive", "finished", "--to", "target", "--commit", "abcdef0"),
                         ("target",)),
    }[name]  # fmt: skip


def _of_run(files: Files) -> Files:
    return {f"target/{name}": data for name, data in files.items()}


def config(specimens: dict[str, Files], rng: Generator) -> Case:
    """Generate a configuration file of a run, or one that is passed to a command."""
    words, writes = _command(
        rng, "evaluate", "info", "resume", "export c", "export c", "export c", "export npz",
        "report", "archive", "train", "train to", "cost",
    )  # fmt: skip
    files = dict(specimens["stopped" if words[0] == "resume" else "finished"])
    content = tomllib.loads(files["config.toml"].decode())
    kind = float(rng.random())
    rejected = False
    if kind < 0.2:  # an environment of a module, which some commands would need
        content["env"] = f"{MODULE}:{_pick(rng, 'Canary-v0', 'Pendulum-v1')}"
        rejected = words[0] in ("evaluate", "resume", "train")
        if rng.random() < 0.5:  # then an export is checked in the environment
            files = without_observations(files)
            rejected |= words[0] == "export"
    elif "c" in words and kind < 0.8:  # the text is written into a comment and compiled
        content["env"] = TEXTS[0]
        rejected = True
    elif words[0] == "train" and kind < 0.5:
        place = _pick(rng, "../next/run", "other/run", "../next/new")
        content |= _pick(rng, {"run_dir": place}, {"overwrite": True}, {"resume": "auto"},
                         {"run_dir": place, "overwrite": True})  # fmt: skip
        rejected = True
    elif words[0] in ("train", "resume") or kind < 0.7:
        name = str(_pick(rng, "method", "env", *_NAMES))
        content[name] = text = _pick(rng, *(text for text in TEXTS if text.isascii()))
        rejected = not text.startswith(MODULE)  # otherwise it may name an environment or a rule
    else:
        content = hostile_tree(content, rng)
    files["config.toml"] = tomli_w.dumps(content).encode("utf-8", "surrogatepass")
    return Case(_of_run(files), words, writes, rejected)


def without_observations(files: Files) -> Files:
    """Return the files of a run without saved observations, as in an archive."""
    manifest = json.loads(files["agent.json"])
    manifest.pop("observations", None)
    kept = {name: data for name, data in files.items() if name != "observations.safetensors"}
    return {**kept, "agent.json": json.dumps(manifest).encode()}


def agent(specimens: dict[str, Files], rng: Generator) -> Case:
    """Generate a trained agent."""
    name = str(_pick(rng, "agent.json", "agent.json", "agent.safetensors",
                     "observations.safetensors"))  # fmt: skip
    files = _with_hostile(specimens["finished"], name, rng)
    words, writes = _command(rng, "evaluate", "export c", "export npz", "info")
    return Case(files, words, writes)


def checkpoint(specimens: dict[str, Files], rng: Generator) -> Case:
    """Generate a checkpoint with the files of its replay buffer."""
    names = [n for n in specimens["stopped"] if n.startswith((CHECKPOINT, "replay/"))]
    name = str(_pick(rng, f"{CHECKPOINT}/manifest.json", *names))
    files = _with_hostile(specimens["stopped"], name, rng)
    words, writes = _command(rng, "resume", "resume", "info", "evaluate")
    return Case(files, words, writes)


def _with_hostile(files: Files, name: str, rng: Generator) -> Files:
    """Return a run with hostile values in one of its files, whose digest matches."""
    if name.endswith(".json"):
        data = json.dumps(hostile_tree(json.loads(files[name]), rng)).encode()
    else:
        data = tensors_file(files[name], rng)
    return _of_run(signed({**files, name: data}))


def tables(specimens: dict[str, Files], rng: Generator) -> Case:
    """Generate the records of a finished run: CSV files, run.json, degrees.json."""
    files = dict(specimens["finished"])
    names = ("evaluations.csv", "metrics.csv", "topology.csv", "run.json", "degrees.json")
    for _ in range(1 + int(rng.integers(2))):
        name = str(_pick(rng, *names))
        if name.endswith(".csv"):
            files[name] = _table(files[name], rng)
        else:
            files[name] = json.dumps(hostile_tree(json.loads(files[name]), rng)).encode()
    words, writes = _command(rng, "report", "archive", "info", "report")
    return Case(_of_run(files), words, writes)


def _table(data: bytes, rng: Generator) -> bytes:
    """Return a CSV file with a hostile cell, header or line."""
    if rng.random() < 0.3:
        return lines(data, rng)
    rows = list(csv.reader(io.StringIO(data.decode(errors="replace"))))
    row = rows[int(rng.integers(len(rows)))]
    if row:
        value = _pick(rng, *TEXTS, *NASTY)
        row[int(rng.integers(len(row)))] = str(value).replace("\0", " ")
    if rng.random() < 0.2:
        rows = [[*row, str(_pick(rng, *TEXTS)).replace("\0", " ")] for row in rows]
    out = io.StringIO()
    csv.writer(out, lineterminator="\n", escapechar="\\").writerows(rows)
    return out.getvalue().encode("utf-8", "surrogatepass")


def study(specimens: dict[str, Files], rng: Generator) -> Case:
    """Generate a study file, and the plan in the study's folder."""
    content = tomllib.loads(specimens["study.toml"]["study.toml"].decode())
    files = {f"target/{name}": data for name, data in specimens["study"].items()}
    rejected = False
    kind = int(rng.integers(4))
    if kind == 0:
        name = str(_pick(rng, "methods", "environments"))
        text = _pick(rng, *(text for text in TEXTS if text.isascii()))
        content[name] = [*content[name], text]
        rejected = not text.startswith(MODULE)
    elif kind == 1:
        where = _pick(rng, content["fields"], content, {})
        where[str(_pick(rng, *_NAMES, "run_dir", "warm_start", *TEXTS))[:100]] = _pick(rng, *TEXTS)
        content.setdefault("grid", {})["tau"] = [_pick(rng, 0.1, "x", 1e300, float("nan"))]
    elif kind == 2:
        content = hostile_tree({**content, "seeds": _pick(rng, 2, 10**10, [0, 2**70])}, rng)
    else:
        plan = hostile_tree(json.loads(files["target/plan.json"]), rng)
        files["target/plan.json"] = json.dumps(plan).encode()
    files["study.toml"] = tomli_w.dumps(content).encode("utf-8", "surrogatepass")
    words, writes = _command(rng, "status", "study", "report study", "report")
    if "--folder" in words and "run" in words and rng.random() < 0.5:
        words, writes = (*words, "--dry-run"), ()
    reads = "study.toml" in words
    return Case(files, words, writes, rejected and reads)


def archive(specimens: dict[str, Files], rng: Generator) -> Case:
    """Generate an archive with hostile folder names and content."""
    files = dict(specimens["archive"])
    old_env, old_run = next(name for name in files if name.endswith("run.json")).split("/")[:2]
    env, run = old_env, old_run
    if rng.random() < 0.6:
        texts = [t[:200] for t in TEXTS if t[:200].strip("/.") and "\0" not in t]
        name = os.fsdecode(os.fsencode(_pick(rng, *texts).replace("/", "_").replace("\ud800", "x")))
        env, run = _pick(rng, (name, run), (env, name))
    else:
        name = f"{env}/{run}/{_pick(rng, 'run.json', 'config.toml', 'evaluations.csv')}"
        change = json_file if name.endswith(".json") else lines
        files[name] = change(files[name], rng)
    files = {f"target/{env}/{run}/{name.split('/', 2)[2]}": data for name, data in files.items()}
    files["study.toml"] = specimens["study.toml"]["study.toml"]
    files |= {f"finished/{name}": data for name, data in specimens["finished"].items()}
    words, writes = _command(rng, "report", "archive into", "status archived", "report study")
    return Case(files, words, writes)


def links(specimens: dict[str, Files], rng: Generator) -> Case:
    """Generate a valid folder in which a link or a special file replaces one entry."""
    kind = str(_pick(rng, "stopped", "stopped", "finished", "study", "archive"))
    files = {f"target/{name}": data for name, data in specimens[kind].items()}
    files["study.toml"] = specimens["study.toml"]["study.toml"]
    files |= {f"finished/{name}": data for name, data in specimens["finished"].items()}
    names = {
        "stopped": ("resume", "resume", "overwrite", "overwrite", "export npz", "evaluate", "info"),
        "finished": ("report", "archive", "export npz", "evaluate"),
        "study": ("status", "study", "report study", "report"),
        "archive": ("archive into", "report", "status archived"),
    }[kind]
    words, writes = _command(rng, *names)
    there = {part for name in files for part in (name, *map(str, Path(name).parents))}
    there = {part for part in there if part.startswith("target/")}
    made = {name for name in _WRITTEN if name.startswith(("out/", "target/export"))}
    within = tuple(f"{name}/" for name in writes)
    written = [name for name in _WRITTEN if name in there | made and name.startswith(within)]
    name = str(_pick(rng, *(written if written and rng.random() < 0.7 else sorted(there))))
    how = str(_pick(rng, "moved", "moved", "moved", *LINKS))
    trains = words[0] in ("resume", "train")
    return Case(files, words, writes, trains and name in written and name in there, (name, how))


LINKS = ("moved", "link to file", "link to folder", "dangling", "pipe", "other kind")
KINDS: dict[str, Callable[[dict[str, Files], Generator], Case]] = {
    "config": config, "agent": agent, "checkpoint": checkpoint, "tables": tables, "study": study,
    "archive": archive, "links": links,
}  # fmt: skip


def put_link(here: Path, canaries: Path, name: str, how: str) -> None:
    """Replace a file or folder, which may not exist, by a link or a special file.

    Args:
        here: the folder that contains `target`.
        canaries: a folder that no command names, to which the links point.
        name: the path of the file or folder, relative to `here`.
        how: one of LINKS. "moved" moves the file or folder away and leaves a link to it.
    """
    place = here / name
    place.parent.mkdir(parents=True, exist_ok=True)
    if how == "moved" and place.exists():
        shutil.move(place, canaries / "moved")
        place.symlink_to(canaries / "moved")
        return
    was_folder = place.is_dir()
    if was_folder:
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
    if how == "pipe":
        os.mkfifo(place)
    elif how == "other kind":
        place.write_text("mine") if was_folder else place.mkdir()
    else:
        goal = {"link to folder": "run", "dangling": "new"}.get(how, "precious.txt")
        place.symlink_to(canaries / goal)
