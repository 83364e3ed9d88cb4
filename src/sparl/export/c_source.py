"""Write a policy in C99.

Constants are in read-only memory, no memory is allocated on the heap, and no library function but
tanhf is called. For each output neuron, a sparse layer stores the number of connections. For each
connection, it stores the weight and the distance between the input neurons of this connection and
the previous one. Distances and counts have 8 bits if all values of a layer fit, and 16 bits
otherwise. A dense layer stores only its weights and biases.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sparl.errors import UsageError
from sparl.export.c_header import TOLERANCE, header
from sparl.export.policy import Layer, Policy
from sparl.types import Array

Tanh = Literal["tanhf", "built-in"]

_WIDEST = 2**16 - 1  # maximum number of inputs and of outputs of a layer


@dataclass(frozen=True, eq=False)
class CodedLayer:
    """A layer's constants in their stored form.

    Attributes:
        layer: the layer.
        counts: uint8 or uint16 [n_out], the number of connections of each output neuron; None in a
            dense layer.
        gaps: uint8 or uint16 [N]; None in a dense layer. For the first connection of an output
            neuron, this is the index of the input neuron; for every other connection, it is the
            distance of the input neuron from that of the previous connection.
    """

    layer: Layer
    counts: NDArray[Any] | None
    gaps: NDArray[Any] | None

    @classmethod
    def of(cls, layer: Layer) -> CodedLayer:
        """Encode a layer.

        Raises:
            UsageError: if the layer is too wide.
        """
        pattern = layer.pattern
        if max(pattern.n_in, pattern.n_out) > _WIDEST:
            raise UsageError(
                f"export: a layer has {pattern.n_in} inputs and {pattern.n_out} outputs but must "
                f"have at most {_WIDEST} of each for C; use --format onnx or npz"
            )
        if layer.dense:
            return cls(layer, None, None)
        first = np.diff(pattern.outputs, prepend=-1) > 0
        gaps = np.where(first, pattern.inputs, np.diff(pattern.inputs, prepend=0))
        return cls(layer, _narrow(layer.counts), _narrow(gaps))

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """The stored arrays, by name, in the order of the C function's arguments."""
        stored: dict[str, NDArray[Any] | None] = {
            "counts": self.counts,
            "gaps": self.gaps,
            "weights": self.layer.weight if self.layer.codes is None else self.layer.codes,
            "scales": self.layer.scale,
            "biases": self.layer.bias,
        }
        return {name: array for name, array in stored.items() if array is not None}

    @property
    def kind(self) -> str:
        """Name of the C function that computes layers of this storage format."""
        words = [] if self.gaps is None else [f"gaps{self.gaps.itemsize * 8}"]
        if self.counts is not None and self.counts.itemsize == 2:
            words.append("counts16")
        if self.layer.codes is not None:
            words.append("int8")
        return "_".join(["dense" if self.gaps is None else "sparse", *words])


def _narrow(values: NDArray[np.int64]) -> NDArray[Any]:
    """Convert values to 8 bits if all of them fit, and to 16 bits otherwise."""
    return values.astype(np.uint8 if values.max(initial=0) < 256 else np.uint16)


@dataclass(frozen=True)
class CSource:
    """The C code of a policy.

    Attributes:
        header: text of NAME.h.
        source: text of NAME.c.
        constant_bytes: size of all constants, which are in read-only memory.
        stack_bytes: size of the activations, which are on the stack or in static buffers.
    """

    header: str
    source: str
    constant_bytes: int
    stack_bytes: int


def c_source(
    policy: Policy, name: str, observations: Array, tanh: Tanh, about: Sequence[str]
) -> CSource:
    """Write a policy in C.

    Args:
        policy: the policy.
        name: prefix of every C name; a C identifier.
        observations: float32 [V, n_obs], the observations of the test vectors.
        tanh: "tanhf" for the function of the maths library, or "built-in" for a rational function.
        about: lines for the header that describe the policy and its training.

    Raises:
        UsageError: if a layer has more inputs or outputs than 16 bits can count.
    """
    layers = [CodedLayer.of(layer) for layer in policy.layers]
    constant_bytes = sum(max(a.nbytes, a.itemsize) for c in layers for a in c.arrays.values())
    constant_bytes += 8 * policy.n_act * policy.scaled
    widths = [layer.pattern.n_out for layer in policy.layers[:-1]]
    buffers = [max(widths[k::2]) for k in range(min(2, len(widths)))]
    stack_bytes = 4 * sum(buffers)
    if policy.normalization is not None:
        constant_bytes += 8 * policy.n_obs
        stack_bytes += 4 * policy.n_obs
    sizes = [
        f"Read-only memory: {constant_bytes:,} bytes of constants",
        f"RAM: {stack_bytes:,} bytes for activations",
        f"Multiply-adds of an action: {policy.connections:,}",
    ]
    source = "\n".join(
        [
            f"/* Exported by sparl; see {name}.h. SPDX-License-Identifier: MIT-0 */",
            f'#include "{name}.h"',
            "",
            *(["#include <math.h>"] if tanh == "tanhf" else []),
            "#include <stdint.h>",
            "",
            *_constants(layers, policy),
            *_functions(layers, tanh),
            *_act(layers, policy, name, buffers, tanh),
            *_self_check(policy, name, observations),
        ]
    )
    text = header(name, policy.n_obs, policy.n_act, [*about, "", *sizes])
    return CSource(text, source, constant_bytes, stack_bytes)


def _constants(layers: Sequence[CodedLayer], policy: Policy) -> list[str]:
    lines: list[str] = []
    for label, array in zip(("mean", "scale"), policy.normalization or (), strict=False):
        lines += _array(label, array)
    for index, coded in enumerate(layers):
        pattern = coded.layer.pattern
        lines.append(
            f"/* layer {index + 1}: {pattern.n_in} inputs, {pattern.n_out} outputs, "
            f"{pattern.connections} of {pattern.size} connections */"
        )
        for label, array in coded.arrays.items():
            lines += _array(f"{label}_{index + 1}", array)
        lines.append("")
    if policy.scaled:
        for label, bound in zip(("low", "high"), policy.bounds, strict=True):
            lines += _array(label, bound)
        lines.append("")
    return lines


_TYPES = {"float32": "float", "int8": "int8_t", "uint8": "uint8_t", "uint16": "uint16_t"}


def _array(name: str, array: NDArray[Any]) -> list[str]:
    values = [_literal(v) for v in array.ravel()] or ["0"]  # C has no empty arrays
    text = textwrap.fill(", ".join(values), 100, break_on_hyphens=False)
    return [f"static const {_TYPES[array.dtype.name]} {name}[{len(values)}] = {{", text, "};"]


def _literal(value: Any) -> str:
    return f"{value!s}f" if isinstance(value, np.floating) else str(value)


def _functions(layers: Sequence[CodedLayer], tanh: Tanh) -> list[str]:
    kinds = {coded.kind: coded for coded in layers}
    lines = [text for coded in kinds.values() for text in (_layer_function(coded), "")]
    hidden = {coded.layer.activation for coded in layers[:-1]}
    if "relu" in hidden:
        lines += [_RELU, ""]
    if tanh == "built-in" and "tanh" in hidden | {layers[-1].layer.activation}:
        lines += [_TANH, ""]
    if "tanh" in hidden:
        lines += [_TANH_EACH.format(tanh=_FUNCTION[tanh]), ""]
    return lines


def _layer_function(coded: CodedLayer) -> str:
    """Return the C function that computes y = W x + b for layers of this storage format."""
    arguments = [
        f"const {_TYPES[array.dtype.name]} *{label}" for label, array in coded.arrays.items()
    ]
    scaled = "sum" if coded.layer.scale is None else "scales[i] * sum"
    if coded.gaps is None:
        arguments.insert(0, "unsigned n_in")
        inner = """\
        for (unsigned k = 0; k < n_in; ++k) {
            sum += *weights++ * x[k];
        }"""
        start = ""
    else:
        inner = """\
        for (unsigned k = counts[i]; k > 0; --k) {
            input += *gaps++;
            sum += *weights++ * *input;
        }"""
        start = "\n        const float *input = x;"
    listed = textwrap.fill(
        f"{', '.join(['const float *x', 'float *y', 'unsigned n_out', *arguments])})",
        96, initial_indent="    ", subsequent_indent="    ",
    )  # fmt: skip
    return f"""\
static void {coded.kind}(
{listed}
{{
    for (unsigned i = 0; i < n_out; ++i) {{
        float sum = 0.0f;{start}
{inner}
        y[i] = {scaled} + biases[i];
    }}
}}"""


_RELU = """\
static void relu(float *y, unsigned n)
{
    for (unsigned i = 0; i < n; ++i) {
        if (y[i] < 0.0f) {
            y[i] = 0.0f;
        }
    }
}"""

_TANH_EACH = """\
static void tanh_each(float *y, unsigned n)
{{
    for (unsigned i = 0; i < n; ++i) {{
        y[i] = {tanh}(y[i]);
    }}
}}"""

# The activation functions of a hidden layer, and the expressions for an output of the last layer.
_HIDDEN = {"relu": "relu", "tanh": "tanh_each"}
_LAST = {"linear": "{y}", "relu": "({y} > 0.0f ? {y} : 0.0f)", "tanh": "{tanh}({y})"}
_FUNCTION = {"tanhf": "tanhf", "built-in": "tanh_of"}

# For |x| up to 9/8, Lambert's continued fraction, truncated after the fifth term, differs from tanh
# by at most 1.5e-7. Each doubling of the argument multiplies this error by the derivative of
# 2 t / (1 + t^2), which is less than 1 for |t| > 0.49; for smaller |t|, the error is far smaller.
_TANH = """\
/* tanh: a continued fraction for y = x / 8, then three times tanh(2 y) = 2 t / (1 + t^2), where
 * t = tanh(y). */
static float tanh_of(float x)
{
    if (x > 9.0f) {
        return 1.0f;
    }
    if (x < -9.0f) {
        return -1.0f;
    }
    const float y = 0.125f * x, s = y * y;
    float t = y * (945.0f + s * (105.0f + s)) / (945.0f + s * (420.0f + s * 15.0f));
    for (int k = 0; k < 3; ++k) {
        t = 2.0f * t / (1.0f + t * t);
    }
    return t;
}"""


def _act(
    layers: Sequence[CodedLayer], policy: Policy, name: str, buffers: Sequence[int], tanh: Tanh
) -> list[str]:
    upper = name.upper()
    lines = [
        f"void {name}_act(const float observation[{upper}_OBSERVATIONS], "
        f"float action[{upper}_ACTIONS])",
        "{",
        *_buffers(upper, buffers, normalized=policy.normalization is not None),
    ]
    source = "observation"
    if policy.normalization is not None:
        source = "normalized"
        lines += [
            f"    for (unsigned i = 0; i < {upper}_OBSERVATIONS; ++i) {{",
            "        normalized[i] = (observation[i] - mean[i]) * scale[i];",
            "    }",
        ]
    for index, coded in enumerate(layers):
        pattern, last = coded.layer.pattern, index == len(layers) - 1
        target = "action" if last else "ab"[index % 2]
        sizes = [pattern.n_out] + ([pattern.n_in] if coded.gaps is None else [])
        named = [f"{label}_{index + 1}" for label in coded.arrays]
        arguments = ", ".join([source, target, *map(str, sizes), *named])
        lines.append(f"    {coded.kind}({arguments});")
        function = _HIDDEN.get(coded.layer.activation)
        if function and not last:
            lines.append(f"    {function}({target}, {pattern.n_out});")
        source = target
    value = _LAST[layers[-1].layer.activation].format(y="action[i]", tanh=_FUNCTION[tanh])
    lines.append(f"    for (unsigned i = 0; i < {upper}_ACTIONS; ++i) {{")
    if policy.scaled:
        lines += [
            "        const float middle = 0.5f * (low[i] + high[i]);",
            "        const float reach = 0.5f * (high[i] - low[i]);",
            f"        const float scaled = middle + reach * {value};",
            "        action[i] = scaled < low[i] ? low[i] : scaled > high[i] ? high[i] : scaled;",
        ]
    else:
        lines.append(f"        action[i] = {value};")
    return [*lines, "    }", "}"]


def _buffers(upper: str, sizes: Sequence[int], *, normalized: bool) -> list[str]:
    """Return the declarations of the buffers for the normalised observation and activations."""
    arrays = [f"normalized[{upper}_OBSERVATIONS]"] if normalized else []
    arrays += [f"{name}[{size}]" for name, size in zip("ab", sizes, strict=False)]
    if not arrays:
        return []
    declared = ", ".join(arrays)
    return [f"#ifdef {upper}_STATIC_BUFFERS", "    static", "#endif", f"    float {declared};"]


def _self_check(policy: Policy, name: str, observations: Array) -> list[str]:
    upper = name.upper()
    reach = "0.5f * (high[i] - low[i])" if policy.scaled else "1.0f"
    return [
        "",
        f"#ifdef {upper}_SELF_CHECK",
        *_vectors(
            f"const float {name}_test_observations[{upper}_TEST_VECTORS][{upper}_OBSERVATIONS]",
            observations,
        ),
        *_vectors(
            f"const float {name}_test_actions[{upper}_TEST_VECTORS][{upper}_ACTIONS]",
            policy.predict(observations),
        ),
        f"""
int {name}_self_check(float *largest)
{{
    int failed = 0;
    *largest = 0.0f;
    for (unsigned v = 0; v < {upper}_TEST_VECTORS; ++v) {{
        float action[{upper}_ACTIONS];
        {name}_act({name}_test_observations[v], action);
        for (unsigned i = 0; i < {upper}_ACTIONS; ++i) {{
            const float difference = (action[i] - {name}_test_actions[v][i]) / ({reach});
            const float distance = difference < 0.0f ? -difference : difference;
            if (!(distance <= *largest)) {{
                *largest = distance;
            }}
            if (!(distance <= {TOLERANCE:g}f)) {{
                ++failed;
            }}
        }}
    }}
    return failed;
}}
#endif
""",
    ]


def _vectors(declaration: str, values: Array) -> list[str]:
    rows = [
        textwrap.fill(f"{{{', '.join(map(_literal, row))}}},", 100, break_on_hyphens=False)
        for row in values
    ]
    return [f"{declaration} = {{", *rows, "};"]
