"""Test RLx2: gradient growth, annealing on the network's clock, skipped steps and densities."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layouts import schedule_of, sizes_of
from run_folders import SIZES
from sparl.agents.td3 import TD3
from sparl.architecture import architecture
from sparl.build import build_agent
from sparl.configuration import Config
from sparl.cost import cost
from sparl.field_texts import GROUPS
from sparl.learner import SparseLearner
from sparl.methods import METHODS, preset
from sparl.networks.initialize import orthogonal_matrix
from sparl.replay.batch import Batch
from sparl.sparse.pattern import Pattern
from sparl.topology import grow
from sparl.topology.density import erdos_renyi_total
from sparl.topology.drop import drop_smallest
from sparl.topology.grow import grow_largest_gradient, random_free_positions
from sparl.topology.initial import largest_of_matrix, largest_of_uniform
from sparl.topology.layer_view import FactoredGradient, LayerView
from sparl.topology.propose import TopologyMethod, propose

# ------------------------------------------------------------------ numbers that need no training


@pytest.mark.parametrize(
    ("method", "task", "size", "train_flops", "test_flops"),
    [
        ("RLx2-TD3", "HalfCheetah", 0.133, 0.138, 0.100),
        ("RLx2-TD3", "Hopper", 0.040, 0.043, 0.020),
        ("RLx2-TD3", "Walker2d", 0.043, 0.045, 0.030),
        ("RLx2-TD3", "Ant", 0.093, 0.100, 0.040),
        ("RLx2-SAC", "HalfCheetah", 0.180, 0.197, 0.100),
        ("RLx2-SAC", "Hopper", 0.044, 0.048, 0.020),
        ("RLx2-SAC", "Walker2d", 0.100, 0.113, 0.100),
        ("RLx2-SAC", "Ant", 0.220, 0.239, 0.100),
    ],
)
def test_main_tables_size_and_flops(
    method: str, task: str, size: float, train_flops: float, test_flops: float
) -> None:
    result = cost(preset(method, f"{task}-v3"), *SIZES[task])
    assert round(result["size_ratio_with_targets"], 3) == size
    assert round(result["inference_flops_ratio"], 3) == test_flops
    assert list(result["published"].values()) == [size, train_flops, test_flops]
    assert result["flops"]["paper"] is None
    assert 0.75 < result["flops"]["counted"]["ratio"] / train_flops < 1


def test_ds_sac_has_the_papers_connections() -> None:
    result = cost(preset("DS-SAC", "HalfCheetah-v3"), 17, 6)
    assert (result["connections"], result["dense_connections"]) == (136_436, 216_320)


def test_erdos_renyi_per_layer_and_saturation() -> None:
    actor, critic = [(17, 256), (256, 256), (256, 6)], [(23, 256), (256, 256), (256, 1)]
    assert erdos_renyi_total(actor, 0.90) == [1950, 3657, 1536]
    assert erdos_renyi_total(critic, 0.85) == [3703, 6794, 256]
    # The sparsity of both critics together equals that of each.
    assert erdos_renyi_total(critic * 2, 0.85) == [3703, 6794, 256] * 2
    assert erdos_renyi_total(actor, 0.0) == [17 * 256, 256 * 256, 256 * 6]


def test_sixteen_methods_and_their_settings() -> None:
    assert len(METHODS) == 16
    td3, sac = preset("RLx2-TD3", "Ant-v3"), preset("RLx2-SAC", "Ant-v3")
    assert (td3.actor_sparsity, td3.critic_sparsity) == (0.96, 0.88)
    assert (sac.actor_sparsity, sac.critic_sparsity) == (0.90, 0.75)
    for config in (td3, sac):
        assert (config.learning_rate, config.batch_size, config.weight_decay) == (3e-4, 256, 0)
        assert (config.steps, config.warmup_env_steps) == (3_000_000, 25_000)
        assert (config.n_step, config.n_step_delay_updates) == (3, 300_000)
        assert (config.rewire_every_updates, config.rewire_fraction) == (10_000, 0.5)
        assert (config.drop, config.grow, config.rewire_schedule) == (
            "smallest",
            "gradient",
            "cosine",
        )
        assert (config.rewire_clock, config.grown_moments) == ("network", "zero")
        assert (config.target_pattern, config.initial_topology) == ("shared", "largest_weights")
        assert config.rewire_skips_step
        assert config.dynamic_buffer
    assert (td3.replay_capacity, td3.replay_minimum, td3.policy_delay) == (10**6, 10**5, 2)
    assert (sac.replay_capacity, sac.replay_minimum) == (3 * 10**6, 2 * 10**5)
    assert (sac.alpha, sac.learn_alpha, sac.log_std) == (1.0, True, "tanh")
    assert sac.initial_weights == "orthogonal"
    # T_end, counted in the network's own updates.
    assert schedule_of(td3, "critics").last == 2_975_000
    assert schedule_of(td3, "actor").last == 1_487_500
    assert schedule_of(sac, "actor").last == 2_975_000
    for name in ("SS", "SET", "RigL", "Tiny"):
        config = preset(f"{name}-TD3", "Ant-v3")
        assert (config.n_step, config.dynamic_buffer) == (1, False)
    # Under these settings, every SAC method has the large replay, dynamic or not.
    for name in ("SAC", "Tiny-SAC", "SS-SAC", "SET-SAC", "RigL-SAC", "Static-SAC", "DS-SAC"):
        config = preset(name, "Ant-v3", settings="rlx2")
        assert (config.replay_capacity, config.replay_minimum) == (3 * 10**6, 2 * 10**5)
        assert preset(name, "Ant-v3", settings="ds").replay_capacity == 10**6
    dense = preset("TD3", "Ant-v3", settings="rlx2")
    assert (dense.batch_size, dense.actor_sparsity) == (256, None)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_chooses_connections_in_the_same_way_under_both_settings(name: str) -> None:
    ds, rlx2 = (preset(name, "Ant-v3", settings=settings) for settings in ("ds", "rlx2"))
    others = ("narrow", "initial_topology", "n_step", "n_step_delay_updates", "dynamic_buffer")
    for field in (*GROUPS["topology"], *others):
        assert getattr(ds, field) == getattr(rlx2, field), field


def test_methods_under_the_settings_of_the_other_paper() -> None:
    for agent, fraction in (("TD3", 0.05), ("SAC", 0.1)):
        moved = preset(f"DS-{agent}", "Ant-v3", settings="rlx2")
        assert (moved.drop, moved.rewire_fraction, moved.rewire_schedule, moved.rewire_clock) == (
            "nearest_zero_of_each_sign", fraction, "constant", "agent",
        )  # fmt: skip
        assert (moved.grown_moments, moved.freeze_fraction, moved.rewire_skips_step) == (
            "factored", 0.05, False,
        )  # fmt: skip
        assert preset(f"Static-{agent}", "Ant-v3", settings="rlx2").initial_topology == "random"
        static = preset(f"SS-{agent}", "Ant-v3", settings="ds")
        assert static.initial_topology == "largest_weights"
        for kind in ("SET", "RigL", "RLx2"):
            annealed = preset(f"{kind}-{agent}", "Ant-v3", settings="ds")
            assert (annealed.drop, annealed.rewire_fraction, annealed.rewire_schedule) == (
                "smallest", 0.5, "cosine",
            )  # fmt: skip


def test_a_note_states_the_width_of_the_narrow_network() -> None:
    config = preset("Tiny-TD3", "HalfCheetah-v3", hidden=(64,))
    assert "actor: 1 hidden layer of 6 units" in architecture(config, 17, 6).notes[0]


@pytest.mark.parametrize(("method", "task"), [("Tiny-TD3", "HalfCheetah"), ("Tiny-SAC", "Ant")])
def test_tiny_networks_have_about_as_many_weights_as_the_sparse_ones(
    method: str, task: str
) -> None:
    tiny = preset(method, f"{task}-v3")
    twin = preset(method.replace("Tiny", "SS"), f"{task}-v3")
    narrow, wide = architecture(tiny, *SIZES[task]), architecture(twin, *SIZES[task])
    for ours, theirs in (
        (sizes_of(narrow.networks["actor"]), sizes_of(wide.networks["actor"])),
        (sizes_of(narrow.networks["critics"]), sizes_of(wide.networks["critics"])),
    ):
        widths = {shape[1] for shape, _ in ours[:-1]}
        assert len(widths) == 1
        assert all(count == shape[0] * shape[1] for shape, count in ours)
        weights = [sum(count for _, count in net) for net in (ours, theirs)]  # not counting biases
        width = widths.pop()
        n_in, n_out = ours[0][0][0], ours[-1][0][1]

        def of(w: int, n_in: int = n_in, n_out: int = n_out) -> int:
            return n_in * w + w * w + w * n_out

        assert weights[0] == of(width)
        misses = [abs(of(w) - weights[1]) for w in (width - 1, width, width + 1)]
        assert misses[1] == min(misses)


# ------------------------------------------------------------------ growth


@given(st.integers(0, 10_000), st.integers(1, 7), st.integers(1, 40))
def test_gradient_growth_equals_a_dense_computation(seed: int, chunk_rows: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    n_in, n_out, batch = 9, 11, 5
    kept = Pattern(n_in, n_out, random_free_positions(
        Pattern(n_in, n_out, np.empty(0, np.int64)), 40, rng))  # fmt: skip
    dy = rng.integers(-2, 3, (n_out, batch)).astype(np.float32)  # small integers: many ties
    x = rng.integers(-2, 3, (n_in, batch)).astype(np.float32)
    view = LayerView(kept, np.zeros(40, np.float32), FactoredGradient(dy, x))
    whole, grow.CHUNK_VALUES = grow.CHUNK_VALUES, chunk_rows * n_in
    try:
        grown = grow_largest_gradient(view, kept, count, rng)
    finally:
        grow.CHUNK_VALUES = whole
    score = np.abs(dy @ x.T).reshape(-1)
    free = np.setdiff1d(np.arange(n_in * n_out), kept.positions)
    order = free[np.argsort(-score[free], kind="stable")][:count]
    np.testing.assert_array_equal(grown, np.sort(order))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("existing", [True, False])
def test_growth_by_a_gradient_that_is_not_finite_is_an_error(value: float, existing: bool) -> None:
    pattern = Pattern(4, 4, np.arange(8, dtype=np.int64))
    gradient = np.ones((4, 4), np.float32)
    gradient[1 if existing else 3, 2] = value
    view = LayerView(pattern, np.ones(8, np.float32), gradient)
    with pytest.raises(FloatingPointError, match="a gradient is not finite"):
        grow_largest_gradient(view, pattern, 2, np.random.default_rng(0))


def test_rigl_with_a_fraction_of_zero_does_nothing() -> None:
    pattern = Pattern(4, 4, np.arange(8, dtype=np.int64))
    view = LayerView(pattern, np.ones(8, np.float32), np.ones((4, 4), np.float32))
    method = TopologyMethod(drop_smallest, grow_largest_gradient)
    assert propose(method, view, 0.0, np.random.default_rng(0)) is None


def small(method: str, **fields: Any) -> Config:
    values: dict[str, Any] = {
        "hidden": (32, 24), "warmup_env_steps": 1, "steps": 10_000, "batch_size": 16,
        "rewire_every_updates": 4, "actor_sparsity": 0.6, "critic_sparsity": 0.7,
    }  # fmt: skip
    return preset(method, "Pendulum-v1", **{**values, **fields})


def batches(seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    while True:
        normal = [
            rng.normal(size=s).astype(np.float32) for s in ((16, 5), (16, 2), (16, 1), (16, 5))
        ]
        discount = np.full((16, 1), 0.99, np.float32)
        yield Batch(
            normal[0], np.tanh(normal[1]), normal[2], discount, normal[3],
            normal[3][:, np.newaxis], discount,
        )  # fmt: skip


def agent_of(config: Config) -> Any:
    return build_agent(config, architecture(config, 5, 2))


def critic_loss_gradient(agent: Any, batch: Batch, y: Any) -> dict[tuple[int, int], Any]:
    """Compute the dense gradients of the critics' loss from the networks' states."""
    state = agent.critics.state()
    out = {}
    for member in range(2):
        ws, bs = [], []
        for layer, (n_in, n_out) in enumerate([(7, 32), (32, 24), (24, 1)]):
            name = f"member{member}.layer{layer}"
            w = np.zeros(n_in * n_out)
            w[state[f"{name}.positions"]] = state[f"{name}.weight"]
            ws.append(w.reshape(n_out, n_in))
            bs.append(np.asarray(state[f"{name}.bias"], np.float64))
        h = [np.concatenate([batch.observation, batch.action], axis=1).astype(np.float64)]
        for layer in range(3):
            z = h[-1] @ ws[layer].T + bs[layer]
            h.append(np.maximum(z, 0) if layer < 2 else z)
        d = 2 * (h[-1] - y[:, :]) / 16
        for layer in (2, 1, 0):
            out[member, layer] = d.T @ h[layer]
            d = d @ ws[layer] * (h[layer] > 0 if layer else 1)
    return out


@pytest.mark.parametrize("method", ["RigL-TD3", "RigL-SAC"])
def test_critics_grow_where_the_gradient_of_their_own_loss_is_largest(method: str) -> None:
    """RLx2's SAC adds the previous actor pass's gradient; here it must have no effect."""
    config = small(method, gamma=0.0)
    agent = agent_of(config)
    stream = batches()
    for _ in range(3):
        agent.update(next(stream))
    before = dict(agent.critics.layout)
    weights = {
        place: agent.critics.layout.read(agent.critics.parameters, place) for place in before
    }
    batch = next(stream)
    batch = Batch(
        batch.observation, batch.action, batch.reward, np.zeros((16, 1), np.float32),
        batch.next_observation, batch.path_observation, np.zeros((16, 1), np.float32),
    )  # fmt: skip
    gradient = critic_loss_gradient(agent, batch, batch.reward.astype(np.float64))
    agent.update(batch)  # update 4 rewires the critics; y = reward, since the discount is 0
    changed = 0
    for place, old in before.items():
        new = agent.critics.layout.pattern(place)
        if old.connections == old.size:
            continue
        fraction = agent.critics_learner.schedule.fraction_at(4)
        count = int(fraction * old.connections)
        dropped = np.argsort(np.abs(weights[place]), kind="stable")[:count]
        kept = np.delete(old.positions, dropped)
        score = np.abs(gradient[place]).reshape(-1)
        score[kept] = -1
        expected = np.union1d(kept, np.argsort(-score, kind="stable")[:count])
        np.testing.assert_array_equal(new.positions, expected)
        changed += 1
    assert changed >= 4


def test_a_topology_update_takes_no_step_and_returned_links_keep_everything() -> None:
    config = small("RigL-TD3")
    agent = agent_of(config)
    stream = batches()
    for _ in range(3):
        agent.update(next(stream))
    learner = agent.critics_learner
    assert isinstance(learner, SparseLearner)

    def by_position() -> dict[Any, tuple[float, float, float]]:
        values = {}
        for place, pattern in agent.critics.layout:
            arrays = [
                agent.critics.layout.read(flat, place)
                for flat in (agent.critics.parameters, learner.adam.m, learner.adam.v)
            ]
            for position, *value in zip(pattern.positions.tolist(), *arrays, strict=True):
                values[place, position] = tuple(map(float, value))
        return values

    before, steps = by_position(), learner.adam.steps
    agent.update(next(stream))
    after = by_position()
    assert learner.adam.steps == steps  # no step on update 4
    new = after.keys() - before.keys()
    assert new
    assert all(after[key] == (0.0, 0.0, 0.0) for key in new)
    assert all(after[key] == before[key] for key in after.keys() & before.keys())
    assert sum(e.returned for e in learner.topology_updates) > 0
    agent.update(next(stream))
    assert learner.adam.steps == steps + 1


@pytest.mark.parametrize("method", ["RigL-TD3", "DS-TD3"])
def test_records_of_topology_updates_agree_with_the_connections_before_and_after(
    method: str,
) -> None:
    agent = agent_of(small(method, steps=60))  # 59 updates after a warm-up of 1 step
    learner, records = agent.critics_learner, 0
    initial = before = dict(agent.critics.layout)
    for update, batch in enumerate(itertools.islice(batches(), 40), start=1):
        agent.update(batch)
        after = dict(agent.critics.layout)
        for record in learner.topology_updates:
            first, old, new = (
                set(patterns[record.member, record.layer].positions.tolist())
                for patterns in (initial, before, after)
            )
            assert record.initial_overlap == pytest.approx(len(new & first) / len(new))
            assert record.moved - record.returned == len(new - old)
            cosine = 0.5 / 2 * (1 + np.cos(np.pi * update / 59))
            assert record.fraction == pytest.approx(0.05 if method == "DS-TD3" else cosine)
            records += 1
        learner.topology_updates.clear()
        before = after
    assert records >= 4 * 10  # two hidden layers of two critics


@pytest.mark.parametrize(
    "fields",
    [
        {"rewire_fraction": 0.0},
        {"rewire_fraction": 1e-4},  # rounded down to no connection in every layer
        {"actor_sparsity": 0.0, "critic_sparsity": 0.0},  # full layers: nothing can move
    ],
    ids=["no fraction", "fraction rounded down to 0", "full layers"],
)
def test_a_network_in_which_no_connection_moves_never_skips_a_step(fields: dict[str, Any]) -> None:
    agent, still = agent_of(small("SET-TD3", **fields)), agent_of(small("SS-TD3", **fields))
    mine, other = batches(), batches()
    for _ in range(9):
        agent.update(next(mine))
        still.update(next(other))
    for learner in (agent.actor_learner, agent.critics_learner):
        assert learner.adam.steps == learner.own_updates
    for name, network in agent.networks().items():
        for part, value in network.items():
            np.testing.assert_array_equal(value, still.networks()[name][part])


@pytest.mark.parametrize("delay", [1, 2, 3, 4, 5])
def test_each_network_updates_its_topology_on_its_own_clock(delay: int) -> None:
    config = small("SET-TD3", policy_delay=delay)
    agent = agent_of(config)
    assert isinstance(agent, TD3)
    for batch in itertools.islice(batches(), 40):
        agent.update(batch)
    critics = {e.agent_update for e in agent.critics_learner.topology_updates}  # type: ignore[attr-defined]
    actor = {e.agent_update for e in agent.actor_learner.topology_updates}  # type: ignore[attr-defined]
    assert critics == set(range(4, 41, 4))
    assert actor == set(range(4 * delay, 41, 4 * delay))


def test_one_network_can_keep_its_topology() -> None:
    for rewire, moves in (
        ("actor", (True, False)),
        ("critics", (False, True)),
        ("none", (False,) * 2),
    ):
        agent = agent_of(small("SET-TD3", rewire=rewire))
        for batch in itertools.islice(batches(), 20):
            agent.update(batch)
        assert (
            tuple(
                bool(learner.topology_updates)
                for learner in (agent.actor_learner, agent.critics_learner)
            )
            == moves
        )


def test_cosine_anneals_from_the_fraction_to_nothing() -> None:
    plan = schedule_of(preset("RLx2-TD3", "Ant-v3"), "critics")
    assert plan.fraction_at(0) == 0.5
    assert plan.fraction_at(plan.last // 2) == pytest.approx(0.25, abs=1e-6)
    assert plan.fraction_at(plan.last) == pytest.approx(0.0, abs=1e-12)
    assert plan.due_until(9_999) == 0
    assert plan.due_until(10_000) == 1


# ------------------------------------------------------------------ initial topology


def test_the_largest_uniform_weights_are_distributed_as_if_all_were_drawn() -> None:
    rng = np.random.default_rng(0)
    n_in, n_out, count, bound = 20, 30, 60, 0.25
    ours, theirs = [], []
    for _ in range(400):
        pattern, weights = largest_of_uniform(n_in, n_out, count, bound, rng)
        assert pattern.connections == count
        ours.append(np.abs(weights))
        everything = np.abs(rng.uniform(-bound, bound, n_in * n_out))
        theirs.append(np.sort(everything)[-count:])
    assert np.ptp(np.mean(ours, axis=0)) < 0.02 * bound  # no position gets larger ones than others
    a, b = np.sort(ours), np.array(theirs)
    np.testing.assert_allclose(a.mean(axis=0), b.mean(axis=0), atol=bound * 0.004)
    np.testing.assert_allclose(a.std(axis=0), b.std(axis=0), rtol=0.25)
    assert a.max() <= bound
    signs = np.sign(np.concatenate([largest_of_uniform(n_in, n_out, count, 1, rng)[1]
                                    for _ in range(50)]))  # fmt: skip
    assert abs(signs.mean()) < 0.1


@pytest.mark.parametrize(("weights", "bound"), [("uniform", 0.1), ("xavier", 0.2)])
@pytest.mark.parametrize(("topology", "mean"), [("random", 1 / 2), ("largest_weights", 3 / 4)])
def test_initial_weights_are_uniform_within_the_bound_of_the_full_layer(
    weights: str, bound: float, topology: str, mean: float
) -> None:
    """For 100 inputs and 50 outputs, the bounds are 1 / sqrt(100) and sqrt(6 / (100 + 50))."""
    config = preset(
        "Static-TD3", "Pendulum-v1", hidden=(50,), initial_weights=weights,
        initial_topology=topology,
    )  # fmt: skip
    critics = build_agent(config, architecture(config, 97, 3)).learners["critics"].network
    values = critics.layout.read(critics.parameters, (0, 0))
    magnitudes = np.abs(values) / bound
    assert values.size == 100 * 50 / 2
    assert 0.99 < magnitudes.max() <= 1
    assert magnitudes.mean() == pytest.approx(mean, rel=0.03)
    assert abs(np.sign(values).mean()) < 0.06
    biases = np.abs(critics.layout.read(critics.parameters, (0, 0), "bias"))
    assert 0.9 * bound < biases.max() <= bound if weights == "uniform" else not biases.any()


def test_orthogonal_matrices_and_their_largest_entries() -> None:
    rng = np.random.default_rng(0)
    for n_in, n_out in ((6, 9), (9, 6), (7, 7)):
        matrix = orthogonal_matrix(n_in, n_out, rng).astype(np.float64)
        assert matrix.shape == (n_out, n_in)
        small_side = matrix.T @ matrix if n_out >= n_in else matrix @ matrix.T
        np.testing.assert_allclose(small_side, np.eye(min(n_in, n_out)), atol=1e-6)
        # With every matrix Q, -Q is as likely, so every entry has the mean 0.
        means = np.mean([orthogonal_matrix(n_in, n_out, rng) for _ in range(400)], axis=0)
        assert np.abs(means).max() < 0.1
    pattern = largest_of_matrix(np.array([[1, -5, 2], [2, 0, -3]], np.float32), 3)
    assert pattern.positions.tolist() == [1, 2, 5]  # the tie of 2 goes to the lower position


@pytest.mark.parametrize("method", ["SS-TD3", "SS-SAC"])
def test_presets_keep_the_largest_initial_weights(method: str) -> None:
    largest = agent_of(small(method)).critics
    random = agent_of(small(method, initial_topology="random")).critics
    place = (0, 1)
    kept = [np.abs(net.layout.read(net.parameters, place)) for net in (largest, random)]
    assert kept[0].size == kept[1].size
    assert kept[0].min() > np.median(kept[1])


def test_growth_rules_differ() -> None:
    ends = [agent_of(small(m)) for m in ("SET-TD3", "RigL-TD3")]
    for agent in ends:
        for batch in itertools.islice(batches(), 8):
            agent.update(batch)
    a, b = (agent.critics.layout.pattern((0, 1)).positions for agent in ends)
    assert a.size == b.size
    assert not np.array_equal(a, b)
