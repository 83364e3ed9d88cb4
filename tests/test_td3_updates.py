"""Compare TD3 updates with an independent float64 reference.

The reference keeps dense matrices and 0/1 masks and shares no code with sparl: forward pass,
backpropagation, Adam, targets and topology are written out here from the papers' formulas. It
receives the agent's initial parameters, the same target noise and, at a topology update, the
positions that the agent grew, which are random; all other results must be the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sparl.agents.td3 import TD3
from sparl.architecture import architecture
from sparl.build import build_agent
from sparl.configuration import Config
from sparl.learner import SparseLearner
from sparl.methods import preset
from sparl.random_streams import stream
from sparl.replay.batch import Batch

Float = NDArray[np.float64]
Mask = NDArray[np.bool_]
State = dict[str, Any]
Place = tuple[str, int, int]  # network, member, layer

N_OBS, N_ACT, BATCH, GAMMA = 5, 2, 16, 0.97
HIDDEN = (24, 20)
SIZES = {"actor": (N_OBS, *HIDDEN, N_ACT), "critics": (N_OBS + N_ACT, *HIDDEN, 1)}
MEMBERS = {"actor": 1, "critics": 2}

# Values so large that each has an effect within a few updates: decay, noise, both clips, tau.
SETTINGS: dict[str, Any] = {
    "hidden": HIDDEN,
    "weight_decay": 0.01,
    "batch_size": BATCH,
    "tau": 0.1,
    "target_noise": 0.8,
    "noise_clip": 0.95,
    "rewire_fraction": 0.2,
    "warmup_env_steps": 1,
    "steps": 10_000,
}


# --- The reference ---------------------------------------------------------------------------


class Layer:
    """One dense layer: weights [n_out, n_in], mask, biases, their moments, and the target's."""

    def __init__(self, w: Float, b: Float, mask: Mask) -> None:
        self.w, self.b, self.mask = w, b, mask
        self.w_m, self.w_v = np.zeros_like(w), np.zeros_like(w)
        self.b_m, self.b_v = np.zeros_like(b), np.zeros_like(b)
        self.target_w, self.target_b = w.copy(), b.copy()


class Mlp:
    """One MLP of a network; `step` counts the optimiser's steps."""

    def __init__(self, layers: list[Layer], tanh: bool) -> None:
        self.layers, self.tanh, self.step = layers, tanh, 0
        self.nearest_kink = np.inf  # smallest |z| at a ReLU that is differentiated

    def forward(self, x: Float, target: bool = False) -> list[Float]:
        """Return the input and every layer's output."""
        out = [x]
        for index, layer in enumerate(self.layers):
            w, b = (layer.target_w, layer.target_b) if target else (layer.w, layer.b)
            z = out[-1] @ w.T + b
            if index < len(self.layers) - 1:
                out.append(np.maximum(z, 0))
                if not target:
                    self.nearest_kink = min(self.nearest_kink, float(np.abs(z).min()))
            else:
                out.append(np.tanh(z) if self.tanh else z)
        return out

    def backward(self, out: list[Float], dy: Float) -> tuple[list[tuple[Float, Float]], Float]:
        """Return dL/dW and dL/db of each layer, and dL/dx, from dL/dy."""
        gradients = []
        dz = dy * (1 - out[-1] ** 2) if self.tanh else dy
        for index in reversed(range(len(self.layers))):
            gradients.append((dz.T @ out[index], dz.sum(axis=0)))
            dx = dz @ self.layers[index].w
            dz = dx * (out[index] > 0)
        return gradients[::-1], dx

    def adam(self, gradients: list[tuple[Float, Float]], lr: float, decay: float) -> None:
        """Kingma & Ba 2015, algorithm 1, with L2 in the gradient of weights and biases."""
        self.step += 1
        for layer, (dw, db) in zip(self.layers, gradients, strict=True):
            g = (dw + decay * layer.w) * layer.mask
            layer.w_m = 0.9 * layer.w_m + 0.1 * g
            layer.w_v = 0.999 * layer.w_v + 0.001 * g**2
            layer.w = layer.w - lr * self._direction(layer.w_m, layer.w_v)
            g = db + decay * layer.b
            layer.b_m = 0.9 * layer.b_m + 0.1 * g
            layer.b_v = 0.999 * layer.b_v + 0.001 * g**2
            layer.b = layer.b - lr * self._direction(layer.b_m, layer.b_v)

    def _direction(self, m: Float, v: Float) -> Float:
        m_hat, v_hat = m / (1 - 0.9**self.step), v / (1 - 0.999**self.step)
        return m_hat / (np.sqrt(v_hat) + 1e-8)


def dropped_by_set(layer: Layer, fraction: float) -> Mask:
    """Drop all exact zeros and, of each sign, a fraction of the other weights nearest zero."""
    w = layer.w.reshape(-1)
    existing: list[int] = np.flatnonzero(layer.mask.reshape(-1)).tolist()
    zeros = [i for i in existing if w[i] == 0]
    positive = sorted((i for i in existing if w[i] > 0), key=lambda i: w[i])
    negative = sorted((i for i in existing if w[i] < 0), key=lambda i: -w[i])
    live = len(positive) + len(negative)
    count = int(fraction * live + 0.5)
    of_positive = int(count * len(positive) / live + 0.5)
    gone = zeros + positive[:of_positive] + negative[: count - of_positive]
    return mask_of(gone, layer.mask.shape)


def dropped_smallest(layer: Layer, fraction: float) -> Mask:
    """Drop the weights of smallest magnitude; their number is rounded down."""
    w = layer.w.reshape(-1)
    existing: list[int] = np.flatnonzero(layer.mask.reshape(-1)).tolist()
    count = int(fraction * len(existing))
    return mask_of(sorted(existing, key=lambda i: abs(w[i]))[:count], layer.mask.shape)


def mask_of(positions: Sequence[int], shape: tuple[int, ...]) -> Mask:
    mask = np.zeros(shape, bool)
    mask.reshape(-1)[list(positions)] = True
    return mask


DROP_RULES = {"nearest_zero_of_each_sign": dropped_by_set, "smallest": dropped_smallest}


def keep_the_largest(w: Float, budget: int) -> Float:
    """Set all but the `budget` largest magnitudes to 0."""
    order = np.argsort(np.abs(w.reshape(-1)), kind="stable")
    kept = w.reshape(-1).copy()
    kept[order[: max(w.size - budget, 0)]] = 0
    return kept.reshape(w.shape)


class Reference:
    """TD3 as in the papers' pseudocode, with dense matrices in float64."""

    def __init__(self, config: Config, state: dict[str, State], last_topology_update: int) -> None:
        self.config = config
        self.last_topology_update = last_topology_update
        self.updates = 0
        self.noise = stream(config.seed, "target noise")
        self.seen = {"noise clipped": 0, "action clipped": 0, "moved": 0, "pruned": 0}
        self.networks = {
            name: [
                Mlp([Layer(*read_layer(state[name], (name, m, k))) for k in range(3)], tanh)
                for m in range(MEMBERS[name])
            ]
            for name, tanh in (("actor", True), ("critics", False))
        }
        (self.actor,), self.critics = self.networks["actor"], self.networks["critics"]
        self._done = {"actor": 0, "critics": 0}

    def update(self, batch: Batch, new_mask: Callable[[Place], Mask]) -> dict[str, float]:
        """Update once; new_mask returns the agent's new patterns, for copying grown connections."""
        cfg = self.config
        self.updates += 1
        s, a, r, discount, s2 = (
            np.asarray(x, np.float64)
            for x in (
                batch.observation, batch.action, batch.reward, batch.discount,
                batch.next_observation,
            )
        )  # fmt: skip

        # y = r + gamma min_i Q_i'(s', clip(pi'(s') + clip(eps, -c, c), -1, 1))
        drawn = self.noise.standard_normal((BATCH, N_ACT), dtype=np.float32) * np.float32(
            cfg.target_noise
        )
        eps = np.clip(drawn.astype(np.float64), -cfg.noise_clip, cfg.noise_clip)
        raw = self.actor.forward(s2, target=True)[-1] + eps
        self.seen["noise clipped"] += int((eps != drawn).sum())
        self.seen["action clipped"] += int((np.abs(raw) > 1).sum())
        x2 = np.concatenate([s2, np.clip(raw, -1, 1)], axis=1)
        y = r + discount * np.min([c.forward(x2, target=True)[-1] for c in self.critics], axis=0)

        # Each critic: minimise 1/B sum_b (Q(s, a) - y)^2
        loss, q = 0.0, []
        for critic in self.critics:
            out = critic.forward(np.concatenate([s, a], axis=1))
            gradients, _ = critic.backward(out, 2 * (out[-1] - y) / BATCH)
            critic.adam(gradients, cfg.learning_rate, cfg.weight_decay)
            loss += ((out[-1] - y) ** 2).mean()
            q.append(out[-1].mean())
        record = {"critic_loss": loss, "q": float(np.mean(q))}
        self._update_topology("critics", self.critics, new_mask)

        if self.updates % cfg.policy_delay == 0:
            # Actor: minimise -1/B sum_b Q_1(s, pi(s))
            out = self.actor.forward(s)
            q_out = self.critics[0].forward(np.concatenate([s, out[-1]], axis=1))
            _, dx = self.critics[0].backward(q_out, np.full((BATCH, 1), -1 / BATCH))
            gradients, _ = self.actor.backward(out, dx[:, N_OBS:])
            self.actor.adam(gradients, cfg.learning_rate, cfg.weight_decay)
            record["actor_loss"] = float(-q_out[-1].mean())
            self._update_topology("actor", [self.actor], new_mask)
            for mlp in (*self.critics, self.actor):
                self._soft_update(mlp)
        return record

    def _soft_update(self, mlp: Mlp) -> None:
        tau = self.config.tau
        for layer in mlp.layers:
            layer.target_b = tau * layer.b + (1 - tau) * layer.target_b
            if self.config.target_pattern == "shared":
                layer.target_w = layer.target_w * layer.mask
            w = tau * layer.w + (1 - tau) * layer.target_w
            # Sokar et al., algorithm 3: a target with more connections loses the smallest.
            layer.target_w = keep_the_largest(w, int(layer.mask.sum()))
            self.seen["pruned"] += int((w != 0).sum() - (layer.target_w != 0).sum())

    def _update_topology(
        self, name: str, members: list[Mlp], new_mask: Callable[[Place], Mask]
    ) -> None:
        """Update the topology if it was due, at 2, 2 + e, ..., since the network's last step."""
        cfg = self.config
        now = self.updates if cfg.rewire_clock == "agent" else members[0].step
        end = min(now, self.last_topology_update)
        due = len(range(2, end + 1, cfg.rewire_every_updates)) if cfg.rewire_every_updates else 0
        if due == self._done[name]:
            return
        self._done[name] = due
        for m, mlp in enumerate(members):
            for k, layer in enumerate(mlp.layers):
                if layer.mask.all():
                    continue
                self._rewire(layer, new_mask((name, m, k)))

    def _rewire(self, layer: Layer, new: Mask) -> None:
        dropped = DROP_RULES[self.config.drop](layer, self.config.rewire_fraction)
        count = int(dropped.sum())
        assert count > 0
        old, kept = layer.mask, layer.mask & ~dropped
        assert (new & kept).sum() == kept.sum(), (
            "a connection was removed that should have been kept"
        )
        assert (new & ~kept).sum() == count, "the numbers of grown and dropped connections differ"
        assert new.sum() == old.sum(), "the number of connections changed"
        grown = new & ~old
        grown_v = np.zeros_like(layer.w_v)
        mean = layer.w_v[old].mean()
        if self.config.grown_moments == "mean":
            grown_v[:] = mean
        elif self.config.grown_moments == "factored":
            for o, i in zip(*np.nonzero(grown), strict=True):
                of_output = layer.w_v[o, old[o]].mean() if old[o].any() else mean
                of_input = layer.w_v[old[:, i], i].mean() if old[:, i].any() else mean
                grown_v[o, i] = of_output * of_input / mean
        layer.w = layer.w * new
        layer.w_m = layer.w_m * new
        layer.w_v = np.where(grown, grown_v, layer.w_v * new)
        layer.mask = new
        self.seen["moved"] += int(grown.sum())


# --- The agent's side ------------------------------------------------------------------------


def read_layer(state: State, place: Place) -> tuple[Float, Float, Mask]:
    """Dense weights, biases and mask from the canonical format: output * n_in + input."""
    name, member, index = place
    n_in, n_out = SIZES[name][index : index + 2]
    key = f"member{member}.layer{index}"
    w, mask = np.zeros(n_in * n_out), np.zeros(n_in * n_out, bool)
    w[state[f"{key}.positions"]] = state[f"{key}.weight"]
    mask[state[f"{key}.positions"]] = True
    shape = (n_out, n_in)
    return w.reshape(shape), state[f"{key}.bias"].astype(np.float64), mask.reshape(shape)


def moments(agent: TD3, networks: dict[str, State], moment: str) -> dict[str, State]:
    """Return one moment of each network, in the form of the network's state."""
    learners = {"actor": agent.actor_learner, "critics": agent.critics_learner}
    states = {}
    for name, learner in learners.items():
        assert isinstance(learner, SparseLearner)
        prefix = f"{moment}."
        positions = {k: v for k, v in networks[name].items() if k.endswith("positions")}
        values = learner.adam.state().items()
        states[name] = positions | {
            k.removeprefix(prefix): v for k, v in values if k.startswith(prefix)
        }
    return states


def new_agent(method: str, **fields: Any) -> tuple[Config, TD3]:
    config = preset(method, "Pendulum-v1", **{**SETTINGS, **fields})
    agent = build_agent(config, architecture(config, N_OBS, N_ACT))
    assert isinstance(agent, TD3)
    return config, agent


def random_batches(seed: int, count: int) -> list[Batch]:
    """Return transitions of one and of several steps, some of them terminal."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> NDArray[np.float32]:
        return rng.standard_normal(shape, dtype=np.float32)

    return [
        Batch(
            observation=2 * normal(BATCH, N_OBS),
            action=rng.uniform(-1, 1, (BATCH, N_ACT)).astype(np.float32),
            reward=normal(BATCH, 1),
            discount=rng.choice([0, GAMMA, GAMMA**2], (BATCH, 1), p=[0.2, 0.6, 0.2]).astype(
                np.float32
            ),
            next_observation=2 * normal(BATCH, N_OBS),
        )
        for _ in range(count)
    ]


def places() -> list[Place]:
    return [(name, m, k) for name in SIZES for m in range(MEMBERS[name]) for k in range(3)]


def masks(agent: TD3) -> dict[Place, Mask]:
    networks = agent.networks()
    return {place: read_layer(networks[place[0]], place)[2] for place in places()}


def assert_agrees(agent: TD3, reference: Reference) -> None:
    """Compare patterns exactly; parameters, moments and targets within float32's rounding.

    A parameter moves by about 1e-3 in an update, so an error of 0.5 % in a step fails the test. The
    tolerance cannot be smaller, because Adam's first step divides a gradient by its own magnitude,
    even if it is near zero.
    """
    networks = agent.networks()
    m, v = moments(agent, networks, "m"), moments(agent, networks, "v")
    for place in places():
        name, member, index = place
        layer = reference.networks[name][member].layers[index]
        w, b, mask = read_layer(networks[name], place)
        target_w, target_b, target_mask = read_layer(networks[f"{name}_target"], place)
        where = f"{name} member {member} layer {index} after update {reference.updates}"
        assert (mask == layer.mask).all(), f"pattern of {where}"
        assert target_mask.sum() <= mask.sum(), f"target over budget: {where}"
        if reference.config.target_pattern == "own":
            assert (target_mask == (layer.target_w != 0)).all(), f"target's pattern of {where}"
        w_m, b_m, _ = read_layer(m[name], place)
        w_v, b_v, _ = read_layer(v[name], place)
        for what, got, wanted, bound in (
            ("weights", w, layer.w, 4e-6),
            ("biases", b, layer.b, 4e-6),
            ("target's weights", target_w, layer.target_w, 4e-6),
            ("target's biases", target_b, layer.target_b, 4e-6),
            ("weights' m", w_m, layer.w_m, 2e-4 * np.sqrt(layer.w_v.max())),
            ("biases' m", b_m, layer.b_m, 2e-4 * np.sqrt(layer.b_v.max())),
            ("weights' v", w_v, layer.w_v, 1e-4 * layer.w_v.max()),
            ("biases' v", b_v, layer.b_v, 1e-4 * layer.b_v.max()),
        ):
            np.testing.assert_allclose(
                got, wanted, rtol=0, atol=bound, err_msg=f"{what} of {where}"
            )
    assert agent.updates == reference.updates


def run_both(
    method: str, updates: int, *, last_topology_update: int = 10**9, **fields: Any
) -> tuple[Reference, dict[str, list[int]]]:
    """Train both with the same batches; they must agree after every update.

    Returns:
        The reference, and the updates at which each network's pattern changed in the agent.
    """
    config, agent = new_agent(method, **fields)
    reference = Reference(config, agent.state(), last_topology_update)
    changed: dict[str, list[int]] = {"actor": [], "critics": []}
    before = masks(agent)
    for batch in random_batches(config.seed, updates):
        record = agent.update(batch)
        after = masks(agent)
        for name, at in changed.items():
            if any((before[place] != after[place]).any() for place in places() if place[0] == name):
                at.append(agent.updates)
        before = after
        wanted = reference.update(batch, after.__getitem__)
        assert record.keys() == wanted.keys()
        for key, value in wanted.items():
            assert record[key] == pytest.approx(value, rel=1e-5, abs=1e-5), key
        assert_agrees(agent, reference)
    kink = min(mlp.nearest_kink for members in reference.networks.values() for mlp in members)
    assert kink > 1e-6, "choose another seed: rounding may switch a ReLU"
    assert reference.seen["noise clipped"] > 0
    assert reference.seen["action clipped"] > 0
    return reference, changed


# --- The tests -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("method", ["TD3", "Static-TD3"])
def test_updates_of_fixed_patterns(method: str, seed: int) -> None:
    reference, changed = run_both(method, 12, seed=seed)
    assert changed == {"actor": [], "critics": []}
    assert all(
        mlp.layers[0].mask.all() == (method == "TD3")
        for members in reference.networks.values()
        for mlp in members
    )


@pytest.mark.parametrize("critics", [1, 3])
@pytest.mark.parametrize("method", ["Static-TD3", "DS-TD3"])
def test_the_target_takes_the_minimum_over_any_number_of_critics(
    method: str, critics: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MEMBERS, "critics", critics)
    run_both(method, 8, seed=1, critics=critics)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_updates_of_ds_td3_across_topology_updates(seed: int) -> None:
    reference, changed = run_both("DS-TD3", 20, seed=seed, rewire_every_updates=4)
    assert changed == {"actor": [2, 6, 10, 14, 18], "critics": [2, 6, 10, 14, 18]}
    assert reference.seen["moved"] > 500
    assert reference.seen["pruned"] > 500


@pytest.mark.parametrize(
    "fields",
    [
        {"target_pattern": "shared"},
        {"grown_moments": "mean"},
        {"grown_moments": "zero"},
        {"drop": "smallest"},
        {"tau": 1.0},
        {"weight_decay": 0.0, "learning_rate": 3e-3, "rewire_fraction": 0.5},
    ],
    ids=lambda fields: ",".join(fields),
)
def test_updates_with_other_settings(fields: dict[str, Any]) -> None:
    """Compare every field that changes an update with the reference."""
    run_both("DS-TD3", 12, seed=1, rewire_every_updates=3, **fields)


@pytest.mark.parametrize(
    ("delay", "actor"),
    [
        (1, [2, 7, 12, 17, 22]),
        (2, [2, 8, 12, 18, 22]),
        (3, [3, 9, 12, 18, 24]),
        (4, [4, 8, 12, 20, 24]),
        (5, [5, 10, 15, 20, 25]),
    ],
)
def test_actor_and_critics_update_topology_on_the_agents_clock(
    delay: int, actor: list[int]
) -> None:
    """A delay postpones an actor's topology update to its next step; it never skips one."""
    _, changed = run_both("DS-TD3", 26, policy_delay=delay, rewire_every_updates=5, seed=3)
    assert changed == {"actor": actor, "critics": [2, 7, 12, 17, 22]}


def test_the_networks_own_clock_counts_its_own_updates() -> None:
    _, changed = run_both(
        "DS-TD3", 16, policy_delay=2, rewire_every_updates=4, rewire_clock="network"
    )
    assert changed == {"actor": [4, 12], "critics": [2, 6, 10, 14]}


@pytest.mark.parametrize(
    ("warmup", "freeze", "last", "count"),
    [
        (12, 0.625, 12, 3),  # the last step before the freeze, 24, is update 12
        (13, 0.625, 11, 2),
        (12, 0.0, 52, 4),
        (12, 1.0, -12, 0),
    ],
)
@pytest.mark.parametrize("delay", [1, 2, 5])
def test_the_freeze_stops_topology_updates(
    warmup: int, freeze: float, last: int, count: int, delay: int
) -> None:
    """Topology updates due at 2, 7, 12, 17 happen up to the freeze, for any delay."""
    fields = {"steps": 64, "warmup_env_steps": warmup, "freeze_fraction": freeze, "seed": 3}
    _, changed = run_both(
        "DS-TD3",
        20,
        last_topology_update=last,
        rewire_every_updates=5,
        policy_delay=delay,
        **fields,
    )
    assert len(changed["actor"]) == len(changed["critics"]) == count


def test_the_freeze_lasts_for_the_requested_share_of_the_steps() -> None:
    """With 20 % of 100 steps, update 12, at step 20, changes the topology despite rounding."""
    fields = {"steps": 100, "warmup_env_steps": 8, "freeze_fraction": 0.8}
    _, changed = run_both("DS-TD3", 14, last_topology_update=12, rewire_every_updates=5, **fields)
    assert changed == {"actor": [2, 8, 12], "critics": [2, 7, 12]}


def test_exploration_adds_clipped_noise_of_its_own_scale() -> None:
    config, agent = new_agent("TD3", exploration_noise=1.5)
    noise, clipped = stream(config.seed, "exploration"), 0
    for observation in random_batches(0, 1)[0].observation:
        action, noise_free = agent.act(observation)
        np.testing.assert_array_equal(noise_free, agent.policy(observation[np.newaxis])[0])
        wanted = noise_free + 1.5 * noise.standard_normal(N_ACT, dtype=np.float32)
        np.testing.assert_allclose(action, wanted.clip(-1, 1), rtol=1e-6)
        clipped += int((np.abs(wanted) > 1).sum())
    assert 0 < clipped < BATCH * N_ACT
