"""Files with the names of earlier versions are read like current ones."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from stable_baselines3 import TD3
from torch import nn

from sparl.sb3 import SparseTraining
from sparl.topology.schedule import Schedule
from sparl.torch import DynamicSparsity

SCHEDULE = Schedule(first=1, every=1, last=9, fraction=0.5)


def sparsity(state: dict[str, object] | None = None) -> DynamicSparsity:
    torch.manual_seed(0)
    model = nn.Linear(8, 8)
    optimizer = torch.optim.Adam(model.parameters())
    made = DynamicSparsity(
        model, optimizer, method="SET", density=0.5, schedule=SCHEDULE, state=state, quiet=True
    )
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.ones(4, 8)).sum().backward()
        optimizer.step()
    return made


def test_a_state_dict_of_0_2_is_read() -> None:
    state = sparsity().state_dict()
    old = {("evolutions" if key == "topology_updates" else key): v for key, v in state.items()}
    assert old["evolutions"] == 3
    assert sparsity(old).topology_updates == sparsity(state).topology_updates == 6


def test_a_stable_baselines3_model_of_0_2_continues_its_schedule(tmp_path: Path) -> None:
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
