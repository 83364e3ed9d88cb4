"""Check the arguments of DynamicSparsity and plan which layers become sparse.

Invalid arguments raise an error here, before the model or its optimizer is changed.
"""

from __future__ import annotations

import difflib
import gc
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.random import Generator

from sparl.errors import UsageError
from sparl.methods import preset
from sparl.old_names import TOPOLOGY_STATE, current
from sparl.random_streams import restore_generator, stream
from sparl.sparse.pattern import Pattern
from sparl.topology.schedule import Schedule
from sparl.torch.layers import MaskedLinear, Modules, SurveyRow, connections, survey, to_numpy
from sparl.torch.targets import TargetRule, TrackedTarget, track

if TYPE_CHECKING:
    from sparl.torch.dynamic_sparsity import DynamicSparsity

MethodName = Literal["static", "DS", "SET", "RigL"]
METHOD_PRESETS = {"static": "Static-TD3", "DS": "DS-TD3", "SET": "SET-TD3", "RigL": "RigL-TD3"}

# Optimizers whose state consists of step counts and tensors of the weights' shapes.
OPTIMIZERS = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)

FEW_ZEROS = 100  # a dense initialisation may contain up to one zero per this many weights

# An optimizer's hooks keep its DynamicSparsity alive. The DynamicSparsity does not keep the
# optimizer alive.
attached: WeakKeyDictionary[torch.optim.Optimizer, DynamicSparsity] = WeakKeyDictionary()


@dataclass(frozen=True)
class SavedTopology:
    """The topology of a DynamicSparsity: a validated state_dict, or the initial topology.

    Attributes:
        patterns: the connections of each layer, by the layer's name.
        updates: number of optimizer steps so far.
        topology_updates: number of topology updates so far.
        moved: number of new connections in the last topology update.
        rng: random generator of the topology.
    """

    patterns: dict[str, Pattern]
    updates: int
    topology_updates: int
    moved: int
    rng: Generator


@dataclass(frozen=True)
class Attachment:
    """The plan for a DynamicSparsity.

    Attributes:
        rows: every module with parameters.
        layers: the layers that can be sparse.
        counts: the initial number of connections of each of these layers, by name.
        targets: the corresponding layers of the target network, if there is one.
        saved: the topology to continue from, if any.
    """

    rows: list[SurveyRow]
    layers: list[MaskedLinear]
    counts: dict[str, int]
    targets: list[TrackedTarget]
    saved: SavedTopology | None


def plan_attachment(
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
) -> Attachment:
    """Check the arguments of DynamicSparsity and return the plan, without changing anything.

    The caller removes the objects in `replaced` before it attaches a new one, so their optimizers
    and layers count as unused.

    Raises:
        UsageError: under the conditions that the docstring of DynamicSparsity lists.
    """
    modules = modules if isinstance(modules, torch.nn.Module) else list(modules)
    _check(optimizer, method, schedule)
    rows = survey(modules, optimizer)
    layers = [MaskedLinear(row.name, row.module) for row in rows if row.reason is None]
    if not layers:
        found = "; ".join(f"{row.name}: {row.reason}" for row in rows)
        raise UsageError(
            f"DynamicSparsity: no layer can be made sparse ({found or 'no module has parameters'})"
        )
    _check_free(optimizer, layers, replaced)
    shapes = {layer.name: (layer.pattern.n_in, layer.pattern.n_out) for layer in layers}
    counts = connections(shapes, density)
    rule = target_rule or preset(METHOD_PRESETS[method], "").target_pattern
    targets = [] if target is None else track(layers, target, rule)
    saved = None if state is None else parse_state(state, method, layers)
    return Attachment(rows, layers, counts, targets, saved)


def check_method(method: str) -> None:
    """Raise UsageError if the method is not supported."""
    if method not in METHOD_PRESETS:
        near = difflib.get_close_matches(str(method), METHOD_PRESETS, n=1, cutoff=0.3)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(
            f"method is '{method}' but must be one of {', '.join(METHOD_PRESETS)}{hint}"
        )


def _check(optimizer: torch.optim.Optimizer, method: str, schedule: Schedule | None) -> None:
    if type(optimizer) not in OPTIMIZERS:
        known = ", ".join(kind.__name__ for kind in OPTIMIZERS)
        raise UsageError(
            f"DynamicSparsity: optimizer is {type(optimizer).__name__} but must be one of {known}"
        )
    check_method(method)
    if method != "static" and schedule is None:
        raise UsageError(
            f"DynamicSparsity: {method} needs a schedule, for example "
            "Schedule(first=1000, every=1000, last=100_000, fraction=0.3, annealed=True)"
        )
    if method == "static" and schedule is not None:
        raise UsageError(
            "DynamicSparsity: the method static never changes connections; omit schedule"
        )
    if schedule is not None and not (
        schedule.first >= 1 and schedule.every >= 0 and schedule.last >= 0
        and 0 <= schedule.fraction <= 1
    ):  # fmt: skip
        raise UsageError(
            f"DynamicSparsity: the schedule is {schedule}, but first must be at least 1, every and "
            "last at least 0, and fraction in [0, 1]"
        )


def _check_free(
    optimizer: torch.optim.Optimizer,
    layers: list[MaskedLinear],
    replaced: Collection[DynamicSparsity],
) -> None:
    """Check that no other DynamicSparsity uses this optimizer or one of these layers."""
    if optimizer in attached and attached[optimizer] not in replaced:
        raise UsageError(
            "DynamicSparsity: this optimizer already has a DynamicSparsity; call its remove() first"
        )
    used = _used(layers, replaced)
    if used:
        gc.collect()  # another optimizer may be garbage in a reference cycle
        used = _used(layers, replaced)
    if used:
        raise UsageError(
            f"DynamicSparsity: layer {used[0]} is already sparse under another optimizer; call "
            "remove() of that DynamicSparsity first"
        )


def _used(layers: list[MaskedLinear], replaced: Collection[DynamicSparsity]) -> list[str]:
    others = [other for other in attached.values() if other not in replaced]
    used = {id(layer.weight) for other in others for layer in other.layers}
    return [layer.name for layer in layers if id(layer.weight) in used]


def parse_state(state: Mapping[str, Any], method: str, layers: list[MaskedLinear]) -> SavedTopology:
    """Parse and validate the state_dict of a DynamicSparsity.

    Raises:
        UsageError: if the state is damaged, its method or layer names differ from the arguments, or
            a position is outside its layer.
    """
    if state.get("method") != method:
        raise UsageError(f"state: method is {state.get('method')} but must be {method}")
    try:
        state = current(state, TOPOLOGY_STATE)
        positions = dict(state["positions"])
        counters = {name: int(state[name]) for name in ("updates", "topology_updates", "moved")}
        rng = stream(0, "topology")
        restore_generator(rng, state["rng"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        what = type(error).__name__
        raise UsageError(
            f"state: damaged ({what}: {error}); use a value returned by DynamicSparsity.state_dict"
        ) from None
    names = {layer.name for layer in layers}
    if set(positions) != names:
        differ = sorted(set(positions) ^ names)
        raise UsageError(
            "state: it belongs to a different model; only one of the two models has the layers "
            f"{', '.join(differ)}; load the state of this model"
        )
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


def warn_of_lost_weights(attachment: Attachment, saved: SavedTopology) -> None:
    """Warn if the new connections omit weights that were trained."""
    lost = []
    for layer in attachment.layers:
        values = to_numpy(layer.weight).reshape(-1)
        count = int(np.count_nonzero(values))
        lossless = np.count_nonzero(values[saved.patterns[layer.name].positions]) == count
        was_dense = values.size - count <= values.size // FEW_ZEROS
        if not lossless and (attachment.saved is not None or not was_dense):
            wanted = saved.patterns[layer.name].connections
            lost.append(
                f"layer {layer.name} ({count:,} non-zero weights for {wanted:,} connections)"
            )
    if lost:
        warnings.warn(
            f"DynamicSparsity: trained weights are set to zero in {', '.join(lost)}, because "
            "the zeros of the weights do not match the requested connections; load weights and "
            "topology from the same training run, or pass the density of the weights",
            stacklevel=3,
        )
