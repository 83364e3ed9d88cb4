"""Write the files of an agent that is based on the files of another run's agent."""

from __future__ import annotations

from typing import Any

from sparl.errors import DataError, damage_reported
from sparl.training.agent_file import NORMALIZER, read_agent
from sparl.training.optimizer_file import write_moments
from sparl.training.run_folder import AGENT, AGENT_MANIFEST, RunFolder
from sparl.training.tensors import Arrays, file_entry, pack
from sparl.training.trained_agent import DEVICE_UPDATES


def save_networks(
    like: RunFolder,
    into: RunFolder,
    method: str,
    networks: Arrays,
    optimizer: tuple[Arrays, dict[str, int]],
    sizes: tuple[int, int],
    updates: int,
) -> None:
    """Write an agent whose networks were trained on a device.

    Args:
        like: run folder of an agent that was trained in the same task; its manifest is used as a
            template.
        into: the folder to write to; it is created if the agent can be written.
        method: the method with which the networks were trained.
        networks: arrays by NETWORK.MEMBER.LAYER.BLOCK, for example actor.member0.layer0.weight.
        optimizer: moments and steps of the optimisers; see load_networks.
        sizes: lengths of an observation and of an action.
        updates: number of updates on the device.

    Raises:
        DataError: if the other agent cannot be read, its observations or actions have other
            lengths, or its outputs are not tanh outputs.
        OSError: if the folder cannot be created.
        ResourceError: if the files cannot be written.
    """
    with damage_reported(f"{like.path}: the agent cannot be read"):
        manifest, _ = read_agent(like)
        policy = manifest["policy"]
        other = int(policy["observations"]), len(policy["action_low"])
        if other != sizes or policy["output_activation"] != "tanh":
            raise DataError(
                f"{like.path}: its agent has observations of length {other[0]}, actions of length "
                f"{other[1]} and {policy['output_activation']} outputs, but the agent to write has "
                f"lengths {sizes[0]} and {sizes[1]} and tanh outputs; name a run in the same task"
            )
        manifest["networks"] = _entries_of(networks)
        manifest["inputs"] = {
            name: sum(sizes) if name.startswith("critics") else sizes[0]
            for name in manifest["networks"]
        }
    into.files.make()
    data = pack(networks)
    manifest["method"] = method
    manifest["env_step"], manifest[DEVICE_UPDATES] = 0, updates
    manifest["hidden_activation"] = "relu"
    manifest["file"] = file_entry(AGENT, data)
    manifest["optimizer"] = write_moments(into, *optimizer)
    manifest.pop("observations", None)
    manifest.pop("normalizer", None)
    into.write(AGENT, data)
    into.write_json(AGENT_MANIFEST, manifest)


def _entries_of(networks: Arrays) -> dict[str, list[list[dict[str, Any]]]]:
    """Return the manifest's entries for networks of linear layers."""
    entries: dict[str, list[list[dict[str, Any]]]] = {}
    for key in sorted(key for key in networks if key.endswith(".weight")):
        name, member, layer, _ = key.split(".")
        members = entries.setdefault(name, [])
        if int(member.removeprefix("member")) == len(members):
            members.append([])
        outputs = networks[f"{name}.{member}.{layer}.bias"].size
        members[-1].append({"connections": int(networks[key].size), "outputs": outputs})
    return entries


def save_actor(folder: RunFolder, into: RunFolder) -> None:
    """Copy a run's actor, but no other network, to a folder.

    The actor is sufficient for acting, evaluation and export. The observations are not copied, so
    exports of the copy are checked with observations from the environment.

    Raises:
        DataError: if the agent is missing or damaged, or its format is not supported.
        ResourceError: if the files cannot be written.
    """
    with damage_reported(f"{folder.path}: the agent cannot be read"):
        manifest, arrays = read_agent(folder)
        data = pack(
            {name: a for name, a in arrays.items() if name.startswith(("actor.", NORMALIZER))}
        )
        manifest["networks"] = {"actor": manifest["networks"]["actor"]}
        manifest["file"] = file_entry(AGENT, data)
        manifest.pop("observations", None)
        manifest.pop("optimizer", None)
    into.write(AGENT, data)
    into.write_json(AGENT_MANIFEST, manifest)
