"""Train in a simulator outside Gymnasium with a custom loop, and save the agent.

python examples/own_loop.py [STEPS]
"""

import sys

import numpy as np

import sparl
from sparl.architecture import architecture
from sparl.build import build_agent, capacity_rule
from sparl.methods import preset
from sparl.random_streams import stream
from sparl.replay.ring_buffer import RingBuffer
from sparl.training.custom_loop import save_agent


class Simulator:
    """A point in the plane; actions in [-2, 2] move it, and the goal is the origin."""

    n_obs, n_act = 2, 2
    low, high = np.array([-2.0, -2.0]), np.array([2.0, 2.0])

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def restart(self):
        """Start an episode of 40 steps at a random point, and return the observation."""
        self.left = 40
        self.point = self.rng.uniform(-1, 1, 2)
        return self.point

    def push(self, action):
        """Move the point; return the observation, the reward, terminated and truncated."""
        self.left -= 1
        self.point = np.clip(self.point + 0.1 * action, -2, 2)
        return self.point, 1.0 - float(self.point @ self.point), False, self.left == 0


def train(config, simulator):
    """Train as `sparl train` does; return the agent, the replay buffer and the returns.

    The random streams have the names that `sparl train` gives them, so the results are the same.
    The field normalize_observations is ignored.
    """
    n_obs, n_act = simulator.n_obs, simulator.n_act
    agent = build_agent(config, architecture(config, n_obs, n_act))
    replay = RingBuffer(
        config.replay_rows, n_obs, n_act, config.gamma, keep_noise_free=config.dynamic_buffer
    )
    capacity = capacity_rule(config)
    warmup_rng, replay_rng = stream(config.seed, "random actions"), stream(config.seed, "replay")
    middle, reach = (simulator.low + simulator.high) / 2, (simulator.high - simulator.low) / 2
    returns = [0.0]

    observation = simulator.restart()
    replay.begin(observation)
    for step in range(1, config.end + 1):
        # Act: at random during the warm-up, and then with exploration noise.
        if step <= config.warmup_env_steps:
            action = noise_free = warmup_rng.uniform(-1, 1, n_act).astype(np.float32)
        else:
            action, noise_free = agent.act(observation)
        observation, reward, terminated, truncated = simulator.push(middle + reach * action)
        replay.add(action, noise_free, reward, observation, terminated, truncated)
        returns[-1] += reward

        # Learn. The first updates of RLx2 have one-step targets.
        if step > config.warmup_env_steps:
            for _ in range(config.updates_per_env_step):
                n_step = config.n_step_at(agent.updates + 1)
                agent.update(replay.sample(config.batch_size, n_step, replay_rng))

        if terminated or truncated:
            observation = simulator.restart()
            replay.begin(observation)
            returns.append(0.0)

        # RLx2: forget old transitions if the policy has changed too much.
        if config.dynamic_buffer and step % config.replay_check_every_env_steps == 0:
            capacity.apply(replay, agent.policy)

        # The learners record their topology updates in lists, which the loop must clear.
        for name, learner in agent.learners.items():
            if learner.topology_updates:
                moved = sum(update.moved for update in learner.topology_updates)
                print(f"step {step:,}: {moved} connections of {name} moved")
                learner.topology_updates.clear()
    return agent, replay, returns


if __name__ == "__main__":
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    config = preset(
        "DS-TD3", "point", steps=steps, warmup_env_steps=300, hidden=(64, 64), overwrite=True
    )
    simulator = Simulator()
    agent, replay, returns = train(config, simulator)
    print(f"return of the first episode: {returns[0]:.1f}, of the last one: {returns[-2]:.1f}")

    # Save the agent in a folder that sparl.load, sparl info and sparl export read.
    save_agent(
        "runs/own_loop", agent, config, simulator.low, simulator.high,
        env_step=steps, observations=replay.observation[: replay.size],
    )  # fmt: skip
    print("action at (0.5, -0.5):", sparl.load("runs/own_loop").predict([0.5, -0.5]))
