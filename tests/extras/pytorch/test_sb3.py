"""Test SparseTraining with Stable-Baselines3's own algorithms in real environments."""

from __future__ import annotations

import copy
import csv
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, DDPG, SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch.nn import functional

from sparl.errors import UsageError
from sparl.sb3 import Schedule, SparseTraining
from sparl.torch import DynamicSparsity

ALGORITHMS = [TD3, DDPG, SAC]


def new_model(algorithm: Any, env: Any = "Pendulum-v1", **fields: Any) -> Any:
    fields = {"policy_kwargs": {"net_arch": [64, 48]}, "batch_size": 32, **fields}
    return algorithm("MlpPolicy", env, learning_starts=50, seed=0, device="cpu", **fields)


def networks(model: Any) -> Iterator[tuple[str, Any, Any]]:
    """Return name, network and target of each sparse network."""
    for name in ("actor", "critic"):
        yield name, getattr(model, name), getattr(model, f"{name}_target", None)


def check_sparse(model: Any) -> None:
    """Check that the connections stored in the model are those of its networks."""
    for name, network, target in networks(model):
        modules = dict(network.named_modules())
        targets = dict(target.named_modules()) if target is not None else {}
        for layer, positions in model.sparse_topology[name]["positions"].items():
            weight = modules[layer].weight
            outside = torch.ones(weight.numel(), dtype=torch.bool)
            outside[torch.tensor(positions)] = False
            assert not weight.detach().view(-1)[outside].any()
            for moment in ("exp_avg", "exp_avg_sq"):
                values = network.optimizer.state[weight][moment]
                assert not values.view(-1)[outside].any()
            if targets:
                assert int(torch.count_nonzero(targets[layer].weight)) <= len(positions)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("method", ["static", "DS", "SET", "RigL"])
def test_training_stays_sparse_and_updates_the_topology(algorithm: Any, method: Any) -> None:
    model = new_model(algorithm)
    sparse = SparseTraining(method, 0.2, verbose=0)
    model.learn(200, callback=sparse)
    check_sparse(model)
    assert set(sparse.sparsity) == {"actor", "critic"}
    for name, network, _ in networks(model):
        topology = model.sparse_topology[name]
        sizes = {n: m.weight.numel() for n, m in network.named_modules() if hasattr(m, "weight")}
        count = sum(len(p) for p in topology["positions"].values())
        assert set(sizes) == set(topology["positions"])
        assert count == pytest.approx(0.2 * sum(sizes.values()), rel=0.02)
        delay = 2 if name == "actor" and algorithm is TD3 else 1
        assert topology["updates"] == 150 // delay
        assert topology["topology_updates"] == sparse.sparsity[name].schedule.total
        assert topology["topology_updates"] == (
            0 if method == "static" else pytest.approx(20, abs=5)
        )
        assert topology["moved"] > 0 or method != "DS"  # SET and RigL end with a fraction of 0


def test_growth_uses_the_gradient_of_the_critics_own_loss() -> None:
    """DDPG has no noise in its target, so the test can compute the critic's gradient."""
    model = new_model(DDPG)
    batches, dense = [], []
    sample = model.replay_buffer.sample

    def remembered(*args: Any, **kwargs: Any) -> Any:
        batches.append(sample(*args, **kwargs))
        return batches[-1]

    model.replay_buffer.sample = remembered
    weight = model.critic.qf0[2].weight
    before_ours = model.critic.optimizer.register_step_pre_hook(
        lambda *_: dense.append((weight.grad.clone(), expected_gradient(model, batches[-1])))
    )
    schedule = Schedule(first=20, every=20, last=100, fraction=0.3)
    sparse = SparseTraining("RigL", {"actor": 0.3, "critic": 0.2}, schedule=schedule, verbose=0)
    model.learn(89, callback=sparse)  # 39 updates
    before_ours.remove()
    assert len(dense) == 39
    pattern = sparse.sparsity["critic"].patterns["qf0.2"]
    absent = torch.ones(weight.numel(), dtype=torch.bool)
    absent[torch.from_numpy(pattern.positions.copy())] = False
    for update, (got, expected) in enumerate(dense, start=1):
        if update == 20:  # the topology changes, so all positions have gradients
            assert (got.view(-1)[absent] != 0).float().mean() > 0.5
            torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-6)
        elif update > 20:
            inside = ~absent.view_as(got)
            assert not got[~inside].any()
            torch.testing.assert_close(got[inside], expected[inside], rtol=1e-3, atol=1e-6)


def expected_gradient(model: Any, batch: Any) -> torch.Tensor:
    with torch.no_grad():
        action = model.actor_target(batch.next_observations).clamp(-1, 1)
        (q_next,) = model.critic_target(batch.next_observations, action)
        y = batch.rewards + (1 - batch.dones) * model.gamma * q_next
    (q,) = model.critic(batch.observations, batch.actions)
    return torch.autograd.grad(functional.mse_loss(q, y), model.critic.qf0[2].weight)[0]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_save_and_load_keep_the_topology(algorithm: Any, tmp_path: Path) -> None:
    model = new_model(algorithm)
    model.learn(120, callback=SparseTraining("DS", 0.2, verbose=0))
    model.save(tmp_path / "model.zip")
    loaded = algorithm.load(tmp_path / "model.zip", env=model.get_env())
    assert loaded.sparse_topology == model.sparse_topology
    observation = np.zeros((1, 3), np.float32)
    np.testing.assert_array_equal(
        loaded.predict(observation, deterministic=True)[0],
        model.predict(observation, deterministic=True)[0],
    )
    updates = loaded.sparse_topology["critic"]["updates"]
    with pytest.raises(UsageError, match="method is RigL but must be DS"):
        loaded.learn(60, callback=SparseTraining("RigL", 0.2))
    loaded.learn(80, callback=SparseTraining("DS", 0.2, verbose=0), reset_num_timesteps=False)
    check_sparse(loaded)
    topology = loaded.sparse_topology["critic"]
    assert topology["updates"] > updates
    assert topology["topology_updates"] > model.sparse_topology["critic"]["topology_updates"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_checkpoint_continues_with_its_schedule(algorithm: Any, tmp_path: Path) -> None:
    model = new_model(algorithm)
    whole = SparseTraining("RigL", 0.2, verbose=0)
    checkpoints = CheckpointCallback(130, str(tmp_path))
    model.learn(250, callback=[whole, checkpoints])
    loaded = algorithm.load(tmp_path / "rl_model_130_steps.zip", env=model.get_env())
    check_sparse(loaded)
    rest = SparseTraining("RigL", 0.2, verbose=0)
    loaded.learn(121, callback=rest, reset_num_timesteps=False)  # saved before an update
    check_sparse(loaded)
    for name in ("actor", "critic"):
        assert rest.sparsity[name].schedule == whole.sparsity[name].schedule
        for counter in ("updates", "topology_updates"):
            kept = loaded.sparse_topology[name][counter]
            assert kept == model.sparse_topology[name][counter]
    again = SparseTraining("RigL", 0.2, verbose=0)  # a new training run has its own schedule
    loaded.learn(250, callback=again)
    for name, sparsity in again.sparsity.items():
        assert sparsity.schedule == whole.sparsity[name].schedule
        assert sparsity.topology_updates == model.sparse_topology[name]["topology_updates"]


# --- learn called several times with reset_num_timesteps=False --------------------------------


def watch(model: Any) -> dict[str, list[tuple[int, float]]]:
    """Record the agent's update and the fraction of connections of each topology update."""
    seen: dict[str, list[tuple[int, float]]] = {"actor": [], "critic": []}
    train, updates = model.train, 0

    def watched(*args: Any, **kwargs: Any) -> None:
        nonlocal updates
        updates += 1
        before = {
            n: DynamicSparsity.of(net.optimizer).topology_updates for n, net, _ in networks(model)
        }  # type: ignore[union-attr]
        train(*args, **kwargs)
        for name, network, _ in networks(model):
            sparsity = DynamicSparsity.of(network.optimizer)
            assert sparsity is not None
            if sparsity.topology_updates > before[name]:
                seen[name].append((updates, sparsity.schedule.fraction_at(sparsity.updates)))

    model.train = watched
    return seen


@pytest.mark.parametrize(("algorithm", "method"), [(TD3, "DS"), (TD3, "RigL"), (SAC, "SET")])
def test_a_schedule_that_was_passed_covers_ten_calls_like_one(algorithm: Any, method: Any) -> None:
    schedule = Schedule(first=10, every=10, last=140, fraction=0.3, annealed=method != "DS")
    runs = []
    for calls in (1, 10):
        model = new_model(algorithm)
        seen = watch(model)
        for _ in range(calls):
            sparse = SparseTraining(method, 0.2, schedule=schedule, verbose=0)
            model.learn(200 // calls, callback=sparse, reset_num_timesteps=False)
        check_sparse(model)
        runs.append((seen, model.sparse_topology, model.policy.state_dict()))
    (seen, topology, weights), (of_ten, topology_of_ten, weights_of_ten) = runs
    assert seen == of_ten
    assert len(seen["critic"]) == 14
    assert topology == topology_of_ten
    assert all(torch.equal(w, weights_of_ten[name]) for name, w in weights.items())


@pytest.mark.parametrize("algorithm", [TD3, SAC])
@pytest.mark.parametrize("method", ["SET", "RigL"])
def test_an_annealed_default_schedule_ends_with_the_first_call(algorithm: Any, method: Any) -> None:
    model = new_model(algorithm)
    seen = watch(model)
    sparse = SparseTraining(method, 0.2, verbose=0)
    model.learn(250, callback=sparse, reset_num_timesteps=False)
    first = {name: list(topology_updates) for name, topology_updates in seen.items()}
    patterns = {name: s.patterns for name, s in sparse.sparsity.items()}
    for _ in range(2):
        with pytest.warns(UserWarning, match="has ended, so connections no longer change"):
            model.learn(50, callback=sparse, reset_num_timesteps=False)
    assert seen == first
    for name, topology_updates in first.items():
        fractions = [fraction for _, fraction in topology_updates]
        assert len(fractions) == pytest.approx(20, abs=5)
        assert fractions == sorted(fractions, reverse=True)
        assert fractions[0] > 0.45
        assert fractions[-1] < 0.02
        for layer, pattern in sparse.sparsity[name].patterns.items():
            assert pattern.same_as(patterns[name][layer])
    check_sparse(model)
    model.learn(250, callback=sparse)  # this starts a new training run
    for name, topology_updates in seen.items():
        assert [m for _, m in topology_updates[len(first[name]) :]] == [m for _, m in first[name]]


@pytest.mark.parametrize("algorithm", [TD3, SAC])
def test_the_default_schedule_of_ds_gets_longer_with_each_call(
    algorithm: Any, tmp_path: Path
) -> None:
    model = new_model(algorithm)
    seen = watch(model)
    model.learn(250, callback=SparseTraining("DS", 0.2, verbose=0), reset_num_timesteps=False)
    for _ in range(9):
        sparse = SparseTraining("DS", 0.2, verbose=0)
        model.learn(50, callback=sparse, reset_num_timesteps=False)
    for topology_updates in seen.values():
        updates = [update for update, _ in topology_updates]
        period = updates[1] - updates[0]
        assert period == updates[-1] - updates[-2]
        assert {b - a for a, b in itertools.pairwise(updates)} <= {period, 2 * period}
        assert updates[-1] > 650 - 10 - 2 * period  # none in the last 5 % of the first call
        assert {fraction for _, fraction in topology_updates} == {0.05}
    del model.train  # remove the observer
    model.save(tmp_path / "model.zip")
    loaded = algorithm.load(tmp_path / "model.zip", env=model.get_env())
    updates_before = loaded.sparse_topology["critic"]["topology_updates"]
    loaded.learn(50, callback=SparseTraining("DS", 0.2, verbose=0), reset_num_timesteps=False)
    assert loaded.sparse_topology["critic"]["topology_updates"] > updates_before


def test_calls_without_updates_do_not_advance_the_schedule() -> None:
    model = new_model(SAC)
    sparse = SparseTraining("SET", 0.2, verbose=0)
    for steps in (20, 30):
        model.learn(steps, callback=sparse, reset_num_timesteps=False)
    assert sparse.sparsity["actor"].updates == 0
    model.learn(200, callback=sparse, reset_num_timesteps=False)
    for sparsity in sparse.sparsity.values():
        assert sparsity.topology_updates == pytest.approx(20, abs=5)


# --- Weights without topology, and rejections -------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("method", ["static", "DS", "SET", "RigL"])
def test_weights_set_without_their_topology_keep_their_zeros(algorithm: Any, method: Any) -> None:
    model = new_model(algorithm)
    model.learn(150, callback=SparseTraining(method, 0.2, verbose=0))
    other = new_model(algorithm)
    other.set_parameters(model.get_parameters())
    other.learn(40, callback=SparseTraining(method, 0.2, verbose=0))  # no update happens yet
    weights = other.policy.state_dict()
    for name, weight in model.policy.state_dict().items():
        assert torch.equal(weight, weights[name])
    other.learn(150, callback=SparseTraining(method, 0.2, verbose=0))
    check_sparse(other)
    other = new_model(algorithm)
    other.set_parameters(model.get_parameters())
    with pytest.warns(UserWarning, match="trained weights are set to zero"):
        other.learn(40, callback=SparseTraining(method, 0.1, verbose=0))


def snapshot(model: Any) -> list[Any]:
    """Return a model's weights, hooks and optimizer states."""
    found: list[Any] = [copy.deepcopy(model.policy.state_dict())]
    for _, network, _ in networks(model):
        optimizer = network.optimizer
        found += [
            copy.deepcopy(optimizer.state_dict()),
            len(optimizer._optimizer_step_pre_hooks), len(optimizer._optimizer_step_post_hooks),
            DynamicSparsity.of(optimizer),
        ]  # fmt: skip
    found += [len(p._backward_hooks or ()) for p in model.policy.parameters()]
    found += [len(m._forward_pre_hooks) for m in model.policy.modules()]
    return found


def check_unchanged(model: Any, before: list[Any]) -> None:
    check_equal(snapshot(model), before)


def check_equal(got: Any, expected: Any) -> None:
    if isinstance(expected, torch.Tensor):
        assert torch.equal(got, expected)
    elif isinstance(expected, dict):
        assert list(got) == list(expected)
        check_equal(list(got.values()), list(expected.values()))
    elif isinstance(expected, list):
        for a, b in zip(got, expected, strict=True):
            check_equal(a, b)
    else:
        assert got == expected


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_invalid_arguments_leave_both_networks_unchanged(algorithm: Any) -> None:
    model = new_model(algorithm)
    model.learn(60)
    before = snapshot(model)
    for density in ({"actor": 0.2, "critic": 1.5}, {"actor": 0.0, "critic": 0.2}):
        with pytest.raises(UsageError, match=r"density is .* but must be in \(0, 1\]"):
            model.learn(60, callback=SparseTraining("DS", density, verbose=0))
        check_unchanged(model, before)
        assert not hasattr(model, "sparse_topology")
    theirs = torch.optim.SGD(model.critic.parameters(), 0.1)
    sparsity = DynamicSparsity(model.critic, theirs, method="static", quiet=True)
    before = snapshot(model)
    with pytest.raises(UsageError, match="already sparse under another optimizer"):
        model.learn(60, callback=SparseTraining("DS", 0.2, verbose=0))
    check_unchanged(model, before)
    sparsity.remove()


def test_an_error_leaves_interrupted_training_attached() -> None:
    model = new_model(TD3)
    with pytest.raises(KeyboardInterrupt):
        model.learn(100, callback=[SparseTraining("DS", 0.2, verbose=0), Interruption(80)])
    model.sparse_topology["critic"]["positions"]["qf0.2"] = [3, 2]
    before = snapshot(model)
    assert isinstance(before[4], DynamicSparsity)
    with pytest.raises(UsageError, match=r"state: qf0.2: pattern: positions must be strictly"):
        model.learn(60, callback=SparseTraining("DS", 0.2, verbose=0), reset_num_timesteps=False)
    check_unchanged(model, before)


class Interruption(BaseCallback):
    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def _on_step(self) -> bool:
        if self.num_timesteps == self.at:
            raise KeyboardInterrupt
        return True


class Features(BaseFeaturesExtractor):
    """A features extractor with a Linear layer."""

    def __init__(self, observation_space: Any) -> None:
        super().__init__(observation_space, 32)
        self.first = torch.nn.Linear(3, 32)

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.first(observation))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_shared_features_extractor_is_rejected_by_name(algorithm: Any) -> None:
    kwargs = {"net_arch": [64, 48], "features_extractor_class": Features}
    shared = {**kwargs, "share_features_extractor": True}
    model = new_model(algorithm, policy_kwargs=shared)
    before = snapshot(model)
    with pytest.raises(UsageError, match=r"share the layer features_extractor.first; .*False"):
        model.learn(60, callback=SparseTraining("DS", 0.2, verbose=0))
    check_unchanged(model, before)
    for fine in ({**kwargs, "share_features_extractor": False}, {"share_features_extractor": True}):
        model = new_model(algorithm, policy_kwargs={"net_arch": [64, 48], **fine})
        model.learn(100, callback=SparseTraining("DS", 0.2, verbose=0))
        check_sparse(model)


def test_interrupted_training_can_be_saved_and_resumed(tmp_path: Path) -> None:
    model = new_model(TD3)
    train = model.train

    def interrupted(*args: Any, **kwargs: Any) -> None:
        train(*args, **kwargs)
        if model._n_updates == 84:  # connections of both networks have just changed
            raise KeyboardInterrupt

    model.train = interrupted
    first = SparseTraining("SET", 0.2, verbose=0)
    with pytest.raises(KeyboardInterrupt):
        model.learn(200, callback=first)
    model.train = train
    model.save(tmp_path / "model.zip")
    loaded = TD3.load(tmp_path / "model.zip", env=model.get_env())
    for resumed in (model, loaded):
        check_sparse(resumed)
        topology = resumed.sparse_topology["critic"]
        assert topology["updates"] == 84
        assert topology["topology_updates"] == first.sparsity["critic"].topology_updates == 12
        rest = SparseTraining("SET", 0.2, verbose=0)
        resumed.learn(100, callback=rest, reset_num_timesteps=False)
        check_sparse(resumed)
        for name, sparsity in rest.sparsity.items():
            assert sparsity.schedule == first.sparsity[name].schedule
        assert DynamicSparsity.of(resumed.critic.optimizer) is None  # it was detached


@pytest.mark.parametrize(
    ("environments", "fields"),
    [
        (3, {"train_freq": 4, "gradient_steps": 2}),
        (2, {"train_freq": 5, "gradient_steps": -1}),
        (1, {"train_freq": (1, "episode"), "gradient_steps": -1}),
    ],
)
def test_every_way_to_train_fills_the_schedule(environments: int, fields: dict[str, Any]) -> None:
    env = make_vec_env("Pendulum-v1", n_envs=environments)
    model = new_model(SAC, env, **fields)
    sparse = SparseTraining("DS", 0.2, verbose=0)
    model.learn(400, callback=sparse)
    check_sparse(model)
    for sparsity in sparse.sparsity.values():
        assert sparsity.topology_updates == sparsity.schedule.total == pytest.approx(20, abs=8)


def test_the_logger_records_density_and_progress(tmp_path: Path) -> None:
    model = new_model(SAC)
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(410, callback=SparseTraining("RigL", 0.1, verbose=0), log_interval=1)
    model.logger.close()
    with (tmp_path / "progress.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    for name in ("actor", "critic"):
        assert float(rows[-1][f"sparse/{name}_density"]) == pytest.approx(0.1, rel=0.05)
        progress = [float(row[f"sparse/{name}_progress"]) for row in rows]
        assert 0 < progress[0] < progress[1] < 1
        assert int(rows[1][f"sparse/{name}_topology_updates"]) > int(
            rows[0][f"sparse/{name}_topology_updates"]
        )


def test_a_mujoco_task_prints_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    model = new_model(TD3, "Hopper-v5")
    model.learn(120, callback=SparseTraining("DS", {"actor": 0.1, "critic": 0.3}))
    check_sparse(model)
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "actor"
    assert out[4].startswith("DS: 393 of 3,920 connections, 10.0%")
    assert out[5] == "critic"


def test_ds_updates_its_actors_topology_at_the_agents_updates() -> None:
    model = new_model(TD3)
    schedule = Schedule(first=2, every=10, last=100, fraction=0.1)
    seen: dict[str, list[int]] = {"actor": [], "critic": []}
    sparse = SparseTraining("DS", 0.2, schedule=schedule, verbose=0)
    train = model.train

    def watched(*args: Any, **kwargs: Any) -> None:
        before = {name: s.topology_updates for name, s in sparse.sparsity.items()}
        train(*args, **kwargs)
        for name, sparsity in sparse.sparsity.items():
            if sparsity.topology_updates > before[name]:
                seen[name].append(model._n_updates)

    model.train = watched
    model.learn(85, callback=sparse)
    assert seen == {"actor": [2, 12, 22, 32], "critic": [2, 12, 22, 32]}


def test_invalid_arguments_are_rejected_in_one_line() -> None:
    with pytest.raises(UsageError, match="A2C but must be TD3, DDPG or SAC"):
        A2C("MlpPolicy", "Pendulum-v1", device="cpu").learn(10, callback=SparseTraining("DS"))
    other = {"net_arch": [8], "optimizer_class": torch.optim.RMSprop}
    with pytest.raises(UsageError, match="optimizer is RMSprop"):
        new_model(SAC, policy_kwargs=other).learn(10, callback=SparseTraining("DS"))
    with pytest.raises(
        UsageError,
        match="SparseTraining: density has the keys critic but must have the keys actor and critic",
    ):
        SparseTraining("DS", {"critic": 0.1})
    with pytest.raises(UsageError, match="method is 'ds' but must be one of"):
        SparseTraining("ds")  # type: ignore[arg-type]
    model = new_model(TD3, train_freq=(1, "episode"), gradient_steps=5)
    with pytest.raises(UsageError, match="train_freq is in episodes"):
        model.learn(300, callback=SparseTraining("DS"))
