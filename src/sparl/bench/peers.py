"""What others reach on the same task, where they are installed. Nothing here is imported otherwise.

Each peer trains TD3 with a dense 256-256 network, batch 256 and one update per step, without
evaluations, in a process of its own; its threads are limited by the environment variables that
its libraries read.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec

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


def _steps_per_second(module: str, limit: str, env: str, threads: int) -> float:
    program = _PROGRAM.format(module=module, limit=limit.format(threads=threads))
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    flags = f"--xla_cpu_multi_thread_eigen={str(threads > 1).lower()}"
    environment = {**os.environ, **dict.fromkeys(names, str(threads)), "XLA_FLAGS": flags}
    cores = sorted(os.sched_getaffinity(0))[:threads]
    done = subprocess.run(
        [sys.executable, "-c", program, env], env=environment, capture_output=True, text=True,
        check=False, preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )  # fmt: skip
    if done.returncode:
        raise SparlError(f"bench: {module} failed: {done.stderr.strip().splitlines()[-1]}")
    return float(done.stdout.split()[-1])


def _stable_baselines3(env: str, threads: int) -> float:
    limit = "import torch; torch.set_num_threads({threads})"
    return _steps_per_second("stable_baselines3", limit, env, threads)


def _sbx(env: str, threads: int) -> float:
    return _steps_per_second("sbx", "", env, threads)


PEERS: dict[str, Callable[[str, int], float]] = {
    "Stable-Baselines3 TD3": _stable_baselines3,
    "SBX TD3": _sbx,
}
_MODULES = {"Stable-Baselines3 TD3": "stable_baselines3", "SBX TD3": "sbx"}


def installed() -> list[str]:
    """The peers that can be measured here."""
    return [name for name, module in _MODULES.items() if find_spec(module)]
