"""Sparse connections that evolve, under any model's Linear layers and a torch optimizer."""

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
from sparl.torch.layers import MaskedLinear, Modules, to_numpy
from sparl.torch.plan import METHODS, Method, Plan, SavedTopology, attached, parse_state, plan
from sparl.torch.ranks import of_first_rank, wrapper_of
from sparl.torch.targets import TargetRule
from sparl.wording import counted

CHECK_WRAPPER_EVERY = 1000  # steps; the search takes tens of milliseconds
FEW_ZEROS = 100  # one zero in so many weights may come from a dense initialisation


class DynamicSparsity:
    """Keeps a model's Linear layers sparse and evolves their connections as the optimizer steps.

    Weights stay the dense tensors that they are, on their own device (move the model there
    before), with zeros where there is no connection; gradients there are zeroed as they arrive,
    so that clipping sees those of connections alone. What is dropped and what grows is chosen by
    the same code that trains sparl's own agents:

    * static: random connections that never change;
    * DS (Sokar et al. 2021): random at first; after the optimizer's step all dead links (weights
      of exactly 0) and the weakest live ones of each sign are removed, and as many random ones
      are added; targets keep their own connections;
    * SET (Mocanu et al. 2018) and RigL (Evci et al. 2020) as RLx2 has them: the largest of the
      initial weights at first; instead of the optimizer's step the smallest go and random ones,
      or those of largest gradient, come.

    Weights that are sparse already, with at most as many connections as the density asks for, keep
    all of them; with more of them, or with others than those of `state`, there is a warning.
    A copy (copy.deepcopy, pickle) is made together with its model, target and optimizer.

    A connection that grew starts with weight 0 and moments 0. For RigL, the gradients of all
    positions are kept in `.grad` before a step on which connections change. A layer without
    gradient is left alone, as optimizers do.

    Args:
        modules: a model, or several of one optimizer; all Linear layers in them become sparse.
            Under DistributedDataParallel, wrap the model before; all ranks then have the
            connections, the random choices and the schedule of the first one.
        optimizer: torch.optim.SGD, Adam or AdamW. It is not kept alive by this object; when it no
            longer exists, the model is free.
        method: static, DS, SET or RigL.
        density: share of the connections of all layers together, by Erdos-Renyi, in (0, 1]; or
            of each layer by its name, others stay dense.
        schedule: when connections change and how many, counted in steps of the optimizer
            whatever its clock. For all methods but static.
        target: the target network of the model, of the same modules, if there is one.
        target_rule: which connections it has: "shared", the model's at the last target update;
            "own", as many of the largest magnitude. None: as the method has it.
        seed: of all random choices.
        state: a state_dict to go on from, for a model whose weights were loaded before.
        quiet: do not print the table of layers.

    Raises:
        UsageError: another optimizer, an optimizer or a layer that is taken, a method or a density
            that cannot be, no layer to make sparse, a target of another shape, a damaged state;
            nothing is changed then. In a step: a closure, a weight that was replaced, a model that
            was wrapped in DistributedDataParallel afterwards.
        Diverged: in a step: a weight or a gradient, by which connections are to be chosen, is not
            finite.
    """

    def __init__(
        self,
        modules: Modules,
        optimizer: torch.optim.Optimizer,
        *,
        method: Method,
        density: float | Mapping[str, float] = 0.1,
        schedule: Schedule | None = None,
        target: Modules | None = None,
        target_rule: TargetRule | None = None,
        seed: int = 0,
        state: Mapping[str, Any] | None = None,
        quiet: bool = False,
    ) -> None:
        planned = plan(
            modules, optimizer, method=method, density=density, schedule=schedule,
            target=target, target_rule=target_rule, state=state,
        )  # fmt: skip
        choices = preset(METHODS[method], "")
        self.method: Method = method
        self.schedule = schedule or NEVER
        self._rule = TopologyMethod.named(choices.drop, choices.grow)
        self._skips_step = choices.rewire_skips_step
        self._rng = stream(seed, "topology")
        self._set_aside: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._evolves_after_step = False

        self._rows, self.layers, self._targets = planned.rows, planned.layers, planned.targets
        self._optimizer = weakref.ref(optimizer)
        self._handles: list[Any] = []
        self._wrapper_checked = False
        saved = self._first_topology(planned, choices.initial_topology)
        _warn_of_lost_weights(planned, saved)
        self._take(saved)
        if state is None:
            for followed in self._targets:
                followed.start()
        self._attach(optimizer)
        if not quiet:
            PlainConsole().print(self.table())

    def _first_topology(self, planned: Plan, choice: str) -> SavedTopology:
        """The topology to begin with; under DistributedDataParallel that of the first rank."""
        saved = planned.saved
        if saved is None:
            patterns = {
                layer.name: self._initial(layer, planned.counts[layer.name], choice)
                for layer in self.layers
            }
            saved = SavedTopology(patterns, updates=0, evolutions=0, moved=0, rng=self._rng)
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
        # The weights are sparse already: keep all of them.
        kept = Pattern(n_in, n_out, existing)
        grown = random_free_positions(kept, count - existing.size, self._rng)
        return Pattern(n_in, n_out, union(existing, grown))

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer, which must be kept elsewhere.

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
        """The optimizer's tensors with one value per weight of the layer."""
        state = self.optimizer.state.get(layer.weight, {})
        return [
            value
            for value in state.values()
            if isinstance(value, torch.Tensor) and value.shape == layer.weight.shape
        ]

    # --- What happens at the optimizer's steps -------------------------------------------------

    def _attach(self, optimizer: torch.optim.Optimizer) -> None:
        self._handles += [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        ]
        for layer in self.layers:
            # Before the gradient is accumulated, so that every other hook sees it masked.
            self._handles += [layer.weight.register_hook(_gradient_hook(self, layer))]
        for followed in self._targets:
            self._handles += followed.attach()
        weakref.finalize(optimizer, _remove_all, self._handles).atexit = False
        attached[optimizer] = self

    @staticmethod
    def of(optimizer: torch.optim.Optimizer) -> DynamicSparsity | None:
        """The one that an optimizer has now."""
        return attached.get(optimizer)

    def remove(self) -> None:
        """Let go of the optimizer and the model; zeros stay zeros until somebody trains them."""
        self.settle_targets()
        _remove_all(self._handles)
        optimizer = self._optimizer()
        if optimizer is not None and attached.get(optimizer) is self:
            del attached[optimizer]

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the hooks, for copies and pickles."""
        state = {k: v for k, v in self.__dict__.items() if k not in ("_handles", "_optimizer")}
        return {**state, "optimizer": self.optimizer, "attached": bool(self._handles)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Attach the copy to the copied model and optimizer, if the original is attached."""
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
            raise UsageError("DynamicSparsity: step(closure) cannot be; call backward() before it")
        self._check_weights_and_ranks()
        # A fused optimizer under a GradScaler is called for steps, too, that it leaves out.
        overflow = getattr(self.optimizer, "found_inf", None)
        evolve = self._due and not overflow
        self.updates += not overflow
        self._evolves_after_step = evolve and not self._skips_step
        skips = evolve and self._skips_step
        if skips:
            self._evolve()
        for layer in self.layers:
            if layer.weight.grad is not None and not layer.dense:
                layer.weight.grad.masked_fill_(layer.absent, 0)
        if skips:
            # A parameter without gradient is left alone by the step.
            for group in self.optimizer.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self._set_aside.append((parameter, parameter.grad))
                        parameter.grad = None

    def _check_weights_and_ranks(self) -> None:
        """Check that the optimizer trains the layers' weights and all ranks the same connections.

        Raises:
            UsageError: a weight was replaced, or the model wrapped, since this was created.
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
                "that ranks may have different connections; create DynamicSparsity after it"
            )

    def _after_step(self, optimizer: object, args: object, kwargs: object) -> None:
        for parameter, gradient in self._set_aside:
            parameter.grad = gradient
        self._set_aside.clear()
        with torch.no_grad():
            for layer in self.layers:
                if not layer.dense:
                    layer.weight.masked_fill_(layer.absent, 0)
        if self._evolves_after_step:
            self._evolve()

    def _evolve(self) -> None:
        """Drop and grow in every layer, at the fraction that is due now."""
        self.settle_targets()  # by the connections that there were
        fraction = self.schedule.fraction_at(self.updates)
        self.evolutions += 1
        self.moved = 0
        for layer, rewiring in [(layer, self._propose(layer, fraction)) for layer in self.layers]:
            if rewiring is not None:
                layer.take(rewiring.new, self._moments(layer), grown=True)
                self.moved += rewiring.grown.size

    def _propose(self, layer: MaskedLinear, fraction: float) -> Rewiring | None:
        if layer.weight.grad is None:
            return None  # it took no part in the loss, or was frozen
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
        """Hold the target to its rule now; needed only where its layers are not called as such."""
        for followed in self._targets:
            followed.settle()

    # --- What can be asked ---------------------------------------------------------------------

    @property
    def patterns(self) -> dict[str, Pattern]:
        """The connections of each layer that can be sparse, by its name."""
        return {layer.name: layer.pattern for layer in self.layers}

    @property
    def density(self) -> float:
        """Existing connections of these layers over possible ones."""
        patterns = self.patterns.values()
        return sum(p.connections for p in patterns) / sum(p.size for p in patterns)

    def table(self) -> str:
        """Which layers are sparse, and which are not and why; one line each."""
        patterns = self.patterns
        width = max(len(row.name) for row in self._rows)
        lines = []
        for row in self._rows:
            pattern = patterns.get(row.name)
            if pattern is None:
                kind = type(row.module).__name__
                lines.append(f"{row.name:<{width}}  {kind}: {row.why_not}")
            else:
                lines.append(
                    f"{row.name:<{width}}  {pattern.n_in} -> {pattern.n_out}: "
                    f"{pattern.connections:,} of {pattern.size:,} connections, "
                    + ("dense" if pattern.connections == pattern.size else f"{pattern.density:.1%}")
                )
        total = sum(p.connections for p in patterns.values())
        size = sum(p.size for p in patterns.values())
        evolutions = self.schedule.total
        evolving = f", {counted(evolutions, 'evolution')}" if evolutions else ""
        lines.append(
            f"{self.method}: {total:,} of {size:,} connections, {self.density:.1%}{evolving}"
        )
        return "\n".join(lines)

    def state_dict(self) -> dict[str, Any]:
        """Connections, counters and the random stream; weights and moments are the model's own."""
        self.settle_targets()
        return {
            "method": self.method,
            "updates": self.updates,
            "evolutions": self.evolutions,
            "moved": self.moved,
            "rng": generator_state(self._rng),
            "positions": {
                layer.name: torch.from_numpy(layer.pattern.positions.copy())
                for layer in self.layers
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state, before or after the model and the optimizer take over theirs.

        A target network takes over its own before.

        Args:
            state: of state_dict; positions may also be lists of integers.

        Raises:
            UsageError: of another method, other layers or other sizes; nothing is changed then.
        """
        saved = parse_state(state, self.method, self.layers)
        for layer in self.layers:
            layer.check_weight()
        self._take(saved)
        for followed in self._targets:
            followed.take_as_settled()

    def _take(self, saved: SavedTopology) -> None:
        moments = [self._moments(layer) for layer in self.layers]
        self.updates, self.evolutions, self.moved = saved.updates, saved.evolutions, saved.moved
        self._rng = saved.rng
        for layer, of_layer in zip(self.layers, moments, strict=True):
            layer.take(saved.patterns[layer.name], of_layer, grown=False)


def _warn_of_lost_weights(planned: Plan, saved: SavedTopology) -> None:
    """Warn where weights were trained sparse, but not with these connections."""
    lost = []
    for layer in planned.layers:
        values = to_numpy(layer.weight).reshape(-1)
        count = int(np.count_nonzero(values))
        lossless = np.count_nonzero(values[saved.patterns[layer.name].positions]) == count
        was_dense = values.size - count <= values.size // FEW_ZEROS
        if not lossless and (planned.saved is not None or not was_dense):
            wanted = saved.patterns[layer.name].connections
            lost.append(f"{layer.name} ({count:,} weights for {wanted:,} connections)")
    if lost:
        warnings.warn(
            f"DynamicSparsity: trained weights are set to zero in {', '.join(lost)}: "
            "their zeros do not fit the connections that were asked for; load weights and topology "
            "of the same training, or ask for the density of the weights",
            stacklevel=3,
        )


def _remove_all(handles: list[Any]) -> None:
    while handles:
        handles.pop().remove()


def _gradient_hook(sparsity: DynamicSparsity, layer: MaskedLinear) -> Any:
    @unserializable_hook  # copies have hooks of their own
    def zero_absent(gradient: torch.Tensor) -> torch.Tensor | None:
        if layer.dense or sparsity._wants_dense_gradients:
            return None
        return gradient.masked_fill(layer.absent, 0)

    return zero_absent
