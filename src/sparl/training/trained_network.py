"""The networks of a trained agent: which connections exist, and their weights."""

from __future__ import annotations

import html
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sparl.errors import UsageError
from sparl.networks.spec import layer_key, layer_of
from sparl.sparse.pattern import Pattern
from sparl.training.notebook import html_table
from sparl.types import Array
from sparl.wording import shown

if TYPE_CHECKING:
    import scipy.sparse
    import torch

_MOST_INPUTS = 1 << 32


@dataclass(frozen=True, eq=False, repr=False)
class TrainedLayer:
    """A layer y = activation(W x + b) of a trained network, where W has shape [n_out, n_in].

    Attributes:
        pattern: the existing connections.
        weights: float32 [N], the weight of each existing connection, row by row of W, that is, in
            the order of the True entries of `mask()`: if W is all zeros, then
            `W[layer.mask()] = layer.weights` makes it the dense matrix. Read-only.
        bias: float32 [n_out]. Read-only.
        activation: name of the activation, "linear" if there is none.
    """

    pattern: Pattern
    weights: Array
    bias: Array
    activation: str

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of W, (n_out, n_in)."""
        return self.pattern.n_out, self.pattern.n_in

    @property
    def connections(self) -> int:
        """Number of existing connections."""
        return self.pattern.connections

    @property
    def density(self) -> float:
        """Fraction of the possible connections that exist."""
        return self.pattern.density

    def mask(self) -> NDArray[np.bool_]:
        """Return which connections exist, bool [n_out, n_in]."""
        mask = np.zeros(self.pattern.size, np.bool_)
        mask[self.pattern.positions] = True
        return mask.reshape(self.shape)

    def to_scipy(self) -> scipy.sparse.csr_array:
        """Return W as a SciPy sparse array in CSR format, float32 [n_out, n_in].

        Raises:
            UsageError: if SciPy is not installed.
        """
        try:
            from scipy.sparse import csr_array
        except ImportError:
            raise UsageError("to_scipy needs SciPy: pip install scipy") from None
        return csr_array((self.weights.copy(), self._columns(), self._rows()), shape=self.shape)

    def to_torch(self) -> torch.Tensor:
        """Return W as a PyTorch sparse CSR tensor, float32 [n_out, n_in].

        Raises:
            UsageError: if PyTorch is not installed.
        """
        try:
            import torch
        except ImportError:
            raise UsageError("to_torch needs PyTorch: pip install 'sparl[torch]'") from None
        rows, columns, values = (
            torch.from_numpy(each) for each in (self._rows(), self._columns(), self.weights.copy())
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support")  # "in beta state"
            return torch.sparse_csr_tensor(rows, columns, values, self.shape, check_invariants=True)

    def _rows(self) -> NDArray[np.int64]:
        """Return the row pointers of the CSR format, int64 [n_out + 1]."""
        counts = np.bincount(self.pattern.outputs, minlength=self.pattern.n_out)
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    def _columns(self) -> NDArray[np.int64]:
        return self.pattern.inputs.copy()

    def __repr__(self) -> str:
        return (
            f"<TrainedLayer {self.pattern.n_in} -> {self.pattern.n_out}, {self.activation}: "
            f"{_connections([self])}>"
        )


@dataclass(frozen=True, eq=False, repr=False)
class TrainedNetwork:
    """A network of a trained agent, or an ensemble of networks of equal shape.

    Attributes:
        name: name of the network, such as "actor" or "critics".
        members: the layers of each member of an ensemble; other networks have a single member.
    """

    name: str
    members: tuple[tuple[TrainedLayer, ...], ...]

    @property
    def layers(self) -> tuple[TrainedLayer, ...]:
        """The layers of a network that has a single member.

        Raises:
            UsageError: if the network has several members.
        """
        if len(self.members) > 1:
            raise UsageError(
                f"{self.name} has {len(self.members)} members; members[0] contains the layers of "
                "the first one"
            )
        return self.members[0]

    def __repr__(self) -> str:
        return f"<TrainedNetwork {self.name}: {', '.join(self._cells(' connections')[1:])}>"

    def _cells(self, unit: str = "") -> tuple[str, ...]:
        """Return the cells of a table row: the network's name, shape and connections.

        Args:
            unit: what follows the number of connections, with a space before it.
        """
        first = self.members[0]
        shape = "-".join(str(n) for n in (first[0].shape[1], *(layer.shape[0] for layer in first)))
        shape = shape if len(self.members) == 1 else f"{len(self.members)} x {shape}"
        layers = [each for member in self.members for each in member]
        return self.name, shape, _connections(layers, unit)


def _connections(layers: list[TrainedLayer], unit: str = " connections") -> str:
    """Describe how many of the possible connections in these layers exist.

    Args:
        layers: the layers.
        unit: what follows the number of connections, with a space before it.
    """
    connections = sum(layer.connections for layer in layers)
    possible = sum(layer.pattern.size for layer in layers)
    return f"{connections:,} of {possible:,}{unit} ({connections / max(possible, 1):.1%})"


def networks_html(title: str, networks: Mapping[str, TrainedNetwork]) -> str:
    """Return an HTML table of networks."""
    rows = [network._cells() for network in networks.values()]
    table = html_table(rows, ("network", "neurons", "connections"))
    return f"<b>{html.escape(title)}</b>{table}"


def networks_of(manifest: dict[str, Any], arrays: Mapping[str, Array]) -> dict[str, TrainedNetwork]:
    """Return the networks that an agent's files describe, by name.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: if the files are damaged.
    """
    policy = manifest["policy"]
    n_obs, n_act = policy["observations"], len(policy["action_low"])
    networks = {}
    for name, members in manifest["networks"].items():
        of_actor = name in ("actor", "actor_target")
        # Files of earlier versions have no "inputs"; their agents have critics Q(s, a).
        n_in = manifest.get("inputs", {}).get(name, n_obs if of_actor else n_obs + n_act)
        if type(n_in) is not int or not 0 < n_in < _MOST_INPUTS:
            raise ValueError(
                f"the number of inputs of {shown(name)} is {shown(n_in)} but must be at least 1 "
                "and below 2^32"
            )
        last = policy["output_activation"] if of_actor else "linear"
        hidden = manifest["hidden_activation"]
        networks[name] = TrainedNetwork(
            name,
            tuple(
                _layers(f"{name}.", member, entries, n_in, (hidden, last), arrays)
                for member, entries in enumerate(members)
            ),
        )
    return networks


def _layers(
    prefix: str,
    member: int,
    entries: list[dict[str, Any]],
    n_in: int,
    activations: tuple[Any, Any],
    arrays: Mapping[str, Array],
) -> tuple[TrainedLayer, ...]:
    layers = []
    for index, entry in enumerate(entries):
        layer = layer_of(entry, n_in, activations[index == len(entries) - 1])
        key = f"{prefix}{layer_key((member, index))}"
        positions = np.asarray(arrays[f"{key}.positions"], np.int64)
        values = arrays[f"{key}.weight"], arrays[f"{key}.bias"]
        for each in values:
            each.flags.writeable = False
        pattern = Pattern(n_in, layer.n_out, positions)
        layers.append(TrainedLayer(pattern, *values, layer.activation))
        n_in = layer.n_out
    return tuple(layers)
