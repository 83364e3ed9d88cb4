"""What DynamicSparsity will do to a model.

Everything that can be wrong is found here, before the model or its optimizer is changed.
"""

from __future__ import annotations

import difflib
import gc
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.random import Generator

from sparl.errors import UsageError
from sparl.methods import preset
from sparl.random_streams import restore_generator, stream
from sparl.sparse.pattern import Pattern
from sparl.topology.schedule import Schedule
from sparl.torch.layers import MaskedLinear, Modules, Row, connections, survey
from sparl.torch.targets import FollowedTarget, TargetRule, follow

if TYPE_CHECKING:
    from sparl.torch.dynamic_sparsity import DynamicSparsity

Method = Literal["static", "DS", "SET", "RigL"]
METHODS = {"static": "Static-TD3", "DS": "DS-TD3", "SET": "SET-TD3", "RigL": "RigL-TD3"}

# Their state is, for each weight, the number of steps and tensors of the weight's shape.
OPTIMIZERS = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)

# An optimizer's hooks keep its DynamicSparsity alive, which does not keep the optimizer alive.
attached: WeakKeyDictionary[torch.optim.Optimizer, DynamicSparsity] = WeakKeyDictionary()


@dataclass(frozen=True)
class SavedTopology:
    """A state_dict of DynamicSparsity, checked."""

    patterns: dict[str, Pattern]
    updates: int
    evolutions: int
    moved: int
    rng: Generator


@dataclass(frozen=True)
class Plan:
    """The layers, how many connections each gets, and the target's layers."""

    rows: list[Row]
    layers: list[MaskedLinear]
    counts: dict[str, int]
    targets: list[FollowedTarget]
    saved: SavedTopology | None


def plan(
    modules: Modules,
    optimizer: torch.optim.Optimizer,
    *,
    method: str,
    density: float | Mapping[str, float] = 0.1,
    schedule: Schedule | None = None,
    target: Modules | None = None,
    target_rule: TargetRule | None = None,
    state: Mapping[str, Any] | None = None,
    replaced: Collection[DynamicSparsity] = (),
) -> Plan:
    """Check the arguments of DynamicSparsity; nothing is changed.

    Those in `replaced` will have been removed by then: they block nothing.

    Raises:
        UsageError: as DynamicSparsity does.
    """
    modules = modules if isinstance(modules, torch.nn.Module) else list(modules)
    _check(optimizer, method, schedule)
    rows = survey(modules, optimizer)
    layers = [MaskedLinear(row.name, row.module) for row in rows if row.why_not is None]
    if not layers:
        found = "; ".join(f"{row.name}: {row.why_not}" for row in rows)
        raise UsageError(f"DynamicSparsity: no layer to make sparse ({found or 'no layers'})")
    _check_free(optimizer, layers, replaced)
    shapes = {layer.name: (layer.pattern.n_in, layer.pattern.n_out) for layer in layers}
    counts = connections(shapes, density)
    rule = target_rule or preset(METHODS[method], "").target_pattern
    targets = [] if target is None else follow(layers, target, rule)
    saved = None if state is None else parse_state(state, method, layers)
    return Plan(rows, layers, counts, targets, saved)


def _check(optimizer: torch.optim.Optimizer, method: str, schedule: Schedule | None) -> None:
    if type(optimizer) not in OPTIMIZERS:
        known = ", ".join(kind.__name__ for kind in OPTIMIZERS)
        raise UsageError(
            f"DynamicSparsity: optimizer {type(optimizer).__name__} is not one whose state is "
            f"known; use one of {known}"
        )
    if method not in METHODS:
        near = difflib.get_close_matches(str(method), METHODS, n=1, cutoff=0.3)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"method: '{method}', must be one of {', '.join(METHODS)}{hint}")
    if method != "static" and schedule is None:
        raise UsageError(
            f"DynamicSparsity: {method} needs a schedule, for example "
            "Schedule(first=1000, every=1000, last=100_000, fraction=0.3, annealed=True)"
        )
    if method == "static" and schedule is not None:
        raise UsageError("DynamicSparsity: static never changes connections; leave schedule out")


def _check_free(
    optimizer: torch.optim.Optimizer,
    layers: list[MaskedLinear],
    replaced: Collection[DynamicSparsity],
) -> None:
    """Check that no other DynamicSparsity has this optimizer or one of these layers."""
    if optimizer in attached and attached[optimizer] not in replaced:
        raise UsageError("DynamicSparsity: this optimizer has one already; call its remove() first")
    taken = _taken(layers, replaced)
    if taken:
        gc.collect()  # the other optimizer may be garbage already, in a cycle of references
        taken = _taken(layers, replaced)
    if taken:
        raise UsageError(
            f"DynamicSparsity: {taken[0]} is kept sparse already, with another "
            "optimizer; call remove() of that one first"
        )


def _taken(layers: list[MaskedLinear], replaced: Collection[DynamicSparsity]) -> list[str]:
    others = [other for other in attached.values() if other not in replaced]
    taken = {id(layer.weight) for other in others for layer in other.layers}
    return [layer.name for layer in layers if id(layer.weight) in taken]


def parse_state(state: Mapping[str, Any], method: str, layers: list[MaskedLinear]) -> SavedTopology:
    """Read a state_dict of DynamicSparsity.

    Raises:
        UsageError: it is damaged, or of another method, other layers or other sizes.
    """
    if state.get("method") != method:
        raise UsageError(f"state: of method {state.get('method')}, this is {method}")
    try:
        positions = dict(state["positions"])
        counters = {name: int(state[name]) for name in ("updates", "evolutions", "moved")}
        rng = stream(0, "topology")
        restore_generator(rng, state["rng"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        what = type(error).__name__
        raise UsageError(
            f"state: damaged ({what}: {error}); must be what DynamicSparsity.state_dict returned"
        ) from None
    names = {layer.name for layer in layers}
    if set(positions) != names:
        differ = sorted(set(positions) ^ names)
        raise UsageError(f"state: of another model; {', '.join(differ)} in one of them only")
    patterns = {}
    for layer in layers:
        given = positions[layer.name]
        given = given.cpu().numpy() if isinstance(given, torch.Tensor) else given
        n_in, n_out = layer.pattern.n_in, layer.pattern.n_out
        try:
            patterns[layer.name] = Pattern(n_in, n_out, np.array(given, np.int64))
        except (TypeError, ValueError, OverflowError) as error:
            raise UsageError(f"state: {layer.name}: {error}") from None
    return SavedTopology(patterns, rng=rng, **counters)
