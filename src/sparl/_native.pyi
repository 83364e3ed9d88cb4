"""Kernels for sparse networks. Use them through sparl.networks."""

from collections.abc import Sequence

import numpy
import numpy.typing


def isa() -> str:
    """Return the instruction set in use."""

def available_isas() -> list[str]:
    """
    Return the instruction sets of this build that this processor supports, fastest last.
    """

def use_isa(name: str) -> None:
    """Use an instruction set; raises ValueError if it is not available."""

class Pool:
    """
    A thread pool, which can be passed to functions that compute.

    Without a pool, these functions use only the calling thread.
    """

    def __init__(self, threads: int) -> None:
        """
        Create a pool; the number of threads includes the caller's and does not affect results.
        """

    @property
    def threads(self) -> int: ...

class PendingWork:
    """
    Work that may be unfinished; it keeps the objects that it uses alive until it has finished.
    """

    def finish(self) -> None:
        """
        Complete the work, partly in the calling thread; the destructor calls this too.
        """

def find_sorted(ascending: numpy.typing.NDArray[numpy.int64], needles: numpy.typing.NDArray[numpy.int64]) -> tuple[numpy.typing.NDArray[numpy.int64], numpy.typing.NDArray[numpy.bool_]]:
    """
    Find needles in an ascending array, in nearly linear time if the needles ascend too.

    Returns for each needle the index of the first entry that is not less, int64 [n], and
    whether this entry is equal, bool [n].
    """

def seconds_per_call(layer: Linear, kernel: str, batch: int, least: float) -> float:
    """
    Return the mean duration of one call of a kernel on one thread, in seconds.

    kernel: forward, input gradient or weight gradient. least: minimum seconds to measure.
    """

def seconds_of_loads(layer: Linear, kernel: str, batch: int, least: float) -> float:
    """
    Return the time that a kernel's loads of activations alone take, in seconds per call.
    """

def multiply_add_peak(least: float) -> float:
    """
    Return the multiply-adds per second of one core with the instruction set in use.
    """

class Layer:
    """An immutable layer of one member of a network."""

    @property
    def n_in(self) -> int: ...

    @property
    def n_out(self) -> int: ...

    @property
    def canonical_index(self) -> numpy.typing.NDArray[numpy.uint32]:
        """
        The canonical index of each slot of the block with a pattern, uint32 [N].
        """

class Linear(Layer):
    """
    The layer W x + b, with its connections in the order in which the kernels process
    them.
    """

    def __init__(self, n_in: int, n_out: int, positions: numpy.typing.NDArray[numpy.int64], first_gradient_input: int = 0) -> None:
        """
        Sort connections for the kernels.

        positions: int64 [N], strictly ascending, output * n_in + input of each connection.
        first_gradient_input: gradients are not computed for inputs before this one.
        """

    @property
    def connections(self) -> int: ...

class PackedInput:
    """Samples in the layout of the kernels, packed once for several passes."""

    def __init__(self, samples: numpy.typing.NDArray[numpy.float32]) -> None:
        """Pack samples, float32 [B, features]."""

    @property
    def batch(self) -> int: ...

    @property
    def features(self) -> int: ...

class Trace:
    """The activations of a forward pass, which backward passes need."""

    @property
    def batch(self) -> int: ...

class Stack:
    """An immutable sequence of layers, for one or several members."""

    def __init__(self, members: Sequence[Sequence[Layer]], activations: Sequence[str]) -> None:
        """
        Build a stack; the activation after each layer of a member is linear, relu or tanh.
        """

    @property
    def parameters(self) -> int: ...

    def offset(self, member: int, layer: int) -> int:
        """Return the index of a layer's first parameter in the flat array."""

    def forward(self, parameters: numpy.typing.NDArray[numpy.float32], inputs: Sequence[numpy.typing.NDArray[numpy.float32] | PackedInput], pool: Pool | None = None) -> tuple[numpy.typing.NDArray[numpy.float32], Trace]:
        """
        Compute the outputs, float32 [E, B, n_out], and a Trace for backward passes.

        Inputs are float32 [B, n_i], concatenated along features.
        """

    def outputs(self, parameters: numpy.typing.NDArray[numpy.float32], inputs: Sequence[numpy.typing.NDArray[numpy.float32] | PackedInput], pool: Pool | None = None) -> numpy.typing.NDArray[numpy.float32]:
        """Compute the outputs of forward without a Trace."""

    def value_and_input_gradient(self, parameters: numpy.typing.NDArray[numpy.float32], inputs: Sequence[numpy.typing.NDArray[numpy.float32] | PackedInput], weight: float, member: int | None = None, pool: Pool | None = None) -> tuple[numpy.typing.NDArray[numpy.float32], numpy.typing.NDArray[numpy.float32]]:
        """
        Compute the smallest output over all members, or the output of one member.

        Returns this value, float32 [B, 1], and the gradient of weight * sum(value) with
        respect to the inputs from first_gradient_input on, float32 [B, inputs].
        """

    def gradient(self, parameters: numpy.typing.NDArray[numpy.float32], trace: Trace, output_gradient: numpy.typing.NDArray[numpy.float32], out: numpy.typing.NDArray[numpy.float32], inputs: bool = False, pool: Pool | None = None) -> numpy.typing.NDArray[numpy.float32] | None:
        """
        Write the gradient of sum(output * output_gradient) to out, float32 [parameters].

        If `inputs` is set, return the gradient with respect to the inputs from
        first_gradient_input on, float32 [E, B, inputs].
        """

    def adam_step(self, parameters: numpy.typing.NDArray[numpy.float32], trace: Trace, output_gradient: numpy.typing.NDArray[numpy.float32], m: numpy.typing.NDArray[numpy.float32], v: numpy.typing.NDArray[numpy.float32], step: int, learning_rate: float, beta1: float, beta2: float, epsilon: float, weight_decay: float, pool: Pool | None = None) -> PendingWork:
        """
        Apply one step of Adam in place, with L2 weight decay in the gradient.

        `step` counts from 1. The step may be unfinished when this function returns.
        """

    def gradient_factors(self, parameters: numpy.typing.NDArray[numpy.float32], trace: Trace, output_gradient: numpy.typing.NDArray[numpy.float32], member: int, layer: int, pool: Pool | None = None) -> tuple[numpy.typing.NDArray[numpy.float32], numpy.typing.NDArray[numpy.float32]]:
        """
        Return dY, float32 [n_out, B], and X, float32 [n_in, B], of one layer.

        The dense weight gradient is dY X^T; it includes connections that do not exist.
        """

def soft_update(target: numpy.typing.NDArray[numpy.float32], online: numpy.typing.NDArray[numpy.float32], tau: float, pool: Pool | None = None) -> None:
    """Compute target += tau * (online - target) in place."""

class TargetUpdater:
    """
    A soft update of target parameters that are stored in another layout than the online ones.
    """

    def __init__(self, pieces: Sequence[tuple[tuple[int, int], tuple[int, int], numpy.typing.NDArray[numpy.uint32] | None, numpy.typing.NDArray[numpy.uint32] | None, int]]) -> None:
        """
        Plan the update.

        Each piece is (start, end) in the target, (start, end) in the online array, and, for a
        layer stored over a union of patterns, the slot of each entry in the online piece
        (the piece's size if there is none), the index of each entry in canonical order, and
        the largest number of entries that stay non-zero. Other pieces have None, None, 0.
        """

    def update(self, target: numpy.typing.NDArray[numpy.float32], online: numpy.typing.NDArray[numpy.float32], tau: float, pool: Pool | None = None) -> PendingWork:
        """
        Compute target += tau * (online - target) in place.

        Each layer stored over a union then keeps its budget of entries with the largest
        magnitudes, and its other entries become 0. The update may be unfinished when this
        function returns.
        """

def squashed_normal(heads: numpy.typing.NDArray[numpy.float32], noise: numpy.typing.NDArray[numpy.float32], smooth: bool, pool: Pool | None = None) -> tuple[numpy.typing.NDArray[numpy.float32], numpy.typing.NDArray[numpy.float32], numpy.typing.NDArray[numpy.float32], numpy.typing.NDArray[numpy.float32]]:
    """
    Compute actions of a squashed Gaussian for heads [B, 2 n]; all arrays are float32.

    Returns the actions tanh(mean + std noise) [B, n], their log-densities [B, 1], std
    [B, n] and d log std / d head [B, n]. log std is bounded by a tanh if `smooth`, and
    clamped otherwise.
    """

def squashed_normal_gradient(action: numpy.typing.NDArray[numpy.float32], std: numpy.typing.NDArray[numpy.float32], noise: numpy.typing.NDArray[numpy.float32], slope: numpy.typing.NDArray[numpy.float32], d_action: numpy.typing.NDArray[numpy.float32], d_log_density: float) -> numpy.typing.NDArray[numpy.float32]:
    """
    Return dL/dheads, float32 [B, 2 n], for a loss L of squashed_normal's outputs.

    All arguments are float32 [B, n] except d_log_density, dL/d(log-density), which is one
    number for all samples.
    """

def integers(bit_generator: object, below: int, count: int) -> numpy.typing.NDArray[numpy.int64]:
    """
    Return int64 [count] in [0, below), as NumPy's Generator.integers would.
    """

def gather_windows(rows: numpy.typing.NDArray[numpy.uint8], n_obs: int, n_act: int, first: int, size: int, states_of: numpy.typing.NDArray[numpy.int64], states: numpy.typing.NDArray[numpy.float32], ages: numpy.typing.NDArray[numpy.int64], powers: numpy.typing.NDArray[numpy.float32], to: tuple[numpy.typing.NDArray[numpy.float32], ...], pool: Pool | None = None) -> None:
    """
    Gather n-step windows of a replay ring.

    rows: uint8 [capacity, bytes of a row]; RingView in n_step_windows.h describes a row.
    states_of: int64 [k], the ascending numbers of the transitions whose next states,
    `states` [k, n_obs], are stored separately. ages: int64 [B], the start of each window,
    counted from the oldest transition. powers: the powers of gamma, [n + 1].
    to: the arrays to write: observation [B, n_obs], action [B, n_act], reward and discount
    [B, 1], state reached [B, n_obs], and optionally the states on the path [B, n, n_obs]
    and their discounts [B, n].
    """
