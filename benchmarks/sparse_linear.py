"""Compare the times of SparseLinear and nn.Linear for a forward and a backward pass.

The benchmark requires `pip install '.[torch]'`. It prints medians of interleaved repetitions in one
process in microseconds, and their ratios.

    python benchmarks/sparse_linear.py [--threads 1 2] [--batch 256]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from sparl import _native
from sparl.bench.timing import medians, seconds
from sparl.torch import SparseLinear

SHAPES = ((256, 256), (17, 256), (1024, 1024))
DENSITIES = (0.5, 0.25, 0.1, 0.05)


def both_ways(layer: nn.Module, x: torch.Tensor, dy: torch.Tensor) -> None:
    """Compute the output, and the gradients of the parameters and the input."""
    layer.zero_grad()
    x.grad = None
    layer(x).backward(dy)


def main() -> None:
    """Parse the command line and print a table for each number of threads."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch", type=int, default=256)
    options = parser.parse_args()
    print(f"{_native.isa()}, PyTorch {torch.__version__}, batch {options.batch}")
    print(f"{'threads':>7} {'layer':>10} {'nn.Linear':>10}", *(f"{d:>16.0%}" for d in DENSITIES))
    for threads in options.threads:
        torch.set_num_threads(threads)
        for n_in, n_out in SHAPES:
            x = torch.randn(options.batch, n_in, requires_grad=True)
            dy = torch.randn(options.batch, n_out)
            layers = {"dense": nn.Linear(n_in, n_out)} | {
                d: SparseLinear(n_in, n_out, density=d) for d in DENSITIES
            }
            contestants: dict[str, Callable[[], float]] = {
                str(name): partial(seconds, partial(both_ways, layer, x, dy), 0.05)
                for name, layer in layers.items()
            }
            took = {name: 1e6 * s for name, s in medians(contestants, 5).items()}
            dense = took.pop("dense")
            cells = (f"{us:>8,.0f} ({dense / us:>4.1f}x)" for us in took.values())
            print(f"{threads:>7} {n_in:>5}x{n_out:<4} {dense:>10,.0f}", *cells)


if __name__ == "__main__":
    main()
