"""Compare DynamicSparsity with sparl's own engine and with results computed by hand."""

from __future__ import annotations

import copy
import io
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from layouts import schedule_of
from sparl.agents.td3 import TD3
from sparl.architecture import architecture
from sparl.build import build_agent
from sparl.errors import Diverged, UsageError
from sparl.learner import SparseLearner
from sparl.methods import preset
from sparl.networks.network import Network
from sparl.random_streams import generator_state, stream
from sparl.replay.batch import Batch
from sparl.sparse.pattern import Pattern
from sparl.torch import DynamicSparsity, Schedule
from sparl.torch.targets import keep_largest
from sparl.types import State

N_OBS, N_ACT, BATCH, HIDDEN = 5, 2, 16, (24, 20)
EVERY_THIRD = Schedule(first=3, every=3, last=1000, fraction=0.3)


def mlp(*sizes: int, tanh: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1], *([nn.Tanh()] if tanh else []))


@pytest.fixture
def model() -> nn.Sequential:
    torch.manual_seed(0)
    return mlp(6, 32, 32, 2)


def learn(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> Iterator[Tensor]:
    """Train on random data; yield each loss after its step."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (model(torch.randn(8, 6, generator=generator)) - 1).square().mean()
        loss.backward()
        optimizer.step()
        yield loss.detach()


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in learn(model, optimizer, steps):
        pass


def absent_values(sparsity: DynamicSparsity) -> float:
    """Return the largest magnitude among the weights and moments of absent connections."""
    return max(
        float((values.detach() * layer.absent).abs().max())
        for layer in sparsity.layers
        for values in (layer.weight, *sparsity.optimizer.state[layer.weight].values())
        if values.shape == layer.weight.shape
    )


# --- The same TD3 through the plug-in and through the core -----------------------------------


class TorchTD3:
    """TD3's update (Fujimoto et al. 2018, algorithm 1) in PyTorch, from an agent of the core."""

    def __init__(self, agent: TD3, config: Any) -> None:
        self.config, self.updates = config, 0
        self.actor = mlp(N_OBS, *HIDDEN, N_ACT, tanh=True)
        self.critics = nn.ModuleList(mlp(N_OBS + N_ACT, *HIDDEN, 1) for _ in range(2))
        take_weights(nn.ModuleList([self.actor]), agent.actor)
        take_weights(self.critics, agent.critics)
        self.actor_target = copy.deepcopy(self.actor)
        self.critics_target = copy.deepcopy(self.critics)
        self.noise = stream(config.seed, "target noise")
        self.optimizers, self.sparsity = {}, {}
        for name, learner, online, target in (
            ("actor", agent.actor_learner, self.actor, self.actor_target),
            ("critics", agent.critics_learner, self.critics, self.critics_target),
        ):
            assert isinstance(learner, SparseLearner)
            self.optimizers[name] = torch.optim.Adam(
                online.parameters(), config.learning_rate, weight_decay=config.weight_decay
            )
            self.sparsity[name] = DynamicSparsity(
                online, self.optimizers[name], method=config.method.removesuffix("-TD3"),
                schedule=own_clock(config, name), target=target, quiet=True,
                state={
                    "method": config.method.removesuffix("-TD3"),
                    "updates": 0, "topology_updates": 0, "moved": 0,
                    "rng": generator_state(learner.rng),
                    "positions": positions(name, learner.network),
                },
            )  # fmt: skip

    def online(self) -> dict[str, nn.ModuleList]:
        return {"actor": nn.ModuleList([self.actor]), "critics": self.critics}

    def update(self, batch: Batch) -> None:
        cfg = self.config
        self.updates += 1
        s, a, r, discount, s2 = (
            torch.from_numpy(x)
            for x in (
                batch.observation, batch.action, batch.reward, batch.discount,
                batch.next_observation,
            )
        )  # fmt: skip
        with torch.no_grad():
            drawn = self.noise.standard_normal((BATCH, N_ACT), dtype=np.float32)
            eps = torch.from_numpy(drawn * np.float32(cfg.target_noise))
            eps = eps.clamp(-cfg.noise_clip, cfg.noise_clip)
            x2 = torch.cat([s2, (self.actor_target(s2) + eps).clamp(-1, 1)], 1)
            y = r + discount * torch.minimum(*(q(x2) for q in self.critics_target))
        x = torch.cat([s, a], 1)
        self.step("critics", sum((q(x) - y).square().mean() for q in self.critics))
        if self.updates % cfg.policy_delay == 0:
            self.step("actor", -self.critics[0](torch.cat([s, self.actor(s)], 1)).mean())
            with torch.no_grad():
                for online, target in (
                    (self.actor, self.actor_target),
                    (self.critics, self.critics_target),
                ):
                    for p, p_target in zip(online.parameters(), target.parameters(), strict=True):
                        p_target.data.mul_(1 - cfg.tau).add_(p.data, alpha=cfg.tau)

    def step(self, name: str, loss: Tensor) -> None:
        # The actor's loss also leaves gradients in the critics, which must have no effect.
        self.optimizers[name].zero_grad()
        loss.backward()
        self.optimizers[name].step()


def own_clock(config: Any, name: str) -> Schedule:
    """Return the core's schedule, counted in the network's own steps."""
    found = schedule_of(config, name)
    if found.clock == "network" or name == "critics":
        return found
    delay = config.policy_delay
    return Schedule(found.first // delay, found.every // delay, found.last // delay, found.fraction)


def names(name: str, member: int, layer: int) -> str:
    return f"{2 * layer}" if name == "actor" else f"{member}.{2 * layer}"


def positions(name: str, network: Network) -> dict[str, Any]:
    return {names(name, *place): pattern.positions for place, pattern in network.layout}


def dense(state: State, member: int, layer: int, shape: tuple[int, ...]) -> Any:
    key = f"member{member}.layer{layer}"
    out = np.zeros(shape, np.float32)
    out.reshape(-1)[state[f"{key}.positions"]] = state[f"{key}.weight"]  # type: ignore[index]
    return out


def take_weights(models: nn.ModuleList, network: Network) -> None:
    state = network.state()
    with torch.no_grad():
        for (member, layer), _ in network.layout:
            linear = models[member][2 * layer]
            linear.weight.copy_(torch.from_numpy(dense(state, member, layer, linear.weight.shape)))
            linear.bias.copy_(torch.from_numpy(state[f"member{member}.layer{layer}.bias"]))


def batches(count: int) -> list[Batch]:
    rng = np.random.default_rng(3)

    def normal(*shape: int) -> Any:
        return rng.standard_normal(shape, dtype=np.float32)

    return [
        Batch(
            observation=2 * normal(BATCH, N_OBS),
            action=rng.uniform(-1, 1, (BATCH, N_ACT)).astype(np.float32),
            reward=normal(BATCH, 1),
            discount=np.full((BATCH, 1), 0.97, np.float32),
            next_observation=2 * normal(BATCH, N_OBS),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("method", ["DS-TD3", "SET-TD3", "RigL-TD3"])
def test_ten_updates_equal_those_of_the_core(method: str) -> None:
    config = preset(
        method, "Pendulum-v1", hidden=HIDDEN, weight_decay=0.01, tau=0.1, target_noise=0.8,
        rewire_fraction=0.2, rewire_every_updates=4, rewire_first_update=2, warmup_env_steps=1,
        steps=10_000, grown_moments="zero", batch_size=BATCH,
    )  # fmt: skip
    agent = build_agent(config, architecture(config, N_OBS, N_ACT))
    assert isinstance(agent, TD3)
    twin = TorchTD3(agent, config)
    before = {name: copy.deepcopy(model) for name, model in twin.online().items()}
    for batch in batches(10):
        agent.update(batch)
        twin.update(batch)
    for sparsity in twin.sparsity.values():
        sparsity.settle_targets()
    assert twin.sparsity["critics"].topology_updates == 3  # updates 2, 6 and 10
    assert twin.sparsity["actor"].topology_updates == (3 if method == "DS-TD3" else 1)

    for name, target, learner, updater in (
        ("actor", nn.ModuleList([twin.actor_target]), agent.actor_learner, agent.actor_target),
        ("critics", twin.critics_target, agent.critics_learner, agent.critics_target),
    ):
        assert isinstance(learner, SparseLearner)
        optimizer, patterns = twin.optimizers[name], twin.sparsity[name].patterns
        state, target_state = learner.network.state(), updater.existing()
        adam = learner.adam.state()
        for place, pattern in learner.network.layout:
            (member, layer), key = place, "member{}.layer{}".format(*place)
            assert pattern.same_as(patterns[names(name, *place)])
            linear, of_target = twin.online()[name][member][2 * layer], target[member][2 * layer]
            moments = [optimizer.state[p] for p in (linear.weight, linear.bias)]
            shape, connected = linear.weight.shape, torch.from_numpy(pattern.positions.copy())
            for got, expected, tolerance in (
                (linear.weight, dense(state, *place, shape), 1e-6),
                (linear.bias, state[f"{key}.bias"], 1e-6),
                (of_target.weight, dense(target_state, *place, shape), 1e-6),
                (of_target.bias, target_state[f"{key}.bias"], 1e-6),
                (moments[0]["exp_avg"].view(-1)[connected], adam[f"m.{key}.weight"], 1e-6),
                (moments[1]["exp_avg"], adam[f"m.{key}.bias"], 1e-6),
                (moments[0]["exp_avg_sq"].view(-1)[connected], adam[f"v.{key}.weight"], 1e-8),
                (moments[1]["exp_avg_sq"], adam[f"v.{key}.bias"], 1e-8),
            ):
                np.testing.assert_allclose(got.detach(), expected, rtol=1e-5, atol=tolerance)
            old = before[name][member][2 * layer]
            for now, then in ((linear.weight, old.weight), (linear.bias, old.bias)):
                assert float((now - then).detach().abs().max()) > 5e-4  # far more than tolerated


# --- By hand ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["static", "DS", "SET", "RigL"])
@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01),
        lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.01, amsgrad=True),
        lambda p: torch.optim.AdamW(p, 0.01),
    ],
)
def test_absent_connections_stay_zero_and_their_number_is_constant(
    model: nn.Module, method: Any, optimizer: Any
) -> None:
    optim = optimizer(model.parameters())
    schedule = None if method == "static" else EVERY_THIRD
    sparsity = DynamicSparsity(
        model, optim, method=method, density=0.25, schedule=schedule, quiet=True
    )
    before = {name: p.connections for name, p in sparsity.patterns.items()}
    first = sparsity.patterns
    losses = [float(loss) for loss in learn(model, optim, 60)]
    assert absent_values(sparsity) == 0
    assert {name: p.connections for name, p in sparsity.patterns.items()} == before
    assert sparsity.topology_updates == (0 if method == "static" else 20)
    changed = [not p.same_as(first[name]) for name, p in sparsity.patterns.items()]
    assert any(changed) == (method != "static")
    assert losses[-1] < losses[0]


def test_ds_drops_all_dead_links_and_its_fraction_of_the_live_ones() -> None:
    """The layer has inputs that are always zero, which makes their links dead."""
    linear = nn.Linear(60, 50)
    optim = torch.optim.SGD(linear.parameters(), 1e-3)
    schedule = Schedule(first=1, every=1, last=1, fraction=0.1)
    sparsity = DynamicSparsity(
        linear, optim, method="DS", density=0.2, schedule=schedule, quiet=True
    )
    (name,) = sparsity.patterns
    old = sparsity.patterns[name]
    silent = np.flatnonzero(old.inputs < 20)
    with torch.no_grad():
        linear.weight[:, :20] = 0
    x = torch.randn(8, 60)
    x[:, :20] = 0
    linear(x).square().mean().backward()
    optim.step()
    live = old.connections - silent.size
    stayed = np.intersect1d(np.delete(old.positions, silent), sparsity.patterns[name].positions)
    assert sparsity.patterns[name].connections == old.connections
    # All except those moved are kept; a few of the moved may return by chance.
    moved = int(0.1 * live + 0.5)
    assert live - moved <= stayed.size < live
    # The dead links have moved in addition to the fraction of the live ones.
    assert sparsity.moved > moved


def test_rigl_grows_where_the_gradient_is_largest_and_takes_no_step(model: nn.Module) -> None:
    optim = torch.optim.Adam(model.parameters(), 0.01)
    sparsity = DynamicSparsity(
        model, optim, method="RigL", density={"2": 0.2}, schedule=EVERY_THIRD, quiet=True
    )
    train(model, optim, 2)
    linear = model[2]
    before, old = linear.weight.detach().clone(), sparsity.patterns["2"]
    x = torch.randn(8, 6)
    loss = (model(x) - 1).square().mean()
    optim.zero_grad()
    loss.backward()
    gradient = linear.weight.grad.clone().abs().reshape(-1)
    assert int((gradient > 0).sum()) > 2 * old.connections  # gradients of all positions
    count = int(0.3 * old.connections)  # rounded down
    existing = before.abs().reshape(-1)[torch.from_numpy(old.positions.copy())]
    kept = old.positions[np.sort(np.argsort(existing.numpy(), kind="stable")[count:])]
    gradient[torch.from_numpy(kept)] = -1
    grown = gradient.topk(count).indices.numpy()
    biases = model[4].bias.detach().clone()
    optim.step()
    new = sparsity.patterns["2"]
    np.testing.assert_array_equal(new.positions, np.sort(np.concatenate([kept, grown])))
    stays = torch.zeros(new.size, dtype=torch.bool)
    stays[torch.from_numpy(np.intersect1d(old.positions, new.positions))] = True
    expected = torch.where(stays.reshape(32, 32), before, 0.0)
    assert torch.equal(linear.weight, expected)  # no step was taken, and grown connections are 0
    assert torch.equal(model[4].bias, biases)
    assert not (linear.weight.grad * sparsity.layers[1].absent).any()
    assert optim.state[linear.weight]["step"] == 2


def test_accumulated_gradients_equal_those_of_one_batch(model: nn.Module) -> None:
    twins = model, copy.deepcopy(model)
    x = torch.randn(12, 6)
    patterns = []
    for twin, parts in zip(twins, (1, 4), strict=True):
        optim = torch.optim.SGD(twin.parameters(), 0.1)
        sparsity = DynamicSparsity(
            twin, optim, method="RigL", density=0.2, schedule=EVERY_THIRD, quiet=True
        )
        for _ in range(5):
            optim.zero_grad(set_to_none=parts == 1)
            for part in x.chunk(parts):
                ((twin(part) - 1).square().mean() / parts).backward()
            optim.step()
        assert sparsity.topology_updates == 1
        patterns.append(sparsity.patterns)
    for name, pattern in patterns[0].items():
        assert pattern.same_as(patterns[1][name])
    for a, b in zip(*(twin.parameters() for twin in twins), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_clipping_sees_only_the_gradients_of_connections(model: nn.Module) -> None:
    optim = torch.optim.SGD(model.parameters(), 0.1)
    sparsity = DynamicSparsity(model, optim, method="static", density=0.1, quiet=True)
    (model(torch.randn(8, 6)) - 1).square().mean().backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    squares = [p.grad.square().sum() for p in model.parameters()]
    torch.testing.assert_close(torch.stack(squares).sum().sqrt(), torch.tensor(1e-3))
    for layer in sparsity.layers:
        assert not (layer.weight.grad * layer.absent).any()
    optim.step()
    assert norm > 1e-3


@pytest.mark.parametrize("fused", [False, True])  # fused: called even for steps that are skipped
@pytest.mark.parametrize("overflow_at", [3, 4])  # connections change at the third step
def test_steps_that_a_grad_scaler_skips_do_not_count(
    model: nn.Module, fused: bool, overflow_at: int
) -> None:
    optim = torch.optim.Adam(model.parameters(), 0.01, fused=fused)
    sparsity = DynamicSparsity(
        model, optim, method="RigL", density=0.2, schedule=EVERY_THIRD, quiet=True
    )
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for step in range(1, 7):
        before = [p.detach().clone() for p in model.parameters()]
        optim.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(torch.randn(8, 6)).float().square().mean()
        scaler.scale(loss * (torch.inf if step == overflow_at else 1)).backward()
        scaler.unscale_(optim)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optim)
        scaler.update()
        same = all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
        assert same == (step == overflow_at)
    assert (sparsity.updates, sparsity.topology_updates, scaler.get_scale()) == (5, 1, 512)
    assert absent_values(sparsity) == 0


def test_each_optimizer_has_its_own_schedule_and_learning_rate(model: nn.Sequential) -> None:
    optims = [
        torch.optim.Adam(model[0].parameters(), 0.01),
        torch.optim.SGD(model[2:].parameters(), 0.1, momentum=0.9, nesterov=True),
    ]
    schedulers = [
        torch.optim.lr_scheduler.LambdaLR(optim, lambda step: float(step < 6)) for optim in optims
    ]
    first, rest = (
        DynamicSparsity(model, optim, method=method, density=0.3, schedule=schedule, quiet=True)
        for optim, method, schedule in zip(
            optims, ("DS", "SET"), (EVERY_THIRD, Schedule(2, 2, 8, 0.3)), strict=True
        )
    )
    assert [*first.patterns, *rest.patterns] == ["0", "2", "4"]
    for step in range(1, 11):
        before = [p.detach().clone() for p in model.parameters()]
        for optim in optims:
            optim.zero_grad()
        model(torch.randn(8, 6)).square().mean().backward()
        for optim, scheduler in zip(optims, schedulers, strict=True):
            optim.step()
            scheduler.step()
        if step > 6:  # without learning, connections that stay keep their values
            for p, q in zip(model.parameters(), before, strict=True):
                stays = (p != 0) & (q != 0)
                assert torch.equal(p[stays], q[stays])
    assert (first.topology_updates, rest.topology_updates) == (3, 4)
    assert absent_values(first) == absent_values(rest) == 0


@pytest.mark.parametrize("method", ["DS", "SET", "RigL"])
def test_a_layer_without_a_gradient_is_unchanged(model: nn.Sequential, method: Any) -> None:
    optim = torch.optim.Adam(model.parameters(), 0.01)
    sparsity = DynamicSparsity(
        model, optim, method=method, density=0.2, schedule=EVERY_THIRD, quiet=True
    )
    model[2].requires_grad_(False)
    weight, patterns = model[2].weight.clone(), sparsity.patterns
    train(model, optim, 5)
    assert torch.equal(model[2].weight, weight)
    changed = {n: not p.same_as(patterns[n]) for n, p in sparsity.patterns.items()}
    assert changed == {"0": True, "2": False, "4": False}  # the last one is full


def test_a_compiled_model_is_trained_in_the_same_way(model: nn.Module) -> None:
    runs = []
    for compiled in (False, True):
        online, target = copy.deepcopy(model), copy.deepcopy(model)
        optim = torch.optim.SGD(online.parameters(), 0.1, momentum=0.9)
        sparsity = DynamicSparsity(
            online, optim, method="RigL", density=0.2, schedule=EVERY_THIRD, target=target,
            quiet=True,
        )  # fmt: skip
        models = (online, target)
        if compiled:
            models = tuple(torch.compile(m, backend="aot_eager") for m in models)
        generator = torch.Generator().manual_seed(2)
        for _ in range(5):
            x = torch.randn(8, 6, generator=generator)
            with torch.no_grad():
                y = models[1](x)
            optim.zero_grad()
            (models[0](x) - y - 1).square().mean().backward()
            optim.step()
            with torch.no_grad():
                for p, q in zip(online.parameters(), target.parameters(), strict=True):
                    q.lerp_(p, 0.1)
        sparsity.settle_targets()
        runs.append((sparsity.patterns, [*online.parameters(), *target.parameters()]))
    (patterns, values), (of_compiled, values_of_compiled) = runs
    assert all(p.same_as(of_compiled[name]) for name, p in patterns.items())
    for a, b in zip(values, values_of_compiled, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["DS", "SET", "RigL"])
def test_values_that_are_not_finite_raise_an_error_when_connections_are_chosen(
    model: nn.Module, method: Any
) -> None:
    optim = torch.optim.SGD(model.parameters(), 0.1)
    sparsity = DynamicSparsity(
        model, optim, method=method, density=0.2, schedule=EVERY_THIRD, quiet=True
    )
    with torch.no_grad():
        model[2].weight[sparsity.patterns["2"].outputs[0]] = torch.nan
    before = sparsity.patterns
    with pytest.raises(Diverged, match=r"step 3: a weight of layer . is not finite"):
        train(model, optim, 3)
    assert sparsity.patterns == before


@pytest.mark.parametrize("rule", ["shared", "own"])
def test_targets_obey_their_rule(model: nn.Module, rule: Any) -> None:
    target = copy.deepcopy(model)
    optim = torch.optim.Adam(model.parameters(), 0.01)
    sparsity = DynamicSparsity(
        model, optim, method="SET", density=0.2, schedule=EVERY_THIRD, target=target,
        target_rule=rule, quiet=True,
    )  # fmt: skip
    differ = 0
    for _ in learn(model, optim, 12):
        with torch.no_grad():
            for p, q in zip(model.parameters(), target.parameters(), strict=True):
                q.data.lerp_(p.data, 0.05)
        target(torch.zeros(1, 6))
        for index, pattern in ((i, sparsity.patterns[str(i)]) for i in (0, 2, 4)):
            nonzero = target[index].weight != 0
            assert int(nonzero.sum()) <= pattern.connections
            differ += int((nonzero & ~(model[index].weight != 0)).sum())
    assert (differ > 0) == (rule == "own")  # leftovers fade out; a shared pattern has none


def test_of_equal_magnitudes_the_later_ones_are_kept() -> None:
    values = torch.tensor([[1.0, -2.0, 1.0], [0.0, 3.0, -1.0]])
    keep_largest(values, 3)
    assert values.tolist() == [[0.0, -2.0, 0.0], [0.0, 3.0, -1.0]]
    keep_largest(values, 3)
    assert values.tolist() == [[0.0, -2.0, 0.0], [0.0, 3.0, -1.0]]


def test_continuing_from_a_saved_state_gives_the_same_results(model: nn.Module) -> None:
    def start(of: nn.Module, **fields: Any) -> tuple[torch.optim.Optimizer, DynamicSparsity]:
        optim = torch.optim.Adam(of.parameters(), 0.01)
        return optim, DynamicSparsity(
            of, optim, method="SET", density=0.2, schedule=EVERY_THIRD, quiet=True, **fields
        )

    optim, sparsity = start(model)
    train(model, optim, 7)
    file = io.BytesIO()
    torch.save([model.state_dict(), optim.state_dict(), sparsity.state_dict()], file)
    train(model, optim, 8)
    for early in (False, True):
        file.seek(0)
        of_model, of_optim, of_sparsity = torch.load(file, weights_only=True)
        twin = mlp(6, 32, 32, 2)
        if early:
            twin.load_state_dict(of_model)
            twin_optim, again = start(twin, state=of_sparsity)
        else:
            twin_optim, again = start(twin, seed=9)
            twin.load_state_dict(of_model)
            again.load_state_dict(of_sparsity)
        twin_optim.load_state_dict(of_optim)
        train(twin, twin_optim, 8)
        for name, pattern in sparsity.patterns.items():
            assert pattern.same_as(again.patterns[name])
        for a, b in zip(model.parameters(), twin.parameters(), strict=True):
            assert torch.equal(a, b)


def test_the_table_names_every_layer(capsys: pytest.CaptureFixture[str]) -> None:
    shared = nn.Linear(8, 8)
    model = nn.ModuleDict(
        {
            "conv": nn.Conv1d(2, 2, 3),
            "first": shared,
            "again": nn.Linear(8, 8),
            "lookup": nn.Embedding(8, 8),
            "tied": nn.Linear(8, 8),
            "normed": nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)),
            "apart": nn.Linear(8, 8),
            "frozen": nn.Linear(8, 8),
            "head": nn.Linear(8, 1),
        }
    )
    model["again"].weight = shared.weight
    model["tied"].weight = model["lookup"].weight
    model["frozen"].requires_grad_(False)
    apart = set(model["apart"].parameters())
    optim = torch.optim.Adam([p for p in model.parameters() if p not in apart])
    DynamicSparsity(model, optim, method="static", density={"first": 0.25})
    assert capsys.readouterr().out.splitlines() == [
        "conv    Conv1d: dense, because it is not a Linear layer",
        "first   8 -> 8: 16 of 64 connections, 25.0%",
        "again   Linear: shares the weight of first",
        "lookup  Embedding: dense, because it is not a Linear layer",
        "tied    Linear: shares the weight of lookup",
        "normed  ParametrizedLinear: dense, because its weight is computed from other parameters",
        "apart   Linear: dense, because this optimizer does not train it",
        "frozen  Linear: dense, because its weight is frozen",
        "head    8 -> 1: 8 of 8 connections, dense",
        "static: 24 of 72 connections, 33.3%",
    ]


def test_remove_detaches_from_model_and_optimizer(model: nn.Module) -> None:
    optim = torch.optim.Adam(model.parameters(), 0.01)
    sparsity = DynamicSparsity(model, optim, method="static", density=0.1, quiet=True)
    sparsity.remove()
    train(model, optim, 3)
    assert int((model[2].weight != 0).sum()) > sparsity.patterns["2"].connections
    with pytest.warns(
        UserWarning, match="trained weights are set to zero"
    ):  # its layers can be used again
        DynamicSparsity(model, optim, method="static", density=0.1, quiet=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m, o: DynamicSparsity(m, torch.optim.RMSprop(m.parameters()), method="static"),
         "optimizer is RMSprop but must be one of SGD, Adam, AdamW"),
        (lambda m, o: DynamicSparsity(m, o, method="Rigl", schedule=EVERY_THIRD),
         "method is 'Rigl' but must be one of static, DS, SET, RigL; did you mean RigL"),
        (lambda m, o: DynamicSparsity(m, o, method="RigL"), "RigL needs a schedule"),
        (lambda m, o: DynamicSparsity(m, o, method="RigL", schedule=Schedule(1, 1, 10, 1.5)),
         r"fraction in \[0, 1\]"),
        (lambda m, o: DynamicSparsity(m, o, method="static", schedule=EVERY_THIRD),
         "static never changes"),
        (lambda m, o: DynamicSparsity(m, o, method="static", density=0.0),
         r"density is 0.0 but must be in \(0, 1\]"),
        (lambda m, o: DynamicSparsity(m, o, method="static", density={"9": 0.5}),
         "unknown layer 9; the layers that can be sparse are 0, 2, 4"),
        (lambda m, o: DynamicSparsity(nn.ReLU(), o, method="static"), (
            "no layer can be made sparse"
        )),
        (lambda m, o: DynamicSparsity(m, o, method="static", target=mlp(6, 32, 31, 2)),
         r"target: it has no Linear layer 2 of shape \(32, 32\)"),
        (lambda m, o: [DynamicSparsity(m, o, method="static", quiet=True) for _ in range(2)],
         "call its remove"),
        (lambda m, o: [DynamicSparsity(m, optim, method="static", quiet=True)
                       for optim in (o, torch.optim.SGD(m.parameters()))],
         "layer 0 is already sparse under another optimizer; call remove"),
        (lambda m, o: DynamicSparsity(m, o, method="static", quiet=True).load_state_dict({}),
         "state: method is None but must be static"),
    ],
)  # fmt: skip
def test_invalid_arguments_are_rejected_in_one_line(
    model: nn.Module, make: Any, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as error:
        make(model, torch.optim.Adam(model.parameters()))
    assert "\n" not in str(error.value)


def test_a_damaged_state_changes_nothing(model: nn.Module) -> None:
    optim = torch.optim.Adam(model.parameters())
    sparsity = DynamicSparsity(model, optim, method="static", density=0.2, quiet=True)
    state = sparsity.state_dict()
    state["positions"]["2"] = [5, 3]
    before = sparsity.patterns
    with pytest.raises(UsageError, match="state: 2: pattern: positions must be strictly ascending"):
        sparsity.load_state_dict(state)
    assert sparsity.patterns == before
    assert isinstance(before["2"], Pattern)


def test_a_closure_is_rejected(model: nn.Module) -> None:
    optim = torch.optim.SGD(model.parameters(), 0.1)
    DynamicSparsity(model, optim, method="static", density=0.2, quiet=True)
    with pytest.raises(UsageError, match=r"step\(closure\)"):
        optim.step(lambda: torch.zeros(()))
