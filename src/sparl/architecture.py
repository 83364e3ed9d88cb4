"""The sizes of a run's networks: layers and connections, before patterns are drawn."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sparl.agents import roles_of
from sparl.agents.network_role import Layers, NetworkRole, NetworkSize, connections
from sparl.configuration import Config
from sparl.errors import UsageError
from sparl.topology.density import Shape, erdos_renyi_total, round_half_up, scaled


@dataclass(frozen=True)
class Architecture:
    """The networks of a run, by name.

    Attributes:
        networks: roles and sizes of the networks, by name.
        notes: messages for the user.
    """

    networks: Mapping[str, NetworkSize]
    notes: tuple[str, ...] = ()

    @property
    def connections(self) -> int:
        """Number of weights of all networks, without targets."""
        return sum(network.of_all_members for network in self.networks.values())

    @property
    def stored_connections(self) -> int:
        """Number of weights of all networks and their targets."""
        return sum(
            network.of_all_members * (2 if network.role.target else 1)
            for network in self.networks.values()
        )

    def densified(self) -> Architecture:
        """Return a copy in which every possible connection exists."""
        return Architecture({name: size.densified() for name, size in self.networks.items()})


def architecture(config: Config, n_obs: int, n_act: int) -> Architecture:
    """Compute the layers of a run's networks and their numbers of connections.

    Raises:
        UsageError: if a sparsity is impossible with these layers.
    """
    notes: list[str] = []
    roles = roles_of(config, n_obs, n_act)
    networks = {
        name: NetworkSize(role, _layers(config, role, notes)) for name, role in roles.items()
    }
    return Architecture(networks, tuple(notes))


def _layers(config: Config, role: NetworkRole, notes: list[str]) -> Layers:
    """Return the layers of one member of a network."""
    shapes = list(itertools.pairwise((role.n_in, *config.hidden, role.n_out)))
    name = role.densities
    counts = _connections(config, name, shapes, notes)
    notes += [
        f"layer {index} of the {name} has no connections, so the {name} ignores its input; use a "
        "smaller sparsity, or a larger density or lambda"
        for index, count in enumerate(counts, 1)
        if not count
    ]
    layers = tuple(zip(shapes, counts, strict=True))
    return _narrow(layers, name, notes) if config.narrow else layers


def _connections(
    config: Config, network: str, shapes: Sequence[Shape], notes: list[str]
) -> list[int]:
    """Return the number of connections of each layer, from densities, lambdas or a sparsity."""
    sizes = [n_in * n_out for n_in, n_out in shapes]
    densities = getattr(config, f"{network}_densities")
    sparsity = getattr(config, f"{network}_sparsity")
    if densities is not None:
        wanted = [d * size for d, size in zip(densities, sizes, strict=True)]
    else:
        lambdas = [config.lambda_1, *(config.lambda_2 for _ in shapes[2:]), None]
        wanted = [
            float(size) if lam is None else lam * sum(shape)
            for shape, size, lam in zip(shapes, sizes, lambdas, strict=True)
        ]
    counts = [min(round_half_up(w), size) for w, size in zip(wanted, sizes, strict=True)]
    if sparsity is None:
        for index, (w, size) in enumerate(zip(wanted, sizes, strict=True)):
            if w > size:
                notes.append(
                    f"layer {index + 1} of the {network}: lambda requests {w:.0f} connections, but "
                    f"the layer can have only {size} and is therefore dense"
                )
        return counts
    # Unless sparse_output is set, the output layer does not change, and the other layers share the
    # remaining connections.
    thinned = len(shapes) if config.sparse_output else len(shapes) - 1
    fixed = counts[thinned:]
    room = sum(sizes[:thinned])
    total = round_half_up((1 - sparsity) * sum(sizes)) - sum(fixed)
    if not 0 <= total <= room:
        low, high = sum(fixed), room + sum(fixed)
        raise UsageError(
            f"{network}_sparsity is {sparsity}, which leaves {total + low} connections; because "
            f"the output layer has {low}, the {network} must have {low} to {high} connections, "
            f"which is a sparsity of {1 - high / sum(sizes):.4f} to {1 - low / sum(sizes):.4f}"
        )
    if config.allocation == "erdos_renyi":
        return [
            *erdos_renyi_total(shapes[:thinned], 1 - total / room if fixed else sparsity),
            *fixed,
        ]
    return [*scaled(shapes[:thinned], wanted[:thinned], total), *fixed]


def _narrow(layers: Layers, network: str, notes: list[str]) -> Layers:
    """Return dense layers of one width whose number of weights is nearest to that of `layers`."""
    n_in, n_out, hidden = layers[0][0][0], layers[-1][0][1], len(layers) - 1
    wanted = connections(layers)

    def of_width(width: int) -> Layers:
        shapes = itertools.pairwise((n_in, *(width,) * hidden, n_out))
        return tuple((shape, shape[0] * shape[1]) for shape in shapes)

    def weights(width: int) -> int:
        return connections(of_width(width))

    widths = range(1, max(shape[1] for shape, _ in layers) + 1)
    above = bisect.bisect_left(widths, wanted, key=weights)
    nearest = widths[max(above - 1, 0) : above + 1]
    width = min(nearest, key=lambda width: abs(weights(width) - wanted))
    notes.append(
        f"{network}: {hidden} hidden layers of {width} units, with "
        f"{connections(of_width(width)):,} weights instead of the {wanted:,} of the sparse network"
    )
    return of_width(width)
