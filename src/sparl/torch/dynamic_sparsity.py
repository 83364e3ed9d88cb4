"""Dynamic sparse training of the Linear layers of any model with a torch optimizer."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.hooks import unserializable_hook

from sparl.console import PlainConsole
from sparl.errors import Diverged, UsageError
from sparl.methods import preset
from sparl.random_streams import generator_state, stream
from sparl.sparse.pattern import Pattern, union
from sparl.sparse.rewiring import Rewiring
from sparl.topology.grow import random_free_positions
from sparl.topology.initial import largest_of_matrix, random_pattern
from sparl.topology.layer_view import LayerView
from sparl.topology.propose import TopologyMethod, propose
from sparl.topology.rules import GRADIENT
from sparl.topology.schedule import NEVER, Schedule
from sparl.torch.attachment import (
    METHOD_PRESETS,
    Attachment,
    MethodName,
    SavedTopology,
    attached,
    parse_state,
    plan_attachment,
)
from sparl.torch.layers import MaskedLinear, Modules, to_numpy
from sparl.torch.ranks import of_first_rank, wrapper_of
from sparl.torch.targets import TargetRule
from sparl.wording import counted

CHECK_WRAPPER_EVERY = 1000  # steps; the search takes tens of milliseconds
FEW_ZEROS = 100  # one zero per this many weights may come from a dense initialisation


class DynamicSparsity:
    """Keeps a model's Linear layers sparse and updates their topology when the optimizer steps.

    Weights remain dense tensors with zeros at absent connections, on their current device; move
    the model to its device before creating this object. Gradients of absent connections are zeroed
    before they are accumulated, so that gradient clipping ignores them. Connections are dropped and
    grown by the code that trains sparl's own agents:

    * static: random connections that never change.
    * DS (Sokar et al. 2021): random initial connections. After the optimizer's step, all dead links
      (weights of exactly 0) and the weakest live connections of each sign are dropped, and the same
      number grows at random. Targets have connections of their own.
    * SET (Mocanu et al. 2018) and RigL (Evci et al. 2020) as in RLx2: initially the largest initial
      weights. Instead of the optimizer's step, the smallest weights are dropped, and connections
      grow at random (SET) or where the gradient is largest (RigL).

    Weights that are already sparse, with no more connections than the density gives, keep all of
    them. If they have more, or other connections than `state`, a warning is issued. To copy this
    object (copy.deepcopy, pickle), copy it together with its model, target and optimizer.

    A grown connection starts with weight 0 and moments 0. For RigL, `.grad` contains the gradients
    of all positions before a step on which connections change. A layer without a gradient is
    skipped, as optimizers skip it.

    Args:
        modules: a model, or several models of one optimizer; all their Linear layers become sparse.
            Under DistributedDataParallel, wrap the model first; all ranks then use the connections,
            the random choices and the schedule of the first rank.
        optimizer: torch.optim.SGD, Adam or AdamW. This object does not keep the optimizer alive;
            when the optimizer no longer exists, the model is released.
        method: static, DS, SET or RigL.
        density: share of the connections of all layers together, distributed by Erdos-Renyi, in
            (0, 1]; or the density of each layer by name, where other layers stay dense.
        schedule: when connections change and how many, counted in optimizer steps; the schedule's
            clock is ignored. Required for all methods except static.
        target: the model's target network, with the same modules, if there is one.
        target_rule: the target's connections: "shared", the model's at the last target update;
            "own", the same number of connections with the largest magnitudes. None: the method's.
        seed: seed of all random choices.
        state: a state_dict to continue from, for a model whose weights were loaded before.
        quiet: do not print the table of layers.

    Raises:
        UsageError: unknown optimizer; an optimizer or a layer in use; unknown method; invalid
            density; no layer to make sparse; a target of another shape; a damaged state. Nothing is
            changed in these cases. In a step: a closure, a weight that was replaced, or a model
            that was wrapped in DistributedDataParallel after this object was created.
        Diverged: in a step: a weight or gradient that the rules need is not finite.
    """

    def __init__(
        self,
        modules: Modules,
        optimizer: torch.optim.Optimizer,
        *,
        method: MethodName,
        density: float | Mapping[str, float] = 0.1,
        schedule: Schedule | None = None,
        target: Modules | None = None,
        target_rule: TargetRule | None = None,
        seed: int = 0,
        state: Mapping[str, Any] | None = None,
        quiet: bool = False,
    ) -> None:
        attachment = plan_attachment(
            modules, optimizer, method=method, density=density, schedule=schedule,
            target=target, target_rule=target_rule, state=state,
        )  # fmt: skip
        choices = preset(METHOD_PRESETS[method], "")
        self.method: MethodName = method
        self.schedule = schedule or NEVER
        self._rule = TopologyMethod.named(choices.drop, choices.grow)
        self._skips_step = choices.rewire_skips_step
        self._rng = stream(seed, "topology")
        self._withheld: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._updates_after_step = False

        self._rows, self.layers = attachment.rows, attachment.layers
        self._targets = attachment.targets
        self._optimizer = weakref.ref(optimizer)
        self._handles: list[Any] = []
        self._wrapper_checked = False
        saved = self._first_topology(attachment, choices.initial_topology)
        _warn_of_lost_weights(attachment, saved)
        self._restore(saved)
        if state is None:
            for tracked in self._targets:
                tracked.start()
        self._attach(optimizer)
        if not quiet:
            PlainConsole().print(self.table())

    def _first_topology(self, attachment: Attachment, choice: str) -> SavedTopology:
        """Return the initial topology; under DistributedDataParallel, that of the first rank."""
        saved = attachment.saved
        if saved is None:
            patterns = {
                layer.name: self._initial(layer, attachment.counts[layer.name], choice)
                for layer in self.layers
            }
            saved = SavedTopology(patterns, updates=0, topology_updates=0, moved=0, rng=self._rng)
        wrapper = wrapper_of(layer.weight for layer in self.layers)
        self._synchronised = wrapper is not None
        if wrapper is not None:
            saved, self.schedule = of_first_rank((saved, self.schedule), wrapper)
        return saved

    def _initial(self, layer: MaskedLinear, count: int, choice: str) -> Pattern:
        n_in, n_out = layer.pattern.n_in, layer.pattern.n_out
        values = to_numpy(layer.weight)
        if choice != "random":
            return largest_of_matrix(values, count)
        existing = np.flatnonzero(values)
        if existing.size == values.size or existing.size > count:
            return random_pattern(n_in, n_out, count, self._rng)
        # The weights are already sparse: keep all of them.
        kept = Pattern(n_in, n_out, existing)
        grown = random_free_positions(kept, count - existing.size, self._rng)
        return Pattern(n_in, n_out, union(existing, grown))

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer; the caller must keep it alive.

        Raises:
            UsageError: it no longer exists.
        """
        optimizer = self._optimizer()
        if optimizer is None:
            raise UsageError(
                "DynamicSparsity: its optimizer no longer exists; keep the optimizer in a "
                "variable, or create DynamicSparsity with another one"
            )
        return optimizer

    def _moments(self, layer: MaskedLinear) -> list[torch.Tensor]:
        """Return the optimizer's tensors with one value per weight of the layer."""
        state = self.optimizer.state.get(layer.weight, {})
        return [
            value
            for value in state.values()
            if isinstance(value, torch.Tensor) and value.shape == layer.weight.shape
        ]

    # --- Hooks of the optimizer's steps --------------------------------------------------------

    def _attach(self, optimizer: torch.optim.Optimizer) -> None:
        self._handles += [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        ]
        for layer in self.layers:
            # Runs before the gradient is accumulated, so that every other hook sees it masked.
            self._handles += [layer.weight.register_hook(_gradient_hook(self, layer))]
        for tracked in self._targets:
            self._handles += tracked.attach()
        weakref.finalize(optimizer, _remove_all, self._handles).atexit = False
        attached[optimizer] = self

    @staticmethod
    def of(optimizer: torch.optim.Optimizer) -> DynamicSparsity | None:
        """Return the object that is attached to an optimizer, if any."""
        return attached.get(optimizer)

    def remove(self) -> None:
        """Detach from the optimizer and the model; training would then change the zeros."""
        self.settle_targets()
        _remove_all(self._handles)
        optimizer = self._optimizer()
        if optimizer is not None and attached.get(optimizer) is self:
            del attached[optimizer]

    def __getstate__(self) -> dict[str, Any]:
        """Return everything except the hooks, for copies and pickles."""
        state = {k: v for k, v in self.__dict__.items() if k not in ("_handles", "_optimizer")}
        return {**state, "optimizer": self.optimizer, "attached": bool(self._handles)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Attach the copy to the copied model and optimizer if the original is attached."""
        state = dict(state)
        optimizer, is_attached = state.pop("optimizer"), state.pop("attached")
        self.__dict__.update(state)
        self._optimizer = weakref.ref(optimizer)
        self._handles = []
        if is_attached:
            self._attach(optimizer)

    @property
    def _due(self) -> bool:
        """Whether connections change at the next step."""
        now = self.updates + 1
        return self.schedule.due_until(now) > self.schedule.due_until(self.updates)

    @property
    def _wants_dense_gradients(self) -> bool:
        return GRADIENT in self._rule.needs and self._due

    def _before_step(self, optimizer: object, args: tuple[Any, ...], kwargs: Any) -> None:
        if any(callable(argument) for argument in (*args[1:], *kwargs.values())):
            raise UsageError(
                "DynamicSparsity: step(closure) is not supported; call backward() before step()"
            )
        self._check_weights_and_ranks()
        # Under a GradScaler, a fused optimizer's step is called even if it skips the update.
        overflow = getattr(self.optimizer, "found_inf", None)
        due = self._due and not overflow
        self.updates += not overflow
        self._updates_after_step = due and not self._skips_step
        skips = due and self._skips_step
        if skips:
            self._update_topology()
        for layer in self.layers:
            if layer.weight.grad is not None and not layer.dense:
                layer.weight.grad.masked_fill_(layer.absent, 0)
        if skips:
            # The step ignores parameters without a gradient.
            for group in self.optimizer.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self._withheld.append((parameter, parameter.grad))
                        parameter.grad = None

    def _check_weights_and_ranks(self) -> None:
        """Check that the optimizer trains the layers' weights, and all ranks the same connections.

        Raises:
            UsageError: a weight was replaced, or the model was wrapped, after the creation of this
                object.
        """
        for layer in self.layers:
            layer.check_weight()
        due = self._due or self.updates % CHECK_WRAPPER_EVERY == 0
        if self._synchronised or (self._wrapper_checked and not due):
            return
        self._wrapper_checked = True
        if wrapper_of(layer.weight for layer in self.layers) is not None:
            raise UsageError(
                "DynamicSparsity: the model was wrapped in DistributedDataParallel afterwards, so "
                "ranks may have different connections; wrap it before creating DynamicSparsity"
            )

    def _after_step(self, optimizer: object, args: object, kwargs: object) -> None:
        for parameter, gradient in self._withheld:
            parameter.grad = gradient
        self._withheld.clear()
        with torch.no_grad():
            for layer in self.layers:
                if not layer.dense:
                    layer.weight.masked_fill_(layer.absent, 0)
        if self._updates_after_step:
            self._update_topology()

    def _update_topology(self) -> None:
        """Drop and grow connections in every layer, at the schedule's current fraction."""
        self.settle_targets()  # with the connections before the update
        fraction = self.schedule.fraction_at(self.updates)
        self.topology_updates += 1
        self.moved = 0
        for layer, rewiring in [(layer, self._propose(layer, fraction)) for layer in self.layers]:
            if rewiring is not None:
                layer.set_pattern(rewiring.new, self._moments(layer), grown=True)
                self.moved += rewiring.grown.size

    def _propose(self, layer: MaskedLinear, fraction: float) -> Rewiring | None:
        if layer.weight.grad is None:
            return None  # the layer is not part of the loss, or is frozen
        values = layer.values()
        gradient = to_numpy(layer.weight.grad) if GRADIENT in self._rule.needs else None
        for what, array in (("weight", values), ("gradient", gradient)):
            if array is not None and not np.isfinite(array).all():
                raise Diverged(
                    f"DynamicSparsity: step {self.updates}: a {what} of {layer.name} is not "
                    "finite; training has diverged"
                )
        view = LayerView(layer.pattern, values, gradient)
        proposal = propose(self._rule, view, fraction, self._rng)
        return None if proposal is None else proposal.rewiring

    def settle_targets(self) -> None:
        """Apply the target rule now; needed only for target layers that are not called directly."""
        for tracked in self._targets:
            tracked.settle()

    # --- State ---------------------------------------------------------------------------------

    @property
    def patterns(self) -> dict[str, Pattern]:
        """The connections of each layer that can be sparse, by the layer's name."""
        return {layer.name: layer.pattern for layer in self.layers}

    @property
    def density(self) -> float:
        """Share of these layers' possible connections that exist."""
        patterns = self.patterns.values()
        return sum(p.connections for p in patterns) / sum(p.size for p in patterns)

    def table(self) -> str:
        """Describe each layer in one line: its connections, or why it is not sparse."""
        patterns = self.patterns
        width = max(len(row.name) for row in self._rows)
        lines = []
        for row in self._rows:
            pattern = patterns.get(row.name)
            if pattern is None:
                kind = type(row.module).__name__
                lines.append(f"{row.name:<{width}}  {kind}: {row.reason}")
            else:
                lines.append(
                    f"{row.name:<{width}}  {pattern.n_in} -> {pattern.n_out}: "
                    f"{pattern.connections:,} of {pattern.size:,} connections, "
                    + ("dense" if pattern.connections == pattern.size else f"{pattern.density:.1%}")
                )
        total = sum(p.connections for p in patterns.values())
        size = sum(p.size for p in patterns.values())
        planned = self.schedule.total
        updates = f", {counted(planned, 'topology update')}" if planned else ""
        lines.append(
            f"{self.method}: {total:,} of {size:,} connections, {self.density:.1%}{updates}"
        )
        return "\n".join(lines)

    def state_dict(self) -> dict[str, Any]:
        """Return connections, counters and the random stream.

        Weights are in the model's state_dict, moments in the optimizer's.
        """
        self.settle_targets()
        return {
            "method": self.method,
            "updates": self.updates,
            "topology_updates": self.topology_updates,
            "moved": self.moved,
            "rng": generator_state(self._rng),
            "positions": {
                layer.name: torch.from_numpy(layer.pattern.positions.copy())
                for layer in self.layers
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state, before or after loading those of the model and the optimizer.

        Load the state of a target network first.

        Args:
            state: the value returned by state_dict; positions may also be lists of integers.

        Raises:
            UsageError: the state is of another method, other layers or other sizes; nothing is
                changed then.
        """
        saved = parse_state(state, self.method, self.layers)
        for layer in self.layers:
            layer.check_weight()
        self._restore(saved)
        for tracked in self._targets:
            tracked.mark_settled()

    def _restore(self, saved: SavedTopology) -> None:
        moments = [self._moments(layer) for layer in self.layers]
        self.updates, self.moved = saved.updates, saved.moved
        self.topology_updates: int = saved.topology_updates
        self._rng = saved.rng
        for layer, of_layer in zip(self.layers, moments, strict=True):
            layer.set_pattern(saved.patterns[layer.name], of_layer, grown=False)


def _warn_of_lost_weights(attachment: Attachment, saved: SavedTopology) -> None:
    """Warn if weights were trained with other connections than these."""
    lost = []
    for layer in attachment.layers:
        values = to_numpy(layer.weight).reshape(-1)
        count = int(np.count_nonzero(values))
        lossless = np.count_nonzero(values[saved.patterns[layer.name].positions]) == count
        was_dense = values.size - count <= values.size // FEW_ZEROS
        if not lossless and (attachment.saved is not None or not was_dense):
            wanted = saved.patterns[layer.name].connections
            lost.append(f"{layer.name} ({count:,} weights for {wanted:,} connections)")
    if lost:
        warnings.warn(
            f"DynamicSparsity: trained weights are set to zero in {', '.join(lost)}: "
            "their zeros do not match the requested connections; load weights and topology of the "
            "same training, or pass the density of the weights",
            stacklevel=3,
        )


def _remove_all(handles: list[Any]) -> None:
    while handles:
        handles.pop().remove()


def _gradient_hook(sparsity: DynamicSparsity, layer: MaskedLinear) -> Any:
    @unserializable_hook  # copies register new hooks
    def zero_absent(gradient: torch.Tensor) -> torch.Tensor | None:
        if layer.dense or sparsity._wants_dense_gradients:
            return None
        return gradient.masked_fill(layer.absent, 0)

    return zero_absent
