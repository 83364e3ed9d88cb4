"""Train in a custom environment: python examples/custom_environment.py [STEPS].

Any Gymnasium environment with a flat Box observation and a bounded Box action works. The command
line imports the environment by the name of its module:
PYTHONPATH=examples sparl train --env custom_environment:Cart-v0
"""

import sys

import gymnasium
import numpy as np
from gymnasium.spaces import Box

import sparl


class Cart(gymnasium.Env):
    """A cart on a rail; the agent should push the cart to the middle and keep it there."""

    observation_space = Box(-np.inf, np.inf, (2,))  # position [m], speed [m/s]
    action_space = Box(-3.0, 3.0, (1,))  # force [N]; the cart weighs 1 kg

    def reset(self, *, seed=None, options=None):
        """Start at a random position, at rest."""
        super().reset(seed=seed)
        self.state = np.array([self.np_random.uniform(-1, 1), 0.0], np.float32)
        return self.state.copy(), {}

    def step(self, action):
        """Simulate 0.05 s; the episode ends when the cart leaves the rail."""
        position, speed = self.state
        speed += 0.05 * action[0]
        position += 0.05 * speed
        self.state = np.array([position, speed], np.float32)
        reward = 1.0 - position**2 - 0.1 * speed**2
        return self.state.copy(), float(reward), bool(abs(position) > 2), False, {}


gymnasium.register("Cart-v0", Cart, max_episode_steps=100)

if __name__ == "__main__":
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    run = sparl.train(
        "DS-TD3", "Cart-v0", steps=steps, warmup_env_steps=steps // 10, hidden=(64, 64)
    )
    push = sparl.load(run.path).predict([1.0, 0.0])
    print(f"one metre to the right of the middle, the agent pushes with {push[0]:+.2f} N")
