"""Export a policy as plain arrays in a NumPy archive, for custom readers."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparl.export.policy import Policy
from sparl.networks.spec import ACTIVATIONS
from sparl.types import Array


def npz(policy: Policy) -> bytes:
    """Return the bytes of a .npz file with all layers and the action's bounds.

    For each layer K, counting from 0, the file contains these arrays, ordered by output neuron:

    * layerK.inputs and layerK.outputs: int32 [N], the input neuron and the output neuron of each
      connection.
    * layerK.weight: float32 [N].
    * layerK.bias: float32 [n_out].
    * layerK.activation: the name of the layer's activation, if it is not the usual one, which is
      relu between layers and tanh after the last one.

    The arrays low and high, float32 [n_act], are the bounds of the action. For outputs y of the
    last layer, the action is (low + high) / 2 + (high - low) / 2 * y, clipped to the bounds. If the
    agent normalises its observations, the arrays observation_mean and observation_scale,
    float32 [n_obs], give the inputs of the first layer, (observation - mean) * scale.
    """
    arrays: dict[str, Any] = {}
    for k, layer in enumerate(policy.layers):
        arrays[f"layer{k}.inputs"] = layer.pattern.inputs.astype(np.int32)
        arrays[f"layer{k}.outputs"] = layer.pattern.outputs.astype(np.int32)
        arrays[f"layer{k}.weight"] = layer.weight
        arrays[f"layer{k}.bias"] = layer.bias
        if layer.activation != _usual(k, len(policy.layers)):
            arrays[f"layer{k}.activation"] = np.array(layer.activation)
    arrays["low"], arrays["high"] = policy.bounds
    if policy.normalization is not None:
        arrays["observation_mean"], arrays["observation_scale"] = policy.normalization
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def _usual(layer: int, layers: int) -> str:
    return "relu" if layer < layers - 1 else "tanh"


def actions(data: bytes, observations: Array) -> Array:
    """Compute the actions of an exported policy using only NumPy: float32 [B, n_act].

    Args:
        data: bytes returned by `npz`.
        observations: float32 [B, n_obs].
    """
    arrays: dict[str, NDArray[Any]] = dict(np.load(io.BytesIO(data)))
    layers = sum(name.endswith(".bias") for name in arrays)
    x: Array = observations
    if "observation_mean" in arrays:
        x = (x - arrays["observation_mean"]) * arrays["observation_scale"]
    for k in range(layers):
        outputs, inputs, weight, bias = (
            arrays[f"layer{k}.{name}"] for name in ("outputs", "inputs", "weight", "bias")
        )
        # A dense matrix could be larger than the archive by orders of magnitude.
        sums = [np.bincount(outputs, weight * row[inputs], bias.size) for row in x]
        x = np.asarray(sums, np.float32) + bias
        x = ACTIVATIONS[str(arrays.get(f"layer{k}.activation", _usual(k, layers)))](x)
    low, high = arrays["low"], arrays["high"]
    scaled: Array = np.clip((low + high) / 2 + (high - low) / 2 * x, low, high)
    return scaled
