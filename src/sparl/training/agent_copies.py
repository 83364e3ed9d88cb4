"""Write the files of an agent that is made from the files of another run's agent."""

from __future__ import annotations

from typing import Any

from sparl.errors import DataError, damage_reported
from sparl.training.agent_file import NORMALIZER, read_agent
from sparl.training.optimizer_file import write_moments
from sparl.training.run_folder import AGENT, AGENT_MANIFEST, RunFolder
from sparl.training.tensors import Arrays, file_entry, pack


def save_networks(
    like: RunFolder,
    into: RunFolder,
    networks: Arrays,
    optimizer: tuple[Arrays, dict[str, int]],
    sizes: tuple[int, int],
) -> None:
    """Write an agent whose networks were trained elsewhere.

    Args:
        like: folder of an agent in the same task, whose manifest is the template.
        into: the folder to write to.
        networks: arrays by NETWORK.LAYER.BLOCK.
        optimizer: moments and steps of the optimisers; see load_networks.
        sizes: lengths of an observation and of an action.

    Raises:
        DataError: if the other agent cannot be read, or its observations or actions differ.
        ResourceError: if the files cannot be written.
    """
    with damage_reported(f"{like.path}: the agent cannot be read"):
        manifest, _ = read_agent(like)
        policy = manifest["policy"]
        other = int(policy["observations"]), len(policy["action_low"])
        if other != sizes or policy["output_activation"] != "tanh":
            raise DataError(
                f"{like.path}: its agent has {other[0]} observations and {other[1]} actions with "
                f"{policy['output_activation']} outputs, the other one has {sizes[0]} and "
                f"{sizes[1]} with tanh outputs; name a run in the same task"
            )
        manifest["networks"] = _entries_of(networks)
        manifest["inputs"] = {
            name: sum(sizes) if name.startswith("critics") else sizes[0]
            for name in manifest["networks"]
        }
    data = pack(networks)
    manifest["hidden_activation"] = "relu"
    manifest["file"] = file_entry(AGENT, data)
    manifest["optimizer"] = write_moments(into, *optimizer)
    manifest.pop("observations", None)
    manifest.pop("normalizer", None)
    into.write(AGENT, data)
    into.write_json(AGENT_MANIFEST, manifest)


def _entries_of(networks: Arrays) -> dict[str, list[list[dict[str, Any]]]]:
    """Return the entries of the manifest for networks of linear layers."""
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
    """Copy only the actor of a run to another folder, which is enough to act, evaluate and export.

    The observations are not copied, so exports of the copy are checked in the environment.

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
