"""Measure the cost of checkpoints of a HalfCheetah run with a full replay buffer of 1M transitions.

The replay buffer is filled with random transitions in episodes of 1,000 steps. Then 50,000
transitions are added and a checkpoint is written, repeatedly, until all transitions have been
replaced. The time of 50,000 training steps is extrapolated from a few thousand steps.

    python benchmarks/checkpoints.py [--folder DIR] [--method DS-TD3]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from sparl.methods import preset
from sparl.random_streams import integer_seed
from sparl.replay.ring_buffer import RingBuffer, State, replay_bytes
from sparl.training.assemble import assemble
from sparl.training.replay_files import REPLAY
from sparl.training.restore import expected_state

CAPACITY, INTERVAL, EPISODE = 1_000_000, 50_000, 1_000
STEPS = 3_000  # number of training steps for measuring the speed


def episodes(replay: RingBuffer, rng: np.random.Generator) -> State:
    """Create INTERVAL random transitions in the format of RingBuffer.append."""
    n_obs, n_act = replay.observation.shape[1], replay.action.shape[1]
    end = np.arange(1, INTERVAL + 1) % EPISODE == 0
    part: State = {
        "observation": rng.standard_normal((INTERVAL, n_obs), dtype=np.float32),
        "action": rng.uniform(-1, 1, (INTERVAL, n_act)).astype(np.float32),
        "reward": rng.standard_normal(INTERVAL, dtype=np.float32),
        "terminated": np.zeros(INTERVAL, np.bool_),
        "episode_end": end,
        "apart": end,
        "reached_apart": rng.standard_normal((INTERVAL // EPISODE, n_obs), dtype=np.float32),
    }
    return {**part, "noise_free_action": part["action"]} if replay.keep_noise_free else part


def size(folder: Path) -> int:
    """Return the total size of all files in a folder [bytes]."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def main() -> None:
    """Parse the command line and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", help="parent folder of the run (default: the system's)")
    parser.add_argument("--method", default="DS-TD3")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        measure(Path(folder), options.method)


def measure(folder: Path, method: str) -> None:
    """Fill the replay buffer, train, write and read checkpoints, and print times and sizes."""
    rng = np.random.default_rng(0)
    config = preset(
        method, "HalfCheetah-v5", steps=3 * CAPACITY, warmup_env_steps=1,
        run_dir=str(folder / "run"), checkpoint_every_env_steps=INTERVAL,
    )  # fmt: skip
    training = assemble(config, quiet=True)
    replay = training.replay
    for _ in range(CAPACITY // INTERVAL):
        replay.append(episodes(replay, rng))
    training.env_step = CAPACITY
    training.begin_episode(integer_seed(0))
    for _ in range(STEPS // 10):
        training.step()
    began = time.perf_counter()
    for _ in range(STEPS):
        training.step()
    per_interval = INTERVAL * (time.perf_counter() - began) / STEPS

    run = training.folder.path
    costs, sizes = [], []
    for _ in range(CAPACITY // INTERVAL + 6):
        replay.forget(max(replay.size + INTERVAL - CAPACITY, 0))
        replay.append(episodes(replay, rng))
        training.env_step += INTERVAL
        began = time.perf_counter()
        training._checkpoint()
        costs.append(time.perf_counter() - began)
        sizes.append(size(run))
    first, later = costs[0], np.array(costs[1:])
    full = replay_bytes(CAPACITY, training.environment.n_obs, training.environment.n_act,
                        replay.keep_noise_free)  # fmt: skip
    files = len(list((run / REPLAY).iterdir()))
    like, longest = expected_state(training)
    newest = training.saver.checkpoints.newest_first()[0]
    began = time.perf_counter()
    training.saver.checkpoints.load(newest, like, longest, replay)
    loading = time.perf_counter() - began

    print(f"{method} on HalfCheetah-v5, replay of {CAPACITY:,} transitions, {full / 1e6:.0f} MB")
    print(f"{INTERVAL:,} steps of training: {per_interval:.1f} s")
    print(f"first checkpoint, all transitions written: {first:.2f} s")
    print(
        f"a checkpoint every {INTERVAL:,} steps: mean {later.mean():.3f} s, median "
        f"{np.median(later):.3f} s, longest {later.max():.3f} s; mean "
        f"{100 * later.mean() / per_interval:.2f} % of the training time between two"
    )
    print(
        f"the run's folder: at most {max(sizes) / 1e6:.0f} MB, {max(sizes) / full:.2f} times the "
        f"replay; {files} files of transitions"
    )
    print(f"reading a checkpoint: {loading:.2f} s")
    training.close()


if __name__ == "__main__":
    main()
