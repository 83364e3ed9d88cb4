"""Train a sparse agent of Stable-Baselines3: python examples/sparse_sb3.py [STEPS].

The example requires pip install 'sparl[sb3]'. Only the import and the callback differ from dense
training.
"""

import sys

from stable_baselines3 import TD3
from stable_baselines3.common.evaluation import evaluate_policy

from sparl.sb3 import SparseTraining

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
model = TD3("MlpPolicy", "Pendulum-v1", learning_starts=steps // 10, seed=0)
model.learn(steps, callback=SparseTraining(method="RigL", density=0.1))
mean, deviation = evaluate_policy(model, model.get_env(), n_eval_episodes=5)
print(f"return {mean:,.1f} ± {deviation:,.1f}")

model.save("sparse_td3")  # includes the connections
loaded = TD3.load("sparse_td3", env=model.get_env())
left = sum(int((p != 0).sum()) for p in loaded.actor.parameters() if p.ndim == 2)
print(f"{left:,} weights of the loaded actor are not zero")
