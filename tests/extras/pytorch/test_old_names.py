"""Files that contain the names of earlier versions are read like current ones."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from stable_baselines3 import TD3
from torch import nn

from sparl.sb3 import SparseTraining
from sparl.torch import DynamicSparsity


def test_a_state_dict_of_0_1_is_read() -> None:
    model = nn.Linear(8, 8)
    optimizer = torch.optim.Adam(model.parameters())
    sparsity = DynamicSparsity(model, optimizer, method="static", density=0.5, quiet=True)
    state = sparsity.state_dict()
    del state["topology_updates"]
    sparsity.load_state_dict({**state, "evolutions": 7})
    assert sparsity.topology_updates == sparsity.state_dict()["topology_updates"] == 7


def test_a_stable_baselines3_model_of_0_1_continues_its_schedule(tmp_path: Path) -> None:
    def callback() -> SparseTraining:
        return SparseTraining("DS", density=0.5, verbose=0)

    model = TD3("MlpPolicy", "Pendulum-v1", learning_starts=20, policy_kwargs={"net_arch": [16]})
    model.learn(60, callback=callback())
    current = json.loads(json.dumps(model.sparse_topology))
    for network in ("actor", "critic"):
        kept = model.sparse_topology[network]
        kept["evolutions"] = kept.pop("topology_updates")
    model.save(tmp_path / "old")
    loaded = TD3.load(tmp_path / "old", env=model.get_env())
    loaded.learn(20, callback=callback(), reset_num_timesteps=False)
    for network in ("actor", "critic"):
        updates = loaded.sparse_topology[network]["topology_updates"]
        assert updates > current[network]["topology_updates"]
