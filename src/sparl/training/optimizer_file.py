"""Read and write the moments of an agent's optimisers, so that it can be trained elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparl.agents.agent import Agent
from sparl.training.run_folder import AGENT_MANIFEST, OPTIMIZER, RunFolder
from sparl.training.tensors import Arrays, Expected, file_entry, pack, read_verified
from sparl.wording import shown

_PREFIX = "adam."


def save_moments(folder: RunFolder, agent: Agent) -> dict[str, Any]:
    """Write optimizer.safetensors: Adam's moments, in the order of the agent's parameters.

    Returns:
        The file's entry in the agent's manifest, which includes each optimiser's step count.
    """
    arrays: Arrays = {}
    steps: dict[str, int] = {}
    for name, learner in agent.learners.items():
        for key, value in learner.state().items():
            if key == f"{_PREFIX}steps":
                steps[name] = int(value)
            elif key.startswith(_PREFIX) and isinstance(value, np.ndarray):
                arrays[f"{name}.{key.removeprefix(_PREFIX)}"] = value
    return write_moments(folder, arrays, steps)


def write_moments(folder: RunFolder, arrays: Arrays, steps: dict[str, int]) -> dict[str, Any]:
    """Write moments, and return the file's entry in the agent's manifest."""
    data = pack(arrays)
    folder.write(OPTIMIZER, data)
    return {**file_entry(OPTIMIZER, data), "steps": steps}


def load_moments(
    folder: RunFolder, manifest: dict[str, Any], arrays: Arrays
) -> tuple[Arrays, dict[str, int]] | None:
    """Load Adam's moments, by NETWORK.m.MEMBER.LAYER.BLOCK and NETWORK.v.MEMBER.LAYER.BLOCK.

    Args:
        folder: the run's folder.
        manifest: the content of agent.json.
        arrays: the arrays of agent.safetensors; the moments must have the same shapes.

    Returns:
        The arrays, and the number of steps of each optimiser; None if the agent was saved without
        them.

    Raises:
        DataError: if the file is missing or damaged.
        KeyError, TypeError, ValueError: if the manifest is damaged.
    """
    about = manifest.get("optimizer")
    if about is None:
        return None
    expected: dict[str, Expected] = {}
    for name, count in about["steps"].items():
        if type(count) is not int or count < 0:
            raise ValueError(
                f"the step count of the optimiser of {shown(name)} is {shown(count)} but must be a "
                "nonnegative integer"
            )
        for key, value in arrays.items():
            network, _, block = key.partition(".")
            if network == name and not key.endswith(".positions"):
                expected |= {f"{name}.{m}.{block}": Expected.like(value) for m in ("m", "v")}
    moments = read_verified(folder.files, OPTIMIZER, about, expected, AGENT_MANIFEST)
    return moments, dict(about["steps"])
