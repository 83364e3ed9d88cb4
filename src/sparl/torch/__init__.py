"""Sparse training of PyTorch models, which requires `pip install 'sparl[torch]'`.

Example:
    sparsity = DynamicSparsity(
        model, optimizer, method="RigL", density=0.1, schedule=Schedule(...)
    )
"""

from __future__ import annotations

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "sparl.torch needs PyTorch; install it with pip install 'sparl[torch]'", name="torch"
    ) from None

from sparl.topology.schedule import Schedule
from sparl.torch.dynamic_sparsity import DynamicSparsity
from sparl.torch.sparse_linear import SparseLinear, densify, sparsify

__all__ = ["DynamicSparsity", "Schedule", "SparseLinear", "densify", "sparsify"]
