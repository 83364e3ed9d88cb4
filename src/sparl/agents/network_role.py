"""The networks that an agent requires, and the sizes of these networks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from sparl.networks.spec import Output

Layers = tuple[tuple[tuple[int, int], int], ...]  # (n_in, n_out) and connections of each layer


@dataclass(frozen=True)
class NetworkRole:
    """A network that an agent's algorithm requires.

    Attributes:
        n_in: number of inputs.
        n_out: number of outputs of each member.
        densities: prefix of the configuration fields that determine the number of connections,
            <densities>_densities and <densities>_sparsity.
        output: activation of the last layer.
        members: number of networks of this kind, for example two critics.
        ensemble: whether outputs have a leading axis of members, even for a single member.
        target: whether the network has a target network.
        update_period: updates of the agent per update of this network.
        first_gradient_input: index of the first input whose gradient is required.
    """

    n_in: int
    n_out: int
    densities: Literal["actor", "critic"]
    output: Output = "linear"
    members: int = 1
    ensemble: bool = False
    target: bool = False
    update_period: int = 1
    first_gradient_input: int = 0


def critics_role(n_obs: int, n_act: int, members: int) -> NetworkRole:
    """Return the role of an ensemble of critics Q(s, a) that have targets.

    The ensemble maps [B, n_obs + n_act] to [E, B, 1].
    """
    return NetworkRole(
        n_obs + n_act, 1, "critic", members=members, ensemble=True, target=True,
        first_gradient_input=n_obs,
    )  # fmt: skip


@dataclass(frozen=True)
class NetworkSize:
    """A network's role, and the layers of each of its members."""

    role: NetworkRole
    layers: Layers

    @property
    def connections(self) -> int:
        """Number of weights of one member."""
        return connections(self.layers)

    @property
    def deep_connections(self) -> int:
        """Number of weights of one member in the layers after the first."""
        return connections(self.layers[1:])

    @property
    def of_all_members(self) -> int:
        """Number of weights of all members."""
        return self.role.members * self.connections

    def of_inputs(self, count: int) -> float:
        """Return the expected number of first-layer weights of one member from `count` inputs."""
        (n_in, _), first = self.layers[0]
        return first * count / n_in

    def densified(self) -> NetworkSize:
        """Return a copy in which every possible connection exists."""
        layers = tuple((shape, shape[0] * shape[1]) for shape, _ in self.layers)
        return replace(self, layers=layers)


def connections(layers: Layers) -> int:
    """Return the number of weights of one network."""
    return sum(count for _, count in layers)
