"""
Kernels for sparse networks and replay buffers. Use sparl's Python modules instead.
"""

from collections.abc import Sequence

import numpy
import numpy.typing


flushes_subnormals: bool = True

def isa() -> str:
    """Return the instruction set in use."""

def available_isas() -> list[str]:
    """
    Return the instruction sets of this build that this processor supports, fastest last.
    """

def use_isa(name: str) -> None:
    """
    Use an instruction set; raises ValueError if it is not available.

    No other thread may compute during the call.
    """

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
    Work that may be unfinished; it keeps the objects that it uses alive until `finish` returns.
    """

    def finish(self) -> None:
        """
        Complete the work with the help of the calling thread; the destructor calls this too.
        """

def find_sorted(ascending: numpy.typing.NDArray[numpy.int64], needles: numpy.typing.NDArray[numpy.int64]) -> tuple[numpy.typing.NDArray[numpy.int64], numpy.typing.NDArray[numpy.bool_]]:
    """
    Find needles in an ascending array, in nearly linear time if the needles ascend too.

    Both arrays are int64. Returns for each needle the index of the first entry that is not
    less (the length of the array if there is none), int64 [n], and whether this entry is
    equal, bool [n].
    """

def seconds_per_call(layer: Linear, kernel: str, batch: int, least: float) -> float:
    """
    Return the mean duration of one call of a kernel on one thread, in seconds.

    kernel: forward, input gradient or weight gradient. batch: number of samples.
    least: minimum duration of the measurement in seconds.
    """

def seconds_of_loads(layer: Linear, kernel: str, batch: int, least: float) -> float:
    """
    Return the time that a kernel's loads of activations alone take, in seconds per call.

    The arguments are those of seconds_per_call.
    """

def multiply_add_peak(least: float) -> float:
    """
    Return the multiply-adds per second of one core with the instruction set in use.

    least: minimum duration of the measurement in seconds.
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
        For each stored weight, its connection's index in canonical order, uint32 [N].
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
        No other thread may write to positions during the call.
        Raises ValueError if positions or sizes are out of range or positions do not ascend.
        """

    @property
    def connections(self) -> int: ...

class PackedInput:
    """Samples in the kernels' memory layout, for use in several passes."""

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
    """
    An immutable sequence of layers, for one network or the members of an ensemble.
    """

    def __init__(self, members: Sequence[Sequence[Layer]], activations: Sequence[str]) -> None:
        """
        Build a stack from the layers of each member.

        activations: linear, relu or tanh for each layer of a member. All members must have
        layers of the same shapes, and only first layers may set first_gradient_input.
        """

    @property
    def parameters(self) -> int: ...

    def offset(self, member: int, layer: int) -> int:
        """Return the index of a layer's first parameter in the flat array."""

    def forward(self, parameters: numpy.typing.NDArray[numpy.float32], inputs: Sequence[numpy.typing.NDArray[numpy.float32] | PackedInput], pool: Pool | None = None) -> tuple[numpy.typing.NDArray[numpy.float32], Trace]:
        """
        Compute the outputs, float32 [E, B, n_out], and a Trace for backward passes.

        E is the number of members. Each input is float32 [B, features] or a PackedInput; the
        inputs are concatenated along their features.
        """

    def outputs(self, parameters: numpy.typing.NDArray[numpy.float32], inputs: Sequence[numpy.typing.NDArray[numpy.float32] | PackedInput], pool: Pool | None = None) -> numpy.typing.NDArray[numpy.float32]:
        """Compute the same outputs as forward, without a Trace."""

    def value_and_input_gradient(self, parameters: numpy.typing.NDArray[numpy.float32], inputs: Sequence[numpy.typing.NDArray[numpy.float32] | PackedInput], weight: float, member: int | None = None, pool: Pool | None = None) -> tuple[numpy.typing.NDArray[numpy.float32], numpy.typing.NDArray[numpy.float32]]:
        """
        Compute the smallest output over all members, or the output of one member.

        The network must have one linear output. Returns this value, float32 [B, 1], and the
        gradient of weight * sum(value) with respect to the inputs from first_gradient_input
        on, float32 [B, n_in - first_gradient_input].
        """

    def gradient(self, parameters: numpy.typing.NDArray[numpy.float32], trace: Trace, output_gradient: numpy.typing.NDArray[numpy.float32], out: numpy.typing.NDArray[numpy.float32], inputs: bool = False, pool: Pool | None = None) -> numpy.typing.NDArray[numpy.float32] | None:
        """
        Write the gradient of sum(output * output_gradient) to out, float32 [parameters].

        out receives the gradient with respect to the parameters. If `inputs` is set, return
        the gradient with respect to the inputs from first_gradient_input on, float32
        [E, B, n_in - first_gradient_input], and otherwise None.
        """

    def adam_step(self, parameters: numpy.typing.NDArray[numpy.float32], trace: Trace, output_gradient: numpy.typing.NDArray[numpy.float32], m: numpy.typing.NDArray[numpy.float32], v: numpy.typing.NDArray[numpy.float32], step: int, learning_rate: float, beta1: float, beta2: float, epsilon: float, weight_decay: float, pool: Pool | None = None) -> PendingWork:
        """
        Apply one step of Adam in place, with L2 weight decay in the gradient.

        `step` counts from 1. The moments m and v are float32 [parameters]. The step may be
        unfinished until finish() of the returned object has been called.
        """

    def gradient_factors(self, parameters: numpy.typing.NDArray[numpy.float32], trace: Trace, output_gradient: numpy.typing.NDArray[numpy.float32], member: int, layer: int, pool: Pool | None = None) -> tuple[numpy.typing.NDArray[numpy.float32], numpy.typing.NDArray[numpy.float32]]:
        """
        Return dY, float32 [n_out, B], and X, float32 [n_in, B], of one layer.

        The dense weight gradient is dY X^T; it includes connections that do not exist.
        """

def soft_update(target: numpy.typing.NDArray[numpy.float32], online: numpy.typing.NDArray[numpy.float32], tau: float, pool: Pool | None = None) -> None:
    """
    Compute target += tau * (online - target) in place.

    Both arrays are float32 [n]. If tau is 1, target becomes an exact copy of online.
    """

class TargetUpdater:
    """
    The soft update of target parameters whose layout differs from the online parameters'.
    """

    def __init__(self, pieces: Sequence[tuple[tuple[int, int], tuple[int, int], numpy.typing.NDArray[numpy.uint32] | None, numpy.typing.NDArray[numpy.uint32] | None, int]]) -> None:
        """
        Prepare an update that consists of the given pieces.

        A piece is (start, end) in the target, (start, end) in the online array, source,
        canonical, budget. If both arrays store the piece in the same order, source and
        canonical are None, and budget is ignored. Otherwise the piece contains a layer's
        weights, which the target stores over the union of two patterns: source has the index
        of each target entry within the online range (the length of that range if there is
        none), canonical the index of each target entry in canonical order, both uint32, and
        budget is the largest number of entries that are not set to 0.
        """

    def update(self, target: numpy.typing.NDArray[numpy.float32], online: numpy.typing.NDArray[numpy.float32], tau: float, pool: Pool | None = None) -> PendingWork:
        """
        Compute target += tau * (online - target) in place; missing online values are 0.

        Then all entries of each layer stored over a union become 0, except its `budget`
        entries of largest magnitude. The update may be unfinished until finish() of the
        returned object has been called.
        """

def squashed_normal(heads: numpy.typing.NDArray[numpy.float32], noise: numpy.typing.NDArray[numpy.float32], smooth: bool, pool: Pool | None = None) -> tuple[numpy.typing.NDArray[numpy.float32], numpy.typing.NDArray[numpy.float32], numpy.typing.NDArray[numpy.float32], numpy.typing.NDArray[numpy.float32]]:
    """
    Compute actions of a squashed Gaussian, for SAC; all arrays are float32.

    A row of heads, [B, 2 n], has n means and n unbounded values of log std; noise is
    [B, n]. log std is bounded to [-5, 2] by a tanh if `smooth`, and clamped to [-20, 2]
    otherwise. Returns the actions tanh(mean + std noise) [B, n], their log-densities
    [B, 1], std [B, n], and the slope [B, n], the derivative of the bounded log std with
    respect to the unbounded one.
    """

def squashed_normal_gradient(action: numpy.typing.NDArray[numpy.float32], std: numpy.typing.NDArray[numpy.float32], noise: numpy.typing.NDArray[numpy.float32], slope: numpy.typing.NDArray[numpy.float32], d_action: numpy.typing.NDArray[numpy.float32], d_log_density: float) -> numpy.typing.NDArray[numpy.float32]:
    """
    Return dL/dheads, float32 [B, 2 n], for a loss L of squashed_normal's outputs.

    All arrays are float32 [B, n]; d_action is dL/daction with the log-densities held
    fixed. d_log_density is dL/d(log-density), one number for all samples.
    """

def integers(bit_generator: object, below: int, count: int) -> numpy.typing.NDArray[numpy.int64]:
    """
    Return random integers in [0, below), int64 [count].

    The result is the same as that of NumPy's Generator.integers(below, size=count).
    """

def gather_windows(rows: numpy.typing.NDArray[numpy.uint8], n_obs: int, n_act: int, first: int, size: int, states_of: numpy.typing.NDArray[numpy.int64], states: numpy.typing.NDArray[numpy.float32], ages: numpy.typing.NDArray[numpy.int64], powers: numpy.typing.NDArray[numpy.float32], to: tuple[numpy.typing.NDArray[numpy.float32], ...], pool: Pool | None = None) -> None:
    """
    Gather n-step windows from the ring of a replay buffer.

    rows: uint8 [capacity, bytes of a row]; RingView in n_step_windows.h describes a row.
    first: number of the oldest transition. size: number of transitions in the ring.
    states_of: int64 [k], the ascending numbers of the transitions whose next states,
    `states`, float32 [k, n_obs], are stored separately. ages: int64 [B], the start of each
    window, counted from 0, the oldest transition. powers: float32 [n + 1], gamma^0 to
    gamma^n. to: the float32 arrays to write: observation [B, n_obs], action [B, n_act],
    reward and discount [B, 1], state reached [B, n_obs], and optionally the states on the
    path [B, n, n_obs] and their discounts [B, n].
    """
