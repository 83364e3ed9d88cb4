"""Define and register drop and grow rules.

A rule is a function. A decorator registers it, so that a configuration can name it:

    @drop_rule("random")
    def drop_random(layer, count, rng):
        return rng.choice(layer.pattern.connections, size=count, replace=False)

The name is recorded in every run that uses the rule. The user imports the rule's module, with
`sparl --import MODULE ...` or with `import MODULE` in Python; a name that is read from a file never
causes an import.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from sparl.errors import UsageError
from sparl.sparse.pattern import Pattern, Positions
from sparl.topology.density import round_half_up
from sparl.topology.layer_view import LayerView
from sparl.topology.registry import Rule
from sparl.wording import name_and_text, shown

Indices = NDArray[np.int64]
GRADIENT = "gradient"  # the dense gradient of the current loss, in layer.gradient
NEEDS = frozenset({GRADIENT})  # all data that a rule can require


class ChooseDropped(Protocol):
    """The signature of a drop rule, a function that chooses which connections to remove."""

    def __call__(self, layer: LayerView, count: int, rng: Generator) -> Indices:
        """Choose connections to remove.

        Args:
            layer: the layer before the update; without its dead links, if the rule removes them.
            count: number of connections to remove, at least 1.
            rng: random generator of the network's topology. A run saves its state.

        Returns:
            Distinct indices into `layer.weights`, integers [count] in any order.
        """


class ChooseGrown(Protocol):
    """The signature of a grow rule, a function that chooses where to add connections."""

    def __call__(self, layer: LayerView, kept: Pattern, count: int, rng: Generator) -> Positions:
        """Choose positions for new connections.

        Args:
            layer: the layer before the drop, with its dead links.
            kept: the connections that remain after the drop.
            count: number of connections to add, at least 1.
            rng: random generator of the network's topology. A run saves its state.

        Returns:
            Distinct positions, output * n_in + input, that are free in `kept`; integers [count] in
            any order. They may be positions of connections that were just dropped.
        """


@dataclass(frozen=True)
class DropRule(Rule):
    """A drop rule: a function with the signature of ChooseDropped, and its declarations.

    Attributes:
        needs: the data that the rule reads in addition to the pattern and the weights, a subset of
            NEEDS.
        removes_dead_links: whether every connection whose weight is exactly 0 is removed before the
            rule is called. If so, the rule sees only live connections, and the fraction is relative
            to the number of live connections.
        rounding: function that rounds the product of fraction and connections to an integer.
    """

    kind: ClassVar[str] = "drop rule"
    needs: frozenset[str] = frozenset()
    removes_dead_links: bool = False
    rounding: Callable[[float], int] = round_half_up

    def count(self, fraction: float, connections: int) -> int:
        """Return how many of these connections the rule drops, `rounding(fraction connections)`.

        Raises:
            UsageError: if `rounding` fails or does not return an integer in [0, connections].
        """
        try:
            count = self.rounding(fraction * connections)
        except Exception as error:
            problem = f"has a function `rounding` that raised {name_and_text(error)}"
            raise self.fault(problem) from error
        if not isinstance(count, int | np.integer) or not 0 <= count <= connections:
            raise self.fault(
                f"has a function `rounding` that returned {shown(count)} for "
                f"{fraction * connections:g} but must return an integer in [0, {connections:,}]"
            )
        return int(count)


@dataclass(frozen=True)
class GrowRule(Rule):
    """A grow rule: a function with the signature of ChooseGrown, and its declarations.

    Attributes:
        needs: the data that the rule reads in addition to the pattern and the weights, a subset of
            NEEDS.
    """

    kind: ClassVar[str] = "grow rule"
    needs: frozenset[str] = frozenset()


def drop_rule(
    name: str,
    *,
    needs: Collection[str] = (),
    removes_dead_links: bool = False,
    rounding: Callable[[float], int] = round_half_up,
) -> Callable[[ChooseDropped], DropRule]:
    """Register a function as the drop rule with this name; see DropRule for the arguments.

    Raises:
        UsageError: if the name is in use or is not an identifier, or if a requirement is unknown.
    """
    known = _known(name, needs)
    return lambda choose: DropRule(choose, name, known, removes_dead_links, rounding).registered()


def grow_rule(name: str, *, needs: Collection[str] = ()) -> Callable[[ChooseGrown], GrowRule]:
    """Register a function as the grow rule with this name; see GrowRule for the arguments.

    Raises:
        UsageError: if the name is in use or is not an identifier, or if a requirement is unknown.
    """
    known = _known(name, needs)
    return lambda choose: GrowRule(choose, name, known).registered()


def _known(name: str, needs: Collection[str]) -> frozenset[str]:
    """Check the requirements of a rule, and return them as a set.

    Raises:
        UsageError: if a requirement is unknown.
    """
    unknown = sorted(set(needs) - NEEDS)
    if unknown:
        raise UsageError(
            f"rule '{name}' requires {', '.join(unknown)}, but a rule can require only "
            f"{', '.join(sorted(NEEDS))}"
        )
    return frozenset(needs)
