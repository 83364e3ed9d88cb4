"""Write run folders like those of finished runs, without training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparl.identity import results_version
from sparl.methods import preset
from sparl.training.run_folder import DEGREES, EVALUATIONS, METRICS, RUN, TOPOLOGY, RunFolder

SIZES = {
    "HalfCheetah": (17, 6), "Hopper": (11, 3), "Walker2d": (17, 6), "Ant": (111, 8),
    "Humanoid": (376, 17),
}  # fmt: skip


def write_run(
    path: Path, method: str, env: str, returns: Sequence[float], state: str = "finished",
    commit: str = "", every: int = 5000, warmup: int = 0, cpu: float | None = None,
    dead: int | None = None, **fields: Any,
) -> Path:  # fmt: skip
    """Write a run with these mean returns, evaluated every `every` steps from step 0 on.

    There is an update after each step except in the warm-up. `cpu` is the ratio of CPU time to
    wall-clock time, and `dead` is the number of dead links dropped per update; None means that
    the run does not record it.
    """
    last = every * (len(returns) - 1)
    config = preset(method, env, steps=last, run_dir=str(path), **fields)
    folder = RunFolder.create(config)
    for k, value in enumerate(returns):
        when = {"env_step": every * k, "updates": max(every * k - warmup, 0)}
        when["wall_seconds"] = 1.0 + 10.0 * k
        clock = {} if cpu is None else {"cpu_seconds": cpu * when["wall_seconds"]}
        folder.growing.append(
            EVALUATIONS, {**when, **clock, "mean": value, "std": 0.0, "return_0": value}
        )
        metrics = {"replay_size": every * k, "n_step": 1, "policy_distance": 0.1 * k}
        folder.growing.append(METRICS, {**when, **metrics})
    if config.rewire_every_updates:
        for update in (2, 1002, 2002):
            row = {"agent_update": update, "network": "actor", "member": 0, "layer": 0}
            row |= {"connections": 100, "fraction": 0.05, "moved": 5, "returned": 1}
            if dead is not None:
                row |= {"dropped_live": 5, "dropped_dead": dead, "moved": 5 + dead}
            folder.growing.append(TOPOLOGY, {**row, "initial_overlap": 1 - update / 4000})
    layer = {"out": [3, 1, 2, 0], "in": [2, 4, 0]}
    layers = [layer, {"out": [1, 2, 1], "in": [1, 2, 1]}, {"out": [1, 1, 1], "in": [3]}]
    degrees = {"actor": [layers], "critics": [layers, layers]}
    moved = [{"out": [3, 0, 3, 0], "in": [3, 3, 0]}, *layers[1:]]
    now = {**degrees, "actor": [moved]} if config.rewire_every_updates else degrees
    folder.write_json(DEGREES, {"initial": degrees, "now": now})
    sizes = SIZES.get(env.rpartition("-")[0], (3, 1))
    folder.write_json(
        RUN,
        {
            "state": state, "env_step": last, "updates": last, "wall_seconds": 9.0,
            "peak_memory_bytes": 100_000_000,
            "machine": {"cpu": "a CPU", "instruction_set": "avx2", "threads": 1},
            "versions": {"sparl": "0.2.0", "commit": commit}, "preset": results_version(config),
            "environment": dict(zip(("observations", "actions"), sizes, strict=True)),
        },
    )  # fmt: skip
    folder.close()
    return path
