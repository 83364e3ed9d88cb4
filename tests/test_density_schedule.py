"""Test density schedules, with which layers lose or gain connections during training."""

from __future__ import annotations

import copy
import csv
import json
import math
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sparl
from resuming import results, stopped_at
from sparl.cli import main
from sparl.errors import UsageError
from sparl.identity import identity, run_id
from sparl.labels import method_label
from sparl.methods import check, preset
from sparl.sparse.pattern import Pattern
from sparl.topology.density_schedule import DensitySchedule, LayerProgress, density_schedule
from sparl.topology.drop import drop_nearest_zero_of_each_sign, drop_smallest
from sparl.topology.grow import grow_random
from sparl.topology.layer_view import LayerView
from sparl.topology.propose import TopologyMethod, propose
from sparl.topology.schedule import NEVER, Schedule

SMALL: dict[str, Any] = {
    "env": "Pendulum-v1", "steps": 300, "warmup_env_steps": 100, "hidden": (20, 12),
    "batch_size": 16, "evaluate_every_env_steps": 150, "evaluation_episodes": 1, "threads": 1,
    "rewire_every_updates": 20, "rewire_first_update": 20, "freeze_fraction": 0.1, "quiet": True,
    "n_step_delay_updates": 0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def schedules() -> Iterator[None]:
    """Register the schedules like a user's module, and unregister them afterwards."""
    before = dict(DensitySchedule.registry)

    @density_schedule("linear_pruning")
    def prune(layer: LayerProgress) -> tuple[int, float]:
        """Decrease linearly to 40 % of the connections."""
        return round(layer.initial * (1 - 0.6 * layer.progress)), layer.fraction

    @density_schedule("linear_growth")
    def grow(layer: LayerProgress) -> tuple[int, float]:
        """Increase linearly to all connections."""
        more = (layer.size - layer.initial) * layer.progress
        return layer.initial + round(more), layer.fraction

    yield
    DensitySchedule.registry.clear()
    DensitySchedule.registry.update(before)


def layers_of(run: Path, network: str = "actor") -> list[list[int]]:
    """Return every member's number of connections in each layer, read from the agent's file."""
    networks = json.loads((run / "agent.json").read_text())["networks"]
    return [[layer["connections"] for layer in member] for member in networks[network]]


def topology(run: Path) -> list[dict[str, str]]:
    with (run / "topology.csv").open() as file:
        return list(csv.DictReader(file))


def initial_counts(run: Path, network: str = "actor") -> list[int]:
    degrees = json.loads((run / "degrees.json").read_text())["initial"]
    return [sum(layer["in"]) for layer in degrees[network][0]]


# --- One layer --------------------------------------------------------------------------------


def view(weights: list[float], size: int = 20) -> LayerView:
    positions = np.arange(len(weights), dtype=np.int64)
    return LayerView(Pattern(size, 1, positions), np.array(weights, np.float32))


@pytest.mark.parametrize(
    ("fraction", "wanted", "dropped", "grown"),
    [
        (0.0, 10, 0, 0),  # nothing moves
        (0.2, 10, 2, 2),  # the number does not change
        (0.2, 9, 2, 1),
        (0.2, 8, 2, 0),
        (0.2, 3, 7, 0),  # more must be dropped than the fraction gives
        (0.0, 0, 10, 0),
        (0.2, 14, 2, 6),
        (0.0, 20, 0, 10),  # until every connection exists
    ],
)
def test_a_layer_reaches_the_requested_number_of_connections(
    fraction: float, wanted: int, dropped: int, grown: int
) -> None:
    layer = view([0.1 * (i + 1) for i in range(10)])
    method = TopologyMethod(drop_smallest, grow_random)
    proposal = propose(method, layer, fraction, np.random.default_rng(0), wanted)
    if proposal is None:
        assert (dropped, grown, wanted) == (0, 0, 10)
        return
    new = proposal.rewiring.new
    assert new.connections == wanted
    assert proposal.dropped == dropped
    assert wanted == 10 - dropped + grown
    # The largest weights are kept, regardless of which connections were grown.
    assert set(range(dropped, 10)) <= set(new.positions.tolist())
    assert proposal.returned == len(set(range(dropped)) & set(new.positions.tolist()))


def test_dead_links_are_dropped_first_and_count_towards_the_required_number() -> None:
    layer = view([0.0, 0.0, 0.0, 1.0, -2.0, 3.0, -4.0])
    method = TopologyMethod(drop_nearest_zero_of_each_sign, grow_random)
    proposal = propose(method, layer, 0.0, np.random.default_rng(0), 4)
    assert proposal is not None
    assert (proposal.dropped_dead, proposal.dropped_live) == (3, 0)
    np.testing.assert_array_equal(proposal.rewiring.new.positions, [3, 4, 5, 6])
    proposal = propose(method, layer, 0.0, np.random.default_rng(0), 2)
    assert proposal is not None
    assert (proposal.dropped_dead, proposal.dropped_live) == (3, 2)
    np.testing.assert_array_equal(proposal.rewiring.new.positions, [5, 6])


def test_a_full_layer_is_pruned_if_it_should_be() -> None:
    layer = view([1, 2, 3, 4], size=4)
    method = TopologyMethod(drop_smallest, grow_random)
    assert propose(method, layer, 0.5, np.random.default_rng(0), 4) is None
    proposal = propose(method, layer, 0.0, np.random.default_rng(0), 3)
    assert proposal is not None
    np.testing.assert_array_equal(proposal.rewiring.new.positions, [1, 2, 3])


@pytest.mark.parametrize(
    "result", [(-1, 0.1), (21, 0.1), (10.5, 0.1), (10, 1.5), (10, np.nan), 10, (10,), None], ids=str
)
def test_a_schedule_that_returns_an_invalid_value_is_named(result: Any) -> None:
    schedule = DensitySchedule(lambda layer: result, "mine")
    message = f"density schedule 'mine' returned {result!r} but must return a pair: "
    with pytest.raises(UsageError, match=re.escape(message)):
        schedule(LayerProgress(10, 10, n_in=5, n_out=4, progress=0.5, fraction=0.1))


def test_a_schedule_may_return_numbers_of_numpy() -> None:
    schedule = DensitySchedule(lambda layer: (np.int64(3), np.float32(0.5)), "mine")
    assert schedule(LayerProgress(10, 10, n_in=5, n_out=4, progress=0.5, fraction=0.1)) == (3, 0.5)


def test_progress_is_1_at_the_last_topology_update_and_the_cosine_ends_with_the_window() -> None:
    plan = Schedule(first=300, every=1000, last=1900, fraction=0.5, annealed=True)
    pattern = Pattern(5, 4, np.arange(6))
    states = [plan.of_layer(update, 8, pattern) for update in (300, 1300, 1350)]
    assert [state.progress for state in states] == [300 / 1300, 1.0, 1.0]
    assert states[1].fraction == 0.25 * (1 + math.cos(math.pi * 1300 / 1900))
    assert NEVER.progress_at(1) == 1.0


def test_a_schedule_can_prune_to_the_numbers_of_erdos_and_renyi() -> None:
    schedule = DensitySchedule(lambda layer: (2 * (layer.n_in + layer.n_out), 0.0), "mine")
    state = Schedule(first=1, every=1, last=9, fraction=0.1).of_layer(9, 30, Pattern.dense(8, 5))
    assert (state.n_in, state.n_out, state.size) == (8, 5, 40)
    assert schedule(state) == (26, 0.0)


# --- Names ------------------------------------------------------------------------------------


def test_a_schedule_is_copied_by_its_name() -> None:
    schedule = DensitySchedule.registry["linear_pruning"]
    method = TopologyMethod.named("smallest", "random", "linear_pruning")
    assert copy.deepcopy(method).density is schedule
    assert pickle.loads(pickle.dumps(method)).density is schedule


def test_a_schedule_that_is_not_registered_is_named() -> None:
    config = preset("SET-TD3", "Pendulum-v1", density_schedule="linear_prunning")
    check(config)
    with pytest.raises(UsageError, match=r"density_schedule is 'linear_prunning'.*'linear_pruning"):
        TopologyMethod.named(config.drop, config.grow, config.density_schedule)
    with pytest.raises(UsageError, match="density_schedule is 'a b'"):
        check(preset("SET-TD3", "Pendulum-v1", density_schedule="a b"))
    with pytest.raises(UsageError, match="'constant' is already registered"):
        density_schedule("constant")(lambda layer: (0, 0.0))


def test_the_default_schedule_changes_no_identity_and_another_one_is_in_the_label() -> None:
    config = preset("DS-TD3", "Hopper-v5")
    assert "density_schedule" not in identity(config)
    assert "critics" not in identity(config)
    pruned = preset("DS-TD3", "Hopper-v5", density_schedule="linear_pruning")
    assert run_id(pruned) != run_id(config)
    assert method_label(pruned) == "DS-TD3 (density_schedule linear_pruning)"
    dense = preset("TD3", "Hopper-v5", density_schedule="linear_pruning", rewire_every_updates=10)
    assert "rewire_every_updates 10" in method_label(dense)


# --- Training ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["DS-TD3", "RLx2-SAC", "TD3"])
def test_training_prunes_linearly(method: str, tmp_path: Path) -> None:
    """Targets with shared or own patterns do not exceed the budget of their networks either."""
    path = tmp_path / "run"
    sparl.train(method, run_dir=str(path), density_schedule="linear_pruning", **SMALL)
    initial = initial_counts(path, "critics")
    rows = [row for row in topology(path) if row["network"] == "critics" and row["layer"] == "1"]
    assert [int(row["agent_update"]) for row in rows[::2]] == list(range(20, 161, 20))
    for row in rows:
        left = 1 - 0.6 * int(row["agent_update"]) / 160  # the last topology update
        assert int(row["connections"]) == round(initial[1] * left)
    for name in ("critics", "critics_target"):
        for member in layers_of(path, name):
            assert all(
                now <= round(count * left) for now, count in zip(member, initial, strict=True)
            )
    assert layers_of(path)[0] == [round(0.4 * count) for count in initial_counts(path)]


def test_training_grows_a_layer_until_it_is_dense(tmp_path: Path) -> None:
    path = tmp_path / "run"
    fields = {**SMALL, "freeze_fraction": 0.0, "rewire_every_updates": 25}
    fields["rewire_first_update"] = 25  # so that the last topology update is in the last step
    sparl.train("SET-TD3", run_dir=str(path), density_schedule="linear_growth", **fields)
    assert layers_of(path, "critics")[0] == [4 * 20, 20 * 12, 12]
    assert initial_counts(path, "critics") < [4 * 20, 20 * 12, 12]


@pytest.mark.parametrize("method", ["DS-TD3", "RLx2-SAC"])
@pytest.mark.parametrize("schedule", ["linear_pruning", "linear_growth"])
def test_a_run_resumes_bit_for_bit(method: str, schedule: str, tmp_path: Path) -> None:
    """Stop between topology updates, while lines of topology.csv are still in memory."""
    fields = {**SMALL, "env": "Hopper-v5", "density_schedule": schedule}
    sparl.train(method, run_dir=str(tmp_path / "whole"), **fields)
    with stopped_at(207):
        sparl.train(method, run_dir=str(tmp_path / "halves"), **fields)
    sparl.resume(tmp_path / "halves", quiet=True)
    assert results(tmp_path / "halves") == results(tmp_path / "whole")


def test_a_pruned_policy_is_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run"
    sparl.train("DS-TD3", run_dir=str(path), density_schedule="linear_pruning", **SMALL)
    assert main(["export", str(path), "--format", "npz"]) == 0
    capsys.readouterr()
    with np.load(path / "export" / "policy.npz") as arrays:
        sizes = {array.size for array in arrays.values()}
    assert set(layers_of(path)[0]) <= sizes
