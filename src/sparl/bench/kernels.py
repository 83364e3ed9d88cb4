"""Time the kernels on one core, and NumPy's dense and SciPy's CSR product for comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from sparl import _native
from sparl.bench.timing import medians, seconds
from sparl.random_streams import stream
from sparl.topology.initial import random_pattern

SHAPES = ((17, 256), (256, 256), (376, 256), (256, 1), (1024, 1024), (4096, 4096))
DENSITIES = (1.0, 0.5, 0.25, 0.1, 0.05, 0.02)
BATCHES = (100, 256)
KERNELS = ("forward", "input gradient", "weight gradient")


def peak() -> float:
    """Measure the peak multiply-add rate of one core [GFLOP/s]; a multiply-add counts as two."""
    return medians({"peak": lambda: 2e-9 * _native.multiply_add_peak(0.02)}, 5)["peak"]


def roofline(
    layer: _native.Linear, kernel: str, batch: int, peak_gflops: float, least: float
) -> float:
    """Estimate a lower bound on a kernel's time [us] from its multiply-adds and its loads.

    The activations of a column are loaded once for each group of a block of four rows that contains
    the column, in the order of the pattern, from whichever cache contains them. Weights, indices,
    sums over lanes, branches, stores and, for the weight gradient, the rows of dL/dy are not
    counted.

    Args:
        layer: the layer.
        kernel: one of KERNELS.
        batch: number of samples.
        peak_gflops: peak of one core; see `peak`.
        least: minimum duration of a measurement [s].
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
    """Measure the kernels, their rooflines and the alternatives for one layer and batch.

    Args:
        shape: numbers of inputs and outputs.
        density: fraction of the connections that exist.
        batch: number of samples.
        peak_gflops: peak of one core; see `peak`.
        repetitions: number of repetitions; each time is their median.
        least: minimum duration of a repetition [s].

    Returns:
        A dict with inputs, outputs, density, batch and connections; "microseconds", the time of
        each kernel, of "NumPy dense" and, if SciPy is installed, of "SciPy CSR"; and "roofline",
        the lower bound on the time of each kernel [us].
    """
    n_in, n_out = shape
    pattern = random_pattern(n_in, n_out, max(1, round(density * n_in * n_out)), stream(0, "bench"))
    layer = _native.Linear(n_in, n_out, pattern.positions)
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
    found = medians(contestants, repetitions)
    return {
        "inputs": n_in, "outputs": n_out, "density": density, "batch": batch,
        "connections": pattern.connections,
        "microseconds": {name: 1e6 * took for name, took in found.items()},
        "roofline": {k: roofline(layer, k, batch, peak_gflops, least) for k in KERNELS},
    }  # fmt: skip


def all_kernels(peak_gflops: float, *, quick: bool) -> Iterator[dict[str, Any]]:
    """Measure all shapes, batches and densities; with `quick`, only 256x256, for a shorter time."""
    for shape in SHAPES if not quick else ((256, 256),):
        for batch in BATCHES:
            for density in DENSITIES:
                yield measure(
                    shape, density, batch, peak_gflops=peak_gflops,
                    repetitions=3 if quick else 5, least=0.002 if quick else 0.005,
                )  # fmt: skip


def gflops(row: dict[str, Any], contestant: str) -> float:
    """Return the rate on stored weights, 2 * connections * batch / time [GFLOP/s]."""
    work = 2e-9 * row["connections"] * row["batch"]
    return float(work / (1e-6 * row["microseconds"][contestant]))
