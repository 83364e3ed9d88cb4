"""Compare SAC's squashed Gaussian with finite differences, and its updates with float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from layouts import sizes_of
from sparl.agents.sac import SAC, Temperature
from sparl.agents.squashed_gaussian import Sample, gradient, sample
from sparl.architecture import architecture
from sparl.build import build_agent
from sparl.configuration import Config
from sparl.methods import preset
from sparl.random_streams import stream
from sparl.replay.batch import Batch
from sparl.types import State

Float = NDArray[np.float64]
N_OBS, N_ACT, B = 5, 2, 24


# ------------------------------------------------------------------ the policy's distribution


Rule = Literal["clamp", "tanh"]


def log_std(head: Float, rule: Rule) -> tuple[Float, Float]:
    """Return log_std and its derivative in float64."""
    if rule == "clamp":
        return head.clip(-20, 2), ((head >= -20) & (head <= 2)).astype(np.float64)
    return 3.5 * (np.tanh(head) + 1) - 5, 3.5 * (1 - np.tanh(head) ** 2)


def draw(heads: Float, noise: Float, rule: Rule) -> Sample:
    """Return the result of sample, in float64, by the formulas of its docstring."""
    n = noise.shape[1]
    log_sigma, slope = log_std(heads[:, n:], rule)
    u = heads[:, :n] + np.exp(log_sigma) * noise
    squash = 2 * (np.log(2) - np.abs(u) - np.log1p(np.exp(-2 * np.abs(u))))
    density = -0.5 * noise**2 - log_sigma - 0.5 * np.log(2 * np.pi) - squash
    arrays = np.tanh(u), density.sum(axis=1, keepdims=True), noise, np.exp(log_sigma), slope
    return Sample(*arrays)  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", ["clamp", "tanh"])
def test_log_density_matches_the_squashed_gaussian(rule: Rule) -> None:
    """Compare with the direct change of variables in float64, where that is accurate."""
    rng = np.random.default_rng(0)
    heads, eps = (rng.normal(size=(50, n)).astype(np.float32) for n in (6, 3))
    drawn = sample(heads, eps, rule)
    mean = heads[:, :3].astype(np.float64)
    sigma = np.exp(log_std(heads[:, 3:].astype(np.float64), rule)[0])
    u = mean + sigma * eps
    normal = np.exp(-0.5 * ((u - mean) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    density = np.prod(normal / (1 - np.tanh(u) ** 2), axis=1)
    np.testing.assert_allclose(drawn.log_density[:, 0], np.log(density), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rule", ["clamp", "tanh"])
@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (300, 17)])
def test_the_engine_draws_by_the_documented_formulas(
    rule: Rule, scale: float, shape: tuple[int, int]
) -> None:
    rng = np.random.default_rng(1)
    heads = (scale * rng.normal(size=(shape[0], 2 * shape[1]))).astype(np.float32)
    noise = rng.standard_normal(shape, np.float32)
    drawn, expected = sample(heads, noise, rule), draw(heads.astype(np.float64), noise, rule)
    # The sum mean + std eps is rounded to float32, in proportion to its terms.
    terms = np.abs(heads[:, : shape[1]]) + expected.std * np.abs(noise)
    assert (np.abs(drawn.action - expected.action) <= 1e-6 + 5e-7 * terms).all()
    np.testing.assert_allclose(drawn.log_density, expected.log_density, rtol=5e-6, atol=1e-4)
    np.testing.assert_allclose(drawn.std, expected.std, rtol=3e-6)
    np.testing.assert_allclose(drawn.slope, expected.slope, rtol=2e-5, atol=2e-6)
    assert drawn.noise is noise


def test_log_density_stays_finite_and_exact_far_out() -> None:
    u = np.array([[40.0], [-40.0], [9.0], [1e30]], np.float32)
    drawn = sample(np.hstack([u, np.zeros_like(u)]), np.zeros_like(u), "clamp")
    # log(1 - tanh(u)^2) -> 2 log 2 - 2 |u|
    expected = -0.5 * np.log(2 * np.pi) - (2 * np.log(2) - 2 * np.abs(u[:, 0].astype(np.float64)))
    np.testing.assert_allclose(drawn.log_density[:, 0], expected, rtol=1e-6)
    np.testing.assert_array_equal(drawn.action[:, 0], np.tanh(u[:, 0]))


@pytest.mark.parametrize("rule", ["clamp", "tanh"])
@pytest.mark.parametrize("column", [0, 1])
def test_a_nan_in_the_policys_output_stays_nan(rule: Rule, column: int) -> None:
    heads = np.zeros((2, 2), np.float32)
    heads[0, column] = np.nan
    drawn = sample(heads, np.ones((2, 1), np.float32), rule)
    assert np.isnan(drawn.action[0, 0])
    assert np.isnan(drawn.log_density[0, 0])
    assert np.isfinite(drawn.action[1, 0])


def test_the_density_integrates_to_one() -> None:
    a = np.linspace(-1, 1, 200_001)[1:-1]
    heads = np.tile(np.array([0.3, -0.4], np.float32), (a.size, 1))
    noise = (np.arctanh(a) - 0.3) / np.exp(-0.4)
    drawn = sample(heads, noise[:, np.newaxis].astype(np.float32), "clamp")
    assert np.exp(drawn.log_density[:, 0]).sum() * (a[1] - a[0]) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("rule", ["clamp", "tanh"])
def test_gradients_by_central_differences(rule: Rule) -> None:
    rng = np.random.default_rng(1)
    heads, eps, d_action = rng.normal(size=(8, 6)), rng.normal(size=(8, 3)), rng.normal(size=(8, 3))
    d_log = 0.7
    heads[0, 3] = 3.0  # beyond the clamp: no gradient there

    def loss(heads: Float) -> float:
        drawn = draw(heads, eps, rule)
        return float((drawn.action * d_action).sum() + (drawn.log_density * d_log).sum())

    drawn = sample(heads.astype(np.float32), eps.astype(np.float32), rule)
    found = gradient(drawn, d_action.astype(np.float32), d_log)
    h = 1e-5
    for index in np.ndindex(*heads.shape):
        step = np.zeros_like(heads)
        step[index] = h
        expected = (loss(heads + step) - loss(heads - step)) / (2 * h)
        assert found[index] == pytest.approx(expected, rel=2e-4, abs=2e-5)


@pytest.mark.parametrize("rule", ["clamp", "tanh"])
def test_the_gradient_equals_that_of_numpy(rule: Rule) -> None:
    rng = np.random.default_rng(2)
    heads, eps, d_action = (rng.normal(size=(33, n)).astype(np.float32) for n in (10, 5, 5))
    drawn, d_log = sample(heads, eps, rule), np.float32(0.3)
    d_u = d_action * (1 - drawn.action * drawn.action) + d_log * 2 * drawn.action
    d_log_std = d_u * drawn.std * eps - d_log
    wanted = np.concatenate((d_u, d_log_std * drawn.slope), axis=1)
    np.testing.assert_allclose(
        gradient(drawn, d_action, float(d_log)), wanted, rtol=1e-6, atol=1e-6
    )


def test_log_std_stays_within_its_range() -> None:
    heads = np.array([[0.0, -100.0], [0.0, 0.0], [0.0, 100.0]], np.float32)
    noise = np.zeros((3, 1), np.float32)
    for rule, expected in (("clamp", [-20, 0, 2]), ("tanh", [-5, -1.5, 2])):
        std = sample(heads, noise, rule).std  # type: ignore[arg-type]
        np.testing.assert_allclose(np.log(std[:, 0]), expected, rtol=1e-6, atol=1e-6)


# ------------------------------------------------------------------ updates


def config_of(method: str, **fields: object) -> Config:
    values: dict[str, object] = {
        "hidden": (16, 12), "warmup_env_steps": 1, "steps": 1000, "batch_size": B,
    }  # fmt: skip
    return preset(method, "Pendulum-v1", **{**values, **fields})


def batch_of(rng: np.random.Generator, n: int) -> Batch:
    def normal(*shape: int) -> NDArray[np.float32]:
        return rng.normal(size=shape).astype(np.float32)

    path = normal(B, n, N_OBS)
    discount = (0.99 ** np.arange(1, n + 1) * rng.integers(0, 2, (B, n))).astype(np.float32)
    return Batch(
        normal(B, N_OBS), np.tanh(normal(B, N_ACT)), normal(B, 1), discount[:, -1:].copy(),
        np.ascontiguousarray(path[:, -1]), path, discount,
    )  # fmt: skip


class Reference:
    """SAC in float64 with dense matrices; shares no code with the engine."""

    def __init__(self, agent: SAC, config: Config) -> None:
        self.config = config
        shapes = architecture(config, N_OBS, N_ACT)
        self.actor = self.read(
            agent.networks()["actor"], [s for s, _ in sizes_of(shapes.networks["actor"])]
        )
        critic = [s for s, _ in sizes_of(shapes.networks["critics"])]
        networks, members = agent.networks(), config.critics
        self.critics = self.read(networks["critics"], critic, members)
        self.target = self.read(networks["critics_target"], critic, members)
        self.log_alpha = np.log(config.alpha)
        self.log_alpha_moments = 0.0, 0.0
        self.rng = stream(config.seed, "target noise")
        self.moments: dict[int, list[Float]] = {}
        self.steps: dict[int, int] = {}
        self.updates = 0

    @staticmethod
    def read(state: State, shapes: list[tuple[int, int]], members: int = 1) -> list[list[Float]]:
        """[[W0, mask0, b0, W1, ...] of each member]."""
        out = []
        for member in range(members):
            arrays: list[Float] = []
            for layer, (n_in, n_out) in enumerate(shapes):
                name = f"member{member}.layer{layer}"
                w, mask = np.zeros(n_in * n_out), np.zeros(n_in * n_out)
                w[state[f"{name}.positions"]] = state[f"{name}.weight"]
                mask[state[f"{name}.positions"]] = 1
                bias = np.asarray(state[f"{name}.bias"], np.float64)
                arrays += [w.reshape(n_out, n_in), mask.reshape(n_out, n_in), bias]
            out.append(arrays)
        return out

    @staticmethod
    def forward(net: list[Float], x: Float) -> list[Float]:
        h = [x]
        for layer in range(3):
            z = h[-1] @ net[3 * layer].T + net[3 * layer + 2]
            h.append(np.maximum(z, 0) if layer < 2 else z)
        return h

    @staticmethod
    def backward(net: list[Float], h: list[Float], d: Float) -> tuple[list[Float], Float]:
        grads: list[Float] = []
        for layer in (2, 1, 0):
            grads = [(d.T @ h[layer]) * net[3 * layer + 1], d.sum(axis=0), *grads]
            d = d @ net[3 * layer]
            if layer:
                d = d * (h[layer] > 0)
        return grads, d

    def adam(self, net: list[Float], grads: list[Float]) -> None:
        key = id(net)
        moments = self.moments.setdefault(key, [np.zeros(2)] * 12)
        self.steps[key] = t = self.steps.get(key, 0) + 1
        for i, g in enumerate(grads):
            p = net[3 * (i // 2) + 2 * (i % 2)]
            m = 0.9 * moments[2 * i] + 0.1 * g if t > 1 else 0.1 * g
            v = 0.999 * moments[2 * i + 1] + 0.001 * g**2 if t > 1 else 0.001 * g**2
            moments[2 * i], moments[2 * i + 1] = m, v
            p -= (
                self.config.learning_rate
                * (m / (1 - 0.9**t))
                / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
            )

    def draw(self, x: Float) -> tuple[Float, Float, list[Float], Float, Float]:
        h = self.forward(self.actor[0], x)
        mean, head = h[-1][:, :N_ACT], h[-1][:, N_ACT:]
        eps = self.rng.standard_normal(mean.shape, dtype=np.float32).astype(np.float64)
        if self.config.log_std == "clamp":
            log_sigma = head.clip(-20, 2)
        else:
            log_sigma = -5 + 3.5 * (np.tanh(head) + 1)
        u = mean + np.exp(log_sigma) * eps
        a = np.tanh(u)
        logp = (-0.5 * eps**2 - log_sigma - 0.5 * np.log(2 * np.pi) - np.log1p(-(a**2))).sum(1)
        return a, logp, h, eps, log_sigma

    def update(self, batch: Batch) -> dict[str, float]:
        """Update once; return the values of the columns of metrics.csv."""
        self.updates += 1
        alpha = np.exp(self.log_alpha)
        path, path_discount = batch.path()
        n = path_discount.shape[1]
        states = path.reshape(-1, N_OBS).astype(np.float64)
        a, logp, *_ = self.draw(states)
        a_next = a.reshape(B, n, -1)[:, -1]
        nxt = np.concatenate([batch.next_observation, a_next], axis=1)
        q_next = np.min([self.forward(t, nxt)[-1] for t in self.target], axis=0)
        entropy = (path_discount * -alpha * logp.reshape(B, n)).sum(1, keepdims=True)
        y = batch.reward + entropy + batch.discount * q_next
        sa = np.concatenate([batch.observation, batch.action], axis=1).astype(np.float64)
        q = np.stack([self.forward(critic, sa)[-1] for critic in self.critics])
        for critic in self.critics:
            h = self.forward(critic, sa)
            self.adam(critic, self.backward(critic, h, 2 * (h[-1] - y) / B)[0])
        s = batch.observation.astype(np.float64)
        a, logp, h, eps, log_sigma = self.draw(s)
        traces = [self.forward(c, np.concatenate([s, a], axis=1)) for c in self.critics]
        smallest = np.argmin([t[-1] for t in traces], axis=0)
        dq = sum(
            self.backward(c, t, np.where(smallest == i, -1 / B, 0.0))[1][:, N_OBS:]
            for i, (c, t) in enumerate(zip(self.critics, traces, strict=True))
        )
        d_u = dq * (1 - a**2) + alpha / B * 2 * a
        d_log_sigma = d_u * np.exp(log_sigma) * eps - alpha / B
        head = h[-1][:, N_ACT:]
        if self.config.log_std == "clamp":
            d_head = d_log_sigma * ((head >= -20) & (head <= 2))
        else:
            d_head = d_log_sigma * 3.5 * (1 - np.tanh(head) ** 2)
        grads, _ = self.backward(self.actor[0], h, np.concatenate([d_u, d_head], axis=1))
        self.adam(self.actor[0], grads)
        if self.config.learn_alpha:
            self.step_alpha(-alpha * (logp.mean() - N_ACT))
        hard = self.config.hard_target_every
        tau = self.config.tau if not hard else float(self.updates % hard == 0)
        for critic, target in zip(self.critics, self.target, strict=True):
            for i in (0, 2, 3, 5, 6, 8):
                target[i] += tau * (critic[i] - target[i])
        min_q = np.min([t[-1] for t in traces], axis=0)[:, 0]
        return {
            "critic_loss": ((q - y) ** 2).mean(axis=1).sum(), "q": q.mean(), "alpha": alpha,
            "actor_loss": (alpha * logp - min_q).mean(), "entropy": -logp.mean(),
        }  # fmt: skip

    def step_alpha(self, g: float) -> None:
        """Apply Adam to log(alpha), whose loss is -alpha (mean log pi - N_ACT)."""
        m, v = self.log_alpha_moments
        self.log_alpha_moments = m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        m_hat, v_hat = m / (1 - 0.9**self.updates), v / (1 - 0.999**self.updates)
        self.log_alpha -= self.config.learning_rate * m_hat / (np.sqrt(v_hat) + 1e-8)


@pytest.mark.parametrize(
    ("method", "fields", "critics"),
    [
        ("SAC", {}, 2),
        ("SAC", {}, 3),
        ("SAC", {}, 1),
        ("Static-SAC", {"hard_target_every": 4}, 2),
        ("SAC", {"learn_alpha": True, "alpha": 0.3}, 2),
        ("SS-SAC", {"learn_alpha": False, "alpha": 0.3}, 2),
        ("RLx2-SAC", {"n_step": 1}, 2),
        ("RLx2-SAC", {"n_step": 3}, 2),
        ("SS-SAC", {"learn_alpha": False, "alpha": 0.1, "n_step": 3, "log_std": "clamp"}, 2),
    ],
)
def test_ten_updates_equal_float64(method: str, fields: dict[str, object], critics: int) -> None:
    config = config_of(method, critics=critics, **fields)
    agent = build_agent(config, architecture(config, N_OBS, N_ACT))
    assert isinstance(agent, SAC)
    reference = Reference(agent, config)
    rng = np.random.default_rng(2)
    for _ in range(10):
        batch = batch_of(rng, config.n_step)
        assert agent.update(batch) == pytest.approx(reference.update(batch), rel=1e-5, abs=1e-5)
    assert agent.temperature.log_alpha == pytest.approx(reference.log_alpha, abs=1e-5)
    shapes = architecture(config, N_OBS, N_ACT)
    networks = agent.networks()
    for name, ours in (
        ("actor", reference.actor), ("critics", reference.critics),
        ("critics_target", reference.target),
    ):  # fmt: skip
        layers = sizes_of(shapes.networks[name.removesuffix("_target")])
        theirs = Reference.read(networks[name], [s for s, _ in layers], len(ours))
        for member, expected in zip(theirs, ours, strict=True):
            for got, want in zip(member, expected, strict=True):
                np.testing.assert_allclose(got, want, atol=2e-5)


def test_the_temperature_loss_is_linear_in_alpha() -> None:
    """Compute by hand three Adam steps that minimise -alpha (mean log pi + target entropy)."""
    config = config_of("RLx2-SAC")
    agent = build_agent(config, architecture(config, N_OBS, N_ACT))
    assert isinstance(agent, SAC)
    temperature = Temperature(replace(agent.settings, alpha=0.5, learning_rate=0.1), N_ACT)
    log_alpha, m, v = np.log(0.5), 0.0, 0.0
    for step, log_density in enumerate((-1.0, 4.0, 0.5), 1):
        gradient = -np.exp(log_alpha) * (log_density - N_ACT)
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        log_alpha -= 0.1 * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
        temperature.step(np.float32(log_density))
        assert temperature.log_alpha == pytest.approx(log_alpha, rel=1e-12)


def test_temperature_moves_towards_the_target_entropy() -> None:
    """Alpha must rise below the target entropy and fall above it; a wrong sign does the reverse."""
    config = config_of("RLx2-SAC")
    agent = build_agent(config, architecture(config, N_OBS, N_ACT))
    assert isinstance(agent, SAC)
    for log_density, rises in ((5.0, True), (-5.0, False)):
        temperature = Temperature(replace(agent.settings, learning_rate=0.01), N_ACT)
        assert temperature.alpha == 1.0
        assert temperature.target_entropy == -N_ACT
        temperature.step(np.float32(log_density))
        # Adam's first step is the learning rate, regardless of the gradient's size.
        assert temperature.log_alpha == pytest.approx(0.01 if rises else -0.01, rel=1e-4)
        other = Temperature(agent.settings, N_ACT)
        other.restore(temperature.state())
        assert other.state() == temperature.state()


def test_entropy_raises_the_targets_of_a_spread_out_policy() -> None:
    """Q learns the discounted sum of -alpha log pi, which is positive: a bonus, not a penalty."""
    config = config_of("SAC", alpha=1.0, learning_rate=1e-2, gamma=0.0)
    agent = build_agent(config, architecture(config, N_OBS, N_ACT))
    assert isinstance(agent, SAC)
    batch = batch_of(np.random.default_rng(0), 1)
    nothing = np.zeros((B, 1), np.float32)
    # The entropy of the reached state counts fully and its value does not count; rewards are zero.
    one = nothing + 1
    path = batch.next_observation[:, np.newaxis]
    batch = replace(
        batch, reward=nothing, discount=nothing, path_observation=path, path_discount=one
    )
    for _ in range(200):
        record = agent.update(batch)
    assert record["entropy"] > 0.5  # nearly uniform on [-1, 1]^2; the maximum is 2 log 2
    assert record["q"] > 0.25


def test_data_is_collected_with_samples_or_the_mean() -> None:
    observation = np.ones(N_OBS, np.float32)
    noise = stream(0, "exploration").standard_normal((1, N_ACT), np.float32).astype(np.float64)
    for collect in ("sample", "mean"):
        config = config_of("SAC", collect=collect)
        agent = build_agent(config, architecture(config, N_OBS, N_ACT))
        taken = [agent.act(observation) for _ in range(3)]
        np.testing.assert_array_equal(taken[0][1], agent.policy(observation[np.newaxis])[0])
        same = all(np.array_equal(action, noise_free) for action, noise_free in taken)
        assert same == (collect == "mean")
        if collect == "sample":
            heads = agent.actor(observation[np.newaxis]).astype(np.float64)
            expected = draw(heads, noise, "clamp").action[0]
            np.testing.assert_allclose(taken[0][0], expected, atol=2e-6)
