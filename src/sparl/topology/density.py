"""How many connections each layer of a network gets."""

from __future__ import annotations

from collections.abc import Sequence

Shape = tuple[int, int]  # (n_in, n_out)


def round_half_up(x: float) -> int:
    """The nearest integer; halves go up, for x >= 0."""
    return int(x + 0.5)


def erdos_renyi_total(shapes: Sequence[Shape], sparsity: float) -> list[int]:
    """Connections of each layer, ER over all of them with a target (Evci et al. 2020; RLx2).

    density_l = eps (n_in + n_out) / (n_in n_out), eps such that the layers together have
    (1 - sparsity) of their weights; a layer that would exceed 1 is dense and eps is solved again.
    Each layer then has n - int(sparsity_l n) connections, as RLx2's released code rounds.
    """
    sizes = [n_in * n_out for n_in, n_out in shapes]
    total = (1 - sparsity) * sum(sizes)
    full: set[int] = set()
    while True:
        room = total - sum(sizes[i] for i in full)
        weight = sum(sum(shape) for i, shape in enumerate(shapes) if i not in full)
        eps = room / weight if weight else 0.0
        over = {i for i, s in enumerate(shapes) if i not in full and eps * sum(s) > sizes[i]}
        if not over:
            break
        full |= over
    return [
        size if i in full else size - int((1 - eps * sum(shape) / size) * size)
        for i, (shape, size) in enumerate(zip(shapes, sizes, strict=True))
    ]


def scaled(shapes: Sequence[Shape], wanted: Sequence[float], total: int) -> list[int]:
    """Connections in proportion to `wanted`, by one factor, so that they add up to `total`.

    A layer that would exceed its size is full and the factor is solved again; what rounding
    leaves over goes to the largest layer with room.

    Args:
        shapes: of the layers.
        wanted: connections of each layer before scaling, positive.
        total: connections of all layers together.

    Raises:
        ValueError: total is negative or more than the layers can hold.
    """
    sizes = [n_in * n_out for n_in, n_out in shapes]
    if not 0 <= total <= sum(sizes):
        raise ValueError(f"density: {total} connections for layers that hold {sum(sizes)}")
    full: set[int] = set()
    while True:
        room = total - sum(sizes[i] for i in full)
        weight = sum(w for i, w in enumerate(wanted) if i not in full)
        factor = room / weight if weight else 0.0
        over = {i for i, w in enumerate(wanted) if i not in full and factor * w > sizes[i]}
        if not over:
            break
        full |= over
    counts = [sizes[i] if i in full else round_half_up(factor * w) for i, w in enumerate(wanted)]
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        counts[i] += min(max(total - sum(counts), -counts[i]), sizes[i] - counts[i])
    return counts
