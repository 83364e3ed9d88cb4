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

import difflib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from sparl.errors import UsageError
from sparl.sparse.pattern import Pattern, Positions
from sparl.topology.density import round_half_up
from sparl.topology.layer_view import LayerView
from sparl.topology.rule_names import is_rule_name

Indices = NDArray[np.int64]
GRADIENT = "gradient"  # the dense gradient of the current loss, in layer.gradient
NEEDS = frozenset({GRADIENT})  # all data that a rule can require


class ChooseDropped(Protocol):
    """Chooses which connections to remove."""

    def __call__(self, layer: LayerView, count: int, rng: Generator) -> Indices:
        """Return distinct indices into the layer's connections, int64 [count]."""


class ChooseGrown(Protocol):
    """Chooses where to add connections."""

    def __call__(self, layer: LayerView, kept: Pattern, count: int, rng: Generator) -> Positions:
        """Return distinct positions that are free in `kept`, int64 [count]."""


@dataclass(frozen=True)
class DropRule:
    """A drop rule: the function and its declarations.

    Attributes:
        choose: the function; see ChooseDropped.
        name: the name under which the rule is registered.
        needs: the data that the rule reads in addition to the pattern and the weights, a subset of
            NEEDS.
        removes_dead_links: whether every connection whose weight is exactly 0 is removed before the
            rule is called. If so, the rule sees only live connections, and the fraction is relative
            to the number of live connections.
        rounding: function that rounds the product of fraction and connections to an integer.
    """

    choose: ChooseDropped
    name: str = ""
    needs: frozenset[str] = frozenset()
    removes_dead_links: bool = False
    rounding: Callable[[float], int] = round_half_up

    def __call__(self, layer: LayerView, count: int, rng: Generator) -> Indices:
        """Return distinct indices into the layer's connections, int64 [count]."""
        return self.choose(layer, count, rng)

    def __reduce__(self) -> tuple[object, ...]:
        """Copy a registered rule by its name.

        The function of the rule cannot be pickled, because its name in the module refers to the
        rule.
        """
        if DROP_RULES.get(self.name) is self:
            return registered_rule, ("drop", self.name)
        declared = self.name, self.needs, self.removes_dead_links, self.rounding
        return DropRule, (self.choose, *declared)


@dataclass(frozen=True)
class GrowRule:
    """A grow rule: the function and its declarations.

    Attributes:
        choose: the function; see ChooseGrown.
        name: the name under which the rule is registered.
        needs: the data that the rule reads in addition to the pattern and the weights, a subset of
            NEEDS.
    """

    choose: ChooseGrown
    name: str = ""
    needs: frozenset[str] = frozenset()

    def __call__(self, layer: LayerView, kept: Pattern, count: int, rng: Generator) -> Positions:
        """Return distinct positions that are free in `kept`, int64 [count]."""
        return self.choose(layer, kept, count, rng)

    def __reduce__(self) -> tuple[object, ...]:
        """Copy a registered rule by its name; see DropRule."""
        if GROW_RULES.get(self.name) is self:
            return registered_rule, ("grow", self.name)
        return GrowRule, (self.choose, self.name, self.needs)


DROP_RULES: dict[str, DropRule] = {}
GROW_RULES: dict[str, GrowRule] = {}


def registered_rule(kind: str, name: str) -> DropRule | GrowRule:
    """Return the drop or grow rule that is registered under a name.

    Raises:
        KeyError: if no rule is registered under this name.
    """
    return DROP_RULES[name] if kind == "drop" else GROW_RULES[name]


def drop_rule(
    name: str,
    *,
    needs: Collection[str] = (),
    removes_dead_links: bool = False,
    rounding: Callable[[float], int] = round_half_up,
) -> Callable[[ChooseDropped], DropRule]:
    """Register a function as the drop rule of this name; see DropRule for the arguments.

    Raises:
        UsageError: if the name is in use or is not an identifier, or if a requirement is unknown.
    """

    def register(choose: ChooseDropped) -> DropRule:
        check_registration(name, needs, DROP_RULES, choose)
        rule = DropRule(choose, name, frozenset(needs), removes_dead_links, rounding)
        DROP_RULES[name] = rule
        return rule

    return register


def grow_rule(name: str, *, needs: Collection[str] = ()) -> Callable[[ChooseGrown], GrowRule]:
    """Register a function as the grow rule of this name; see GrowRule for the arguments.

    Raises:
        UsageError: if the name is in use or is not an identifier, or if a requirement is unknown.
    """

    def register(choose: ChooseGrown) -> GrowRule:
        check_registration(name, needs, GROW_RULES, choose)
        rule = GrowRule(choose, name, frozenset(needs))
        GROW_RULES[name] = rule
        return rule

    return register


def unregistered(kind: str, name: str, rules: Mapping[str, object]) -> str:
    """Return a message that lists the registered rules; "" if the name is registered.

    Args:
        kind: the configuration field that names the rule: "drop", "grow" or "density_schedule".
        name: name of the rule.
        rules: the registered rules.
    """
    if name in rules:
        return ""
    near = difflib.get_close_matches(name, rules, n=1)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    known = ", ".join(f"'{known}'" for known in sorted(rules))
    return (
        f"{kind} is '{name}' but must be one of {known}{hint}; to register a custom rule, import "
        "its module: sparl --import MODULE ..., or import MODULE in Python"
    )


class _Registered(Protocol):
    """A rule or density schedule, with the function that defines it."""

    @property
    def choose(self) -> Callable[..., object]: ...


def check_registration(
    name: str,
    needs: Collection[str],
    rules: Mapping[str, _Registered],
    choose: Callable[..., object],
) -> None:
    """Check that a function can be registered under a name.

    Raises:
        UsageError: if the name is in use or is not an identifier, or if a requirement is unknown.
    """
    if not is_rule_name(name):
        raise UsageError(
            f"rule name {name!r} is not a valid identifier; use letters, digits and underscores"
        )
    unknown = sorted(set(needs) - NEEDS)
    if unknown:
        raise UsageError(
            f"rule '{name}' requires {', '.join(unknown)}, but a rule can require only "
            f"{', '.join(sorted(NEEDS))}"
        )
    if name in rules and not _same_source(rules[name].choose, choose):
        raise UsageError(
            f"rule '{name}' is already registered by {rules[name].choose.__module__}; choose "
            "another name"
        )


def _same_source(a: Callable[..., object], b: Callable[..., object]) -> bool:
    """Return whether two functions have the same definition, for example in a rerun cell."""
    return (a.__module__, a.__qualname__) == (b.__module__, b.__qualname__)
