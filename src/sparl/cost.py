"""Compute the cost of a method without training: connections, bytes and FLOPs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sparl.agents import AGENTS, settings_of
from sparl.agents.agent import ACTOR
from sparl.architecture import Architecture, architecture
from sparl.configuration import Config
from sparl.methods import METHODS
from sparl.presets import AGENT_PRESETS

BYTES_WEIGHT = 4  # float32; also a gradient, a moment or a weight of a target
BYTES_INDEX = 8  # int64 position in canonical order


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of a training run; a multiply-add counts as two operations."""

    dense: float
    sparse: float

    @property
    def ratio(self) -> float:
        """The sparse operations divided by the dense operations."""
        return self.sparse / self.dense


def network_bytes(nets: Architecture, batch: int) -> int:
    """Estimate the memory that training needs [bytes].

    It holds all networks, target networks included, Adam's moments, and the activations of a batch
    of `batch` samples.
    """
    per_connection = 2 * BYTES_INDEX + 12 * 4  # bytes of patterns, blocks, values, moments, target
    total = 0
    for spec in nets.networks.values():
        units = sum(layer.n_in + layer.n_out for layer in spec.layers)
        of_each = per_connection * spec.connections + units * (64 + 4 * 4 * batch)
        total += spec.members * of_each
    return total


def least_checkpoint_bytes(config: Config, nets: Architecture) -> int:
    """Return a lower bound on the size of a checkpoint's patterns, values and moments [bytes]."""
    per_connection, per_other = 2 * BYTES_INDEX + 3 * BYTES_WEIGHT, 3 * BYTES_WEIGHT
    if config.density_schedule != "constant":
        per_connection = BYTES_INDEX  # only the initial pattern, as the density may fall to 0
    total = 0
    for spec in nets.networks.values():
        others = sum(sum(layer.blocks.values()) - layer.connections for layer in spec.layers)
        total += spec.members * (per_connection * spec.connections + per_other * others)
    return total


def paper_flops(nets: Architecture, batch: int, updates: int) -> float:
    """Count operations by Sokar et al.'s convention, 6 B T (2 Q + A / d).

    B is the batch size, T the number of updates, Q and A are the connections of a critic and of the
    actor, and d is the policy delay. The forward and backward passes count as three passes of two
    operations per connection. Target networks and the actor's pass through the critic are not
    counted.
    """
    passes = sum(n.of_all_members / n.update_period for n in nets.networks.values())
    return 6.0 * batch * updates * passes


def counted_flops(config: Config, nets: Architecture, n_act: int, n_step: int) -> float:
    """Count the operations of config.steps updates; see Agent.multiply_adds.

    Every update is counted with the given n_step. A run with one update per environment step needs
    fewer operations, because its warm-up has no updates, and its updates before
    n_step_delay_updates have one-step targets. On HalfCheetah-v3, the count exceeds the number of
    the run by 2.6 % (DS-TD3, 1,000,000 steps), 0.8 % (RLx2-TD3, 3,000,000 steps) and 1.6 %
    (RLx2-SAC, 3,000,000 steps).
    """
    agent, settings = AGENTS[config.agent], settings_of(config)
    each = agent.multiply_adds(settings, nets.networks, n_act, n_step)
    return 2.0 * config.batch_size * config.steps * each


def cost(config: Config, n_obs: int, n_act: int) -> dict[str, Any]:
    """Return all values that `sparl cost` prints, for config.steps updates with n_step targets.

    The warm-up, the n-step delay and updates_per_env_step are not considered; see counted_flops.
    The values named "dense" are those of the dense agent that the papers compare with. That agent
    has one-step targets and every possible connection (for Tiny, of the wider networks that the
    narrow ones replace). If a density schedule changes the number of connections, all values are
    for the initial networks.

    Raises:
        UsageError: if a sparsity is impossible for the sizes of a network's layers.
    """
    nets = architecture(config, n_obs, n_act)
    dense = architecture(replace(config, narrow=False), n_obs, n_act).densified()
    now, stored = nets.connections, nets.stored_connections
    batch, updates = config.batch_size, config.steps
    flops: dict[str, Flops | None] = {
        "paper": Flops(paper_flops(dense, batch, updates), paper_flops(nets, batch, updates))
        if config.settings == "ds"
        else None,
        "counted": Flops(
            counted_flops(config, dense, n_act, 1),
            counted_flops(config, nets, n_act, config.n_step),
        ),
    }
    actor, dense_actor = nets.networks[ACTOR], dense.networks[ACTOR]
    result: dict[str, Any] = {
        "method": config.method,
        "env": config.env,
        "networks": {
            spec.label: {
                "copies": spec.members,
                "layers": [
                    {"inputs": layer.n_in, "outputs": layer.n_out, "connections": layer.connections}
                    for layer in spec.layers
                ],
            }
            for spec in nets.networks.values()
        },
        "connections": now,
        "dense_connections": dense.connections,
        "size_ratio_with_targets": stored / dense.stored_connections,
        "inference_flops_ratio": actor.connections / dense_actor.connections,
        "bytes": {
            "weights": BYTES_WEIGHT * now,
            "indices": BYTES_INDEX * now,
            "moments": 2 * BYTES_WEIGHT * now,
            "targets": BYTES_WEIGHT * (stored - now),
        },
        "updates": updates,
        "flops": {
            name: f and {"dense": f.dense, "sparse": f.sparse, "ratio": f.ratio}
            for name, f in flops.items()
        },
    }
    method, task = METHODS[config.method], config.env.rpartition("-")[0]
    published = AGENT_PRESETS[method.agent].published_costs.get((method.family.prefix, task))
    if published:
        names = ("size_ratio_with_targets", "train_flops_ratio", "inference_flops_ratio")
        result["published"] = dict(zip(names, published, strict=True))
    return result
