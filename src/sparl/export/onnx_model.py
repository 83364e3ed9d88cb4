"""Export a policy as an ONNX model, and run the model in ONNX Runtime.

This module requires `pip install 'sparl[onnx]'`.
"""

from __future__ import annotations

import numpy as np

from sparl.errors import UsageError
from sparl.export.policy import Policy
from sparl.types import Array

OPSET, IR_VERSION = 17, 8  # released in 2022; current runtimes support them
LARGEST = 1 << 28  # maximum total size of the weights, including zeros [bytes]

_OPERATORS = {"linear": "Identity", "relu": "Relu", "tanh": "Tanh"}

try:
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:
    raise UsageError(
        f"export: ONNX needs {error.name}; install it with pip install 'sparl[onnx]'"
    ) from None


def onnx_model(policy: Policy, name: str) -> bytes:
    """Return the bytes of an ONNX model.

    The model maps "observation", float32 [batch, n_obs], to "action", float32 [batch, n_act]. It
    stores absent connections as zeros, because ONNX cannot multiply by a sparse matrix.

    Raises:
        UsageError: if the model would be too large with these zeros.
    """
    size = 4 * sum(layer.pattern.size for layer in policy.layers)
    if size > LARGEST:
        raise UsageError(
            f"export: ONNX stores absent connections as zeros and would need {size:,} bytes for "
            f"the weights, more than the limit of {LARGEST:,}; use --format npz or c, which store "
            "only existing connections"
        )
    constants, nodes = [], []

    def constant(label: str, values: Array) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(values), label))
        return label

    def node(operator: str, *inputs: str, output: str, **attributes: int) -> str:
        nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    x = "observation"
    if policy.normalization is not None:
        mean, scale = policy.normalization
        x = node("Sub", x, constant("mean", mean), output="centered")
        x = node("Mul", x, constant("scale", scale), output="normalized")
    for k, layer in enumerate(policy.layers):
        pattern = layer.pattern
        dense = np.zeros((pattern.n_out, pattern.n_in), np.float32)
        dense[pattern.outputs, pattern.inputs] = layer.weight
        weight, bias = constant(f"weight_{k}", dense), constant(f"bias_{k}", layer.bias)
        x = node("Gemm", x, weight, bias, output=f"sum_{k}", transB=1)
        last = k == len(policy.layers) - 1
        squashed = "action" if not policy.scaled else "squashed"
        output = squashed if last else f"hidden_{k}"
        x = node(_OPERATORS[layer.activation], x, output=output)
    if policy.scaled:
        low, high = policy.bounds
        half = np.float32(0.5)
        reach, middle = (
            constant("reach", half * (high - low)),
            constant("middle", half * (low + high)),
        )
        x = node("Add", node("Mul", x, reach, output="reached"), middle, output="scaled")
        x = node("Max", x, constant("low", low), output="above")
        node("Min", x, constant("high", high), output="action")
    graph = helper.make_graph(
        nodes, name,
        [helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["batch", policy.n_obs])],
        [helper.make_tensor_value_info("action", TensorProto.FLOAT, ["batch", policy.n_act])],
        constants,
    )  # fmt: skip
    model = helper.make_model(
        graph,
        producer_name="sparl",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def actions(data: bytes, observations: Array) -> Array:
    """Run a model in ONNX Runtime: float32 [B, n_act] actions for float32 [B, n_obs]."""
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    result: Array = session.run(["action"], {"observation": observations})[0]
    return result
