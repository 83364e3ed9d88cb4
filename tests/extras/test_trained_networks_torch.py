"""A layer of a trained agent converts to a PyTorch tensor and to a SciPy array."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

import sparl


def test_a_layer_converts_to_sparse_csr_matrices(tmp_path: Path) -> None:
    run = sparl.train(
        "DS-TD3", "Pendulum-v1", steps=30, hidden=(8,), warmup_env_steps=20, evaluation_episodes=1,
        run_dir=tmp_path / "run", quiet=True,
    )  # fmt: skip
    agent = sparl.load(run)
    layers = [
        each for network in agent.networks.values() for member in network.members for each in member
    ]
    for layer in layers:
        tensor = layer.to_torch()
        assert tensor.layout is torch.sparse_csr
        dense = np.zeros(layer.shape, np.float32)
        dense[layer.mask()] = layer.weights
        np.testing.assert_array_equal(tensor.to_dense().numpy(), dense)
        array = layer.to_scipy()
        assert array.format == "csr"
        assert array.nnz == layer.connections
        np.testing.assert_array_equal(array.toarray(), dense)
