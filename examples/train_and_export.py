"""Train a sparse agent and export it to C: python examples/train_and_export.py [STEPS] [FOLDER].

The example writes FOLDER/policy.h and FOLDER/policy.c, which can be added to a project for a
microcontroller.
"""

import sys

import sparl
from sparl.cli import main

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
folder = sys.argv[2] if len(sys.argv) > 2 else "pendulum_in_c"

run = sparl.train(
    "SET-TD3", "Pendulum-v1", steps=steps, warmup_env_steps=steps // 20, hidden=(64, 64),
    actor_sparsity=0.8, critic_sparsity=0.5, rewire_every_updates=500,
)  # fmt: skip
sys.exit(main(["export", str(run.path), "--format", "c", "--int8", "--out", folder]))
