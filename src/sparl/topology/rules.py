"""Drop and grow rules: what they look like, what they need, and the names they are registered by.

A rule is a function; a decorator registers it, so that a configuration can name it:

    @drop_rule("random")
    def drop_random(layer, count, rng):
        return rng.choice(layer.pattern.connections, size=count, replace=False)

The name is recorded in every run that uses the rule. Nothing that is read from a file imports a
rule: its module is imported by the user, `sparl --import MODULE ...` or `import MODULE` in Python.
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
GRADIENT = "gradient"  # the dense gradient of the loss just taken, in layer.gradient
NEEDS = frozenset({GRADIENT})  # all that a rule can ask for


class ChooseDropped(Protocol):
    """Chooses which connections to remove."""

    def __call__(self, layer: LayerView, count: int, rng: Generator) -> Indices:
        """int64 [count]: indices, without repetition, into the layer's connections."""


class ChooseGrown(Protocol):
    """Chooses where to add connections."""

    def __call__(self, layer: LayerView, kept: Pattern, count: int, rng: Generator) -> Positions:
        """int64 [count]: positions, without repetition, that are free in `kept`."""


@dataclass(frozen=True)
class DropRule:
    """A drop rule: the function that chooses, and what it declares.

    Attributes:
        choose: the function; see ChooseDropped.
        name: it is registered by.
        needs: what it reads besides pattern and weights, a subset of NEEDS.
        removes_dead_links: every connection whose weight is exactly 0 is removed before the rule
            is asked. The rule then sees the live connections alone, and the fraction is of them.
        rounding: makes a whole number of fraction x connections.
    """

    choose: ChooseDropped
    name: str = ""
    needs: frozenset[str] = frozenset()
    removes_dead_links: bool = False
    rounding: Callable[[float], int] = round_half_up

    def __call__(self, layer: LayerView, count: int, rng: Generator) -> Indices:
        """int64 [count]: indices, without repetition, into the layer's connections."""
        return self.choose(layer, count, rng)

    def __reduce__(self) -> tuple[object, ...]:
        """Copy a registered rule by its name, as its module's name for the function is the rule."""
        if DROP_RULES.get(self.name) is self:
            return registered_rule, ("drop", self.name)
        declared = self.name, self.needs, self.removes_dead_links, self.rounding
        return DropRule, (self.choose, *declared)


@dataclass(frozen=True)
class GrowRule:
    """A grow rule: the function that chooses, and what it declares.

    Attributes:
        choose: the function; see ChooseGrown.
        name: it is registered by.
        needs: what it reads besides pattern and weights, a subset of NEEDS.
    """

    choose: ChooseGrown
    name: str = ""
    needs: frozenset[str] = frozenset()

    def __call__(self, layer: LayerView, kept: Pattern, count: int, rng: Generator) -> Positions:
        """int64 [count]: positions, without repetition, that are free in `kept`."""
        return self.choose(layer, kept, count, rng)

    def __reduce__(self) -> tuple[object, ...]:
        """Copy a registered rule by its name; see DropRule."""
        if GROW_RULES.get(self.name) is self:
            return registered_rule, ("grow", self.name)
        return GrowRule, (self.choose, self.name, self.needs)


DROP_RULES: dict[str, DropRule] = {}
GROW_RULES: dict[str, GrowRule] = {}


def registered_rule(kind: str, name: str) -> DropRule | GrowRule:
    """Return the drop or grow rule of a name.

    Raises:
        KeyError: it is not registered.
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
        UsageError: the name is taken or not an identifier, or a need is unknown.
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
        UsageError: the name is taken or not an identifier, or a need is unknown.
    """

    def register(choose: ChooseGrown) -> GrowRule:
        check_registration(name, needs, GROW_RULES, choose)
        rule = GrowRule(choose, name, frozenset(needs))
        GROW_RULES[name] = rule
        return rule

    return register


def unregistered(kind: str, name: str, rules: Mapping[str, object]) -> str:
    """A message that says which rules there are and how to register another; "" for a known name.

    Args:
        kind: the field of a configuration: "drop", "grow" or "density_schedule".
        name: the rule that is asked for.
        rules: those that are registered.
    """
    if name in rules:
        return ""
    near = difflib.get_close_matches(name, rules, n=1)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    known = ", ".join(f"'{known}'" for known in sorted(rules))
    return (
        f"{kind} is '{name}', must be one of {known}{hint}; a rule of your own is registered when "
        "its module is imported: sparl --import MODULE ..., or import MODULE in Python"
    )


class _Registered(Protocol):
    """A rule or schedule, which has the function that chooses."""

    @property
    def choose(self) -> Callable[..., object]: ...


def check_registration(
    name: str,
    needs: Collection[str],
    rules: Mapping[str, _Registered],
    choose: Callable[..., object],
) -> None:
    """Check that a function can be registered by a name.

    Raises:
        UsageError: the name is taken or not an identifier, or a need is unknown.
    """
    if not is_rule_name(name):
        raise UsageError(f"rule name {name!r}, must be letters, digits and underscores")
    unknown = sorted(set(needs) - NEEDS)
    if unknown:
        raise UsageError(
            f"rule '{name}' needs {', '.join(unknown)}; a rule can need {', '.join(sorted(NEEDS))}"
        )
    if name in rules and not _same_source(rules[name].choose, choose):
        raise UsageError(
            f"rule '{name}' is registered already, by {rules[name].choose.__module__}; choose "
            "another name"
        )


def _same_source(a: Callable[..., object], b: Callable[..., object]) -> bool:
    """Whether both are the same function, perhaps of a module or cell that was run again."""
    return (a.__module__, a.__qualname__) == (b.__module__, b.__qualname__)
