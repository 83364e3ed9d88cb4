"""Run all code that reads files on damaged and hostile files.

    python tests/fuzz/loaders.py --seconds 600        # generate new cases
    python tests/fuzz/loaders.py --cases 1000 --seed 7

A case is a small valid run folder with a few changes to bytes, to numbers and names in JSON, to
entries of arrays, or to offsets. Digests are usually recomputed afterwards, so that the later
checks are reached. Every file must be rejected with a SparlError or be usable. With --keep, the
files of a failing case are stored in tests/fuzz/corpus, so that later tests try them again.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import hashlib
import io
import shutil
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
from hostile.bounds import TooLong, limited_to, limits, read, write
from hostile.changes import Files, json_file, lines, raw, signed, tensors_file
from resuming import stopped_at
from sparl.errors import SparlError
from sparl.report.command import write_report
from sparl.training.about import about_run
from sparl.training.agent_file import load_agent
from sparl.training.assemble import assemble
from sparl.training.checkpoint import Checkpoints
from sparl.training.restore import expected_state, restore_checkpoint
from sparl.training.run_folder import RunFolder

CORPUS = Path(__file__).parent / "corpus"
SECONDS = 20  # time limit per case

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


gymnasium.register("Tells-v0", Walks, max_episode_steps=15)


class Victim:
    """A stopped run, its files, and the training that would resume it."""

    def __init__(self, name: str, folder: Path) -> None:
        method, env, fields = RUNS[name]
        # A relative name, so that stored cases contain no path of this machine.
        with contextlib.chdir(folder.parent), stopped_at(37):
            run = sparl.train(method, env, run_dir=folder.name, quiet=True, **FIELDS, **fields)
        self.path = folder
        self.files = read(folder)
        self.checkpoint = next(name.split("/")[0] for name in self.files if "state." in name)
        self.training = assemble(run.config, quiet=True, folder=RunFolder.open(folder))
        self.training.environment.reset(seed=0)
        self.like = copy.deepcopy(expected_state(self.training))
        self.write(self.files)
        self.try_checkpoint()  # the valid checkpoint must be usable

    def write(self, files: Files) -> None:
        """Make the folder contain exactly these files."""
        for path in list(self.path.iterdir()):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        write(self.path, files)

    def try_all(self) -> None:
        """Run all code that reads a run's folder."""
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
            write_report([self.path], self.path.with_name("report"), tables_only=True)

    def close(self) -> None:
        self.training.close()


def changed(files: Files, rng: Generator) -> Files:
    """Return the files with one to three changes."""
    files, names = dict(files), sorted(files)
    if rng.random() < 0.4:  # reports read finished runs, which have no checkpoint
        files["run.json"] = files["run.json"].replace(b"stopped by SIGTERM", b"finished")
        files["evaluations.csv"] = files["evaluations.csv"].replace(b"\n20,", b"\n37,")
        names = [name for name in names if "/" not in name]
    for _ in range(1 + int(rng.integers(3))):
        name = str(rng.choice(names))
        data = files[name]
        if rng.random() < 0.15:
            files[name] = raw(data, rng)
        elif name.endswith(".json"):
            files[name] = json_file(data, rng)
        elif name.endswith(".safetensors"):
            files[name] = tensors_file(data, rng)
        else:
            files[name] = lines(data, rng)
    return signed(files) if rng.random() < 0.8 else files


# ------------------------------------------------------------------ trying


def attempt(victim: Victim, files: Files) -> str:
    """Try files; return a description of the failure, or ""."""
    victim.write(files)
    try:
        with limited_to(SECONDS):
            victim.try_all()
    except (Exception, TooLong, SystemExit):
        return traceback.format_exc()
    return ""


def corpus() -> Iterator[tuple[str, str, Files]]:
    """Yield the name, the victim and the files of every stored case."""
    for case in sorted(CORPUS.iterdir()):
        yield case.name, case.name.rsplit("-", 1)[0], read(case)


def keep(name: str, files: Files) -> Path:
    """Store a case."""
    digest = hashlib.sha256(b"".join(k.encode() + v for k, v in sorted(files.items())))
    case = CORPUS / f"{name}-{digest.hexdigest()[:8]}"
    write(case, files)
    return case


def main() -> int:
    """Try the corpus, and then new cases until the time is up."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--cases", type=int, default=10**9)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--keep", action="store_true", help="store failing cases in the corpus")
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
