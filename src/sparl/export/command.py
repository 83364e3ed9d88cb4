"""The command `sparl export`: check a trained policy and write it for machines without sparl."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from sparl.configuration import Config
from sparl.console import PlainConsole
from sparl.errors import DataError, UnknownEnvironment, UsageError
from sparl.export import arrays, c_check
from sparl.export.c_header import TOLERANCE, VECTORS
from sparl.export.c_source import Tanh, c_source
from sparl.export.c_trainer import FORMAT, export_trainer
from sparl.export.policy import Policy
from sparl.export.task import describe
from sparl.labels import method_label
from sparl.options import RunPath, parse_options
from sparl.spellings import split_values
from sparl.text_table import INDENT
from sparl.training.about import environment_importable, warn_if_outdated
from sparl.training.agent_file import load_agent, load_observations
from sparl.training.durable import user_path
from sparl.training.environment import Environment, make_environment
from sparl.training.evaluate import Evaluation, Evaluator
from sparl.training.folder import Folder
from sparl.training.run_folder import AGENT, RunFolder
from sparl.training.tasks import notes_of
from sparl.training.trained_agent import TrainedAgent
from sparl.types import Array
from sparl.user_modules import WITHOUT_ID, command_line


@dataclass(frozen=True)
class ExportOptions:
    """Write a trained policy for machines without sparl.

    Before an export is written, its actions are compared with the agent's (with --int8, with those
    of the agent's quantised weights) on the observations that training saved with the agent, or in
    the environment if none were saved. If the actions differ by more than rounding errors, nothing
    is written.
    """

    run: RunPath
    """Folder of the run."""
    format: Literal["c", "onnx", "npz", "c-trainer"]
    """c: NAME.h and NAME.c, C99 for small devices; onnx: NAME.onnx (needs sparl[onnx]); npz:
    NAME.npz, plain arrays; c-trainer: C99 that trains the agent on a device, see sparl export
    --format c-trainer --help."""
    out: Path | None = None
    """Folder of the files; by default export/ in the run's folder."""
    name: str = "policy"
    """Base name of the files and prefix of all C names."""
    int8: bool = False
    """For C: store weights in 8 bits, with one scale per neuron, and print how the return changes;
    to measure it in a custom environment, use sparl --import MODULE export."""
    tanh: Tanh = "tanhf"
    """For C: tanhf of the maths library, or a built-in function that needs no library."""


MEAN_TOLERANCE = 1e-6  # root mean square, in units of half an action's range
EPISODES = 3  # number of episodes for checking an agent without saved observations
Files = dict[str, bytes]
_LONGEST_NAME = 63  # of a C identifier: the characters that C99 guarantees to be significant
_STANDARD_HEADERS = (
    "assert", "complex", "ctype", "errno", "fenv", "float", "inttypes", "iso646", "limits",
    "locale", "math", "setjmp", "signal", "stdarg", "stdbool", "stddef", "stdint", "stdio",
    "stdlib", "string", "tgmath", "time", "wchar", "wctype",
)  # fmt: skip


def export(args: list[str]) -> int:
    """Run `sparl export` with these arguments, and return the exit code."""
    if ("--format", FORMAT) in pairwise(split_values(args)):
        return export_trainer(args)
    options = parse_options(ExportOptions, args, "sparl export")
    if not re.fullmatch("[A-Za-z][A-Za-z0-9_]*", options.name):
        raise UsageError(
            f"export: --name is {options.name!r} but must be a C identifier that begins with a "
            "letter"
        )
    if len(options.name) > _LONGEST_NAME or options.name in _STANDARD_HEADERS:
        raise UsageError(
            f"export: --name is {options.name[:80]!r} but must have at most {_LONGEST_NAME} "
            "characters, and must not be the name of a header of the C library"
        )
    folder = RunFolder.open(options.run)
    config = folder.config()
    agent = load_agent(options.run)
    warn_if_outdated(agent, options.run)
    policy = Policy.of(agent)
    observations = load_observations(agent, options.run)
    with _known_environment(
        config, policy, folder, options, needed=observations is None
    ) as environment:
        return _export(options, folder, agent, policy, observations, environment)


def _export(
    options: ExportOptions,
    folder: RunFolder,
    agent: TrainedAgent,
    policy: Policy,
    observations: Array | None,
    environment: Environment | None,
) -> int:
    """Check and write an export, and return the exit code.

    Args:
        options: options of the command.
        folder: the run's folder.
        agent: the run's agent.
        policy: the agent's policy.
        observations: observations for the check; if None, the check runs evaluation episodes.
        environment: the run's environment; None if it is not registered in this process.
    """
    config = folder.config()
    say = PlainConsole().print
    origin = (
        f"{method_label(config)} on {config.env}, seed {config.seed}, agent saved at {agent.when}"
    )
    if options.format != "c" and (options.int8 or options.tanh != "tanhf"):
        raise UsageError("export: --int8 and --tanh can be used only with --format c")
    say(origin)
    if options.int8:
        exact, policy = policy, policy.quantised()
        say(f"8-bit weights: return {_returns(config, exact, policy, folder, environment)}")
    if observations is None:
        observations = _evaluate(config, policy, EPISODES).observations
    about = [
        f"Exported by sparl {version('sparl')}",
        f"Agent: {origin}",
        f"SHA-256 of {AGENT}: {agent.manifest['file']['sha256']}",
        "",
        *describe(config.env, environment, policy),
        *notes_of(config.env, config.contact_forces),
    ]
    files = _FORMATS[options.format](policy, observations, options, about)
    target = folder.files.at("export") if options.out is None else Folder(user_path(options.out))
    try:
        target.make()
    except OSError as error:
        raise UsageError(f"export: {target.path} cannot be created: {error.strerror}") from None
    for name, data in files.items():
        target.write(name, data)
        say(f"{name}: {len(data):,} bytes")
    say("written to:")
    PlainConsole().copyable(INDENT + str(target.path))
    return 0


def _c(policy: Policy, observations: Array, options: ExportOptions, about: list[str]) -> Files:
    vectors = observations[np.linspace(0, len(observations) - 1, VECTORS).astype(int)]
    how = f"Weights: {'8-bit' if options.int8 else 'float32'}; tanh: {options.tanh}"
    source = c_source(policy, options.name, vectors, options.tanh, [*about, "", how])
    compiler = c_check.compiler()
    if compiler is None:
        raise UsageError(
            "export: checking the exported C code needs a C compiler; install cc, gcc or clang"
        )
    _check(policy, c_check.run(compiler, source, options.name, observations), observations)
    PlainConsole().print(
        f"constants {source.constant_bytes:,} bytes, activations {source.stack_bytes:,} bytes, "
        f"{policy.connections:,} multiply-adds per action"
    )
    return {
        f"{options.name}.h": source.header.encode("ascii"),
        f"{options.name}.c": source.source.encode("ascii"),
    }


def _onnx(policy: Policy, observations: Array, options: ExportOptions, about: list[str]) -> Files:
    from sparl.export import onnx_model

    data = onnx_model.onnx_model(policy, options.name)
    _check(policy, onnx_model.actions(data, observations), observations)
    return {f"{options.name}.onnx": data}


def _npz(policy: Policy, observations: Array, options: ExportOptions, about: list[str]) -> Files:
    data = arrays.npz(policy)
    _check(policy, arrays.actions(data, observations), observations)
    return {f"{options.name}.npz": data}


_FORMATS: dict[str, Callable[[Policy, Array, ExportOptions, list[str]], Files]] = {
    "c": _c, "onnx": _onnx, "npz": _npz,
}  # fmt: skip


def _check(policy: Policy, actions: Array, observations: Array) -> None:
    """Compare the exported actions with the policy's actions, and print the distances.

    Distances are in units of half an action's range. If float32 sums of a few hundred terms are
    computed in different orders, the actions differ by up to about 5e-6. Each distance may be up to
    1e-5, and the root mean square of all distances up to 1e-6.

    Raises:
        DataError: if the distances are larger.
    """
    distances = policy.distances(actions, observations)
    mean, largest = float(np.sqrt(np.square(distances).mean())), float(distances.max())
    if mean > MEAN_TOLERANCE or largest > TOLERANCE:
        raise DataError(
            f"export: the exported actions differ from sparl's by {mean:.2g} (root mean square) "
            f"and {largest:.2g} (maximum), in units of half their range, but the limits are "
            f"{MEAN_TOLERANCE:g} and {TOLERANCE:g}; nothing was written"
        )
    PlainConsole().print(
        f"checked on {len(observations):,} observations: the actions differ from sparl's by "
        f"{mean:.2g} (root mean square) and {largest:.2g} (maximum), in units of half their range"
    )


@contextmanager
def _known_environment(
    config: Config, policy: Policy, folder: RunFolder, options: ExportOptions, *, needed: bool
) -> Iterator[Environment | None]:
    """Create a run's environment, check that it suits the agent, and close it after the block.

    Args:
        config: configuration of the run.
        policy: policy of the run's agent.
        folder: the run's folder.
        options: the options of the command, which a message repeats.
        needed: whether the environment is required. If false, None is yielded when the environment
            is not registered.

    Raises:
        DataError: if the agent and the environment have observations or actions of different
            lengths, if the environment cannot be created, or if it is required but not registered.
    """
    try:
        with environment_importable(folder, "export", f"--format {options.format}"):
            try:
                environment = make_environment(config)
            except UnknownEnvironment:
                if needed:
                    raise
                environment = None
    except UsageError as error:
        raise DataError(f"{folder.path}: {error}") from None
    if environment is None:
        yield None
        return
    with closing(environment):
        if (environment.n_obs, environment.n_act) != (policy.n_obs, policy.n_act):
            raise DataError(
                f"{folder.path}: the agent expects observations of length {policy.n_obs} and "
                f"actions of length {policy.n_act}, but those of {config.env} have lengths "
                f"{environment.n_obs} and {environment.n_act}; use the version of the environment "
                "that the agent was trained in"
            )
        yield environment


def _returns(
    config: Config, exact: Policy, rounded: Policy, folder: RunFolder,
    environment: Environment | None,
) -> str:  # fmt: skip
    """Measure and describe how 8-bit weights change the return."""
    if environment is None:
        module = folder.environment_module() or "MODULE"
        if module == WITHOUT_ID:
            return f"not measured, because {config.env} has no id"
        words = command_line(module, "export", folder.path, "--format c --int8")
        return (
            f"not measured, because {config.env} is not registered; to import its module, use "
            f"{words}"
        )
    before, after = (_evaluate(config, p, config.evaluation_episodes) for p in (exact, rounded))
    return (
        f"{after.mean:,.3f} ± {after.std:,.3f}, before {before.mean:,.3f} ± {before.std:,.3f}: "
        f"{after.mean - before.mean:+,.3f} ({len(before.returns)} episodes)"
    )


def _evaluate(config: Config, policy: Policy, episodes: int) -> Evaluation:
    evaluator = Evaluator(lambda: make_environment(config), episodes, config.evaluation_seed)
    try:
        return evaluator.evaluate(policy)
    finally:
        evaluator.close()
