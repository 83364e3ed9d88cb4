"""What a method costs: connections, bytes and floating-point operations, without training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sparl.configuration import Config
from sparl.methods import Architecture, architecture
from sparl.topology.density import Shape

Layers = tuple[tuple[Shape, int], ...]

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


def connections(layers: Layers) -> int:
    """Weights of one network."""
    return sum(count for _, count in layers)


def densified(layers: Layers) -> Layers:
    """The same layers with every connection."""
    return tuple((shape, shape[0] * shape[1]) for shape, _ in layers)


def paper_flops(actor: Layers, critic: Layers, batch: int, updates: int, delay: int) -> float:
    """Sokar et al.'s convention, 6 B T (2 Q + A / d).

    Forward and backward as three passes of two operations per connection; target networks and
    the actor's pass through the critic are not counted.
    """
    q, a = connections(critic), connections(actor)
    return 6.0 * batch * updates * (Architecture.critics * q + a / delay)


def counted_multiply_adds(actor: Layers, critic: Layers, n_act: int, delay: int) -> float:
    """Multiply-adds that one TD3 update really does, per sample of the batch.

    Counted: both targets' passes, the critics' pass and gradients, and every `delay` updates
    the actor's pass and gradients and what they need of the first critic: its pass, and its
    input gradient for the action alone. Biases, activations, Adam and the target updates are
    not.
    """
    q, a, two = connections(critic), connections(actor), Architecture.critics
    q_deep, a_deep = connections(critic[1:]), connections(actor[1:])
    (n_in, _), first = critic[0]
    action_share = first * n_act / n_in  # connections of the action, in expectation
    critic_update = a + two * q + two * (q + q + q_deep)
    actor_update = a + q + (q_deep + action_share) + a + a_deep
    return critic_update + actor_update / delay


def cost(config: Config, n_obs: int, n_act: int) -> dict[str, Any]:
    """Everything `sparl cost` prints, as plain values; a training of config.steps updates."""
    nets = architecture(config, n_obs, n_act)
    copies = {"actor": (1, nets.actor), "critic": (Architecture.critics, nets.critic)}
    dense_actor, dense_critic = densified(nets.actor), densified(nets.critic)
    sparse_total = sum(n * connections(layers) for n, layers in copies.values())
    dense_total = sum(n * connections(densified(layers)) for n, layers in copies.values())
    batch, updates, delay = config.batch_size, config.steps, config.policy_delay
    paper = Flops(
        paper_flops(dense_actor, dense_critic, batch, updates, delay),
        paper_flops(nets.actor, nets.critic, batch, updates, delay),
    )
    per_update = 2.0 * batch * updates
    counted = Flops(
        per_update * counted_multiply_adds(dense_actor, dense_critic, n_act, delay),
        per_update * counted_multiply_adds(nets.actor, nets.critic, n_act, delay),
    )
    return {
        "method": config.method,
        "env": config.env,
        "networks": {
            name: {
                "copies": n,
                "layers": [
                    {"inputs": shape[0], "outputs": shape[1], "connections": count}
                    for shape, count in layers
                ],
            }
            for name, (n, layers) in copies.items()
        },
        "connections": sparse_total,
        "dense_connections": dense_total,
        # Every network has one target of as many connections, so counting them changes nothing.
        "size_ratio_with_targets": 2 * sparse_total / (2 * dense_total),
        "inference_flops_ratio": connections(nets.actor) / connections(dense_actor),
        "bytes": {
            "weights": BYTES_WEIGHT * sparse_total,
            "indices": BYTES_INDEX * sparse_total,
            "moments": 2 * BYTES_WEIGHT * sparse_total,
            "targets": BYTES_WEIGHT * sparse_total,
        },
        "updates": updates,
        "flops": {
            name: {"dense": flops.dense, "sparse": flops.sparse, "ratio": flops.ratio}
            for name, flops in (("paper", paper), ("counted", counted))
        },
    }
