"""Sparse connections that evolve, under any model's Linear layers and a torch optimizer."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Literal
from weakref import WeakValueDictionary

import numpy as np
import torch

from sparl.console import PlainConsole
from sparl.errors import Diverged, UsageError
from sparl.methods import preset
from sparl.random_streams import generator_state, restore_generator, stream
from sparl.sparse.pattern import Pattern
from sparl.sparse.rewiring import Rewiring
from sparl.topology.initial import largest_of_matrix, random_pattern
from sparl.topology.layer_view import LayerView
from sparl.topology.propose import TopologyMethod, propose
from sparl.topology.rules import GRADIENT
from sparl.topology.schedule import NEVER, Schedule
from sparl.torch.layers import MaskedLinear, Modules, connections, survey, to_numpy
from sparl.torch.targets import FollowedTarget, TargetRule, follow
from sparl.wording import counted

Method = Literal["static", "DS", "SET", "RigL"]
METHODS = {"static": "Static-TD3", "DS": "DS-TD3", "SET": "SET-TD3", "RigL": "RigL-TD3"}

# Their state is, for each weight, the number of steps and tensors of the weight's shape.
OPTIMIZERS = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)

_attached: WeakValueDictionary[int, DynamicSparsity] = WeakValueDictionary()


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

    A connection that grew starts with weight 0 and moments 0. For RigL, the gradients of all
    positions are kept in `.grad` before a step on which connections change. A layer without
    gradient is left alone, as optimizers do.

    Args:
        modules: a model, or several of one optimizer; all Linear layers in them become sparse.
        optimizer: torch.optim.SGD, Adam or AdamW.
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
            that cannot be, no layer to make sparse, a target of another shape.
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
        modules = modules if isinstance(modules, torch.nn.Module) else list(modules)
        _check(optimizer, method, schedule)
        choices = preset(METHODS[method], "")
        self.optimizer = optimizer
        self.method: Method = method
        self.schedule = schedule or NEVER
        self.updates = 0
        self.evolutions = 0
        self.moved = 0
        self._rule = TopologyMethod.named(choices.drop, choices.grow)
        self._skips_step = choices.rewire_skips_step
        self._rng = stream(seed, "topology")
        self._set_aside: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._evolves_after_step = False

        self._rows = survey(modules, optimizer)
        self.layers = [
            MaskedLinear(row.name, row.module) for row in self._rows if row.why_not is None
        ]
        if not self.layers:
            found = "; ".join(f"{row.name}: {row.why_not}" for row in self._rows)
            raise UsageError(f"DynamicSparsity: no layer to make sparse ({found or 'no layers'})")
        taken = {id(layer.weight) for other in _attached.values() for layer in other.layers}
        for layer in self.layers:
            if id(layer.weight) in taken:
                raise UsageError(
                    f"DynamicSparsity: {layer.name} is kept sparse already, with another "
                    "optimizer; call remove() of that one first"
                )
        counts = connections(
            {layer.name: (layer.pattern.n_in, layer.pattern.n_out) for layer in self.layers},
            density,
        )
        targets = (
            follow(self.layers, target, target_rule or choices.target_pattern) if target else []
        )
        if state is None:
            for layer in self.layers:
                pattern = self._initial(layer, counts[layer.name], choices.initial_topology)
                layer.take(pattern, self._moments(layer), grown=False)
            for followed in targets:
                followed.start()
        self._targets = targets
        if state is not None:
            self.load_state_dict(state)
        self._attach()
        if not quiet:
            PlainConsole().print(self.table())

    def _initial(self, layer: MaskedLinear, count: int, choice: str) -> Pattern:
        n_in, n_out = layer.pattern.n_in, layer.pattern.n_out
        if choice == "random":
            return random_pattern(n_in, n_out, count, self._rng)
        return largest_of_matrix(to_numpy(layer.weight), count)

    def _moments(self, layer: MaskedLinear) -> list[torch.Tensor]:
        """The optimizer's tensors with one value per weight of the layer."""
        state = self.optimizer.state.get(layer.weight, {})
        return [
            value
            for value in state.values()
            if isinstance(value, torch.Tensor) and value.shape == layer.weight.shape
        ]

    # --- What happens at the optimizer's steps -------------------------------------------------

    def _attach(self) -> None:
        self._handles = [
            self.optimizer.register_step_pre_hook(self._before_step),
            self.optimizer.register_step_post_hook(self._after_step),
        ]
        for layer in self.layers:
            hook = _gradient_hook(self, layer)
            self._handles.append(layer.weight.register_post_accumulate_grad_hook(hook))
        for followed in self._targets:
            # A function of its own, so that a copy of the module does not copy all this.
            hook = _settling_hook(followed)
            self._handles.append(followed.linear.register_forward_pre_hook(hook))
        _attached[id(self.optimizer)] = self

    @staticmethod
    def of(optimizer: torch.optim.Optimizer) -> DynamicSparsity | None:
        """The one that an optimizer has now."""
        return _attached.get(id(optimizer))

    def remove(self) -> None:
        """Let go of the optimizer and the model; zeros stay zeros until somebody trains them."""
        self.settle_targets()
        for handle in self._handles:
            handle.remove()
        _attached.pop(id(self.optimizer), None)

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
        if state.get("method") != self.method:
            raise UsageError(f"state: of method {state.get('method')}, this is {self.method}")
        positions = state["positions"]
        if set(positions) != set(self.patterns):
            differ = sorted(set(positions) ^ set(self.patterns))
            raise UsageError(f"state: of another model; {', '.join(differ)} in one of them only")
        patterns = {}
        for layer in self.layers:
            old, given = layer.pattern, positions[layer.name]
            given = given.cpu().numpy() if isinstance(given, torch.Tensor) else given
            try:
                patterns[layer.name] = Pattern(old.n_in, old.n_out, np.array(given, np.int64))
            except (ValueError, OverflowError) as error:
                raise UsageError(f"state: {layer.name}: {error}") from None
        self.updates, self.evolutions, self.moved = (
            int(state[name]) for name in ("updates", "evolutions", "moved")
        )
        restore_generator(self._rng, state["rng"])
        for layer in self.layers:
            layer.take(patterns[layer.name], self._moments(layer), grown=False)
        for followed in self._targets:
            followed.take_as_settled()


def _check(optimizer: torch.optim.Optimizer, method: str, schedule: Schedule | None) -> None:
    if type(optimizer) not in OPTIMIZERS:
        known = ", ".join(kind.__name__ for kind in OPTIMIZERS)
        raise UsageError(
            f"DynamicSparsity: optimizer {type(optimizer).__name__} is not one whose state is "
            f"known; use one of {known}"
        )
    if DynamicSparsity.of(optimizer) is not None:
        raise UsageError("DynamicSparsity: this optimizer has one already; call its remove() first")
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


def _gradient_hook(sparsity: DynamicSparsity, layer: MaskedLinear) -> Any:
    def zero_absent(weight: torch.Tensor) -> None:
        if not (layer.dense or sparsity._wants_dense_gradients):
            weight.grad.masked_fill_(layer.absent, 0)

    return zero_absent


def _settling_hook(followed: FollowedTarget) -> Any:
    def settle(module: torch.nn.Module, inputs: object) -> None:
        followed.settle()

    return settle
