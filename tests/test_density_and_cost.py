"""Compare the connections, densities, FLOPs and settings of every method with the papers'."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layouts import sizes_of
from sparl.architecture import Architecture, architecture
from sparl.configuration import Config
from sparl.cost import cost
from sparl.errors import UsageError
from sparl.methods import ALIASES, METHODS, check, find_method, preset
from sparl.networks.adam import Adam
from sparl.topology.density import scaled

many = settings(derandomize=True, max_examples=300)
SIZES = {
    "HalfCheetah-v3": (17, 6), "Walker2d-v3": (17, 6), "Hopper-v3": (11, 3),
    "Ant-v3": (111, 8), "Humanoid-v3": (376, 17),
    "HalfCheetah-v5": (17, 6), "Walker2d-v5": (17, 6), "Hopper-v5": (11, 3),
    "Ant-v4": (27, 8), "Ant-v5": (105, 8), "Humanoid-v4": (376, 17), "Humanoid-v5": (348, 17),
    "Pendulum-v1": (3, 1),
}  # fmt: skip


def build(method: str, env: str, **fields: Any) -> Architecture:
    """Return a method's layers; the command line must accept the configuration."""
    config = preset(method, env, **fields)
    check(config)
    return architecture(config, *SIZES[env])


def counts(nets: Architecture) -> tuple[list[int], list[int]]:
    return [n for _, n in sizes_of(nets.networks["actor"])], [
        n for _, n in sizes_of(nets.networks["critics"])
    ]


def densities(layers: tuple[tuple[tuple[int, int], int], ...]) -> list[float]:
    return [round(n / (n_in * n_out), 4) for (n_in, n_out), n in layers]


# --- Connections of the papers ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "actor", "critic"),
    [  # lambda_1 (n_in + 256), 64 (256 + 256), the output layer dense
        ("HalfCheetah-v3", [1911, 32768, 1536], [1953, 32768, 256]),
        ("Walker2d-v3", [1911, 32768, 1536], [1953, 32768, 256]),
        ("Hopper-v3", [1869, 32768, 768], [1890, 32768, 256]),
        ("Ant-v3", [14680, 32768, 2048], [15000, 32768, 256]),
        ("Humanoid-v3", [38552, 32768, 4352], [39589, 32768, 256]),
        ("HalfCheetah-v5", [1911, 32768, 1536], [1953, 32768, 256]),
        ("Hopper-v5", [1869, 32768, 768], [1890, 32768, 256]),
        ("Humanoid-v4", [38552, 32768, 4352], [39589, 32768, 256]),
    ],
)
@pytest.mark.parametrize("method", ["DS-TD3", "Static-TD3"])
def test_lambdas_give_the_papers_layers(
    method: str, env: str, actor: list[int], critic: list[int]
) -> None:
    nets = build(method, env)
    assert counts(nets) == (actor, critic)
    assert nets.notes == ()
    n_obs, n_act = SIZES[env]
    assert [shape for shape, _ in sizes_of(nets.networks["actor"])] == [
        (n_obs, 256),
        (256, 256),
        (256, n_act),
    ]
    assert [shape for shape, _ in sizes_of(nets.networks["critics"])] == [
        (n_obs + n_act, 256),
        (256, 256),
        (256, 1),
    ]


@pytest.mark.parametrize(
    ("task", "actor", "critic"), [("Ant", 0.5166, 0.4924), ("Humanoid", 0.4005, 0.3935)]
)
@pytest.mark.parametrize("version", ["v3", "v4", "v5"])
def test_ant_and_humanoid_keep_their_density_at_every_observation_size(
    task: str, version: str, actor: float, critic: float
) -> None:
    nets = build("DS-TD3", f"{task}-{version}")
    for name, first in (("actor", actor), ("critics", critic)):
        found = densities(sizes_of(nets.networks[name]))
        assert found == pytest.approx([first, 0.5, 1.0], abs=1.5e-4)


def test_an_environment_outside_the_papers_has_half_of_its_hidden_connections() -> None:
    assert counts(build("DS-TD3", "Pendulum-v1")) == ([384, 32768, 256], [512, 32768, 256])
    deep = build("Static-TD3", "Pendulum-v1", hidden=(10, 20, 30))
    assert counts(deep) == ([15, 100, 300, 30], [20, 100, 300, 30])


@pytest.mark.parametrize("env", ["HalfCheetah-v3", "Ant-v5", "Pendulum-v1"])
def test_td3_is_dense(env: str) -> None:
    nets = build("TD3", env)
    for spec in nets.networks.values():
        assert all(layer.connections == layer.n_in * layer.n_out for layer in spec.layers)


def test_a_lambda_too_large_gives_a_dense_layer_and_a_note() -> None:
    nets = build("DS-TD3", "Hopper-v3", lambda_1=11.0)
    assert counts(nets) == ([2816, 32768, 768], [2970, 32768, 256])  # 11 * 267 > 11 * 256
    assert len(nets.notes) == 1
    assert all(part in nets.notes[0] for part in ("layer 1 of the actor", "lambda", "2937", "2816"))


def test_explicit_densities_are_taken_layer_by_layer() -> None:
    nets = build(
        "DS-TD3", "HalfCheetah-v3", actor_densities=(1.0, 0.25, 0.5), critic_densities=(0.1, 0, 1)
    )
    assert counts(nets) == ([4352, 16384, 768], [589, 0, 256])
    only_actor = build("DS-TD3", "HalfCheetah-v3", actor_densities=(1.0, 0.25, 0.5))
    assert counts(only_actor) == ([4352, 16384, 768], [1953, 32768, 256])


@pytest.mark.parametrize("env", ["HalfCheetah-v3", "Ant-v5", "Pendulum-v1"])
def test_lambdas_that_are_given_are_never_ignored(env: str) -> None:
    """Lambdas also replace the densities of a preset."""
    n_obs, n_act = SIZES[env]
    assert counts(build("DS-TD3", env, lambda_1=1.0, lambda_2=3.0)) == (
        [n_obs + 256, 3 * 512, 256 * n_act],
        [n_obs + n_act + 256, 3 * 512, 256],
    )
    assert counts(build("DS-TD3", env, lambda_1=1.0))[0][0] == n_obs + 256
    assert counts(build("DS-TD3", env, lambda_2=3.0))[0][1] == 3 * 512


# --- Scaling to a sparsity -------------------------------------------------------------------


@pytest.mark.parametrize("sparsity", [0.0, 0.25, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("env", ["HalfCheetah-v3", "Humanoid-v3", "Ant-v5"])
def test_a_sparsity_is_met_exactly_with_a_dense_output(env: str, sparsity: float) -> None:
    nets = build("DS-TD3", env, actor_sparsity=sparsity)
    free = build("DS-TD3", env)
    size = sum(n_in * n_out for (n_in, n_out), _ in sizes_of(nets.networks["actor"]))
    assert sum(n for _, n in sizes_of(nets.networks["actor"])) == int((1 - sparsity) * size + 0.5)
    (_, first), (_, second), (shape, output) = sizes_of(nets.networks["actor"])
    assert output == shape[0] * shape[1]
    assert sizes_of(nets.networks["critics"]) == sizes_of(free.networks["critics"])
    if sparsity > 0:  # one factor for both lambdas: the layers keep their proportion
        (_, wanted_first), (_, wanted_second), _ = sizes_of(free.networks["actor"])
        assert abs(first - second * wanted_first / wanted_second) <= 1
    critic = sizes_of(build("DS-TD3", env, critic_sparsity=sparsity).networks["critics"])
    assert sum(n for _, n in critic) == int(
        (1 - sparsity) * sum(a * b for (a, b), _ in critic) + 0.5
    )


def test_a_layer_that_would_exceed_its_size_is_full_and_the_factor_is_solved_again() -> None:
    """At 10 % sparsity, one factor for both layers of Humanoid would overfill the second one.

    149,530 - 4,352 connections remain for the hidden layers, 2.04 times (38,552, 32,768).
    """
    nets = build("DS-TD3", "Humanoid-v3", actor_sparsity=0.1)
    assert counts(nets)[0] == [145_178 - 65_536, 65_536, 4352]
    assert scaled([(2, 5), (10, 10)], [10, 20], 60) == [10, 50]
    assert scaled([(2, 5), (3, 4), (10, 10)], [10, 10, 10], 100) == [10, 12, 78]
    assert scaled([(2, 5), (10, 10)], [1, 2], 9) == [3, 6]
    # Each layer gets 2.5 connections; the largest layer is rounded down.
    assert scaled([(2, 5), (10, 10)], [1, 1], 5) == [3, 2]


def test_lambdas_are_scaled_before_they_are_limited_to_the_size_of_a_layer() -> None:
    """One factor scales both lambdas, and only full layers are called dense.

    lambda_1 = 1000 requests 273,000 connections and lambda_2 = 64 requests 32,768; the actor's
    hidden layers get 7,142 - 1,536 = 5,606. At that factor, the first layer would exceed its size
    of 4,352.
    """
    nets = build("DS-TD3", "HalfCheetah-v3", lambda_1=1000.0, actor_sparsity=0.9)
    assert counts(nets)[0] == [4352, 5606 - 4352, 1536]
    sparse = build("DS-TD3", "HalfCheetah-v3", lambda_1=20.0, actor_sparsity=0.9)
    assert counts(sparse)[0] == [801, 4805, 1536]  # of 5,460 and 32,768
    assert not any("actor" in note for note in sparse.notes)  # 801 of 4,352 is not dense


@many
@given(st.data())
def test_scaling_is_exact_and_by_one_factor(data: st.DataObject) -> None:
    side = st.integers(1, 40)
    shapes = data.draw(st.lists(st.tuples(side, side), min_size=1, max_size=5))
    wanted = [data.draw(st.floats(0.1, 2.0 * a * b)) for a, b in shapes]
    sizes = [a * b for a, b in shapes]
    total = data.draw(st.integers(0, sum(sizes)))
    result = scaled(shapes, wanted, total)
    assert sum(result) == total
    assert all(0 <= n <= size for n, size in zip(result, sizes, strict=True))

    def at(factor: float) -> list[float]:
        return [min(factor * w, size) for w, size in zip(wanted, sizes, strict=True)]

    low, high = 0.0, 1e6
    for _ in range(100):  # bisect for the factor that gives the total
        middle = (low + high) / 2
        low, high = (middle, high) if sum(at(middle)) < total else (low, middle)
    for n, ideal in zip(result, at(high), strict=True):
        assert abs(n - ideal) <= 0.5 * len(shapes) + 0.5  # rounding and its remainder
    for impossible in (-1, sum(sizes) + 1):
        with pytest.raises(ValueError, match=f"is {impossible} but"):
            scaled(shapes, wanted, impossible)


@pytest.mark.parametrize(
    ("fields", "numbers"),
    [  # 1 % of 71,424 is less than the dense output
        ({"actor_sparsity": 0.99}, ["actor_sparsity is 0.99", "714", "1536", "71424", "0.9785"]),
        (
            {"critic_sparsity": 1.0},
            ["critic_sparsity is 1.0", "leaves 0 ", "256", "71680", "0.9964"],
        ),
        (  # the hidden layers cannot make up for an output layer at half its connections
            {"actor_sparsity": 0.0, "actor_densities": (0.5, 0.5, 0.5)},
            ["actor_sparsity is 0.0", "71424", "768", "70656", "0.0108"],
        ),
    ],
)
def test_an_impossible_sparsity_is_rejected_with_the_numbers(
    fields: dict[str, Any], numbers: list[str]
) -> None:
    with pytest.raises(UsageError) as caught:
        build("DS-TD3", "HalfCheetah-v3", **fields)
    assert all(number in str(caught.value) for number in numbers)


# --- Cost ------------------------------------------------------------------------------------


def cheetah(method: str, **fields: Any) -> dict[str, Any]:
    return cost(preset(method, "HalfCheetah-v3", **fields), 17, 6)


def test_costs_equal_those_in_the_paper() -> None:
    dense, sparse = cheetah("TD3"), cheetah("DS-TD3")
    assert (sparse["connections"], sparse["dense_connections"]) == (106_169, 214_784)
    assert dense["connections"] == dense["dense_connections"] == 214_784
    # 6 B T (2 Q + A / d) = 6 * 100 * 1e6 * (2 * 71,680 + 71,424 / 2)
    assert dense["flops"]["paper"] == {"dense": 1.074432e14, "sparse": 1.074432e14, "ratio": 1.0}
    assert sparse["flops"]["paper"]["dense"] == 1.074432e14
    assert sparse["flops"]["paper"]["sparse"] == 6e8 * (2 * 34_977 + 36_215 / 2)
    assert round(sparse["flops"]["paper"]["ratio"], 4) == 0.4918
    assert sparse["inference_flops_ratio"] == 36_215 / 71_424
    assert sparse["size_ratio_with_targets"] == 106_169 / 214_784
    assert cheetah("Static-TD3")["flops"] == sparse["flops"]


def passes(actor: list[int], critic: list[int], action_share: float) -> float:
    """Return the multiply-adds per sample of a TD3 update, for a policy delay of 2."""
    a, q = sum(actor), sum(critic)
    critics = [
        a, 2 * q,  # a' = pi'(s'), Q_i'(s', a')
        2 * q, 2 * q, 2 * sum(critic[1:]),  # forward, dW, and dX down to the first layer
    ]  # fmt: skip
    actors = [
        a, q,  # pi(s), Q_1(s, pi(s))
        sum(critic[1:]) + action_share * critic[0],  # dQ_1 / da
        a, sum(actor[1:]),  # dW, dX
    ]  # fmt: skip
    return sum(critics) + sum(actors) / 2


def test_counted_multiply_adds_per_sample_and_update() -> None:
    for method, thousand in (("TD3", 810), ("DS-TD3", 400)):
        result = cheetah(method)
        per_sample = result["flops"]["counted"]["sparse"] / (2 * 100 * 1_000_000)
        assert round(per_sample / 1e3, -1) == thousand
        layers = {
            name: [layer["connections"] for layer in network["layers"]]
            for name, network in result["networks"].items()
        }
        assert per_sample == pytest.approx(passes(layers["actor"], layers["critic"], 6 / 23))
        assert result["flops"]["counted"]["dense"] == pytest.approx(2e8 * 807_552)


def test_the_costs_of_small_sac_networks_equal_those_worked_out_by_hand() -> None:
    """The actor's layers are 3 x 10 and 10 x 4, and those of each of two critics 5 x 10 and 10 x 1.

    Multiply-adds of an update, with 3 states per window: 3 * 70 and 2 * 60 for the target; 2 * 60,
    2 * 60 and 2 * 10 for the critics' outputs and gradients; 70, 2 * 60 and 2 * (10 + 2 * 10) for
    the actor's loss and its gradient with respect to the 2 actions; 70 and 40 for the actor's.
    """
    config = preset("SAC", "Pendulum-v1", hidden=(10,), batch_size=7, steps=11, n_step=3)
    result = cost(config, 3, 2)
    samples, updates = 7 * 11, 210 + 120 + 120 + 120 + 20 + 70 + 120 + 60 + 70 + 40
    assert result["flops"]["counted"]["sparse"] == 2 * samples * updates
    assert result["flops"]["counted"]["dense"] == 2 * samples * (updates - 2 * 70)  # 1 state
    assert result["flops"]["paper"]["sparse"] == 6 * samples * (2 * 60 + 70)
    assert result["bytes"] == {
        "weights": 4 * 190, "indices": 8 * 190, "moments": 2 * 4 * 190, "targets": 4 * 120,
    }  # fmt: skip


def test_costs_grow_with_batch_steps_and_the_actors_rate() -> None:
    base = cheetah("DS-TD3")["flops"]
    for fields in ({"batch_size": 200}, {"steps": 2_000_000}):
        for name, flops in cheetah("DS-TD3", **fields)["flops"].items():
            assert flops["sparse"] == pytest.approx(2 * base[name]["sparse"])
            assert flops["ratio"] == pytest.approx(base[name]["ratio"])
    every = cheetah("DS-TD3", policy_delay=1)["flops"]
    assert every["paper"]["sparse"] - base["paper"]["sparse"] == pytest.approx(6e8 * 36_215 / 2)
    assert every["counted"]["sparse"] > base["counted"]["sparse"]


def test_cost_reports_plain_values_under_fixed_names() -> None:
    """Scripts read these names from `sparl cost --json`; all values are plain JSON values."""
    result = cheetah("DS-TD3")
    assert json.loads(json.dumps(result)) == result
    assert set(result) >= {
        "method", "env", "networks", "connections", "dense_connections",
        "size_ratio_with_targets", "inference_flops_ratio", "flops",
    }  # fmt: skip
    assert (result["method"], result["env"]) == ("DS-TD3", "HalfCheetah-v3")
    assert {name: set(network) for name, network in result["networks"].items()} == {
        "actor": {"copies", "layers"},
        "critic": {"copies", "layers"},
    }
    assert result["networks"]["actor"]["copies"] == 1
    assert result["networks"]["critic"]["copies"] == 2
    assert result["networks"]["critic"]["layers"] == [
        {"inputs": 23, "outputs": 256, "connections": 1953},
        {"inputs": 256, "outputs": 256, "connections": 32768},
        {"inputs": 256, "outputs": 1, "connections": 256},
    ]
    assert {name: set(flops) for name, flops in result["flops"].items()} == {
        "paper": {"dense", "sparse", "ratio"},
        "counted": {"dense", "sparse", "ratio"},
    }


# --- Presets ---------------------------------------------------------------------------------

DS_SETTINGS = {
    "hidden": (256, 256),
    "steps": 1_000_000,
    "rewire_fraction": 0.05,
    "rewire_clock": "agent",
    "freeze_fraction": 0.05,
    "drop": "nearest_zero_of_each_sign",
    "grow": "random",
    "grown_moments": "factored",
    "learning_rate": 1e-3,
    "weight_decay": 2e-4,
    "batch_size": 100,
    "replay_capacity": 1_000_000,
    "warmup_env_steps": 25_000,
    "updates_per_env_step": 1,
    "exploration_noise": 0.1,
    "target_noise": 0.2,
    "noise_clip": 0.5,
    "policy_delay": 2,
    "tau": 0.005,
    "gamma": 0.99,
    "n_step": 1,
    "dynamic_buffer": False,
    "evaluate_every_env_steps": 5_000,
    "evaluation_episodes": 10,
    "horizon_env_steps": None,
    "stop_at": None,
    "actor_sparsity": None,
    "critic_sparsity": None,
}
SETTINGS = {
    "TD3": {**DS_SETTINGS, "initial_weights": "uniform"},
    "SAC": {
        **DS_SETTINGS, "learning_rate": 3e-4, "weight_decay": 0.0, "batch_size": 256,
        "warmup_env_steps": 10_000, "initial_weights": "xavier", "rewire_fraction": 0.1,
        "policy_delay": 1, "alpha": 0.2, "learn_alpha": False, "log_std": "clamp",
    },
}  # fmt: skip
TOPOLOGY = {
    "": {"rewire_every_updates": 0, "target_pattern": "shared"},
    "Static-": {"rewire_every_updates": 0, "target_pattern": "shared"},
    "DS-": {"rewire_every_updates": 1000, "target_pattern": "own"},
}
LAMBDAS = {
    "TD3": {
        "HalfCheetah": (7, 64), "Hopper": (7, 64), "Walker2d": (7, 64), "Ant": (40, 64),
        "Humanoid": (61, 64),
    },
    "SAC": {
        "HalfCheetah": (12, 80), "Hopper": (7, 20), "Walker2d": (12, 80), "Ant": (30, 64),
        "Humanoid": (61, 64),
    },
}  # fmt: skip


@pytest.mark.parametrize("env", ["HalfCheetah-v3", "Ant-v3", "Ant-v5", "Pendulum-v1"])
@pytest.mark.parametrize("family", TOPOLOGY)
@pytest.mark.parametrize("agent", SETTINGS)
def test_the_hyperparameters_of_the_ds_family(agent: str, family: str, env: str) -> None:
    values = asdict(preset(family + agent, env))
    expected = {**SETTINGS[agent], **TOPOLOGY[family]}
    expected["hard_target_every"] = 1000 if agent == "SAC" and family else 0
    assert {name: values[name] for name in expected} == expected
    assert (Adam.beta1, Adam.beta2, Adam.epsilon) == (0.9, 0.999, 1e-8)
    check(preset(family + agent, env))


@pytest.mark.parametrize("task", LAMBDAS["TD3"])
@pytest.mark.parametrize("agent", LAMBDAS)
def test_lambdas_of_each_environment(agent: str, task: str) -> None:
    for family in ("DS-", "Static-"):
        config = preset(family + agent, f"{task}-v3")
        assert (config.lambda_1, config.lambda_2) == LAMBDAS[agent][task]
        assert config.actor_densities is config.critic_densities is None
    dense = preset(agent, f"{task}-v3")
    assert dense.lambda_1 is dense.lambda_2 is None
    assert dense.actor_densities is dense.critic_densities is None


def test_methods_differ_only_in_topology() -> None:
    """DS compares its three methods under equal settings."""
    configs = [asdict(preset(family + "TD3", "HalfCheetah-v3")) for family in TOPOLOGY]
    differing = {
        name for a, b in itertools.combinations(configs, 2) for name in a if a[name] != b[name]
    }
    assert differing == {
        "method", "lambda_1", "lambda_2", "rewire_every_updates", "rewire_first_update",
        "target_pattern",
    }  # fmt: skip


def test_given_fields_take_precedence_over_the_preset() -> None:
    config = preset("DS-TD3", "Ant-v3", lambda_1=3.0, rewire_every_updates=7, seed=5)
    assert config == replace(
        preset("DS-TD3", "Ant-v3"), lambda_1=3.0, rewire_every_updates=7, seed=5
    )
    assert isinstance(config, Config)


def test_methods_are_found_by_name_and_alias() -> None:
    assert set(METHODS) >= {"TD3", "Static-TD3", "DS-TD3"}
    assert preset("StaticSparseTD3", "Ant-v3") == preset("Static-TD3", "Ant-v3")
    for name, method in {**{n: n for n in METHODS}, **ALIASES}.items():
        assert find_method(name).name == method
        assert METHODS[method].source
        assert METHODS[method].family.summary


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("DS-TD4", "DS-TD3"), ("ds-td3", "DS-TD3?"), ("staticsparse", "StaticSparseTD3"),
     ("td3", "TD3"), ("zzzz", "known: TD3, Static-TD3, DS-TD3")],
)  # fmt: skip
def test_an_unknown_method_is_an_error_that_suggests_the_nearest_name(
    typed: str, offered: str
) -> None:
    with pytest.raises(UsageError, match=f"unknown method '{typed}'.*{offered}"):
        preset(typed, "HalfCheetah-v3")
