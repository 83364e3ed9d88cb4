"""Measure how the time and memory of an update grow with neurons and connections.

The time is measured. The memory is the total size of the arrays that exist between updates;
tests/test_memory.py trains within a memory limit to prove that nothing else is stored, in
particular no dense matrix.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sparl.bench.timing import medians, seconds
from sparl.networks.adam import Adam
from sparl.networks.initialize import uniform_fan_in
from sparl.networks.layout import Layout
from sparl.networks.network import Network
from sparl.networks.spec import Linear, NetworkSpec
from sparl.random_streams import stream
from sparl.topology.initial import random_pattern

BATCH = 32
FIXED_WIDTH = 4096
PER_NEURON = 32


def sizes(largest: int) -> list[tuple[int, int]]:
    """Return (width, connections) pairs: of FIXED_WIDTH, then with PER_NEURON per output neuron.

    Args:
        largest: maximum number of connections.
    """
    counts = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
    fixed = [(FIXED_WIDTH, n) for n in counts if n <= largest]
    return fixed + [(n // PER_NEURON, n) for n in counts if n <= largest]


def measure(width: int, connections: int, *, repetitions: int, least: float) -> dict[str, Any]:
    """Measure an update of a layer with `width` inputs and outputs: forward pass, gradient, Adam.

    Returns:
        A dict with width, neurons (inputs and outputs), connections, milliseconds, and bytes, the
        memory of parameters, moments, pattern and activations.
    """
    pattern = random_pattern(width, width, connections, stream(0, "bench"))
    layer = Linear(width, width, "linear", connections)
    layout = Layout(NetworkSpec((layer,), first_gradient_input=width), {(0, 0): pattern})
    network = Network(layout, uniform_fan_in(layout, stream(0, "bench weights")))
    adam = Adam(layout, 1e-3, 0.0, "zero")
    x = stream(0, "bench values").standard_normal((BATCH, width), dtype=np.float32)
    output, _ = network.forward(x)

    def update() -> None:
        _, trace = network.forward(x)
        adam.step(network, trace, output)

    took = medians({"update": lambda: seconds(update, least)}, repetitions)["update"]
    arrays = (network.parameters, adam.m, adam.v, pattern.positions, x, output)
    index = 2 * 4 * connections  # canonical position and column of each connection, 4 bytes each
    return {
        "width": width, "neurons": 2 * width, "connections": connections,
        "milliseconds": 1e3 * took, "bytes": sum(a.nbytes for a in arrays) + index,
    }  # fmt: skip


def fit(rows: list[dict[str, Any]], of: str) -> dict[str, float]:
    """Fit rows[of] = a * neurons + b * connections.

    The fit minimises squared relative errors, so that small networks count as much as large ones.

    Returns:
        a and b as "per_neuron" and "per_connection", and the relative "largest_deviation".
    """
    terms = np.array([[row["neurons"], row["connections"]] for row in rows], np.float64)
    values = np.array([row[of] for row in rows], np.float64)
    a, b = np.linalg.lstsq(terms / values[:, np.newaxis], np.ones(len(rows)), rcond=None)[0]
    deviation = np.abs(terms @ (a, b) / values - 1).max()
    return {
        "per_neuron": float(a), "per_connection": float(b), "largest_deviation": float(deviation),
    }  # fmt: skip


def all_sizes(*, quick: bool) -> dict[str, Any]:
    """Measure updates of layers of all sizes, and fit their time and memory."""
    rows = [
        measure(width, count, repetitions=3, least=0.01 if quick else 0.05)
        for width, count in sizes(1_000_000 if quick else 10_000_000)
    ]
    return {
        "rows": rows,
        "milliseconds": fit(rows, "milliseconds"),
        "bytes": fit(rows, "bytes"),
    }
