"""Dynamic sparse training of the Linear layers of any PyTorch model."""

from __future__ import annotations

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
    warn_of_lost_weights,
)
from sparl.torch.layers import MaskedLinear, Modules, to_numpy
from sparl.torch.ranks import of_first_rank, wrapper_of
from sparl.torch.targets import TargetRule
from sparl.wording import counted

CHECK_WRAPPER_EVERY = 1000  # steps; searching for a wrapper takes tens of milliseconds


class DynamicSparsity:
    """Keep a model's Linear layers sparse and update their topology when the optimizer steps.

    The weights remain dense tensors on their current device, with zeros at absent connections. Move
    the model to the training device before creating this object. Gradients of absent connections
    are set to zero before they are accumulated, so that gradient clipping ignores them. The code
    that drops and grows connections is the same as in sparl's own agents. The methods are:

    * static: random connections that never change.
    * DS (Sokar et al. 2021): random initial connections. A topology update follows the optimizer's
      step: all dead links (weights of exactly 0) and the weakest live connections of each sign are
      dropped, and the same number of connections is grown at random. Target networks have their own
      connections.
    * SET (Mocanu et al. 2018) and RigL (Evci et al. 2020), as in RLx2: the initial connections are
      those whose initial weights have the largest magnitudes. A topology update replaces the
      optimizer's step: the connections whose weights have the smallest magnitudes are dropped, and
      new connections are grown at random (SET) or where the gradient is largest (RigL).

    If a model is already sparse and has no more connections than the density allows, it keeps all
    of them. If it has more connections, or connections that `state` lacks, their weights are set to
    zero, and a warning is issued. To copy this object (copy.deepcopy, pickle), copy it together
    with its model, target and optimizer.

    The weight and the moments of a grown connection start at 0. For RigL, `.grad` contains the
    gradients of all positions before a step that changes connections. A layer without a gradient
    does not change, just as optimizers skip parameters without a gradient.

    Args:
        modules: a model, or several models that share one optimizer. Their Linear layers become
            sparse, except those whose weight is shared with another layer, computed from other
            parameters, frozen or not trained by the optimizer. Under DistributedDataParallel, wrap
            the model first; all ranks then use the connections, the random choices and the schedule
            of the first rank.
        optimizer: a torch.optim.SGD, Adam or AdamW object. DynamicSparsity does not keep the
            optimizer alive; when the optimizer no longer exists, all hooks are removed.
        method: static, DS, SET or RigL.
        density: density of all layers together, in (0, 1], distributed by Erdos-Renyi; or a mapping
            from layer names to densities, in which case all other layers stay dense.
        schedule: when connections change and how many, counted in optimizer steps; the schedule's
            clock is ignored. Required for all methods except static, for which it must be None.
        target: the model's target network, if there is one; it must have the same modules.
        target_rule: which connections the target network has. "shared" means those of the model at
            the last target update. "own" means the target's connections of largest magnitude, as
            many as in the model. None means the rule of the method.
        seed: seed of all random choices.
        state: the state_dict from which to continue; load the model's weights first.
        quiet: whether to suppress the table of layers, which is otherwise printed.

    Attributes:
        updates: number of optimizer steps so far.
        topology_updates: number of topology updates so far.
        moved: number of new connections in the last topology update.

    Raises:
        UsageError: at creation, before anything is changed: if the method, the density, the
            schedule or the state is invalid, the optimizer is not supported, the optimizer or a
            layer is already in use, no layer can be sparse, the size of a layer is not yet known,
            or the target's layers differ from the model's. In a step: if the step receives a
            closure, a weight was replaced, or the model was wrapped in DistributedDataParallel
            after this object was created.
        Diverged: in a step that updates the topology, if a weight or gradient that the rules use is
            not finite.
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
        warn_of_lost_weights(attachment, saved)
        self._restore(saved)
        if state is None:
            for tracked in self._targets:
                tracked.start()
        self._attach(optimizer)
        if not quiet:
            PlainConsole().print(self.table())

    def _first_topology(self, attachment: Attachment, choice: str) -> SavedTopology:
        """Return the initial topology, and find out whether the ranks are synchronised.

        Under DistributedDataParallel, all ranks get the topology and the schedule of the first.
        """
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
            UsageError: if the optimizer no longer exists.
        """
        optimizer = self._optimizer()
        if optimizer is None:
            raise UsageError(
                "DynamicSparsity: the optimizer no longer exists; keep it in a variable, or create "
                "a new DynamicSparsity with another optimizer"
            )
        return optimizer

    def _moments(self, layer: MaskedLinear) -> list[torch.Tensor]:
        """Return the optimizer's state tensors that have the shape of the layer's weight."""
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
            # This hook runs before the gradient is accumulated, so that `.grad` and the hooks that
            # run after accumulation receive the masked gradient.
            self._handles += [layer.weight.register_hook(_gradient_hook(self, layer))]
        for tracked in self._targets:
            self._handles += tracked.attach()
        weakref.finalize(optimizer, _remove_all, self._handles).atexit = False
        attached[optimizer] = self

    @staticmethod
    def of(optimizer: torch.optim.Optimizer) -> DynamicSparsity | None:
        """Return the DynamicSparsity that is attached to an optimizer, or None."""
        return attached.get(optimizer)

    def remove(self) -> None:
        """Detach from the optimizer and the model; further training would make the model dense."""
        self.settle_targets()
        _remove_all(self._handles)
        optimizer = self._optimizer()
        if optimizer is not None and attached.get(optimizer) is self:
            del attached[optimizer]

    def __getstate__(self) -> dict[str, Any]:
        """Return everything except the hooks, with the optimizer, for copies and pickles."""
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
        """Whether a topology update is due at the next step."""
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
        """Check that no weight was replaced and that the model was not wrapped afterwards.

        Raises:
            UsageError: if a weight was replaced, or if the model was wrapped in
                DistributedDataParallel, after this object was created.
        """
        for layer in self.layers:
            layer.check_weight()
        due = self._due or self.updates % CHECK_WRAPPER_EVERY == 0
        if self._synchronised or (self._wrapper_checked and not due):
            return
        self._wrapper_checked = True
        if wrapper_of(layer.weight for layer in self.layers) is not None:
            raise UsageError(
                "DynamicSparsity: the model was wrapped in DistributedDataParallel too late, so "
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
        self.settle_targets()  # before the connections change
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
                    f"DynamicSparsity: training diverged at step {self.updates}: a {what} of layer "
                    f"{layer.name} is not finite"
                )
        view = LayerView(layer.pattern, values, gradient)
        proposal = propose(self._rule, view, fraction, self._rng)
        return None if proposal is None else proposal.rewiring

    def settle_targets(self) -> None:
        """Apply the target rule now instead of at the next call of each target layer.

        Call this before code reads the weights of a target layer without calling the layer or the
        module that contains it.
        """
        for tracked in self._targets:
            tracked.settle()

    # --- State ---------------------------------------------------------------------------------

    @property
    def patterns(self) -> dict[str, Pattern]:
        """The connections of each layer that can be sparse, by the layer's name."""
        return {layer.name: layer.pattern for layer in self.layers}

    @property
    def density(self) -> float:
        """Fraction of the possible connections that exist, over all layers that can be sparse."""
        patterns = self.patterns.values()
        return sum(p.connections for p in patterns) / sum(p.size for p in patterns)

    def table(self) -> str:
        """Return a table of the layers, with their connections or the reason why they are dense.

        The last line contains the method, all connections and the number of topology updates.
        """
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
        """Return the method, the connections, the counters and the random generator's state.

        The weights are part of the model's state_dict, and the moments are part of the optimizer's.
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
        """Load a state returned by state_dict.

        The states of the model and the optimizer may be loaded before or after this call. The state
        of a target network must be loaded before this call.

        Args:
            state: the state; positions may also be lists of integers.

        Raises:
            UsageError: if the state is damaged, its method or layer names differ from those of this
                object, a position is outside its layer, or a weight was replaced; nothing is
                changed in these cases.
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
