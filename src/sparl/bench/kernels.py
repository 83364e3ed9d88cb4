"""The kernels on one core, beside NumPy's dense and SciPy's CSR product."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from sparl import _native
from sparl.bench.timing import in_turns, seconds
from sparl.random_streams import stream
from sparl.topology.initial import random_pattern

SHAPES = ((17, 256), (256, 256), (376, 256), (256, 1), (1024, 1024), (4096, 4096))
DENSITIES = (1.0, 0.5, 0.25, 0.1, 0.05, 0.02)
BATCHES = (100, 256)
KERNELS = ("forward", "input gradient", "weight gradient")


def peak() -> float:
    """Multiply-adds per second of one core, counted as two operations each: GFLOP/s."""
    return in_turns({"peak": lambda: 2e-9 * _native.multiply_add_peak(0.02)}, 5)["peak"]


def roofline(
    layer: _native.Layer, kernel: str, batch: int, peak_gflops: float, least: float
) -> float:
    """About the least microseconds of a kernel: multiply-adds at the peak, or loads of activations.

    A column of four rows is loaded once for all of them, in the order of the pattern and out of
    whatever cache holds it by then. Weights, indices, sums of lanes, branches and what is written
    come on top.
    """
    work = 2e-9 * layer.connections * batch / peak_gflops
    loads = min(_native.seconds_of_loads(layer, kernel, batch, least) for _ in range(5))
    return 1e6 * max(work, loads)


def measure(
    shape: tuple[int, int],
    density: float,
    batch: int,
    *,
    peak_gflops: float,
    repetitions: int,
    least: float,
) -> dict[str, Any]:
    """One layer and batch: microseconds of each kernel, of its roofline and of its rivals.

    Args:
        shape: inputs, outputs.
        density: share of the connections that exist.
        batch: samples.
        peak_gflops: of one core.
        repetitions: of which the median is taken.
        least: seconds of calls in each.

    Returns:
        inputs, outputs, density, batch, connections, and under "microseconds" each kernel,
        "NumPy dense" and, where SciPy is installed, "SciPy CSR"; under "roofline" the least of
        each kernel.
    """
    n_in, n_out = shape
    pattern = random_pattern(n_in, n_out, max(1, round(density * n_in * n_out)), stream(0, "bench"))
    layer = _native.Layer(n_in, n_out, pattern.positions)
    x = stream(0, "bench values").standard_normal((n_in, batch), dtype=np.float32)
    contestants: dict[str, Callable[[], float]] = {}
    for kernel in KERNELS:
        contestants[kernel] = partial(_native.seconds_per_call, layer, kernel, batch, least)
    weights = np.zeros((n_out, n_in), np.float32)
    weights.reshape(-1)[pattern.positions] = 0.5
    contestants["NumPy dense"] = partial(seconds, partial(np.matmul, weights, x), least)
    try:
        from scipy.sparse import csr_array
    except ImportError:
        pass
    else:
        csr = csr_array(weights)
        contestants["SciPy CSR"] = partial(seconds, partial(csr.__matmul__, x), least)
    found = in_turns(contestants, repetitions)
    return {
        "inputs": n_in, "outputs": n_out, "density": density, "batch": batch,
        "connections": pattern.connections,
        "microseconds": {name: 1e6 * took for name, took in found.items()},
        "roofline": {k: roofline(layer, k, batch, peak_gflops, least) for k in KERNELS},
    }  # fmt: skip


def all_kernels(peak_gflops: float, *, quick: bool) -> Iterator[dict[str, Any]]:
    """Every shape, batch and density; `quick`: 256x256 alone, shorter."""
    for shape in SHAPES if not quick else ((256, 256),):
        for batch in BATCHES:
            for density in DENSITIES:
                yield measure(
                    shape, density, batch, peak_gflops=peak_gflops,
                    repetitions=3 if quick else 5, least=0.002 if quick else 0.005,
                )  # fmt: skip


def gflops(row: dict[str, Any], contestant: str) -> float:
    """Of stored weights: 2 connections batch / time."""
    work = 2e-9 * row["connections"] * row["batch"]
    return float(work / (1e-6 * row["microseconds"][contestant]))
