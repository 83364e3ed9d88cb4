"""Create layouts of small networks, measure their sizes, and find a network's schedule."""

from __future__ import annotations

from collections.abc import Sequence

from sparl.agents import specs_of
from sparl.build import schedule
from sparl.configuration import Config
from sparl.networks.layout import Layout
from sparl.networks.spec import Activation, Linear, NetworkSpec
from sparl.sparse.pattern import Pattern
from sparl.topology.schedule import Schedule


def layout_of(
    members: Sequence[Sequence[Pattern]],
    output: Activation = "linear",
    first_gradient_input: int = 0,
    *,
    ensemble: bool = False,
) -> Layout:
    """Return the layout of ReLU multilayer perceptrons whose layers have the given patterns."""
    activations: list[Activation] = [*["relu"] * (len(members[0]) - 1), output]  # type: ignore[list-item]
    spec = NetworkSpec(
        tuple(
            Linear(p.n_in, p.n_out, activation, p.connections)
            for p, activation in zip(members[0], activations, strict=True)
        ),
        len(members), ensemble, first_gradient_input=first_gradient_input,
    )  # fmt: skip
    return Layout(
        spec, {(m, k): p for m, layers in enumerate(members) for k, p in enumerate(layers)}
    )


def sizes_of(spec: NetworkSpec) -> list[tuple[tuple[int, int], int]]:
    """Return the shape and the number of connections of each layer."""
    return [((layer.n_in, layer.n_out), layer.connections) for layer in spec.layers]


def schedule_of(config: Config, network: str) -> Schedule:
    """Return the schedule of the topology updates of a configured network."""
    return schedule(config, specs_of(config)[network])
