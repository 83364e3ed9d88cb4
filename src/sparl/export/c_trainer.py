"""The command `sparl export --format c-trainer`: write an agent that a microcontroller trains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from sparl.architecture import architecture
from sparl.build import build_agent
from sparl.chip import sources
from sparl.chip.sizes import METHODS, MOST, MOST_CONNECTIONS, STORAGE, Sizes
from sparl.chip.state import Arrays, new_state, pack_block
from sparl.configuration import Config
from sparl.console import PlainConsole
from sparl.errors import DataError, UsageError
from sparl.export.c_header import comment_text
from sparl.labels import method_label
from sparl.methods import check, preset
from sparl.options import Argument, parse_options
from sparl.training.agent_file import load_networks
from sparl.training.durable import user_path
from sparl.training.environment import make_environment
from sparl.training.folder import Folder
from sparl.training.run_folder import AGENT, RunFolder

FORMAT = "c-trainer"
STATE = "sparl_chip_state"


@dataclass(frozen=True)
class TrainerOptions:
    """Write an agent that learns on a microcontroller, as C99 sources.

    The files are the library sparl_chip, its configuration, and the agent's networks, targets and
    optimiser. With RUN, the agent is that of a run; without RUN, the agent is untrained.
    """

    run: Annotated[Path | None, Argument("[RUN]", positional=True)] = None
    """Folder of a run of TD3, Static-TD3, SET-TD3 or DS-TD3 with two hidden layers."""
    format: Literal["c-trainer"] = "c-trainer"
    """The format that these options belong to."""
    out: Path | None = None
    """Folder of the files; by default trainer/ in the run's folder. Required without RUN."""
    method: str | None = None
    """Without RUN: TD3, Static-TD3, SET-TD3 (the default) or DS-TD3."""
    env: str | None = None
    """Without RUN: Gymnasium id of the task."""
    hidden: tuple[int, ...] | None = None
    """Without RUN: units of the two hidden layers; by default 64 64."""
    sparsity: float | None = None
    """Without RUN, except for TD3: fraction of absent weights [0-1], distributed over the layers by
    the Erdos-Renyi rule; by default 0.8."""
    seed: int = 0
    """Seed of the networks of an untrained agent, and of the chip's random streams."""
    fresh_optimizer: bool = False
    """Start Adam's moments at 0 if the run was saved without them."""
    replay: Literal["int8", "float16", "float32"] = "int8"
    """Type in which the replay buffer stores transitions."""
    capacity: int = 10_000
    """Capacity of the replay buffer [slots]."""
    moments: Literal["float32", "bfloat16"] = "float32"
    """Type in which Adam's moments are stored."""


@dataclass(frozen=True)
class _Origin:
    """The agent to write.

    Attributes:
        about: lines that describe the agent.
        optimizer: moments and steps; None means that all moments are 0.
        bounds: the environment's lower and upper bounds of an action.
        trained: whether the agent was trained, so that the warm-up uses its actions instead of
            random ones.
    """

    config: Config
    about: list[str]
    networks: Arrays
    optimizer: tuple[Arrays, dict[str, int]] | None
    bounds: tuple[Sequence[float], Sequence[float]]
    trained: bool


def export_trainer(args: list[str]) -> int:
    """Run `sparl export --format c-trainer` with these arguments, and return the exit code."""
    options = parse_options(TrainerOptions, args, "sparl export --format c-trainer")
    if (options.run is None) == (options.env is None):
        raise UsageError("export: --format c-trainer needs either a RUN or --env")
    if options.run is None and options.out is None:
        raise UsageError("export: --format c-trainer without a RUN needs --out")
    _check_given(options)
    origin = _untrained(options) if options.run is None else _of_run(options, options.run)
    sizes = _sizes(options, origin)
    optimizer = origin.optimizer or ({}, {})
    moments = optimizer[0] if origin.optimizer else None
    state = new_state(sizes, origin.networks, moments, optimizer[1], options.seed)
    block = pack_block(sizes, state)
    about = [
        "Written by sparl " + version("sparl"),
        *origin.about,
        "An action a in [-1, 1] is low + (a + 1) / 2 (high - low) in the environment's units;",
        f"low: {', '.join(f'{x:g}' for x in origin.bounds[0])}",
        f"high: {', '.join(f'{x:g}' for x in origin.bounds[1])}",
        "",
        "A program compiles sparl_chip.c with this file in its include path, and may load the",
        f"networks from {STATE}.h.",
    ]
    files = {
        sources.HEADER: sources.source(sources.HEADER),
        sources.SOURCE: sources.source(sources.SOURCE),
        sources.CONFIG: sources.configuration_header(
            _macros(options, origin, sizes), [comment_text(line) for line in about]
        ),
        f"{STATE}.h": _state_header(block, [comment_text(line) for line in origin.about]),
    }
    if options.out is not None:
        folder = Folder(user_path(options.out))
    else:
        assert options.run is not None
        folder = RunFolder.open(options.run).files.at("trainer")
    try:
        folder.make()
    except OSError as error:
        raise UsageError(f"export: {folder.path} cannot be created: {error.strerror}") from None
    say = PlainConsole().print
    for line in origin.about:
        say(line)
    for name, text in files.items():
        folder.write(name, text.encode("ascii"))
        say(f"{folder.path / name}: {len(text):,} bytes")
    folder.write(f"{STATE}.bin", block)
    say(f"{folder.path / f'{STATE}.bin'}: {len(block):,} bytes, for sparl_chip_load")
    say(f"RAM of the agent and its replay buffer: {sizes.dtype().itemsize:,} bytes")
    return 0


def _check_given(options: TrainerOptions) -> None:
    """Raise UsageError if an option has no effect together with the others."""
    of_untrained = {name: getattr(options, name) for name in ("method", "hidden", "sparsity")}
    given = [name for name, value in of_untrained.items() if value is not None]
    if options.run is not None and given:
        raise UsageError(
            f"export: --{given[0]} describes an untrained agent, but RUN is given; remove one of "
            "them"
        )
    if options.method == "TD3" and options.sparsity is not None:
        raise UsageError("export: TD3 is dense; remove --sparsity or choose another --method")
    if options.run is None and options.fresh_optimizer:
        raise UsageError("export: --fresh-optimizer needs a RUN; remove it")


def _untrained(options: TrainerOptions) -> _Origin:
    """Build an untrained agent with the settings of the library's configuration header."""
    assert options.env is not None
    method, hidden = options.method or "SET-TD3", options.hidden or (64, 64)
    if method not in METHODS:
        raise UsageError(
            f"export: --method is {method}, but --format c-trainer supports only "
            f"{', '.join(METHODS)}"
        )
    if math.prod(hidden) >= MOST:
        raise UsageError(
            f"export: --hidden is {' '.join(map(str, hidden))}, which is too large for a "
            f"microcontroller; the product must be less than {MOST:,}"
        )
    sparsity = 0.8 if options.sparsity is None else options.sparsity
    if not 0 <= sparsity < 1:
        raise UsageError(f"export: --sparsity is {sparsity} but must be at least 0 and less than 1")
    sparse = {"actor_sparsity": sparsity, "critic_sparsity": sparsity}
    config = preset(
        method, options.env, seed=options.seed, hidden=hidden,
        allocation="erdos_renyi", sparse_output=True, initial_topology="random",
        learning_rate=1e-3, weight_decay=0.0, batch_size=64, tau=0.02,
        **({} if method == "TD3" else sparse),
    )  # fmt: skip
    check(config)
    with closing(make_environment(config)) as environment:
        scale = environment.action_scale
        built = architecture(config, environment.n_obs, environment.n_act)
        agent = build_agent(config, built)
    networks = {
        f"{network}.{key}": np.asarray(value)
        for network, state in agent.networks().items()
        for key, value in state.items()
    }
    about = [f"Agent: untrained {method} for {options.env}, seed {options.seed}"]
    bounds = scale.low.tolist(), scale.high.tolist()
    return _Origin(config, about, networks, None, bounds, trained=False)


def _of_run(options: TrainerOptions, run: Path) -> _Origin:
    """Load the agent of a run.

    Raises:
        DataError: if the run has no critics, or was saved without its optimisers although
            --fresh-optimizer was not given.
        UsageError: if the chip library does not support the run's method or its normalised
            observations.
    """
    config = RunFolder.open(run).config()
    if config.method not in METHODS or config.agent != "TD3" or config.critics != 2:
        raise UsageError(
            f"export: --format c-trainer supports {', '.join(METHODS)} with two critics; "
            f"{run} is {method_label(config)}"
        )
    if config.normalize_observations:
        raise UsageError(
            f"export: {run} normalizes observations, which --format c-trainer does not support; "
            "train without --normalize-observations, and scale the observations to about -1 to 1"
        )
    agent, networks, optimizer = load_networks(run)
    missing = {"critics", "actor_target", "critics_target"} - set(agent.manifest["networks"])
    if missing:
        raise DataError(
            f"{run}: its agent lacks {', '.join(sorted(missing))}, without which it cannot learn; "
            "export the run that it was copied from"
        )
    if optimizer is None and not options.fresh_optimizer:
        raise DataError(
            f"{run}: its agent was saved without the moments of Adam; --fresh-optimizer starts "
            "them at 0"
        )
    about = [
        f"Agent: {method_label(config)} on {config.env}, seed {config.seed}, saved at {agent.when}",
        f"SHA-256 of its {AGENT}: {agent.manifest['file']['sha256']}",
        f"Adam's moments: {'those of the run' if optimizer else '0'}",
    ]
    policy = agent.manifest["policy"]
    bounds = policy["action_low"], policy["action_high"]
    return _Origin(config, about, networks, optimizer, bounds, trained=True)


def _sizes(options: TrainerOptions, origin: _Origin) -> Sizes:
    """Return the sizes from which the layout of a `sparl_chip` follows.

    Raises:
        UsageError: if the agent does not have two hidden layers, or a number is out of range.
    """
    config, networks = origin.config, origin.networks
    if len(config.hidden) != 2:
        raise UsageError(
            f"export: --format c-trainer needs two hidden layers; the agent has "
            f"{len(config.hidden)}"
        )
    if not 100 <= options.capacity < MOST:
        raise UsageError(
            f"export: --capacity is {options.capacity} but must be at least 100 and less than "
            f"{MOST:,}"
        )
    counts: dict[str, Any] = {}
    for network in ("actor", "critics"):
        layers = [networks[f"{network}.member0.layer{i}.weight"].size for i in range(3)]
        counts[network] = tuple(layers)
        other = [networks[f"{network}.member{m}.layer{i}.weight"].size
                 for m in range(1 if network == "actor" else 2) for i in range(3)]  # fmt: skip
        if other != layers * (len(other) // 3) or 0 in layers:
            raise UsageError(
                "export: --format c-trainer needs critics with equal numbers of connections, and "
                "connections in every layer"
            )
    bias = [networks[f"actor.member0.layer{i}.bias"].size for i in range(3)]
    sizes = Sizes(
        _observations(networks, len(origin.bounds[0]), bias[0], origin), bias[2], bias[0], bias[1],
        METHODS.index(config.method), counts["actor"], counts["critics"],
        STORAGE.index(options.replay), STORAGE.index(options.moments), options.capacity,
        min(1000, options.capacity // 5), config.batch_size,
    )  # fmt: skip
    most = max(*sizes.actor, *sizes.critic)
    if most > MOST_CONNECTIONS and any(place.sparse for place in sizes.places()):
        raise UsageError(
            f"export: a layer has {most:,} connections, but --format c-trainer supports at most "
            f"{MOST_CONNECTIONS:,} per layer in sparse networks"
        )
    return sizes


def _observations(networks: Arrays, n_act: int, hidden: int, origin: _Origin) -> int:
    """Return the length of an observation of the environment, after checking the agent's inputs."""
    with closing(make_environment(origin.config)) as environment:
        n_obs = environment.n_obs
    largest = int(networks["actor.member0.layer0.positions"].max(initial=0))
    if largest >= n_obs * hidden:
        raise DataError(
            f"export: the agent expects longer observations than those of {origin.config.env}, "
            f"whose length is {n_obs}; export with the version of the environment that the agent "
            "was trained in"
        )
    return n_obs


def _macros(options: TrainerOptions, origin: _Origin, sizes: Sizes) -> dict[str, object]:
    """Return the values of the configuration header."""
    config = origin.config
    values: dict[str, object] = {
        "OBSERVATIONS": sizes.observations, "ACTIONS": sizes.actions,
        "HIDDEN_1": sizes.hidden_1, "HIDDEN_2": sizes.hidden_2,
        "METHOD": f"SPARL_CHIP_{config.method.upper().replace('-', '_')}",
        "REPLAY": f"SPARL_CHIP_{options.replay.upper()}",
        "MOMENTS": f"SPARL_CHIP_{options.moments.upper()}",
        "CAPACITY": sizes.capacity, "WARMUP": sizes.warmup,
        "RANDOM_WARMUP": int(not origin.trained), "BATCH": sizes.batch,
        "GAMMA": config.gamma, "TAU": config.tau, "POLICY_DELAY": config.policy_delay,
        "EXPLORATION_NOISE": config.exploration_noise, "TARGET_NOISE": config.target_noise,
        "NOISE_CLIP": config.noise_clip, "LEARNING_RATE": config.learning_rate,
        "WEIGHT_DECAY": config.weight_decay, "REWIRE_LAST": 0,
        "REWIRE_EVERY": 1000 - 1000 % config.policy_delay,
    }  # fmt: skip
    if config.method != "TD3":
        for name, counts in (("ACTOR", sizes.actor), ("CRITIC", sizes.critic)):
            values |= {f"{name}_CONNECTIONS_{i}": n for i, n in enumerate(counts, 1)}
    return values


def _state_header(block: bytes, about: list[str]) -> str:
    """Return a C header that contains the block of a chip's state."""
    words = np.frombuffer(block.ljust(-(-len(block) // 4) * 4, b"\0"), "<u4")
    lines = [
        "    " + " ".join(f"0x{word:08x}u," for word in words[i : i + 8])
        for i in range(0, len(words), 8)
    ]
    comment = "\n".join(f" * {line}".rstrip() for line in about)
    body = "\n".join(lines)
    return f"""\
/* The state of an agent, a block for sparl_chip_load; include it in one C file.
 * SPDX-License-Identifier: MIT-0
 *
{comment}
 */
#ifndef SPARL_CHIP_STATE_H
#define SPARL_CHIP_STATE_H

#include <stdint.h>
#include <string.h>

static const uint32_t sparl_chip_state[{len(words)}] = {{
{body}
}};

/* For sparl_chip_load(&chip, sparl_chip_read_state, 0). */
static int sparl_chip_read_state(void *storage, uint32_t offset, void *to, uint32_t bytes)
{{
    const int outside =
        (bytes > sizeof sparl_chip_state) || (offset > sizeof sparl_chip_state - bytes);
    (void)storage;
    if (!outside) {{
        (void)memcpy(to, (const uint8_t *)sparl_chip_state + offset, bytes);
    }}
    return outside ? 1 : 0;
}}

#endif
"""
