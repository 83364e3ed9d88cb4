"""Compute TD3 with sparse networks in float64, for comparison with sparl_chip.c.

Networks are dense matrices with masks. The batches, the noise and the grown positions are those
that sparl_chip.c drew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


@dataclass
class Draw:
    """What an update of sparl_chip.c drew.

    Attributes:
        observation, action, reward, terminal, next_observation: the batch.
        noise: normal numbers [B, n_act].
        positions: positions of a layer's connections after the update, by (network, layer).
    """

    observation: Matrix
    action: Matrix
    reward: Matrix
    terminal: NDArray[np.bool_]
    next_observation: Matrix
    noise: Matrix
    positions: dict[tuple[int, int], NDArray[np.int64]]


@dataclass
class Net:
    """The layers of a network: weights, masks, biases, and Adam's moments."""

    w: list[Matrix]
    mask: list[NDArray[np.bool_]]
    b: list[Matrix]

    def __post_init__(self) -> None:
        self.m = [np.zeros_like(x) for x in (*self.w, *self.b)]
        self.v = [np.zeros_like(x) for x in (*self.w, *self.b)]
        self.steps = 0

    def forward(self, x: Matrix) -> list[Matrix]:
        """Return the inputs of the three layers and the output."""
        values = [x]
        for layer in range(3):
            x = x @ self.w[layer].T + self.b[layer]
            x = np.maximum(x, 0) if layer < 2 else x
            values.append(x)
        return values

    def backward(self, values: list[Matrix], d: Matrix) -> tuple[list[Matrix], Matrix]:
        """Return the gradients of the weights and biases, and the gradient of the input."""
        dw: list[Matrix] = []
        db: list[Matrix] = []
        for layer in (2, 1, 0):
            dw.insert(0, d.T @ values[layer] * self.mask[layer])
            db.insert(0, d.sum(0))
            d = d @ self.w[layer] * (values[layer] > 0 if layer else 1)
        return dw + db, d

    def adam(self, gradient: list[Matrix], rate: float, decay: float) -> None:
        """Perform one step of Adam, in place."""
        self.steps += 1
        for i, p in enumerate((*self.w, *self.b)):
            g = gradient[i] + decay * p
            self.m[i] += 0.1 * (g - self.m[i])
            self.v[i] += 0.001 * (g * g - self.v[i])
            m = self.m[i] / (1 - 0.9**self.steps)
            v = self.v[i] / (1 - 0.999**self.steps)
            p -= rate * m / (np.sqrt(v) + 1e-8)


class Reference:
    """An agent: actor, critic 1, critic 2, and their targets; `settings` maps macros to values."""

    def __init__(
        self, nets: list[Net], targets: list[Net], method: str, settings: dict[str, Any]
    ) -> None:
        self.nets, self.targets, self.method, self.settings = nets, targets, method, settings
        self.updates = 0
        self.dropped = 0

    def update(self, draw: Draw) -> None:
        """Perform one update with the batch and the random numbers of the chip's update."""
        s = self.settings
        self.updates += 1
        actor, *critics = self.nets
        actor_target, *critic_targets = self.targets
        size = len(draw.reward)
        a = np.tanh(actor_target.forward(draw.next_observation)[-1])
        noise = np.clip(s["TARGET_NOISE"] * draw.noise, -s["NOISE_CLIP"], s["NOISE_CLIP"])
        a = np.clip(a + noise, -1, 1)
        x = np.hstack([draw.next_observation, a])
        q = np.minimum(*(target.forward(x)[-1] for target in critic_targets))
        y = draw.reward + s["GAMMA"] * np.where(draw.terminal[:, None], 0, q)
        x = np.hstack([draw.observation, draw.action])
        for index, critic in enumerate(critics):
            values = critic.forward(x)
            gradient, _ = critic.backward(values, (values[-1] - y) * 2 / size)
            self._step(1 + index, gradient, draw)
        if self.updates % s["POLICY_DELAY"] == 0:
            values = actor.forward(draw.observation)
            a = np.tanh(values[-1])
            q_values = critics[0].forward(np.hstack([draw.observation, a]))
            _, dx = critics[0].backward(q_values, np.full((size, 1), -1 / size))
            d = dx[:, draw.observation.shape[1] :] * (1 - a * a)
            self._step(0, actor.backward(values, d)[0], draw)
            for net, target in zip(self.nets, self.targets, strict=True):
                self._soft_update(net, target)

    def _step(self, network: int, gradient: list[Matrix], draw: Draw) -> None:
        s, net = self.settings, self.nets[network]
        if self.method in ("SET-TD3", "DS-TD3") and self._due(network):
            if self.method == "DS-TD3":
                net.adam(gradient, s["LEARNING_RATE"], s["WEIGHT_DECAY"])
            self._rewire(network, draw)
        else:
            net.adam(gradient, s["LEARNING_RATE"], s["WEIGHT_DECAY"])

    def _due(self, network: int) -> bool:
        every, delay = self.settings["REWIRE_EVERY"], self.settings["POLICY_DELAY"]
        if self.method == "DS-TD3":
            return self.updates % every == delay % every
        own = self.updates // delay if network == 0 else self.updates
        return own > 0 and own % every == 0

    def _rewire(self, network: int, draw: Draw) -> None:
        net, target = self.nets[network], self.targets[network]
        for layer in range(3):
            mask = net.mask[layer]
            if mask.all():
                continue
            w = net.w[layer].reshape(-1)
            existing = np.flatnonzero(mask)
            dropped = self._dropped(w[existing])
            self.dropped += dropped.size
            kept = np.delete(existing, dropped)
            after = draw.positions[network, layer]
            assert after.size == existing.size
            assert np.isin(kept, after).all()
            grown = after[~np.isin(after, existing)]
            v = net.v[layer]
            estimate = np.zeros_like(v)
            if self.method == "DS-TD3" and v[mask].mean() > 0:
                mean = v[mask].mean()
                by_row, by_column = (
                    np.where((n := mask.sum(axis)) > 0, v.sum(axis) / np.maximum(n, 1), mean)
                    for axis in (1, 0)
                )
                estimate = np.outer(by_row, by_column) / mean
            new = np.zeros(mask.size, np.bool_)
            new[after] = True
            net.mask[layer] = new = new.reshape(mask.shape)
            for values in (net.w[layer], net.m[layer], net.v[layer]):
                values[~new] = 0
            v.reshape(-1)[grown] = estimate.reshape(-1)[grown]
            if self.method == "SET-TD3":
                target.w[layer][~new] = 0
                target.mask[layer] = new

    def _dropped(self, w: Matrix) -> NDArray[np.int64]:
        """Return the indices of the weights that are dropped."""
        share = self.settings["REWIRE_FRACTION"]
        if self.method == "SET-TD3":
            return np.argsort(np.abs(w), kind="stable")[: int(share * w.size + 1e-9)]
        live = w[w != 0].size
        count = int(share * live + 0.5)
        positive, negative = np.flatnonzero(w > 0), np.flatnonzero(w < 0)
        of_positive = int(count * positive.size / live + 0.5)
        return np.concatenate(
            [
                np.flatnonzero(w == 0),
                positive[np.argsort(w[positive], kind="stable")[:of_positive]],
                negative[np.argsort(-w[negative], kind="stable")[: count - of_positive]],
            ]
        )

    def _soft_update(self, net: Net, target: Net) -> None:
        tau = self.settings["TAU"]
        for layer in range(3):
            target.b[layer] += tau * (net.b[layer] - target.b[layer])
            w = target.w[layer]
            w += tau * (net.w[layer] - w)
            budget = int(net.mask[layer].sum())
            surplus = np.count_nonzero(w) - budget
            if self.method == "DS-TD3" and surplus > 0:
                flat = w.reshape(-1)
                existing = np.flatnonzero(flat)
                order = np.argsort(np.abs(flat[existing]), kind="stable")
                flat[existing[order[:surplus]]] = 0
