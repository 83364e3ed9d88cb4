"""What a method costs: connections, bytes and floating-point operations, without training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sparl.configuration import Config
from sparl.methods import Architecture, Layers, architecture, connections, densified

BYTES_WEIGHT = 4  # float32; the same for a gradient, a moment, a target's weight
BYTES_INDEX = 8  # int64 position in canonical order


@dataclass(frozen=True)
class Flops:
    """Operations of a whole training, a multiply-add counted as two."""

    dense: float
    sparse: float

    @property
    def ratio(self) -> float:
        """Sparse / dense."""
        return self.sparse / self.dense


def network_bytes(nets: Architecture, batch: int) -> int:
    """About what all networks of a run take while they train, targets and a batch included."""
    per_connection = 2 * BYTES_INDEX + 12 * 4  # patterns, blocks, values, moments, target
    total = 0
    for layers, copies in ((nets.actor, 1), (nets.critic, nets.critics)):
        units = sum(n_in + n_out for (n_in, n_out), _ in layers)
        total += copies * (per_connection * connections(layers) + units * (64 + 4 * 4 * batch))
    return total


def least_checkpoint_bytes(nets: Architecture) -> int:
    """Bytes of the state in a checkpoint, at least: patterns, values, moments, initial patterns."""
    per_connection, per_output = 2 * BYTES_INDEX + 3 * BYTES_WEIGHT, 3 * BYTES_WEIGHT
    total = 0
    for layers, copies in ((nets.actor, 1), (nets.critic, nets.critics)):
        outputs = sum(n_out for (_, n_out), _ in layers)
        total += copies * (per_connection * connections(layers) + per_output * outputs)
    return total


def paper_flops(actor: Layers, critic: Layers, batch: int, updates: int, delay: int) -> float:
    """Sokar et al.'s convention, 6 B T (2 Q + A / d).

    Forward and backward as three passes of two operations per connection; target networks and
    the actor's pass through the critic are not counted.
    """
    q, a = connections(critic), connections(actor)
    return 6.0 * batch * updates * (Architecture.critics * q + a / delay)


def td3_multiply_adds(actor: Layers, critic: Layers, n_act: int, delay: int) -> float:
    """Multiply-adds that one TD3 update really does, per sample of the batch.

    Counted: both targets' passes, the critics' pass and gradients, and every `delay` updates
    the actor's pass and gradients and what they need of the first critic: its pass, and its
    input gradient for the action alone. Biases, activations, Adam and the target updates are
    not, nor what evolutions cost, nor the leftovers (about 4 %) in DS's targets.
    """
    q, a, two = connections(critic), connections(actor), Architecture.critics
    q_deep, a_deep = connections(critic[1:]), connections(actor[1:])
    critic_update = a + two * q + two * (q + q + q_deep)
    actor_update = a + q + q_deep + _action_share(critic, n_act) + a + a_deep
    return critic_update + actor_update / delay


def sac_multiply_adds(actor: Layers, critic: Layers, n_act: int, n_step: int) -> float:
    """Multiply-adds that one SAC update really does, per sample of the batch.

    Counted: the actor's pass at each of the n states of a window, the target critics' pass, the
    critics' pass and gradients, the actor's pass and gradients, and what they need of both
    critics.
    """
    q, a, two = connections(critic), connections(actor), Architecture.critics
    q_deep, a_deep = connections(critic[1:]), connections(actor[1:])
    critic_update = n_step * a + two * q + two * (q + q + q_deep)
    actor_update = a + two * (q + q_deep + _action_share(critic, n_act)) + a + a_deep
    return critic_update + actor_update


def _action_share(critic: Layers, n_act: int) -> float:
    """Connections of the action in the critic's first layer, in expectation."""
    (n_in, _), first = critic[0]
    return first * n_act / n_in


# Tan et al., main table: size with targets, train FLOPs, test FLOPs, each relative to dense.
PUBLISHED = {
    ("TD3", "HalfCheetah"): (0.133, 0.138, 0.100), ("TD3", "Hopper"): (0.040, 0.043, 0.020),
    ("TD3", "Walker2d"): (0.043, 0.045, 0.030), ("TD3", "Ant"): (0.093, 0.100, 0.040),
    ("SAC", "HalfCheetah"): (0.180, 0.197, 0.100), ("SAC", "Hopper"): (0.044, 0.048, 0.020),
    ("SAC", "Walker2d"): (0.100, 0.113, 0.100), ("SAC", "Ant"): (0.220, 0.239, 0.100),
}  # fmt: skip


def cost(config: Config, n_obs: int, n_act: int) -> dict[str, Any]:
    """Everything `sparl cost` prints, as plain values; a training of config.steps updates.

    "dense" is the agent with every connection of its networks (for Tiny those of its sparse twin)
    and one-step targets: the dense agent that the papers compare with.
    """
    nets = architecture(config, n_obs, n_act)
    wide = architecture(replace(config, narrow=False), n_obs, n_act)
    dense_actor, dense_critic = densified(wide.actor), densified(wide.critic)
    # TD3 has a target of every network, SAC of the critics.
    actors = 1 if config.agent == "SAC" else 2

    def weights(actor: Layers, critic: Layers, actors: int, critics: int) -> int:
        return actors * connections(actor) + critics * connections(critic)

    two = Architecture.critics
    now, full = weights(nets.actor, nets.critic, 1, two), weights(dense_actor, dense_critic, 1, two)
    stored = weights(nets.actor, nets.critic, actors, 2 * two)
    stored_dense = weights(dense_actor, dense_critic, actors, 2 * two)
    batch, updates, delay = config.batch_size, config.steps, config.actor_every

    def counted(actor: Layers, critic: Layers, n_step: int) -> float:
        if config.agent == "SAC":
            each = sac_multiply_adds(actor, critic, n_act, n_step)
        else:
            each = td3_multiply_adds(actor, critic, n_act, delay)
        return 2.0 * batch * updates * each

    flops: dict[str, Flops | None] = {
        "paper": Flops(
            paper_flops(dense_actor, dense_critic, batch, updates, delay),
            paper_flops(nets.actor, nets.critic, batch, updates, delay),
        )
        if config.settings == "ds"
        else None,
        "counted": Flops(
            counted(dense_actor, dense_critic, 1), counted(nets.actor, nets.critic, config.n_step)
        ),
    }
    result: dict[str, Any] = {
        "method": config.method,
        "env": config.env,
        "networks": {
            name: {
                "copies": copies,
                "layers": [
                    {"inputs": shape[0], "outputs": shape[1], "connections": count}
                    for shape, count in layers
                ],
            }
            for name, copies, layers in (("actor", 1, nets.actor), ("critic", two, nets.critic))
        },
        "connections": now,
        "dense_connections": full,
        "size_ratio_with_targets": stored / stored_dense,
        "inference_flops_ratio": connections(nets.actor) / connections(dense_actor),
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
    published = PUBLISHED.get((config.agent, config.env.rpartition("-")[0]))
    if config.method.startswith("RLx2-") and published:
        names = ("size_ratio_with_targets", "train_flops_ratio", "inference_flops_ratio")
        result["published"] = dict(zip(names, published, strict=True))
    return result
