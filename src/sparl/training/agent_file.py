"""The agent's files: every network's existing connections and values, and how to act with them.

safetensors for arrays, JSON for the rest; nothing here can execute code when it is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sparl.agents.action_head import HEADS, ActionHead
from sparl.errors import DataError
from sparl.networks.layout import Layout
from sparl.networks.network import Network
from sparl.networks.spec import Output
from sparl.sparse.pattern import Pattern
from sparl.training.action_scale import ActionScale
from sparl.training.environment import Environment
from sparl.training.evaluate import OBSERVATIONS as MOST_OBSERVATIONS
from sparl.training.run_folder import AGENT, AGENT_MANIFEST, OBSERVATIONS, RunFolder
from sparl.training.tensors import Arrays, Expected, digest, largest, pack, unpack
from sparl.types import Array, State
from sparl.wording import shown

FORMAT = 1
_MANIFEST_BYTES = 1 << 20
# Inputs that an agent of any size may have. A layer takes memory for every input, connected or not,
# so further inputs must be justified by the size of the file.
_INPUTS = 1 << 16
_OBSERVATIONS = "observations"  # the array's name
_ACTION_DTYPES = ("float16", "float32", "float64", np.dtype(np.longdouble).name)
_DTYPES = {"positions": np.int64, "weight": np.float32, "bias": np.float32}


def save_agent(
    folder: RunFolder,
    networks: dict[str, State],
    environment: Environment,
    about: dict[str, Any],
    observations: Array | None,
    head: ActionHead,
) -> None:
    """Write agent.safetensors and observations.safetensors, and then agent.json.

    Args:
        folder: of the run.
        networks: from Agent.networks().
        environment: whose observations and actions it is for.
        about: what else the manifest should say.
        observations: float32 [B, n_obs], of an evaluation; exports are checked on them.
        head: how actions follow from the actor's outputs.
    """
    data = pack(
        {
            f"{network}.{name}": value
            for network, state in networks.items()
            for name, value in state.items()
            if isinstance(value, np.ndarray)
        }
    )
    folder.write(AGENT, data)
    kept = {}
    if observations is not None:
        met = pack({_OBSERVATIONS: observations})
        folder.write(OBSERVATIONS, met)
        kept["observations"] = {"rows": len(observations), **_file(OBSERVATIONS, met)}
    folder.write_json(
        AGENT_MANIFEST,
        {
            "format": FORMAT,
            **about,
            "hidden_activation": "relu",
            "policy": _policy(environment, head),
            "networks": {name: _shapes(state) for name, state in networks.items()},
            "positions": "output * inputs + input, ascending; one weight each, in this order",
            "file": _file(AGENT, data),
            **kept,
        },
    )


def _policy(environment: Environment, head: ActionHead) -> dict[str, Any]:
    """Describe how the actor's outputs become actions of the environment."""
    scale = environment.action_scale
    return {
        "network": "actor",
        "output_activation": head.output,
        "actions": head.formula,
        "observations": environment.n_obs,
        "action_low": scale.low.tolist(),
        "action_high": scale.high.tolist(),
        "action_dtype": scale.dtype.name,
    }


def _file(name: str, data: bytes) -> dict[str, Any]:
    return {"name": name, "bytes": len(data), "sha256": digest(data)}


def _shapes(state: State) -> list[list[dict[str, int]]]:
    """For each member, its layers' connections and outputs."""
    members: dict[int, list[dict[str, int]]] = {}
    for name, value in state.items():
        if name.endswith(".weight"):
            member, layer, _ = name.split(".")
            bias = cast(Array, state[f"{member}.{layer}.bias"])
            members.setdefault(int(member.removeprefix("member")), []).append(
                {"connections": int(np.size(value)), "outputs": bias.size}
            )
    return [members[m] for m in sorted(members)]


class TrainedAgent:
    """A trained agent, ready to act.

    Attributes:
        manifest: what agent.json says.
        env_step: of its training [environment steps].
        actor: the policy's network.
        n_obs: length of an observation.
        n_act: length of an action.
    """

    def __init__(self, manifest: dict[str, Any], actor: Network) -> None:
        self.manifest = manifest
        self.env_step = manifest["env_step"]
        if type(self.env_step) is not int or self.env_step < 0:
            raise ValueError(f"env_step {str(self.env_step)[:80]}")
        self.actor = actor
        policy = manifest["policy"]
        self._scale = ActionScale(
            np.asarray(policy["action_low"], np.float64),
            np.asarray(policy["action_high"], np.float64),
            _action_dtype(policy),
        )
        low, high = self._scale.low, self._scale.high
        if low.ndim != 1 or low.shape != high.shape or not np.isfinite([low, high]).all():
            raise ValueError("action_low and action_high must be equally many finite numbers")
        if not (low < high).all():
            raise ValueError("action_low must be below action_high")
        self.n_obs, self.n_act = actor.layout.n_in, self._scale.low.size
        self._head = HEADS[policy["output_activation"]]
        if actor.layout.n_out != self.n_act * self._head.outputs_per_action:
            raise ValueError(f"{actor.layout.n_out} outputs for {self.n_act} actions")

    def policy(self, observation: Array) -> Array:
        """Actions in [-1, 1], float32 [B, n_act], for float32 [B, n_obs]."""
        return self._head(self.actor(observation), self.n_act)

    def predict(self, observation: NDArray[Any] | Sequence[float]) -> NDArray[Any]:
        """Noise-free actions in the environment's own units, never beyond its bounds.

        Args:
            observation: [n_obs] or [B, n_obs], any real dtype.

        Returns:
            [n_act] or [B, n_act], of the dtype of the environment's actions.

        Raises:
            ValueError: another shape.
        """
        x = np.ascontiguousarray(observation, np.float32)
        if x.ndim not in (1, 2) or x.shape[-1] != self.n_obs:
            raise ValueError(
                f"predict: the observation has shape {x.shape}, "
                f"must be ({self.n_obs},) or (batch, {self.n_obs})"
            )
        if x.size == 0:
            return np.zeros((0, self.n_act), self._scale.dtype)
        action = self.policy(np.atleast_2d(x)).reshape(*x.shape[:-1], self.n_act)
        return self._scale(action)


def _action_dtype(policy: dict[str, Any]) -> str:
    """The dtype of an agent's actions; files that do not name one are of float32."""
    name = policy.get("action_dtype", "float32")
    if name not in _ACTION_DTYPES:
        raise ValueError(f"action_dtype {str(name)[:80]}")
    return str(name)


def load_agent(path: str | Path) -> TrainedAgent:
    """The agent of a run folder.

    Raises:
        DataError: missing, damaged, or of another format.
    """
    folder = RunFolder.open(path)
    with _whole(folder.path):
        manifest, arrays = _read(folder)
        return TrainedAgent(manifest, _network(manifest, arrays, "actor"))


def save_actor(folder: RunFolder, into: RunFolder) -> None:
    """Write a run's actor alone into another folder: enough to act, to evaluate and to export.

    Its export is checked in the environment, as observations are not copied.

    Raises:
        DataError: the agent is missing, damaged, or of another format.
        ResourceError: it cannot be written.
    """
    with _whole(folder.path):
        manifest, arrays = _read(folder)
        data = pack({name: a for name, a in arrays.items() if name.startswith("actor.")})
        manifest["networks"] = {"actor": manifest["networks"]["actor"]}
        manifest["file"] = _file(AGENT, data)
        manifest.pop("observations", None)
    into.write(AGENT, data)
    into.write_json(AGENT_MANIFEST, manifest)


def load_observations(agent: TrainedAgent, path: str | Path) -> Array | None:
    """The observations that training kept with an agent, float32 [B, n_obs]; None: it kept none.

    Args:
        agent: from load_agent.
        path: its run folder.

    Raises:
        DataError: missing or damaged.
    """
    about = agent.manifest.get("observations")
    if about is None:
        return None
    where = Path(path) / OBSERVATIONS
    with _whole(Path(path)):
        rows = about["rows"]
        if type(rows) is not int or not 0 < rows <= MOST_OBSERVATIONS:
            raise ValueError(f"{str(rows)[:30]} observations")
        expected = {_OBSERVATIONS: Expected(np.dtype(np.float32), (rows, agent.n_obs))}
        data = RunFolder.open(path).files.read(OBSERVATIONS, largest(expected))
        if digest(data) != about["sha256"]:
            raise DataError(f"{where}: damaged (its SHA-256 is not the one in {AGENT_MANIFEST})")
        observations = unpack(data, expected, where)[_OBSERVATIONS]
    if not np.isfinite(observations).all():
        raise DataError(f"{where}: an observation is not finite")
    return observations


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """What a damaged manifest leads to is a DataError."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(f"{path}: the agent cannot be read ({error!r})") from None


def _read(folder: RunFolder) -> tuple[dict[str, Any], Arrays]:
    """The manifest of a run's agent, and its arrays, verified.

    Raises:
        DataError: missing, damaged, or of another format.
        KeyError, TypeError, ValueError, AttributeError, OverflowError: the manifest is damaged.
    """
    if not folder.files.has(AGENT_MANIFEST):
        raise DataError(
            f"{folder.path / AGENT_MANIFEST}: missing; a run writes its agent when it ends or is "
            "stopped, and one that was killed goes on with sparl resume"
        )
    manifest = folder.read_json(AGENT_MANIFEST, _MANIFEST_BYTES)
    if manifest.get("format") != FORMAT:
        raise DataError(
            f"{folder.path / AGENT_MANIFEST}: format {str(manifest.get('format'))[:20]}, "
            f"this version reads {FORMAT}"
        )
    where = folder.path / AGENT
    expected = _expected(manifest["networks"])
    data = folder.files.read(AGENT, largest(expected))
    inputs, most = manifest["policy"]["observations"], max(_INPUTS, len(data))
    if type(inputs) is not int or not 0 < inputs <= most:
        raise ValueError(f"{shown(inputs)} observations, must be 1 to {most:,}")
    if digest(data) != manifest["file"]["sha256"]:
        raise DataError(f"{where}: damaged (its SHA-256 is not the one in {AGENT_MANIFEST})")
    return manifest, unpack(data, expected, where)


def _expected(networks: Any) -> dict[str, Expected]:
    """The arrays that the manifest names.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: it is not a manifest's list of networks.
    """
    expected = {}
    for network, members in networks.items():
        for member, layers in enumerate(members):
            for index, layer in enumerate(layers):
                for field, dtype in _DTYPES.items():
                    length = layer["outputs"] if field == "bias" else layer["connections"]
                    if type(length) is not int or not 0 <= length < 1 << 32:
                        raise ValueError(f"{network}, layer {index}: {field} of {length}")
                    name = f"{network}.member{member}.layer{index}.{field}"
                    expected[name] = Expected(np.dtype(dtype), (length,))
    return expected


def _network(manifest: dict[str, Any], arrays: Arrays, name: str) -> Network:
    """One network out of the files; patterns are checked before the engine sees them."""
    policy = manifest["policy"]
    patterns, state = [], {}
    for member, layers in enumerate(manifest["networks"][name]):
        sizes = [int(policy["observations"]), *(int(layer["outputs"]) for layer in layers)]
        row = []
        for index in range(len(layers)):
            prefix = f"member{member}.layer{index}"
            for field in _DTYPES:
                state[f"{prefix}.{field}"] = arrays[f"{name}.{prefix}.{field}"]
            positions = np.asarray(state[f"{prefix}.positions"])
            row.append(Pattern(sizes[index], sizes[index + 1], positions))
        patterns.append(row)
    layout = Layout.mlp(patterns, cast(Output, policy["output_activation"]))
    flat = np.empty(layout.parameters, np.float32)
    network = Network(layout, flat, ensemble=len(patterns) > 1)
    network.restore(cast(State, state))
    return network
