"""Measure the training speed of other installed RL libraries, each in a separate process.

Each peer trains TD3 with a dense 256-256 network, batch 256 and one update per step, without
evaluations. The process's CPU affinity and environment variables limit its number of threads.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

from sparl.errors import SparlError

_PROGRAM = """
import sys, time
import gymnasium
from {module} import TD3
env = gymnasium.make(sys.argv[1])
warmup, span = 1000, 2000
options = dict(batch_size=256, learning_starts=warmup, train_freq=1, gradient_steps=1)
model = TD3("MlpPolicy", env, policy_kwargs=dict(net_arch=[256, 256]), **options)
{limit}
model.learn(warmup + 200)  # libraries loaded, programs compiled
start = time.perf_counter()
model.learn(span, reset_num_timesteps=False)
print(span / (time.perf_counter() - start))
"""


_RLTOOLS_PROGRAM = """
import sys, time
import gymnasium
from rltools import TD3
warmup, span = 1000, 2000
options = dict(ACTOR_BATCH_SIZE=256, CRITIC_BATCH_SIZE=256, N_WARMUP_STEPS=warmup)
options |= dict(ACTOR_HIDDEN_DIM=256, CRITIC_HIDDEN_DIM=256, STEP_LIMIT=1_000_000)
make = lambda: gymnasium.make(sys.argv[1])
training = TD3(make, interface_name="sparl_bench", enable_evaluation=False, **options).State(0)
for _ in range(warmup + 200):
    training.step()
start = time.perf_counter()
for _ in range(span):
    training.step()
print()
print(span / (time.perf_counter() - start))
"""


def _steps_per_second(name: str, program: str, env: str, threads: int) -> float:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    flags = f"--xla_cpu_multi_thread_eigen={str(threads > 1).lower()}"
    environment = {**os.environ, **dict.fromkeys(names, str(threads)), "XLA_FLAGS": flags}
    cores = sorted(os.sched_getaffinity(0))[:threads]
    done = subprocess.run(
        [sys.executable, "-c", program, env], env=environment, capture_output=True, text=True,
        check=False, preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )  # fmt: skip
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise SparlError(f"bench: {name} failed: {lines[-1]}")
    return float(done.stdout.split()[-1])


def _stable_baselines3(env: str, threads: int) -> float:
    limit = f"import torch; torch.set_num_threads({threads})"
    program = _PROGRAM.format(module="stable_baselines3", limit=limit)
    return _steps_per_second("Stable-Baselines3", program, env, threads)


def _sbx(env: str, threads: int) -> float:
    return _steps_per_second("SBX", _PROGRAM.format(module="sbx", limit=""), env, threads)


def _rltools(env: str, threads: int) -> float:
    return _steps_per_second("RLtools", _RLTOOLS_PROGRAM, env, threads)


PEERS: dict[str, Callable[[str, int], float]] = {
    "Stable-Baselines3 TD3": _stable_baselines3,
    "SBX TD3": _sbx,
    "RLtools TD3": _rltools,
}
_PACKAGES = {
    "Stable-Baselines3 TD3": ("stable-baselines3",),
    "SBX TD3": ("sbx-rl",),
    "RLtools TD3": ("rltools", "mkl", "mkl-include"),  # RLtools is slow without MKL
}


def installed() -> list[str]:
    """Return the names of the peers whose packages are installed."""
    return [name for name, packages in _PACKAGES.items() if all(map(_has, packages))]


def _has(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True
