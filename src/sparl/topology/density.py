"""Distribute connections over the layers of a network."""

from __future__ import annotations

from collections.abc import Sequence

Shape = tuple[int, int]  # (n_in, n_out)


def round_half_up(x: float) -> int:
    """Round x >= 0 to the nearest integer; halves are rounded up."""
    return int(x + 0.5)


def erdos_renyi_total(shapes: Sequence[Shape], sparsity: float) -> list[int]:
    """Return each layer's number of connections by the Erdos-Renyi rule (Evci et al. 2020; RLx2).

    density_l = eps (n_in + n_out) / (n_in n_out), where eps is such that all layers together keep
    (1 - sparsity) of their weights. A layer whose density would exceed 1 becomes dense, and eps is
    computed again for the other layers. A layer of n weights then has n - int((1 - density_l) n)
    connections, as in RLx2's released code.
    """
    sizes = [n_in * n_out for n_in, n_out in shapes]
    total = (1 - sparsity) * sum(sizes)
    full: set[int] = set()
    while True:
        remaining = total - sum(sizes[i] for i in full)
        weight = sum(sum(shape) for i, shape in enumerate(shapes) if i not in full)
        eps = remaining / weight if weight else 0.0
        over = {i for i, s in enumerate(shapes) if i not in full and eps * sum(s) > sizes[i]}
        if not over:
            break
        full |= over
    return [
        size if i in full else size - int((1 - eps * sum(shape) / size) * size)
        for i, (shape, size) in enumerate(zip(shapes, sizes, strict=True))
    ]


def scaled(shapes: Sequence[Shape], wanted: Sequence[float], total: int) -> list[int]:
    """Scale `wanted` by one factor so that the connections add up to `total`.

    A layer that would exceed its size becomes dense, and the factor is computed again for the other
    layers. The largest layer absorbs the rounding error; the next largest ones absorb what does not
    fit into it.

    Args:
        shapes: (n_in, n_out) of each layer.
        wanted: number of connections of each layer before scaling; must be positive.
        total: number of connections of all layers together.

    Returns:
        The number of connections of each layer.

    Raises:
        ValueError: if total is negative or exceeds the total size of the layers.
    """
    sizes = [n_in * n_out for n_in, n_out in shapes]
    if not 0 <= total <= sum(sizes):
        raise ValueError(
            f"density: the total number of connections is {total} but must be in "
            f"[0, {sum(sizes)}], because the layers have {sum(sizes)} positions"
        )
    full: set[int] = set()
    while True:
        remaining = total - sum(sizes[i] for i in full)
        weight = sum(w for i, w in enumerate(wanted) if i not in full)
        factor = remaining / weight if weight else 0.0
        over = {i for i, w in enumerate(wanted) if i not in full and factor * w > sizes[i]}
        if not over:
            break
        full |= over
    counts = [sizes[i] if i in full else round_half_up(factor * w) for i, w in enumerate(wanted)]
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        counts[i] += min(max(total - sum(counts), -counts[i]), sizes[i] - counts[i])
    return counts
