"""The sparse engine: arrays and loops. Use it through sparl.networks."""

from collections.abc import Sequence

import numpy
import numpy.typing


def isa() -> str:
    """The instruction set in use."""

def available_isas() -> list[str]:
    """
    Instruction sets that this build and this processor can run, best last.
    """

def use_isa(name: str) -> None:
    """Force an instruction set; ValueError if it cannot run."""

def threads() -> int:
    """Threads of the default pool."""

def set_threads(count: int) -> None:
    """
    Set the number of threads of the default pool; results do not depend on it.
    """

class Pool:
    """Threads for the functions that it is passed to."""

    def __init__(self, threads: int) -> None:
        """threads: the caller's included. Results do not depend on their number."""

    @property
    def threads(self) -> int: ...

class PendingWork:
    """Work that may not be finished yet; it keeps what it needs until then."""

    def finish(self) -> None:
        """
        Return when all of it is done, with the caller's help; so does its destructor.
        """

def find_sorted(ascending: numpy.typing.NDArray[numpy.int64], needles: numpy.typing.NDArray[numpy.int64]) -> tuple[numpy.typing.NDArray[numpy.int64], numpy.typing.NDArray[numpy.bool_]]:
    """
    For each needle the first entry of `ascending` that is not below it, int64 [n], and
    whether it is equal, bool [n]. Nearly linear where needles ascend too.
    """

def seconds_per_call(layer: Layer, kernel: str, batch: int, least: float) -> float:
    """
    Mean seconds of one call of a kernel (forward, input gradient, weight gradient) on one
    thread, over at least so many seconds of calls.
    """

def seconds_of_loads(layer: Layer, kernel: str, batch: int, least: float) -> float:
    """The same for its loads of activations alone."""

def multiply_add_peak(least: float) -> float:
    """Multiply-adds per second of one core with the instruction set in use."""

class Layer:
    """One layer's connections as the kernels walk them. Immutable."""

    def __init__(self, n_in: int, n_out: int, positions: numpy.typing.NDArray[numpy.int64], first_gradient_input: int = 0) -> None:
        """
        positions: int64 [N], strictly ascending output * n_in + input. Inputs before
        first_gradient_input are never differentiated.
        """

    @property
    def n_in(self) -> int: ...

    @property
    def n_out(self) -> int: ...

    @property
    def connections(self) -> int: ...

    @property
    def canonical_index(self) -> numpy.typing.NDArray[numpy.uint32]:
        """uint32 [N]: for each kernel slot, its index in canonical order."""

class PackedInput:
    """
    Samples in the layout of the kernels, to be the input of several passes.
    """

    def __init__(self, samples: numpy.typing.NDArray[numpy.float32]) -> None:
        """samples: float32 [B, features]."""

    @property
    def batch(self) -> int: ...

    @property
    def features(self) -> int: ...

class Trace:
    """What a forward pass leaves for the backward passes."""

    @property
    def batch(self) -> int: ...

class Stack:
    """Layers after layers, for one or several members. Immutable."""

    def __init__(self, members: Sequence[Sequence[Layer]], activations: Sequence[str]) -> None:
        """
        activations: what follows each layer of a member: linear (nothing), relu or tanh.
        """

    @property
    def parameters(self) -> int: ...

    def blocks(self, member: int, layer: int) -> list[tuple[str, int, int]]:
        """
        A layer's blocks of parameters: name, and start and end in the flat array.
        """

    def forward(self, parameters: numpy.typing.NDArray[numpy.float32], inputs: Sequence[numpy.typing.NDArray[numpy.float32] | PackedInput], pool: Pool | None = None) -> tuple[numpy.typing.NDArray[numpy.float32], Trace]:
        """
        inputs: float32 [B, n_i], joined along features. Returns float32 [E, B, n_out] and a
        Trace.
        """

    def outputs(self, parameters: numpy.typing.NDArray[numpy.float32], inputs: Sequence[numpy.typing.NDArray[numpy.float32] | PackedInput], pool: Pool | None = None) -> numpy.typing.NDArray[numpy.float32]:
        """What forward returns, without a Trace."""

    def value_and_input_gradient(self, parameters: numpy.typing.NDArray[numpy.float32], inputs: Sequence[numpy.typing.NDArray[numpy.float32] | PackedInput], weight: float, member: int | None = None, pool: Pool | None = None) -> tuple[numpy.typing.NDArray[numpy.float32], numpy.typing.NDArray[numpy.float32]]:
        """
        The smallest output of all members, or that of one, float32 [B, 1], and
        d weight sum(it) / d inputs, float32 [B, differentiated inputs].
        """

    def gradient(self, parameters: numpy.typing.NDArray[numpy.float32], trace: Trace, output_gradient: numpy.typing.NDArray[numpy.float32], out: numpy.typing.NDArray[numpy.float32], inputs: bool = False, pool: Pool | None = None) -> numpy.typing.NDArray[numpy.float32] | None:
        """
        Writes d sum(output * output_gradient) / d parameters into out, float32 [parameters].
        With inputs, also returns the same / d inputs, float32 [E, B, differentiated inputs].
        """

    def adam_step(self, parameters: numpy.typing.NDArray[numpy.float32], trace: Trace, output_gradient: numpy.typing.NDArray[numpy.float32], m: numpy.typing.NDArray[numpy.float32], v: numpy.typing.NDArray[numpy.float32], step: int, learning_rate: float, beta1: float, beta2: float, epsilon: float, weight_decay: float, pool: Pool | None = None) -> PendingWork:
        """
        One step of Adam down what gradient gives, with L2 in it, in place; step counts from 1.
        It may be pending when this returns.
        """

    def gradient_factors(self, parameters: numpy.typing.NDArray[numpy.float32], trace: Trace, output_gradient: numpy.typing.NDArray[numpy.float32], member: int, layer: int, pool: Pool | None = None) -> tuple[numpy.typing.NDArray[numpy.float32], numpy.typing.NDArray[numpy.float32]]:
        """
        dY float32 [n_out, B] and X float32 [n_in, B] of one layer: its weight gradient is
        dY X^T, for connections that exist and for those that do not.
        """

def follow(target: numpy.typing.NDArray[numpy.float32], online: numpy.typing.NDArray[numpy.float32], tau: float, pool: Pool | None = None) -> None:
    """target += tau * (online - target), in place."""

class Follower:
    """Target parameters that follow online ones of another layout."""

    def __init__(self, pieces: Sequence[tuple[tuple[int, int], tuple[int, int], numpy.typing.NDArray[numpy.uint32] | None, numpy.typing.NDArray[numpy.uint32] | None, int]]) -> None:
        """
        pieces: (start, end) in the target, (start, end) in the online array, and for a layer
        over a union of patterns: for each entry its slot in the online piece (their number:
        none), for each entry its index in canonical order, and the budget.
        """

    def follow(self, target: numpy.typing.NDArray[numpy.float32], online: numpy.typing.NDArray[numpy.float32], tau: float, pool: Pool | None = None) -> PendingWork:
        """
        target += tau * (online - target), in place; then only the budget largest magnitudes
        of a layer over a union stay non-zero. It may be pending when this returns.
        """

def squashed_normal(heads: numpy.typing.NDArray[numpy.float32], noise: numpy.typing.NDArray[numpy.float32], smooth: bool, pool: Pool | None = None) -> tuple[numpy.typing.NDArray[numpy.float32], numpy.typing.NDArray[numpy.float32], numpy.typing.NDArray[numpy.float32], numpy.typing.NDArray[numpy.float32]]:
    """
    Actions tanh(mean + std noise) [B, n], their log-densities [B, 1], std and its slope
    [B, n], for heads [B, 2 n]; float32. smooth: log std by tanh, else clamped.
    """

def squashed_normal_gradient(action: numpy.typing.NDArray[numpy.float32], std: numpy.typing.NDArray[numpy.float32], noise: numpy.typing.NDArray[numpy.float32], slope: numpy.typing.NDArray[numpy.float32], d_action: numpy.typing.NDArray[numpy.float32], d_log_density: float) -> numpy.typing.NDArray[numpy.float32]:
    """
    d L / d heads [B, 2 n] of what squashed_normal gave, all [B, n] but dL/dlog-density, which
    is one number; float32.
    """

def integers(bit_generator: object, below: int, count: int) -> numpy.typing.NDArray[numpy.int64]:
    """
    int64 [count] in [0, below): what NumPy's Generator over this bit generator would give.
    """

def gather_windows(rows: numpy.typing.NDArray[numpy.uint8], n_obs: int, n_act: int, first: int, size: int, states_of: numpy.typing.NDArray[numpy.int64], states: numpy.typing.NDArray[numpy.float32], ages: numpy.typing.NDArray[numpy.int64], powers: numpy.typing.NDArray[numpy.float32], to: tuple[numpy.typing.NDArray[numpy.float32], ...], pool: Pool | None = None) -> None:
    """
    Gather n-step windows of a replay ring.

    rows: uint8 [capacity, bytes of a row], see RingView; states_of: int64 [k], ascending,
    whose states, [k, n_obs], are kept apart. ages: int64 [B]; powers: [n + 1], of gamma.
    to: observation [B, n_obs], action [B, n_act], reward and discount [B, 1], state
    reached [B, n_obs], and where wanted states on the way [B, n, n_obs] and their
    discounts [B, n].
    """
