"""Read and write the files of an agent: its networks, and how the actor's outputs become actions.

Arrays are stored as safetensors and everything else as JSON, so reading the files cannot execute
code.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sparl.agents.agent import Agent
from sparl.agents.observation_normalizer import (
    Normalizer,
    ObservationStatistics,
    RawObservations,
)
from sparl.errors import DataError, damage_reported
from sparl.networks.layout import Layout
from sparl.networks.network import Network
from sparl.networks.spec import ACTIVATIONS, Activation, Layer, NetworkSpec, layer_key, layer_of
from sparl.sparse.pattern import Pattern
from sparl.training.action_scale import ActionScale
from sparl.training.evaluate import OBSERVATIONS as MOST_OBSERVATIONS
from sparl.training.optimizer_file import load_moments, save_moments
from sparl.training.run_folder import (
    AGENT,
    AGENT_MANIFEST,
    BEST_AGENT,
    BEST_AGENT_MANIFEST,
    OBSERVATIONS,
    RunFolder,
)
from sparl.training.tensors import Arrays, Expected, file_entry, pack, read_verified
from sparl.training.trained_agent import TrainedAgent
from sparl.types import Array, State
from sparl.wording import shown

FORMAT = 1
_MANIFEST_BYTES = 1 << 20
# An agent may have up to this many inputs regardless of the size of its file. A layer uses memory
# for every input, connected or not, so an agent with more inputs must have a file of at least as
# many bytes.
_INPUTS = 1 << 16
_ATTEMPTS = 20  # to read the agent of a run in progress
_OBSERVATIONS = "observations"  # name of the array in its file
NORMALIZER = "normalizer."  # prefix of the names of the observations' statistics
_STATISTICS = ("mean", "variance")  # names of these statistics, without the prefix


class AgentFiles(NamedTuple):
    """Names of the two files of an agent: one for its arrays, and one for everything else."""

    arrays: str
    manifest: str


LAST = AgentFiles(AGENT, AGENT_MANIFEST)  # of the last step of a run
BEST = AgentFiles(BEST_AGENT, BEST_AGENT_MANIFEST)  # of the best evaluation of a run
_WHEN = {
    LAST: "a run saves its agent when it finishes or is stopped; to resume a run that was killed "
    "or failed, use sparl resume",
    BEST: "a run saves its best agent with each checkpoint and when it ends, but archives and runs "
    "of earlier versions of sparl do not contain it",
}


def write_agent(
    folder: RunFolder,
    agent: Agent,
    normalizer: Normalizer,
    scale: ActionScale,
    about: dict[str, Any],
    observations: Array | None,
) -> None:
    """Write agent.safetensors, observations and optimizer.safetensors, and then agent.json.

    Args:
        folder: the folder of the run.
        agent: the agent.
        normalizer: converts observations to the inputs of the agent.
        scale: scales actions to the bounds of the environment.
        about: further entries of the manifest.
        observations: observations from an evaluation, float32 [B, n_obs], which are used to check
            exports; None writes no observations.

    Raises:
        ResourceError: if a file cannot be written.
    """
    data, manifest = packed_agent(agent, normalizer, scale, about)
    folder.write(AGENT, data)
    manifest["optimizer"] = save_moments(folder, agent)
    if observations is not None:
        met = pack({_OBSERVATIONS: observations})
        folder.write(OBSERVATIONS, met)
        manifest["observations"] = {"rows": len(observations), **file_entry(OBSERVATIONS, met)}
    folder.write_json(AGENT_MANIFEST, manifest)


def packed_agent(
    agent: Agent,
    normalizer: Normalizer,
    scale: ActionScale,
    about: dict[str, Any],
    files: AgentFiles = LAST,
) -> tuple[bytes, dict[str, Any]]:
    """Return the contents of an agent's files: the serialized arrays, and the manifest.

    Args:
        agent: the agent.
        normalizer: converts observations to the inputs of the agent.
        scale: scales actions to the bounds of the environment.
        about: further entries of the manifest.
        files: names of the files.
    """
    networks, specs, seen = agent.networks(), agent.specs(), normalizer.state()
    hidden = specs["actor"].layers[0].activation if len(specs["actor"].layers) > 1 else "relu"
    data = pack(
        {
            f"{network}.{name}": value
            for network, state in networks.items()
            for name, value in state.items()
            if isinstance(value, np.ndarray)
        }
        | {NORMALIZER + name: np.asarray(seen[name]) for name in _STATISTICS if seen}
    )
    return data, {
        "format": FORMAT,
        **about,
        "hidden_activation": hidden,
        "policy": _policy(agent, scale),
        "networks": {
            name: _entries(specs[name], state, hidden) for name, state in networks.items()
        },
        "inputs": {name: specs[name].n_in for name in networks},
        **({"normalizer": {"count": seen["count"]}} if seen else {}),
        "positions": "output * inputs + input, ascending; one weight each, in this order",
        "file": file_entry(files.arrays, data),
    }


def _policy(agent: Agent, scale: ActionScale) -> dict[str, Any]:
    """Describe how the actor's outputs become actions of the environment."""
    return {
        "network": "actor",
        "output_activation": agent.head.output,
        "actions": agent.head.formula,
        "observations": agent.n_obs,
        "action_low": scale.low.tolist(),
        "action_high": scale.high.tolist(),
        "action_dtype": scale.dtype.name,
    }


def _entries(spec: NetworkSpec, state: State, hidden: Activation) -> list[list[dict[str, Any]]]:
    """Return the manifest's entries for the layers of each member.

    An entry names the activation of a hidden layer only if it differs from `hidden`.
    """
    members: list[list[dict[str, Any]]] = [[] for _ in range(spec.members)]
    for place, layer in spec.places():
        if layer.size:
            layer = layer.with_connections(np.size(state[f"{layer_key(place)}.positions"]))
        entry = layer.entry()
        if layer.activation != hidden and place[1] < len(spec.layers) - 1:
            entry["activation"] = layer.activation
        members[place[0]].append(entry)
    return members


def load_agent(path: str | Path, files: AgentFiles = LAST) -> TrainedAgent:
    """Load the last or the best agent of a run.

    Args:
        path: the run folder.
        files: LAST or BEST.

    Raises:
        DataError: if the agent is missing or damaged, or its format is not supported.
    """
    folder = RunFolder.open(path)
    with damage_reported(f"{folder.path}: the agent cannot be read"):
        return _agent(*read_agent(folder, files))


def load_networks(
    path: str | Path,
) -> tuple[TrainedAgent, Arrays, tuple[Arrays, dict[str, int]] | None]:
    """Load a run's agent, the arrays in its file, and the moments of its optimisers.

    Returns:
        The agent; the arrays of all networks by NETWORK.MEMBER.LAYER.BLOCK, with those of the
        normalizer, if any; and the moments and step counts of the optimisers, or None if the agent
        was saved without them.

    Raises:
        DataError: if the agent is missing or damaged, or its format is not supported.
    """
    folder = RunFolder.open(path)
    with damage_reported(f"{folder.path}: the agent cannot be read"):
        manifest, arrays = read_agent(folder)
        return _agent(manifest, arrays), arrays, load_moments(folder, manifest, arrays)


def load_observations(agent: TrainedAgent, path: str | Path) -> Array | None:
    """Load the observations saved with an agent, float32 [B, n_obs]; return None if there are none.

    Args:
        agent: the result of load_agent.
        path: the run folder of the agent.

    Raises:
        DataError: if the file is missing or damaged.
    """
    about = agent.manifest.get("observations")
    if about is None:
        return None
    with damage_reported(f"{path}: the agent cannot be read"):
        rows = about["rows"]
        if type(rows) is not int or not 0 < rows <= MOST_OBSERVATIONS:
            raise ValueError(
                f"the number of observations is {str(rows)[:30]} but must be in [1, "
                f"{MOST_OBSERVATIONS:,}]"
            )
        expected = {_OBSERVATIONS: Expected(np.dtype(np.float32), (rows, agent.n_obs))}
        files = RunFolder.open(path).files
        return read_verified(files, OBSERVATIONS, about, expected, AGENT_MANIFEST)[_OBSERVATIONS]


def read_agent(folder: RunFolder, files: AgentFiles = LAST) -> tuple[dict[str, Any], Arrays]:
    """Read and verify the manifest and the arrays of a run's agent.

    A run that is in progress replaces first the arrays and then the manifest. If they do not match,
    they are read again, for up to one second.

    Raises:
        DataError: if the agent is missing or damaged, or its format is not supported.
        DAMAGE_ERRORS: if the manifest is damaged.
    """
    for _ in range(_ATTEMPTS):
        in_progress = folder.in_use()
        try:
            return _read_agent(folder, files)
        except DataError:
            if not in_progress or not folder.files.has(files.manifest):
                raise
            time.sleep(1 / _ATTEMPTS)
    return _read_agent(folder, files)


def _read_agent(folder: RunFolder, files: AgentFiles) -> tuple[dict[str, Any], Arrays]:
    if not folder.files.has(files.manifest):
        raise DataError(f"{folder.path / files.manifest}: the file is missing; {_WHEN[files]}")
    manifest = folder.read_json(files.manifest, _MANIFEST_BYTES)
    if manifest.get("format") != FORMAT:
        raise DataError(
            f"{folder.path / files.manifest}: format {str(manifest.get('format'))[:20]} is not "
            f"supported; this version of sparl reads format {FORMAT}"
        )
    for name, value in (
        ("hidden_activation", manifest["hidden_activation"]),
        ("output_activation", manifest["policy"]["output_activation"]),
    ):
        if value not in ACTIVATIONS:
            raise DataError(
                f"{folder.path / files.manifest}: {name} is {shown(value)} but must be one of "
                f"{', '.join(ACTIVATIONS)}; use the version of sparl that wrote the file"
            )
    expected = _expected(manifest["networks"])
    inputs = manifest["policy"]["observations"]
    if type(inputs) is not int or inputs < 1:
        raise ValueError(
            f"the length of an observation is {shown(inputs)} but must be an integer of at least 1"
        )
    if "normalizer" in manifest:
        each = Expected(np.dtype(np.float64), (inputs,))
        expected |= {NORMALIZER + name: each for name in _STATISTICS}
    arrays = read_verified(folder.files, files.arrays, manifest["file"], expected, files.manifest)
    if inputs > (most := max(_INPUTS, folder.files.size(files.arrays))):
        raise ValueError(f"the length of an observation is {inputs:,} but must be in [1, {most:,}]")
    return manifest, arrays


def _expected(networks: Any) -> dict[str, Expected]:
    """Return the expected dtypes and shapes of the arrays that the manifest names.

    Raises:
        DAMAGE_ERRORS: if `networks` is malformed.
    """
    expected = {}
    for network, members in networks.items():
        if not members or not all(members):
            raise ValueError(f"the network {network} has no layers")
        for member, layers in enumerate(members):
            for index, entry in enumerate(layers):
                key = f"{network}.{layer_key((member, index))}"
                try:  # inputs and activations have no effect on the arrays of a layer
                    blocks = layer_of(entry, n_in=0, activation="linear").blocks
                except ValueError as error:
                    raise ValueError(f"{key}: {error}") from None
                for name, size in blocks.items():
                    expected[f"{key}.{name}"] = Expected(np.dtype(np.float32), (size,))
                    if name == "weight":
                        expected[f"{key}.positions"] = Expected(np.dtype(np.int64), (size,))
    return expected


def _agent(manifest: dict[str, Any], arrays: Arrays) -> TrainedAgent:
    return TrainedAgent(manifest, _actor(manifest, arrays), _normalizer(manifest, arrays), arrays)


def _normalizer(manifest: dict[str, Any], arrays: Arrays) -> Normalizer:
    if "normalizer" not in manifest:
        return RawObservations()
    statistics = ObservationStatistics.initial(manifest["policy"]["observations"])
    count = manifest["normalizer"]["count"]
    if type(count) is not float:
        raise ValueError(f"normalizer: the count is {shown(count)} but must be a float")
    statistics.restore({"count": count, **{n: arrays[NORMALIZER + n] for n in _STATISTICS}})
    return statistics


def _actor(manifest: dict[str, Any], arrays: Arrays) -> Network:
    """Construct the actor; invalid connections are rejected before the native code uses them."""
    members, policy = manifest["networks"]["actor"], manifest["policy"]
    if len(members) != 1:
        raise ValueError(f"the actor has {len(members)} members but must have 1")
    activations = [manifest["hidden_activation"]] * (len(members[0]) - 1)
    layers: list[Layer] = []
    for entry, activation in zip(
        members[0], [*activations, policy["output_activation"]], strict=True
    ):
        n_in = layers[-1].n_out if layers else policy["observations"]
        layers.append(layer_of(entry, n_in, activation))
    spec = NetworkSpec(tuple(layers))
    patterns = {
        place: Pattern(layer.n_in, layer.n_out, arrays[f"actor.{layer_key(place)}.positions"])
        for place, layer in spec.places()
        if layer.size
    }
    layout = Layout(spec, patterns)
    flat = np.empty(layout.parameters, np.float32)
    for key, block in layout.blocks.items():
        layout.write_block(flat, block, arrays[f"actor.{key}"])
    return Network(layout, flat)
