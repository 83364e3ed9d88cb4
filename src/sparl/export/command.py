"""`sparl export`: write a trained policy for machines without sparl, checked before it is kept."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np

from sparl.arguments import RunPath, parse_options
from sparl.configuration import Config
from sparl.console import PlainConsole
from sparl.errors import DataError, UsageError
from sparl.export import arrays, c_check
from sparl.export.c_header import TOLERANCE, VECTORS
from sparl.export.c_source import Tanh, c_source
from sparl.export.policy import Policy
from sparl.export.recording import record
from sparl.export.task import describe
from sparl.methods import method_label
from sparl.networks.mlp import Array
from sparl.training.about import environment_importable, warn_if_behind
from sparl.training.agent_file import load_agent
from sparl.training.environment import make_environment
from sparl.training.evaluate import Evaluation, Evaluator
from sparl.training.folder import Folder
from sparl.training.run_folder import AGENT, RunFolder
from sparl.training.tasks import notes_of


@dataclass(frozen=True)
class ExportOptions:
    """Write a trained policy for machines without sparl.

    What is written is checked first, on observations of the first evaluation episodes; an export
    that gives other actions is refused.
    """

    run: RunPath
    """Folder of the run."""
    format: Literal["c", "onnx", "npz"]
    """c: NAME.h and NAME.c, C99 for small devices; onnx: NAME.onnx (needs sparl[onnx]); npz:
    NAME.npz, plain arrays."""
    out: Path | None = None
    """Folder for the files; None: export/ in the run's."""
    name: str = "policy"
    """Name of the files, and prefix of all C names."""
    int8: bool = False
    """C: weights in 8 bits, scaled per row; what that costs in return is measured and printed."""
    tanh: Tanh = "tanhf"
    """C: the maths library's, or a built-in one that needs no library."""


MEAN_TOLERANCE = 1e-6  # root mean square
Files = dict[str, bytes]


def export(args: list[str]) -> int:
    """`sparl export`."""
    options = parse_options(ExportOptions, args, "sparl export")
    if not re.fullmatch("[A-Za-z][A-Za-z0-9_]*", options.name):
        raise UsageError(f"export: --name {options.name!r} must be a C identifier")
    folder = RunFolder.open(options.run)
    config = folder.config()
    agent = load_agent(options.run)
    warn_if_behind(agent, options.run)
    policy = Policy.of(agent)
    task = _task(config, policy, folder)
    say = PlainConsole().print
    origin = (
        f"{method_label(config)} on {config.env}, seed {config.seed}, agent of step "
        f"{agent.env_step:,}"
    )
    if options.format != "c" and (options.int8 or options.tanh != "tanhf"):
        raise UsageError("export: --int8 and --tanh are choices of --format c alone")
    say(origin)
    if options.int8:
        exact, policy = policy, policy.quantised()
        before, after = _evaluate(config, exact), _evaluate(config, policy)
        say(
            f"8-bit weights: return {after.mean:,.3f} ± {after.std:,.3f}, "
            f"before {before.mean:,.3f} ± {before.std:,.3f}: {after.mean - before.mean:+,.3f} "
            f"({len(before.returns)} episodes)"
        )
    observations = record(config, policy)
    about = [
        f"Exported by sparl {version('sparl')}",
        f"Agent: {origin}",
        f"SHA-256 of its {AGENT}: {agent.manifest['file']['sha256']}",
        "",
        *task,
    ]
    files = _FORMATS[options.format](policy, observations, options, about)
    target = folder.files.at("export") if options.out is None else Folder(options.out)
    try:
        target.make()
    except OSError as error:
        raise UsageError(f"export: {target.path} cannot be made: {error.strerror}") from None
    for name, data in files.items():
        target.write(name, data)
        say(f"{target.path / name}: {len(data):,} bytes")
    return 0


def _c(policy: Policy, observations: Array, options: ExportOptions, about: list[str]) -> Files:
    vectors = observations[np.linspace(0, len(observations) - 1, VECTORS).astype(int)]
    how = f"Weights: {'8-bit' if options.int8 else 'float32'}; tanh: {options.tanh}"
    source = c_source(policy, options.name, vectors, options.tanh, [*about, "", how])
    compiler = c_check.compiler()
    if compiler is None:
        raise UsageError("export: the check of exported C needs a C compiler (cc, gcc or clang)")
    _check(policy, c_check.run(compiler, source, options.name, observations), observations)
    PlainConsole().print(
        f"constants {source.constant_bytes:,} bytes, activations {source.stack_bytes:,} bytes, "
        f"{policy.connections:,} multiply-adds of an action"
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
    """Compare what was exported with the policy, and say how near it is.

    Two float32 sums of a few hundred terms in different orders differ by up to some 5e-6 of an
    action's half range: each distance may be 1e-5, their root mean square 1e-6.

    Raises:
        DataError: it gives other actions.
    """
    distances = policy.distances(actions, observations)
    mean, largest = float(np.sqrt(np.square(distances).mean())), float(distances.max())
    if mean > MEAN_TOLERANCE or largest > TOLERANCE:
        raise DataError(
            f"export: the exported actions are {mean:.2g} (at most {largest:.2g}) of half their "
            f"range from sparl's, allowed {MEAN_TOLERANCE:g} ({TOLERANCE:g}); nothing was written"
        )
    PlainConsole().print(
        f"checked on {len(observations):,} observations: actions within {mean:.2g} of sparl's "
        f"(root mean square, of half their range; at most {largest:.2g})"
    )


def _task(config: Config, policy: Policy, folder: RunFolder) -> list[str]:
    """What is known of the environment, which must be the agent's.

    Raises:
        DataError: it has other sizes or cannot be made.
    """
    try:
        with environment_importable(folder, "export"):
            environment = make_environment(config)
    except UsageError as error:
        raise DataError(f"{folder.path}: {error}") from None
    known = describe(environment, policy)
    environment.close()
    if (environment.n_obs, environment.n_act) != (policy.n_obs, policy.n_act):
        raise DataError(
            f"{folder.path}: the agent takes {policy.n_obs} observations and gives {policy.n_act} "
            f"actions, {config.env} has {environment.n_obs} and {environment.n_act}"
        )
    return [*known, *notes_of(config.env, config.contact_forces)]


def _evaluate(config: Config, policy: Policy) -> Evaluation:
    evaluator = Evaluator(
        lambda: make_environment(config), config.evaluation_episodes, config.evaluation_seed
    )
    try:
        return evaluator.evaluate(policy)
    finally:
        evaluator.close()
