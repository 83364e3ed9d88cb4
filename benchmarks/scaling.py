"""Extrapolate the time of a TD3 update to more cores from measurements on one core.

A forward or backward pass is divided into tiles of samples (members x tiles work items), and a
weight gradient into groups of eight blocks of rows. The products of each part are timed on one core
in the form in which threads compute them (one tile, all groups). On n cores, ceil(items / n) work
items run sequentially, and each parallel region adds HANDOVER. Shared caches and memory are not
modelled, so the result is an upper limit of the speed-up.

    python benchmarks/scaling.py
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from sparl import _native
from sparl.bench.timing import seconds
from sparl.networks.layout import Layout
from sparl.networks.network import Network
from sparl.networks.spec import NetworkSpec, mlp
from sparl.sparse.pattern import Pattern

N_OBS, N_ACT = 17, 6
LANES, WIDEST = 16, 4  # AVX-512: samples per vector, vectors per tile
HANDOVER = 1e-6  # seconds per parallel region, for cores that share a cache


def network(n_in: int, width: int, n_out: int, density: float) -> Network:
    """Create a network of one member with random patterns.

    The network computes no gradients with respect to observations.
    """
    rng = np.random.default_rng(0)
    sizes = [n_in, width, width, n_out]
    patterns = {}
    for k, (a, b) in enumerate(pairwise(sizes)):
        count = max(1, round(density * a * b)) if b > N_ACT else a * b
        patterns[0, k] = Pattern(a, b, np.sort(rng.permutation(a * b)[:count]))
    layout = Layout(NetworkSpec(mlp(sizes), first_gradient_input=N_OBS), patterns)
    return Network(layout, rng.normal(size=layout.parameters).astype(np.float32) / 10)


def products(net: Network, batch: int, *, back: bool) -> float:
    """Return the time of the products in a pass [s].

    If `back` is set, this is the backward pass, down to the outputs of the first layer.
    """
    kernel = "input gradient" if back else "forward"
    layers = [net.layout.native(place) for place, _ in net.layout][int(back) :]
    return sum(_native.seconds_per_call(layer, kernel, batch, 0.01) for layer in layers)


def per_update(cores: int, width: int, density: float, batch: int) -> float:
    """Return the time of one critic update and half an actor update of TD3 [s]."""
    critic = network(N_OBS + N_ACT, width, 1, density)
    actor = network(N_OBS, width, N_ACT, density)
    vectors = math.ceil(batch / LANES)

    def passes(net: Network, members: int, *, back: bool) -> float:
        """Return the time of a forward or backward pass of all members, tile by tile [s]."""
        tiles = max(math.ceil(vectors / WIDEST), min(math.ceil(cores / members), vectors // 2))
        once = products(net, math.ceil(vectors / tiles) * LANES, back=back)
        return math.ceil(members * tiles / cores) * once + (1 + back) * HANDOVER

    def weights(net: Network, members: int) -> float:
        """Return the time of the weight gradient with Adam, without the backward pass [s]."""
        stack, parameters = net.layout.stack, net.parameters
        x = np.ones((batch, net.layout.spec.n_in), np.float32)
        y, trace = stack.forward(parameters, [x])
        d, moments = np.ones_like(y), np.zeros((2, parameters.size), np.float32)
        numbers = (1, 1e-3, 0.9, 0.999, 1e-8, 0.0)
        both = seconds(lambda: stack.adam_step(parameters, trace, d, *moments, *numbers), 0.01)
        alone = max(both - products(net, batch, back=True), 0.0)
        items = 2 * math.ceil(width / 32) + 1
        return members * alone * math.ceil(members * items / cores) / (members * items) + HANDOVER

    def flat(net: Network, members: int) -> float:
        """Return the time of half a target update, divided among the cores [s]."""
        target, online = np.ones((2, members * net.parameters.size), np.float32)
        update = seconds(lambda: _native.soft_update(target, online, 0.5), 0.01)
        return update / 2 / cores + HANDOVER

    critics = (
        passes(actor, 1, back=False) + 2 * passes(critic, 2, back=False)
        + passes(critic, 2, back=True) + weights(critic, 2) + flat(critic, 2)
    )  # fmt: skip
    policy = (
        passes(actor, 1, back=False) + passes(critic, 1, back=False) + passes(critic, 1, back=True)
        + passes(actor, 1, back=True) + weights(actor, 1) + flat(actor, 1)
    )  # fmt: skip
    return critics + policy / 2


def main() -> None:
    """Print a table of speed-ups."""
    counts = (1, 2, 4, 8, 16)
    print(f"{'width':>6} {'density':>8} {'batch':>6}" + "".join(f"{n:>5} cores" for n in counts))
    for width, density, batch in (
        (256, 0.5, 100), (256, 0.5, 256), (256, 0.05, 256), (1024, 0.5, 256), (1024, 0.05, 256),
        (4096, 0.05, 256),
    ):  # fmt: skip
        one = per_update(1, width, density, batch)
        line = f"{width:>6} {density:>8.2f} {batch:>6}"
        for cores in counts:
            took = one if cores == 1 else per_update(cores, width, density, batch)
            line += f"{one / took:>10.1f}x" if cores > 1 else f"{1e3 * one:>8.2f} ms"
        print(line)


if __name__ == "__main__":
    main()
