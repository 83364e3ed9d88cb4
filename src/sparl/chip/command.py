"""The command `sparl chip read`, which converts the state of a device to an agent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from sparl.chip.sizes import METHODS, Sizes
from sparl.chip.state import networks_of, read_block
from sparl.configuration import Config
from sparl.console import PlainConsole
from sparl.errors import DataError, UsageError
from sparl.field_texts import GROUPS
from sparl.methods import preset
from sparl.options import Argument, parse_options
from sparl.training.agent_copies import save_networks
from sparl.training.durable import user_path
from sparl.training.run_folder import RunFolder

USAGE = "usage: sparl chip read DUMP --like RUN --out DIR, with --help for the options"
_MOST_BYTES = 1 << 28


@dataclass(frozen=True)
class ReadOptions:
    """Convert the state of a device to an agent for evaluate, play and export.

    The file is a block that sparl_chip_save wrote, such as a dump of the device's flash memory.
    """

    dump: Annotated[Path, Argument("DUMP", positional=True)]
    """File that contains the block."""
    like: Annotated[Path, Argument("RUN")]
    """Folder of a run in the same task; the environment and the action bounds are taken from it.
    So are the other settings, if its agent has the same method and hidden layers."""
    out: Annotated[Path, Argument("DIR")]
    """New folder for the agent."""


def chip(args: list[str]) -> int:
    """Run `sparl chip` with these arguments, and return the exit code."""
    if not args or args[0] != "read":
        if args and args[0] in ("-h", "--help", "help"):
            PlainConsole().print(USAGE)
            return 0
        raise UsageError(f"chip: the first argument must be read; {USAGE}")
    return read(args[1:])


def read(args: list[str]) -> int:
    """Run `sparl chip read` with these arguments, and return the exit code."""
    options = parse_options(ReadOptions, args, "sparl chip read")
    dump = user_path(options.dump)
    try:
        with dump.open("rb") as file:
            data = file.read(_MOST_BYTES)
    except OSError as error:
        raise DataError(f"{dump}: cannot be read: {error.strerror}") from None
    sizes, state = read_block(data, dump)
    try:
        networks, moments, steps = networks_of(sizes, state)
    except ValueError as error:
        raise DataError(f"{dump}: cannot be read ({error})") from None
    like, out = RunFolder.open(options.like), user_path(options.out)
    if out.exists():
        raise UsageError(f"chip read: {out} exists; choose a new folder")
    config = _config(like.config(), sizes)
    folder, lengths = RunFolder(out), (sizes.observations, sizes.actions)
    updates = int(state["updates"])
    try:
        save_networks(like, folder, config.method, networks, (moments, steps), lengths, updates)
    except OSError as error:
        raise UsageError(f"chip read: {out} cannot be created: {error.strerror}") from None
    folder.write_config(config)
    PlainConsole().print(
        f"{options.out}: {METHODS[sizes.method]} with observations of length {sizes.observations}, "
        f"actions of length {sizes.actions} and {sizes.hidden_1}-{sizes.hidden_2} hidden units, "
        f"after {updates:,} updates on the device"
    )
    return 0


def _config(like: Config, sizes: Sizes) -> Config:
    """Return the configuration of an agent from a device.

    Args:
        like: the configuration of a run in the same task. It is returned if its agent has the same
            method and hidden layers; otherwise only its seed, environment and evaluation are used.
        sizes: the sizes of the device's agent.
    """
    method, hidden = METHODS[sizes.method], (sizes.hidden_1, sizes.hidden_2)
    if (method, hidden) == (like.method, like.hidden):
        return like
    names = ["seed", "steps", *GROUPS["environment"], *GROUPS["evaluation"]]
    kept = {name: getattr(like, name) for name in names if name != "env"}
    return preset(method, like.env, hidden=hidden, **kept)
