"""Compare sparl_chip.c with a float64 reference and with sparl's engine, given the same draws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chip.library import TERMINAL, TIME_LIMIT, UPDATED, Chip, Random
from chip.reference import Draw, Net, Reference
from sparl.architecture import architecture
from sparl.build import build_agent
from sparl.methods import preset
from sparl.replay.batch import Batch
from sparl.topology.propose import TopologyMethod
from sparl.topology.rules import GrowRule

SETTINGS: dict[str, Any] = {
    "GAMMA": 0.99, "TAU": 0.02, "POLICY_DELAY": 2, "TARGET_NOISE": 0.2, "NOISE_CLIP": 0.5,
    "LEARNING_RATE": 1e-3, "WEIGHT_DECAY": 2e-4, "REWIRE_EVERY": 50, "REWIRE_FRACTION": 0.1,
}  # fmt: skip
UPDATES = 100


def trained_chip(folder: Path, method: str, **changes: Any) -> Chip:
    """Return an agent whose float32 replay buffer contains random transitions."""
    chip = Chip(
        folder, method=method, n_obs=4, n_act=2, hidden=(32, 32), CAPACITY=400, WARMUP=200,
        REPLAY="SPARL_CHIP_FLOAT32", WEIGHT_DECAY="2e-4f", REWIRE_EVERY=50,
        REWIRE_FRACTION="0.1f", **changes,
    )  # fmt: skip
    chip.init(7)
    rng = np.random.default_rng(0)
    observation = rng.normal(size=4).astype(np.float32)
    chip.begin(observation)
    for step in range(300):
        action = rng.uniform(-1, 1, 2).astype(np.float32)
        after = rng.normal(size=4).astype(np.float32)
        end = {19: TERMINAL, 9: TIME_LIMIT}.get(step % 20, 0)
        chip.store(action, float(observation[0] * action[0] - after[1]), after, end)
        observation = after
        if end:
            observation = rng.normal(size=4).astype(np.float32)
            chip.begin(observation)
    return chip


def draw_of_update(chip: Chip) -> Draw:
    """Let the chip update once, and return what it drew."""
    random, replay = Random(chip.state["learning"]), chip.state["replay"]
    filled, batch = int(replay["filled"]), chip.sizes.batch
    kinds = (replay["kinds"][:, None] >> (2 * np.arange(16, dtype=np.uint32))).reshape(-1) & 3
    slots = []
    for _ in range(batch):
        while kinds[slot := random.below(filled)] == 2:
            pass
        slots.append(slot)
    noise = [[random.normal() for _ in range(2)] for _ in range(batch)]
    values = replay["values"].astype(np.float64)
    after = values[(np.array(slots) + 1) % chip.sizes.capacity, :4]
    before = {i: chip.positions(place).copy() for i, place in enumerate(chip.places())}
    assert chip.work() == UPDATED
    now = {i: chip.positions(place).copy() for i, place in enumerate(chip.places())}
    assert all(before[i].size == now[i].size for i in now)
    rows = values[slots]
    return Draw(
        rows[:, :4], rows[:, 4:6], rows[:, 6:7], kinds[slots] == 1, after, np.array(noise),
        {divmod(i, 3): positions for i, positions in now.items()},
    )  # fmt: skip


def nets_of(chip: Chip, name: str) -> list[Net]:
    places = chip.places()
    nets = []
    for network in range(3):
        layers = places[3 * network : 3 * network + 3]
        masks = []
        for place in layers:
            mask = np.zeros(place.n_in * place.n_out, np.bool_)
            mask[chip.positions(place, name == "target")] = True
            masks.append(mask.reshape(place.n_out, place.n_in))
        w = [chip.dense(place, name) for place in layers]
        nets.append(Net(w, masks, [chip.biases(place, name) for place in layers]))
    return nets


def distance(chip: Chip, reference: Reference) -> float:
    """Return the largest difference of any weight or bias, online or target."""
    largest = 0.0
    for name, nets in (("parameters", reference.nets), ("target", reference.targets)):
        for index, place in enumerate(chip.places()):
            network, layer = divmod(index, 3)
            w = chip.dense(place, name) - nets[network].w[layer]
            b = chip.biases(place, name) - nets[network].b[layer]
            largest = max(largest, np.abs(w).max(), np.abs(b).max())
    return largest


METHODS = ("TD3", "Static-TD3", "SET-TD3", "DS-TD3")


@pytest.mark.parametrize("method", METHODS)
def test_100_updates_against_float64(method: str, tmp_path: Path) -> None:
    chip = trained_chip(tmp_path, method)
    reference = Reference(nets_of(chip, "parameters"), nets_of(chip, "target"), method, SETTINGS)
    initial = chip.dense(chip.places()[4]).copy()
    for _ in range(UPDATES):
        reference.update(draw_of_update(chip))
    assert distance(chip, reference) < 1e-6
    assert np.abs(chip.dense(chip.places()[4]) - initial).max() > 0.02  # it has learned
    assert (reference.dropped > 0) == (method in ("SET-TD3", "DS-TD3"))
    print(f"{method}: {distance(chip, reference):.2g}")


def test_bfloat16_moments_stay_near_the_reference(tmp_path: Path) -> None:
    method = "Static-TD3"
    chip = trained_chip(tmp_path, method, MOMENTS="SPARL_CHIP_BFLOAT16")
    reference = Reference(nets_of(chip, "parameters"), nets_of(chip, "target"), method, SETTINGS)
    for _ in range(UPDATES):
        reference.update(draw_of_update(chip))
    print(f"{method}, bfloat16: {distance(chip, reference):.2g}")
    assert 1e-5 < distance(chip, reference) < 5e-3


@pytest.mark.parametrize("method", METHODS)
def test_100_updates_against_the_engine(method: str, tmp_path: Path) -> None:
    chip = trained_chip(tmp_path, method)
    agent = engine(chip, method)
    for _ in range(UPDATES):
        draw = draw_of_update(chip)
        agent.target_rng = lambda *shape, d=draw: d.noise.astype(np.float32).reshape(shape)
        for network, name in enumerate(("actor", "critics")):
            inject(agent.learners[name], draw, network)
        f = np.float32
        discount = np.where(draw.terminal[:, None], 0, 0.99).astype(f)
        agent.update(
            Batch(
                draw.observation.astype(f), draw.action.astype(f), draw.reward.astype(f), discount,
                draw.next_observation.astype(f),
            )
        )  # fmt: skip
    largest = 0.0
    for index, place in enumerate(chip.places()):
        network, layer = divmod(index, 3)
        name, member = ("actor", 0) if network == 0 else ("critics", network - 1)
        prefix = f"member{member}.layer{layer}"
        for array, state in (
            ("parameters", agent.learners[name].network.state()),
            ("target", agent.targets[name].existing()),
        ):
            matrix = np.zeros(place.n_in * place.n_out)
            matrix[state[f"{prefix}.positions"]] = state[f"{prefix}.weight"]
            w = chip.dense(place, array).reshape(-1) - matrix
            b = chip.biases(place, array) - state[f"{prefix}.bias"]
            largest = max(largest, np.abs(w).max(), np.abs(b).max())
    print(f"{method}, engine: {largest:.2g}")
    assert largest < 1e-5


def engine(chip: Chip, method: str) -> Any:
    """Return sparl's own agent with the chip's networks."""
    family = "ds" if method in ("TD3", "Static-TD3", "DS-TD3") else "rlx2"
    config = preset(
        method, "point", settings=family, hidden=(32, 32), allocation="erdos_renyi",
        sparse_output=True, actor_sparsity=0.8, critic_sparsity=0.8, batch_size=64, tau=0.02,
        learning_rate=1e-3, weight_decay=2e-4, steps=10_000_000, rewire_schedule="constant",
        **({"rewire_every_updates": 50, "rewire_fraction": 0.1} if method[:2] in ("SE", "DS")
           else {}),
    )  # fmt: skip
    agent = build_agent(config, architecture(config, 4, 2))
    for network, name in enumerate(("actor", "critics")):
        members = 1 if name == "actor" else 2
        states: dict[str, dict[str, Any]] = {"parameters": {}, "target": {"behind": 0}}
        for member in range(members):
            for layer in range(3):
                place = chip.places()[3 * (network + member) + layer]
                positions = chip.positions(place)
                for array, state in states.items():
                    values = chip.state[array]
                    prefix = f"member{member}.layer{layer}"
                    state[f"{prefix}.positions"] = positions
                    state[f"{prefix}.weight"] = values[
                        place.weights : place.weights + positions.size
                    ]
                    state[f"{prefix}.bias"] = values[place.biases : place.end]
        learner = agent.learners[name]
        learner.network.restore(states["parameters"])
        agent.targets[name].restore(states["target"])
        zeros = learner.network.layout.to_state(np.zeros_like(learner.network.parameters))
        moments = {f"{m}.{k}": v for m in "mv" for k, v in zeros.items() if "posit" not in k}
        learner.adam.restore({"steps": 0, **moments}, learner.network.layout)
    return agent


def inject(learner: Any, draw: Draw, network: int) -> None:
    """Make the learner grow the positions that the chip has grown."""
    places = [(network + member, layer) for (member, layer), _ in learner.network.layout]
    sparse = iter(
        [
            draw.positions[place]
            for place, (_, pattern) in zip(places, learner.network.layout, strict=True)
            if pattern.connections < pattern.size
        ]
    )

    def grow(layer: Any, kept: Any, count: int, rng: Any) -> Any:
        after = next(sparse)
        return after[~np.isin(after, kept.positions)]

    learner.method = TopologyMethod(learner.method.drop, GrowRule(grow))
