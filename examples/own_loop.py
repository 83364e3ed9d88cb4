"""Write a custom training loop for a simulator outside Gymnasium.

python examples/own_loop.py [STEPS]
"""

import sys

import numpy as np

from sparl.architecture import architecture
from sparl.build import build_agent
from sparl.methods import preset
from sparl.random_streams import stream
from sparl.replay.ring_buffer import RingBuffer


class Simulator:
    """A point in the plane; actions in [-1, 1] move it, and the goal is the origin."""

    def __init__(self):
        self.rng = np.random.default_rng(0)
        self.restart()

    def restart(self):
        """Start an episode of 40 steps at a random point."""
        self.left = 40
        self.point = self.rng.uniform(-1, 1, 2).astype(np.float32)
        return self.point

    def push(self, action):
        """Move the point; return the observation, the reward and whether the episode has ended."""
        self.left -= 1
        self.point = np.clip(self.point + 0.2 * action, -2, 2).astype(np.float32)
        return self.point, 1.0 - float(self.point @ self.point), self.left == 0


steps = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
simulator, returns = Simulator(), [0.0]
config = preset("DS-TD3", "point", steps=steps, warmup_env_steps=300, hidden=(64, 64))
agent = build_agent(config, architecture(config, n_obs := 2, n_act := 2))
replay, rng = RingBuffer(steps, n_obs, n_act, config.gamma), stream(config.seed, "replay")

# The training loop.
observation = simulator.restart()
replay.begin(observation)
for step in range(steps):
    action, noise_free = agent.act(observation)
    after, reward, time_is_up = simulator.push(action)
    replay.add(action, noise_free, reward, after, False, time_is_up)
    observation = after
    if step >= config.warmup_env_steps:
        agent.update(replay.sample(config.batch_size, config.n_step, rng))
    returns[-1] += reward
    if time_is_up:
        observation = simulator.restart()
        replay.begin(observation)
        returns.append(0.0)

print(f"return of the first episode: {returns[0]:.1f}, of the last one: {returns[-2]:.1f}")
