"""A topology method of one's own: python examples/own_topology_method.py [STEPS].

A method is a drop rule and a grow rule. This one drops the smallest weights, like SET, and grows
connections where a layer's inputs have few: dead inputs come back.
"""

import sys

import numpy as np

from sparl.methods import preset
from sparl.topology.drop import drop_smallest
from sparl.topology.propose import TopologyMethod
from sparl.training.loop import Training


def grow_from_neglected_inputs(layer, kept, count, rng):
    """Free positions, output * n_in + input, of the inputs with the fewest connections first."""
    free = np.setdiff1d(np.arange(kept.size), kept.positions)
    used = np.bincount(kept.inputs, minlength=kept.n_in)[free % kept.n_in]
    return free[np.lexsort((rng.random(free.size), used))[:count]]


steps = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
config = preset(
    "SET-TD3", "Pendulum-v1", steps=steps, warmup_env_steps=steps // 20, rewire_every_updates=200
)
training = Training(config)
for learner in (training.agent.actor_learner, training.agent.critics_learner):
    learner.method = TopologyMethod(drop_smallest, grow_from_neglected_inputs)
training.run()
