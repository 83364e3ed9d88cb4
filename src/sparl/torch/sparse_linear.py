"""SparseLinear: a Linear layer that stores and computes only its existing connections."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.autograd.function import once_differentiable

from sparl import _native
from sparl.errors import UsageError
from sparl.sparse.pattern import Pattern
from sparl.topology.density import round_half_up
from sparl.topology.initial import random_pattern
from sparl.torch.layers import to_numpy


class SparseLinear(nn.Module):
    """A sparse replacement for nn.Linear on the CPU: y = x W^T + b over existing connections.

    The layer uses sparl's kernels, with as many threads as PyTorch (torch.set_num_threads). The
    results do not depend on the number of threads. Second derivatives are not supported.

    Args:
        in_features: number of inputs, n_in.
        out_features: number of outputs, n_out.
        bias: whether to add the bias b.
        density: fraction of the possible connections that exist, in (0, 1]. The connections are
            drawn uniformly, with a seed from PyTorch's generator.
        pattern: the connections; if given, `density` is ignored.

    Attributes:
        weight: float32 parameter [N], ordered by position (output * n_in + input).
        bias: float32 parameter [n_out], or None.
        positions: int64 buffer [N], ascending.

    Raises:
        UsageError: if the density is outside (0, 1], the pattern has the wrong shape, or the layer
            has no inputs or no outputs.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None
    positions: torch.Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        density: float = 0.1,
        pattern: Pattern | None = None,
    ) -> None:
        super().__init__()
        if in_features < 1 or out_features < 1:
            raise UsageError(
                f"SparseLinear: the layer has {in_features} inputs and {out_features} outputs but "
                "must have at least one of each; use nn.Linear for a layer without weights"
            )
        if pattern is None:
            if not 0 < density <= 1:
                raise UsageError(f"SparseLinear: density is {density} but must be in (0, 1]")
            count = max(1, round_half_up(density * in_features * out_features))
            rng = np.random.default_rng(int(torch.randint(2**62, ())))
            pattern = random_pattern(in_features, out_features, count, rng)
        if (pattern.n_in, pattern.n_out) != (in_features, out_features):
            raise UsageError(
                f"SparseLinear: the pattern is {pattern.n_in} -> {pattern.n_out} but must be "
                f"{in_features} -> {out_features}"
            )
        self.in_features, self.out_features = in_features, out_features
        self.register_buffer("positions", torch.from_numpy(pattern.positions.copy()))
        self.weight = nn.Parameter(torch.empty(pattern.connections))
        self.register_parameter("bias", nn.Parameter(torch.empty(out_features)) if bias else None)
        self.reset_parameters()
        self._build(pattern)

    def reset_parameters(self) -> None:
        """Draw parameters uniformly from [-1/sqrt(n_in), 1/sqrt(n_in)], as nn.Linear does."""
        bound = 1 / math.sqrt(self.in_features)
        for parameter in self.parameters(recurse=False):
            nn.init.uniform_(parameter, -bound, bound)

    @property
    def pattern(self) -> Pattern:
        """The existing connections."""
        return self._pattern

    @torch.compiler.disable
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the outputs, float32 [..., n_out], for inputs, float32 [..., n_in].

        Raises:
            UsageError: if the input or the weights are not float32 on the CPU, or the input has the
                wrong shape.
        """
        weight = self.weight
        if any(not v.is_cpu or v.dtype != torch.float32 for v in (x, weight)):
            raise UsageError(
                f"SparseLinear: the input is {x.dtype} on {x.device} and the weights are "
                f"{weight.dtype} on {weight.device}, but both must be torch.float32 on cpu"
            )
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise UsageError(
                f"SparseLinear: the shape of the input is {tuple(x.shape)} but must be (..., "
                f"{self.in_features})"
            )
        y: torch.Tensor = _Product.apply(
            x if x.ndim == 2 else x.reshape(-1, self.in_features),
            weight, self.bias, self._stack, self._order, torch.is_grad_enabled(),
        )  # fmt: skip
        return y if x.ndim == 2 else y.view(*x.shape[:-1], self.out_features)

    @classmethod
    def from_linear(cls, linear: nn.Linear, pattern: Pattern | None = None) -> SparseLinear:
        """Convert an nn.Linear layer.

        Args:
            linear: the layer.
            pattern: the connections; None keeps the connections whose weights are not zero.

        Raises:
            UsageError: if the shapes of the layer and the pattern differ, or the layer has no
                inputs or no outputs.
        """
        weights = to_numpy(linear.weight)
        n_out, n_in = weights.shape
        if pattern is None:
            pattern = Pattern(n_in, n_out, np.flatnonzero(weights))
        sparse = cls(n_in, n_out, bias=linear.bias is not None, pattern=pattern)
        with torch.no_grad():
            sparse.weight.copy_(torch.from_numpy(weights.reshape(-1)[pattern.positions]))
            if sparse.bias is not None:
                sparse.bias.copy_(linear.bias)
        return sparse

    def to_linear(self) -> nn.Linear:
        """Convert this layer to nn.Linear, with zeros at absent connections."""
        linear = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None)
        with torch.no_grad():
            linear.weight.zero_().view(-1)[self.positions] = self.weight
            if self.bias is not None:
                linear.bias.copy_(self.bias)
        return linear

    def extra_repr(self) -> str:
        """Describe the layer in the output of print(model)."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}, connections={self.pattern.connections} "
            f"({self.pattern.density:.1%})"
        )

    def _build(self, pattern: Pattern) -> None:
        """Create the native objects for the connections."""
        layer = _native.Linear(pattern.n_in, pattern.n_out, pattern.positions)
        self._pattern = pattern
        self._stack = _native.Stack([[layer]], ["linear"])
        self._order = torch.from_numpy(layer.canonical_index.astype(np.int64))

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Load the state, including the connections, which are validated before any change."""
        positions = state_dict.get(f"{prefix}positions")
        if positions is not None and positions.shape == self.positions.shape:
            try:
                pattern = Pattern(
                    self.in_features, self.out_features, np.array(positions.cpu().numpy())
                )
            except ValueError as error:
                raise UsageError(f"SparseLinear: {prefix}positions: {error}") from None
            self._build(pattern)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """Return everything except the native objects, for copies and pickles."""
        native = ("_stack", "_order", "_pattern")
        return {key: value for key, value in self.__dict__.items() if key not in native}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a state and create the native objects again."""
        super().__setstate__(state)
        positions = self.positions.cpu().numpy().copy()
        self._build(Pattern(self.in_features, self.out_features, positions))


@lru_cache(maxsize=1)
def _pool(threads: int) -> _native.Pool:
    """Return a thread pool of this size, and keep it for the next call."""
    return _native.Pool(threads)


class _Product(torch.autograd.Function):
    """Compute y = x W^T + b, and in one backward pass dL/dx, dL/db and dL/dW of the connections."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        stack: _native.Stack,
        order: torch.Tensor,
        differentiable: bool,
    ) -> torch.Tensor:
        count = weight.numel()
        parameters = torch.empty(stack.parameters)  # the weights in kernel order, then the biases
        torch.index_select(weight, 0, order, out=parameters[:count])
        if bias is None:
            parameters[count:] = 0
        else:
            parameters[count:] = bias
        ctx.empty = x.shape[0] == 0
        if ctx.empty:
            return x.new_empty(0, stack.parameters - count)
        pool, inputs = _pool(torch.get_num_threads()), [x.contiguous().numpy()]
        if not (differentiable and any(ctx.needs_input_grad)):
            return torch.from_numpy(stack.outputs(parameters.numpy(), inputs, pool)[0])
        output, trace = stack.forward(parameters.numpy(), inputs, pool)
        ctx.pass_ = stack, order, parameters, trace
        return torch.from_numpy(output[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        if ctx.empty:
            return None, None, None, None, None, None
        stack, order, parameters, trace = ctx.pass_
        count = order.numel()
        gradient = torch.empty_like(parameters)
        dx = stack.gradient(
            parameters.numpy(), trace, dy.contiguous().numpy()[np.newaxis], gradient.numpy(),
            inputs=ctx.needs_input_grad[0],
            pool=_pool(torch.get_num_threads()),
        )  # fmt: skip
        return (
            None if dx is None else torch.from_numpy(dx[0]),
            torch.empty(count).index_copy_(0, order, gradient[:count]),
            gradient[count:] if ctx.needs_input_grad[2] else None,
            None,
            None,
            None,
        )


def sparsify(model: nn.Module, patterns: Mapping[str, Pattern]) -> None:
    """Replace Linear layers with SparseLinear layers, in place.

    Args:
        model: the model that contains the layers.
        patterns: the connections of each layer to replace, by the layer's name, for example
            DynamicSparsity.patterns.

    Raises:
        UsageError: if a name in `patterns` is not a Linear layer of the model, or if the shapes of
            a layer and its pattern differ; no layer is replaced in these cases.
    """
    modules = dict(model.named_modules())
    replacements = {}
    for name, pattern in patterns.items():
        linear = modules.get(name)
        if not name or not isinstance(linear, nn.Linear):
            raise UsageError(f"sparsify: the model has no Linear layer named {name}")
        replacements[name] = SparseLinear.from_linear(linear, pattern)
    for name, layer in replacements.items():
        model.set_submodule(name, layer)


def densify(model: nn.Module) -> None:
    """Replace SparseLinear layers with Linear layers in place, with zeros at absent connections."""
    for name, module in list(model.named_modules()):
        if name and isinstance(module, SparseLinear):
            model.set_submodule(name, module.to_linear())
