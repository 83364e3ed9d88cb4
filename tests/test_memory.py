"""Test that memory is proportional to neurons and connections, and does not grow."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS and /proc")

# Arguments: method, width of the two hidden layers, MiB that may be used, updates, configuration.
TRAIN_WITHIN_LIMIT = """
import json
import os
import resource
import sys
import numpy as np
from sparl.architecture import architecture
from sparl.methods import preset
from sparl.replay.batch import Batch
from sparl.build import build_agent

method, width, room, updates, fields = sys.argv[1], *map(json.loads, sys.argv[2:])

def exceeds_memory(dtype):
    try:
        np.empty((width, width), dtype)
    except MemoryError:
        return True
    return False

used = int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
limit = used + room * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
print("does not fit: a dense copy", exceeds_memory(np.float32), "a mask", exceeds_memory(np.bool_))

n_obs, n_act, batch = 17, 6, 16
densities = (0.0005, 0.0005, 1.0)
config = preset(
    method, "Pendulum-v1", hidden=(width, width), actor_densities=densities,
    critic_densities=densities, **fields,
)
networks = architecture(config, n_obs, n_act)
layers = [layer for spec in networks.networks.values() for layer in spec.layers]
print("connections:", *(layer.connections for layer in layers))
agent = build_agent(config, networks)
rng = np.random.default_rng(0)

def normal(features):
    return rng.standard_normal((batch, features), dtype=np.float32)

for _ in range(updates):
    record = agent.update(
        Batch(normal(n_obs), normal(n_act), normal(1), 0 * normal(1), normal(n_obs))
    )
    assert all(map(np.isfinite, record.values())), record
assert agent.act(normal(n_obs)[0])[0].shape == (n_act,)
def count(network):
    return sum(pattern.connections for _, pattern in network.layout)

for name in ("actor", "critics"):
    updates = agent.learners[name].topology_updates
    print(name, "topology changed at updates", *sorted({each.agent_update for each in updates}))
    target, online = getattr(agent, f"{name}_target").network, getattr(agent, name)
    print(name, "has leftovers:", count(target) > count(online))
print("networks:", *agent.networks())
assert agent.state()
"""


def run_script(script: str, *arguments: str) -> list[str]:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_wide_sparse_agents_train_in_memory_too_small_for_one_dense_layer() -> None:
    """Perform two topology updates and target updates with own patterns, act and save.

    A dense copy would take 1.6 GB, and a mask of one byte per position 400 MB. The limit leaves
    300 MiB for networks of 0.76 million connections, their moments and their targets.
    """
    fields = json.dumps({"rewire_every_updates": 2})
    assert run_script(TRAIN_WITHIN_LIMIT, "DS-TD3", "20000", "300", "4", fields) == [
        "does not fit: a dense copy True a mask True",
        "connections: 170 200000 120000 230 200000 20000",
        "actor topology changed at updates 2 4",
        "actor has leftovers: True",
        "critics topology changed at updates 2 4",
        "critics has leftovers: True",
        "networks: actor critics actor_target critics_target",
    ]


@pytest.mark.slow
def test_growth_by_gradient_and_the_largest_initial_weights_are_streamed() -> None:
    """RigL uses the gradient of every position, but never stores all of them at once.

    A dense copy would take 256 MB; the limit leaves 150 MiB.
    """
    fields = json.dumps(
        {
            "actor_sparsity": None,
            "critic_sparsity": None,
            "initial_topology": "largest_weights",
            "rewire": "actor",
            "rewire_every_updates": 1,
        }
    )
    assert run_script(TRAIN_WITHIN_LIMIT, "RigL-TD3", "8000", "150", "2", fields) == [
        "does not fit: a dense copy True a mask False",
        "connections: 68 32000 48000 92 32000 8000",
        "actor topology changed at updates 2",
        "actor has leftovers: False",
        "critics topology changed at updates",
        "critics has leftovers: False",
        "networks: actor critics actor_target critics_target",
    ]


@pytest.mark.slow
def test_passes_release_all_their_memory() -> None:
    """Outputs, traces and gradients take 4 MB each; a leak in 100 passes would take 1.6 GB."""
    script = """
import os
import numpy as np
from sparl import _native

pool = _native.Pool(2)
stack = _native.Stack([[_native.Linear(1000, 1000, np.arange(0, 10**6, 100))]], ["linear"])
layers = [_native.Linear(1000, n, np.arange(0, 1000 * n, 100)) for n in (1000, 1)]
critics = _native.Stack([layers, layers], ["relu", "linear"])
of_critics = np.ones(critics.parameters, np.float32)
parameters = np.ones(stack.parameters, np.float32)
gradient = np.empty_like(parameters)
x = np.ones((1000, 1000), np.float32)

def resident(passes):
    for i in range(passes):
        output, trace = stack.forward(parameters, [x[i % 16 :]], pool)
        stack.gradient(parameters, trace, output, gradient, inputs=True, pool=pool)
        stack.outputs(parameters, [x[i % 16 :]], pool)
        critics.value_and_input_gradient(of_critics, [x[i % 16 :]], 1.0, None, pool)
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

before = resident(20)
print((resident(100) - before) // 2**20)
"""
    (grown,) = run_script(script)
    assert int(grown) < 40


def test_a_cleared_ring_uses_no_memory() -> None:
    """Resuming a run clears the ring, which has 1.5 GB here, and restores only the stored part."""
    script = """
import os
import numpy as np
from sparl.replay.ring_buffer import RingBuffer

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

little = RingBuffer(100, n_obs=350, n_act=20, gamma=0.99)
zero = np.zeros(350, np.float32)
little.begin(zero)
for t in range(50):
    little.add(zero[:20], zero[:20], 0.0, zero + t + 1, False, False)
before = resident()
large = RingBuffer(1_000_000, n_obs=350, n_act=20, gamma=0.99)
large.append(little.transitions(0, 50))
print(large.size, resident() - before < 32 << 20)
"""
    assert run_script(script) == ["50 True"]


def test_freed_memory_is_returned_to_the_system_below_live_allocations() -> None:
    script = """
import os
import numpy as np
from sparl.training.memory import return_freed_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

arrays = [np.ones(10_000, np.uint8) for _ in range(10_000)]  # 100 MB
del arrays[:-1]
before = resident()
return_freed_memory()
print((before - resident()) // 2**20)
"""
    (given,) = run_script(script)
    assert int(given) > 80
