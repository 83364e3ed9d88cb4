"""Run the commands of the command line and print their results."""

from __future__ import annotations

import difflib
import errno
import itertools
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.table import Table

from sparl.arguments import (
    RunPath,
    check_threads,
    episodes_and_seed,
    named,
    parse_config,
    parse_options,
)
from sparl.console import PlainConsole, escape_unencodable_output
from sparl.errors import DataError, SparlError, UsageError
from sparl.spellings import canonical, split_values
from sparl.standard_streams import unfailing_streams
from sparl.training.durable import paths_start_here
from sparl.training.interrupt import interrupt_held
from sparl.user_modules import import_module_of, import_user_module
from sparl.wording import name_and_text

if TYPE_CHECKING:
    from sparl.training.run import Run

USAGE = """\
usage: sparl [--import MODULE] COMMAND [OPTIONS]        sparl COMMAND --help

  train      train an agent:   sparl train --method DS-TD3 --env HalfCheetah-v5 --seed 0
  resume     resume a run that was stopped or killed:   sparl resume RUN
  evaluate   repeat the evaluation of a trained agent:   sparl evaluate RUN
  play       watch a trained agent, or record it:   sparl play RUN --video FILE.mp4
  export     write a trained policy for machines without sparl:   sparl export RUN --format c
  info       describe this machine, or a run:   sparl info [RUN]
  methods    list the methods and their sources
  cost       count connections, bytes and FLOPs:   sparl cost --method DS-TD3 --env ID
  study      train the runs of one file:   sparl study run FILE | status FILE
  report     write tables and figures of finished runs:   sparl report runs
  archive    copy the small files of finished runs:   sparl archive RUN
  bench      measure the speed of this machine:   sparl bench --quick

options: --version, --debug (show tracebacks), --import MODULE (before the command; import a custom
         module that registers environments or rules; may be repeated)
exit codes: 0 success, 1 unexpected error, or a study's run failed, 2 usage, 3 data, 4 environment,
            5 diverged, 6 disk or memory, 7 run folder in use,
            129, 130 and 143 stopped by SIGHUP, Ctrl-C or SIGTERM after saving
"""

_LONGEST = 3000  # characters of an error message
_RESOURCES = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO,
    errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE,
)  # fmt: skip
_WORK = ("train", "resume", "study")  # commands whose results are files, not printed output


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    args = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in args
    args = [a for a in args if a != "--debug"]
    escape_unencodable_output()
    with paths_start_here(), unfailing_streams() as output:
        code = _exit_code_of(args, debug)
        output.flush()
        lost = output.lost
        if code or lost is None or isinstance(lost, BrokenPipeError) or _command(args) in _WORK:
            return code
        _print_error(f"cannot write to standard output: {getattr(lost, 'strerror', lost)}")
        return 6


def _exit_code_of(args: list[str], debug: bool) -> int:
    """Run a command; turn an exception into a one-line message and an exit code.

    Args:
        args: the command and its options.
        debug: whether exceptions propagate.
    """
    try:
        return _dispatch(args)
    except SparlError as error:
        if debug:
            raise
        _print_error(str(error))
        return error.exit_code
    except ImportError as error:  # a forced instruction set, or an optional package
        if debug:
            raise
        _print_error(str(error))
        return 2
    except KeyboardInterrupt:
        _print_error("interrupted")
        return 130
    except MemoryError:
        if debug:
            raise
        _print_error("out of memory; reduce --replay-capacity or --hidden")
        return 6
    except SystemExit:  # --help of a command
        raise
    except OSError as error:
        if debug or error.errno not in _RESOURCES:
            return _unexpected(error, debug)
        _print_error(name_and_text(error))
        return 6
    except BaseException as error:
        return _unexpected(error, debug)


def _unexpected(error: BaseException, debug: bool) -> int:
    """Report an error that no other handler expects.

    Args:
        error: the exception.
        debug: whether to raise the exception instead.
    """
    if debug:
        raise error
    _print_error(f"unexpected error: {name_and_text(error)} (use --debug to show the traceback)")
    return 1


def _dispatch(args: list[str]) -> int:
    commands: dict[str, Callable[[list[str]], int]] = {
        "train": train,
        "resume": resume,
        "evaluate": evaluate,
        "play": play,
        "export": export,
        "info": info,
        "methods": methods,
        "cost": cost,
        "study": study,
        "report": report,
        "archive": archive,
        "bench": bench,
    }
    args = _import_user_modules(args)
    if not args or args[0] in ("-h", "--help", "help"):
        _say(USAGE.rstrip())
        return 0 if args else 2
    if args[0] == "--version":
        from importlib.metadata import version

        _say(f"sparl {version('sparl')}")
        return 0
    if args[0] not in commands:
        near = difflib.get_close_matches(args[0], commands, n=1)
        hint = f"did you mean {near[0]}?" if near else f"commands: {', '.join(commands)}"
        raise UsageError(f"unknown command '{args[0]}'; {hint}")
    return commands[args[0]](args[1:])


def _command(args: Sequence[str]) -> str:
    """Return the command, which is the word after all --import flags; "" if there is none."""
    words = iter(args)
    for word in words:
        if word == "--import":
            next(words, None)
        elif not word.startswith("--import="):
            return word
    return ""


def _import_user_modules(args: list[str]) -> list[str]:
    """Import the modules named by `--import MODULE` and `--env MODULE:ID`.

    Returns:
        The command and its options.

    Raises:
        UsageError: if a module cannot be imported or the name of a module is missing.
    """
    while args and args[0].partition("=")[0] == "--import":
        _, equals, name = args[0].partition("=")
        words = ([name] if equals else []) + args[1:]
        if not words or not words[0] or words[0].startswith("--"):
            raise UsageError(
                "--import requires the name of a module: sparl --import MODULE COMMAND"
            )
        with interrupt_held():
            import_user_module(words[0])
        args = words[1:]
    for flag, value in itertools.pairwise(split_values(args)):
        if canonical(flag) == "--env":
            with interrupt_held():
                import_module_of(value)
    return args


# ------------------------------------------------------------------ commands


def train(args: list[str]) -> int:
    """Run `sparl train`."""
    config = parse_config(args, "sparl train")
    with interrupt_held():
        from sparl.training.start import train as run

    return _exit_code(run(config))


@dataclass(frozen=True)
class ResumeOptions:
    """Resume a run from its last checkpoint, with the same result as an uninterrupted run."""

    run: RunPath
    """Folder of the run."""
    steps: int | None = None
    """Extend the run to this total [environment steps]; only for runs that kept their checkpoint
    and whose topology and n-step targets do not change over time."""
    stop_at: int | None = None
    """Stop at this step [environment steps]; by default unchanged."""
    threads: int | None = None
    """Maximum number of threads, which does not affect results; by default unchanged."""
    checkpoint_every_env_steps: int | None = None
    """Steps between checkpoints [environment steps]; by default unchanged."""
    keep_checkpoint: Annotated[bool, tyro.conf.arg(help_behavior_hint="(default: unchanged)")] = (
        False
    )
    """Keep the last checkpoint, so that the finished run can be extended; --no-keep-checkpoint
    deletes it."""
    tensorboard: Annotated[bool, tyro.conf.arg(help_behavior_hint="(default: unchanged)")] = False
    """Write event files for TensorBoard from now on; --no-tensorboard stops writing them."""


def resume(args: list[str]) -> int:
    """Run `sparl resume`."""
    options: dict[str, Any] = asdict(parse_options(ResumeOptions, args, "sparl resume"))
    with interrupt_held():
        from sparl.training.start import resume as run

    path = options.pop("run")
    check_threads(options["threads"])
    given = named(args)  # the other fields keep their values
    changes = {k: v for k, v in options.items() if k in given and v is not None}
    return _exit_code(run(path, **changes))


def _exit_code(run: Run) -> int:
    return 0 if run.stopped_by is None else 128 + run.stopped_by


@dataclass(frozen=True)
class EvaluateOptions:
    """Repeat a trained agent's evaluation episodes, without noise."""

    run: RunPath
    """Folder of the run."""
    episodes: int | None = None
    """Number of episodes; by default the number used in training."""
    seed: int | None = None
    """Evaluation seed; by default the seed used in training, which gives the same returns."""
    json: bool = False
    """Print JSON."""


def evaluate(args: list[str]) -> int:
    """Run `sparl evaluate`."""
    options = parse_options(EvaluateOptions, args, "sparl evaluate")
    from sparl.labels import method_label
    from sparl.training.about import environment_importable, warn_if_outdated
    from sparl.training.agent_file import load_agent
    from sparl.training.environment import make_environment
    from sparl.training.evaluate import Evaluator
    from sparl.training.run_folder import RunFolder

    folder = RunFolder.open(options.run)
    config = folder.config()
    agent = load_agent(options.run)
    warn_if_outdated(agent, options.run)
    try:
        with environment_importable(folder, "evaluate"):
            environment = make_environment(config)
    except UsageError as error:
        raise DataError(f"{options.run}: {error}") from None
    environment.close()
    if (environment.n_obs, environment.n_act) != (agent.n_obs, agent.n_act):
        raise UsageError(
            f"{options.run}: the agent has {agent.n_obs} observations and {agent.n_act} actions, "
            f"but {config.env} has {environment.n_obs} and {environment.n_act}; use the version of "
            "the environment in which the agent was trained"
        )
    episodes, seed = episodes_and_seed(config, options.episodes, options.seed)
    evaluator = Evaluator(lambda: make_environment(config), episodes, seed)
    try:
        result = evaluator.evaluate(agent.policy)
    finally:
        evaluator.close()
    if options.json:
        _say_json(
            {"env_step": agent.env_step, "mean": result.mean, "std": result.std,
             "returns": result.returns, "lengths": result.lengths}
        )  # fmt: skip
        return 0
    for i, (total, length) in enumerate(zip(result.returns, result.lengths, strict=True)):
        _say(f"episode {i}: return {total:,.3f}, {length} steps")
    _say(
        f"{method_label(config)} on {config.env}, agent saved at step {agent.env_step:,}: "
        f"{result.mean:,.3f} ± {result.std:,.3f}"
    )
    return 0


@dataclass(frozen=True)
class InfoOptions:
    """Describe this machine and the resources that sparl uses, or describe a run."""

    run: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[RUN]")] = None
    """Folder of a run."""
    json: bool = False
    """Print JSON."""


def info(args: list[str]) -> int:
    """Run `sparl info`."""
    options = parse_options(InfoOptions, args, "sparl info")
    content: dict[str, Any]
    if options.run is None:
        from sparl import _native
        from sparl.training.machine import machine, versions

        content = {"machine": machine(), "versions": versions()}
        content["instruction_sets"] = _native.available_isas()
    else:
        from sparl.training.about import about_run

        content = about_run(options.run)
    if options.json:
        _say_json(content)
        return 0
    for name, value in content.items():
        if isinstance(value, dict):
            value = [f"{k} {_rounded(v)}" for k, v in value.items() if v not in ([], "")]
        text = ", ".join(map(_rounded, value if isinstance(value, list) else [value]))
        _say(f"{name.replace('_', ' ')}: {text}".replace("\n", "\\n"))
    return 0


def _rounded(value: Any) -> str:
    return f"{value:,.3f}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class MethodsOptions:
    """List the methods that can be trained."""

    json: bool = False
    """Print JSON."""


def methods(args: list[str]) -> int:
    """Run `sparl methods`."""
    options = parse_options(MethodsOptions, args, "sparl methods")
    from sparl.methods import METHODS, TASKS, preset

    def defaults(name: str) -> dict[str, dict[str, Any]]:
        fields = ("lambda_1", "lambda_2", "actor_sparsity", "critic_sparsity")
        tasks = [t for t in TASKS if t != "Humanoid" or METHODS[name].family.settings == "ds"]
        of_task = {task: preset(name, f"{task}-v3").as_dict() for task in tasks}
        return {t: {f: values[f] for f in fields if f in values} for t, values in of_task.items()}

    if options.json:
        _say_json(
            {
                name: {
                    "summary": method.family.summary, "source": method.source,
                    "settings": method.family.settings, "fields": dict(method.family.fields),
                    "aliases": method.aliases, "environments": defaults(name),
                }
                for name, method in METHODS.items()
            }
        )  # fmt: skip
        return 0
    for name, method in METHODS.items():
        family = method.family
        also = f", also {', '.join(method.aliases)}" if method.aliases else ""
        _say(f"{name:<11} {family.summary} [{method.source}; {family.settings} settings{also}]")
        texts = [
            f"{task} {' / '.join(f'{v:g}' for v in values.values())}"
            for task, values in defaults(name).items()
            if values
        ]
        if texts:
            ds = family.settings == "ds"
            kind = "lambda_1 / lambda_2" if ds else "actor / critic sparsity"
            _say(f"{'':<11} {kind}: {', '.join(texts)}")
    _say("To list every field with its default: sparl train --method NAME --env ID --help")
    return 0


def cost(args: list[str]) -> int:
    """Run `sparl cost`."""
    as_json = "--json" in args
    config = parse_config([a for a in args if a != "--json"], "sparl cost")
    from sparl.cost import cost as cost_of
    from sparl.labels import method_label
    from sparl.training.environment import Environment

    environment = Environment(config.env, config.max_episode_steps, config.contact_forces)
    result = cost_of(config, environment.n_obs, environment.n_act)
    if as_json:
        _say_json(result)
        return 0
    table = Table(box=None, pad_edge=False)
    table.add_column("network")
    for column in ("copies", "layer", "inputs", "outputs", "connections", "density"):
        table.add_column(column, justify="right")
    for name, network in result["networks"].items():
        for index, layer in enumerate(network["layers"]):
            n_in, n_out, count = layer["inputs"], layer["outputs"], layer["connections"]
            table.add_row(
                *([name, str(network["copies"])] if index == 0 else ["", ""]), str(index + 1),
                f"{n_in:,}", f"{n_out:,}", f"{count:,}", f"{count / (n_in * n_out):.4f}",
            )  # fmt: skip
    _say(f"{method_label(config)} on {config.env}")
    PlainConsole().print(table)
    now, full = result["connections"], result["dense_connections"]
    _say(f"connections: {now:,} of {full:,} ({now / full:.4f})")
    _say(f"size with targets: {result['size_ratio_with_targets']:.4f} of dense")
    _say(f"FLOPs per action: {result['inference_flops_ratio']:.4f} of dense")
    parts = ", ".join(f"{name} {count:,}" for name, count in result["bytes"].items())
    _say(f"bytes: {parts}")
    titles = {"paper": "paper's convention", "counted": "every multiply-add"}
    for name, title in titles.items():
        flops = result["flops"][name]
        if flops is None:
            continue
        _say(
            f"FLOPs of {result['updates']:,} updates, {title}: {flops['sparse']:.3g} "
            f"of {flops['dense']:.3g} dense ({flops['ratio']:.4f})"
        )
    if "published" in result:
        size, train_flops, test_flops = result["published"].values()
        _say(
            f"printed in the paper: size {size:.3f}, training FLOPs {train_flops:.3f} (the paper "
            f"gives no formula, so sparl counts differently), FLOPs per action {test_flops:.3f}"
        )
    return 0


def study(args: list[str]) -> int:
    """Run `sparl study`."""
    from sparl.studies.command import study as run

    return run(args)


def report(args: list[str]) -> int:
    """Run `sparl report`."""
    from sparl.report.command import report as run

    return run(args)


def archive(args: list[str]) -> int:
    """Run `sparl archive`."""
    from sparl.report.command import archive as run

    return run(args)


def bench(args: list[str]) -> int:
    """Run `sparl bench`."""
    # These variables limit NumPy to one core; its libraries read them when they are loaded.
    for library in ("OPENBLAS", "MKL", "OMP"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    from sparl.bench.command import bench as run

    return run(args)


def play(args: list[str]) -> int:
    """Run `sparl play`."""
    from sparl.play.command import play as run

    return run(args)


def export(args: list[str]) -> int:
    """Run `sparl export`."""
    from sparl.export.command import export as run

    return run(args)


# ------------------------------------------------------------------ printing


def _say(text: str) -> None:
    PlainConsole().print(text)


def _say_json(content: Any) -> None:
    _say(json.dumps(content, indent=2))


def _print_error(text: str) -> None:
    """Print an error as one line; parts of it may come from files and environments."""
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST - 300]} ... {text[-300:]}"
    text = text.replace("\n", "\\n")
    PlainConsole(stderr=True).print(f"sparl: {text}")


if __name__ == "__main__":
    sys.exit(main())
