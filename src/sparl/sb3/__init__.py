"""Sparse training in Stable-Baselines3, which requires `pip install 'sparl[sb3]'`.

Example:
    model.learn(100_000, callback=SparseTraining(method="RigL", density=0.1))
"""

from __future__ import annotations

try:
    import stable_baselines3 as _stable_baselines3  # noqa: F401
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "sparl.sb3 needs Stable-Baselines3; install it with pip install 'sparl[sb3]'",
        name="stable_baselines3",
    ) from None

from sparl.sb3.sparse_training import SparseTraining
from sparl.topology.schedule import Schedule

__all__ = ["Schedule", "SparseTraining"]
