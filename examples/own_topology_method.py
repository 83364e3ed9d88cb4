"""Train with a custom topology method: python examples/own_topology_method.py [STEPS].

A topology method consists of a drop rule and a grow rule, which are registered by name. Like SET,
the method in this example drops the smallest weights. It grows random connections, more of them at
inputs of a layer with few connections, so that unused inputs are connected again. The run records
the rule's name. To use the run later, import this module first:
sparl --import own_topology_method resume RUN
"""

import sys

import numpy as np

import sparl
from sparl.topology.rules import grow_rule


@grow_rule("neglected_inputs")
def grow_at_neglected_inputs(layer, kept, count, rng):
    """Draw free positions, output * n_in + input, mostly at inputs with few connections."""
    free = np.setdiff1d(np.arange(kept.size), kept.positions)
    used = np.bincount(kept.inputs, minlength=kept.n_in)[free % kept.n_in]
    # Sorting exponential variables of mean 1 + used is weighted sampling without replacement, where
    # a position has the weight 1 / (1 + used).
    return free[np.argsort(rng.exponential(1 + used))[:count]]


if __name__ == "__main__":
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    sparl.train(
        "SET-TD3",
        "Pendulum-v1",
        grow="neglected_inputs",
        steps=steps,
        warmup_env_steps=steps // 20,
        rewire_every_updates=200,
    )
