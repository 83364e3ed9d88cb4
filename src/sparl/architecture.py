"""Compute how many connections each layer of a run's networks has, before patterns are drawn."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sparl.agents import specs_of
from sparl.configuration import Config
from sparl.errors import UsageError
from sparl.networks.spec import NetworkSpec
from sparl.topology.density import Shape, erdos_renyi_total, round_half_up, scaled
from sparl.wording import counted


@dataclass(frozen=True)
class Architecture:
    """The specifications of a run's networks.

    Attributes:
        networks: the specification of each network, by name.
        notes: messages for the user.
    """

    networks: Mapping[str, NetworkSpec]
    notes: tuple[str, ...] = ()

    @property
    def connections(self) -> int:
        """Total number of weights in all networks, excluding their targets."""
        return sum(network.of_all_members for network in self.networks.values())

    @property
    def stored_connections(self) -> int:
        """Total number of weights in all networks and their targets."""
        return sum(
            network.of_all_members * (2 if network.target else 1)
            for network in self.networks.values()
        )

    def densified(self) -> Architecture:
        """Return an architecture with every possible connection, and without notes."""
        return Architecture(
            {
                name: spec.with_connections([layer.size for layer in spec.layers if layer.size])
                for name, spec in self.networks.items()
            }
        )


def architecture(config: Config, n_obs: int, n_act: int) -> Architecture:
    """Compute the architecture of a run's networks, including the connections of each layer.

    Raises:
        UsageError: if a sparsity is impossible for the sizes of a network's layers.
    """
    notes: list[str] = []
    networks = {}
    for name, spec in specs_of(config, n_obs, n_act).items():
        counts = _connections(config, spec, notes)
        notes += [
            f"layer {index} of the {spec.label} has no connections, so the {spec.label} ignores "
            "its input; use a smaller sparsity, or a larger density or lambda"
            for index, count in enumerate(counts, 1)
            if not count
        ]
        sparse = spec.with_connections(counts)
        networks[name] = (
            _narrow(config, name, n_obs, n_act, sparse, notes) if config.narrow else sparse
        )
    return Architecture(networks, tuple(notes))


def _connections(config: Config, spec: NetworkSpec, notes: list[str]) -> list[int]:
    """Return the number of connections of each layer that has a pattern.

    The configuration determines these numbers by densities, lambdas or a sparsity.
    """
    budget = config.budget(spec.label)
    shapes = [(layer.n_in, layer.n_out) for layer in spec.layers if layer.size]
    sizes = [n_in * n_out for n_in, n_out in shapes]
    if budget.densities is not None:
        wanted = [d * size for d, size in zip(budget.densities, sizes, strict=True)]
    else:
        lambdas = [config.lambda_1, *(config.lambda_2 for _ in shapes[2:]), None]
        wanted = [
            float(size) if lam is None else lam * sum(shape)
            for shape, size, lam in zip(shapes, sizes, lambdas, strict=True)
        ]
    if budget.sparsity is not None:
        return _of_sparsity(config, spec.label, budget.sparsity, shapes, wanted)
    notes += [
        f"layer {index} of the {spec.label}: lambda requests {w:.0f} connections, but the layer "
        f"can have only {size} and is therefore dense"
        for index, (w, size) in enumerate(zip(wanted, sizes, strict=True), 1)
        if w > size
    ]
    return [min(round_half_up(w), size) for w, size in zip(wanted, sizes, strict=True)]


def _of_sparsity(
    config: Config,
    network: str,
    sparsity: float,
    shapes: Sequence[Shape],
    wanted: Sequence[float],
) -> list[int]:
    """Return the number of connections of each layer in a network with a given sparsity.

    Unless sparse_output is set, the output layer keeps the wanted number of connections, and the
    other layers share the rest.

    Args:
        config: configuration of the run.
        network: label of the network.
        sparsity: fraction of the weights that do not exist.
        shapes: shapes of the layers.
        wanted: how many connections each layer would have without the sparsity.

    Raises:
        UsageError: if the sparsity is impossible for layers of these sizes.
    """
    sizes = [n_in * n_out for n_in, n_out in shapes]
    thinned = len(shapes) if config.sparse_output else len(shapes) - 1
    fixed = [
        min(round_half_up(w), size)
        for w, size in zip(wanted[thinned:], sizes[thinned:], strict=True)
    ]
    room = sum(sizes[:thinned])
    total = round_half_up((1 - sparsity) * sum(sizes)) - sum(fixed)
    if not 0 <= total <= room:
        low, high = sum(fixed), room + sum(fixed)
        raise UsageError(
            f"{config.budget(network).prefix}_sparsity is {sparsity}, which leaves {total + low} "
            f"connections; because the output layer has {low}, the {network} must have {low} to "
            f"{high} connections, which is a sparsity of {1 - high / sum(sizes):.4f} to "
            f"{1 - low / sum(sizes):.4f}"
        )
    if config.allocation == "erdos_renyi":
        return [
            *erdos_renyi_total(shapes[:thinned], 1 - total / room if fixed else sparsity),
            *fixed,
        ]
    return [*scaled(shapes[:thinned], wanted[:thinned], total), *fixed]


def _narrow(
    config: Config, name: str, n_obs: int, n_act: int, sparse: NetworkSpec, notes: list[str]
) -> NetworkSpec:
    """Return the dense network whose number of weights is nearest to that of the sparse network.

    All hidden layers of the dense network have the same width.

    Args:
        config: configuration of the run.
        name: name of the network.
        n_obs: length of an observation.
        n_act: length of an action.
        sparse: the sparse network that the narrow one replaces.
        notes: list to which a message for the user is added.
    """
    depth, wanted = len(config.hidden), sparse.connections

    def of_width(width: int) -> NetworkSpec:
        return specs_of(config, n_obs, n_act, (width,) * depth)[name]

    def distance(width: int) -> int:
        return abs(of_width(width).connections - wanted)

    widths = range(1, max(layer.n_out for layer in sparse.layers) + 1)
    above = bisect.bisect_left(widths, wanted, key=lambda width: of_width(width).connections)
    width = min(widths[max(above - 1, 0) : above + 1], key=distance)
    narrow = of_width(width)
    notes.append(
        f"{sparse.label}: {counted(depth, 'hidden layer')} of {width} units, with "
        f"{narrow.connections:,} weights instead of the {wanted:,} of the sparse network"
    )
    return narrow
