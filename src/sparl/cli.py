"""Run a command, and report any error as a one-line message and an exit code."""

from __future__ import annotations

import difflib
import errno
import itertools
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from sparl.console import PlainConsole, escape_unencodable_output
from sparl.errors import SparlError, UsageError
from sparl.spellings import canonical, split_values
from sparl.standard_streams import unfailing_streams
from sparl.training.durable import paths_start_here
from sparl.training.interrupt import interrupt_held
from sparl.user_modules import import_module_of, import_user_module
from sparl.wording import name_and_text, shown

COMMANDS = {
    "train": "train an agent, with one seed or several",
    "resume": "resume a run that was stopped or killed, or extend one",
    "evaluate": "repeat the evaluation of a trained agent",
    "play": "watch a trained agent, or record it",
    "export": "write a trained policy for use without sparl",
    "chip": "convert the state of a device to an agent",
    "info": "describe this machine, or a run",
    "methods": "list the methods, or describe one and its papers",
    "cost": "count connections, bytes and FLOPs",
    "study": "train all runs that a file lists, or show their progress",
    "report": "write tables and figures about finished runs",
    "archive": "copy the small files of finished runs",
    "bench": "measure the speed of sparl on this machine",
}
_OPTIONS = {
    "--version": "print the version",
    "--debug": "show tracebacks",
    "--import MODULE": "import your own module, which registers environments or rules; place this "
    "option before the command; it may be repeated",
}
_EXIT_CODES = {
    "0": "success",
    "1": "unexpected error, or one of a study's runs failed",
    "2": "invalid usage or configuration",
    "3": "one of a run's files is missing or damaged",
    "4": "the environment failed",
    "5": "training diverged",
    "6": "not enough disk space or memory",
    "7": "the run's folder is in use",
    "129, 130, 143": "stopped by SIGHUP, Ctrl-C or SIGTERM; training saves first",
}

# The module that implements each command; it is imported only when the command is run.
MODULES = {
    "train": "sparl.commands.train",
    "resume": "sparl.commands.train",
    "evaluate": "sparl.commands.evaluate",
    "play": "sparl.play.command",
    "export": "sparl.export.command",
    "chip": "sparl.chip.command",
    "info": "sparl.commands.info",
    "methods": "sparl.commands.methods",
    "cost": "sparl.commands.cost",
    "study": "sparl.studies.command",
    "report": "sparl.report.command",
    "archive": "sparl.report.command",
    "bench": "sparl.bench.command",
}
_LONGEST = 3000  # maximum length of an error message [characters]
_RESOURCES = (  # errors that indicate a lack of resources, or a disk that cannot be written to
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO,
    errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE,
)  # fmt: skip
_WORK = ("train", "resume", "study")  # commands that train, for which lost output is not an error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        arguments: the command and its options; None means the arguments of this process.
    """
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
    """Run a command; convert any exception except SystemExit into a message and an exit code.

    Args:
        args: the command and its options.
        debug: whether to let exceptions other than KeyboardInterrupt propagate instead.
    """
    try:
        return _dispatch(args)
    except SparlError as error:
        if debug:
            raise
        _print_error(str(error))
        return error.exit_code
    except ImportError as error:  # an unsupported instruction set, or a missing optional package
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
        trains = _command(args) in ("train", "resume")
        _print_error("out of memory" + "; reduce --replay-capacity or --hidden" * trains)
        return 6
    except SystemExit as end:  # --help of a command
        if not isinstance(end.code, int | None):
            raise
        return end.code or 0
    except OSError as error:
        if debug or error.errno not in _RESOURCES:
            return _unexpected(error, debug)
        _print_error(name_and_text(error))
        return 6
    except BaseException as error:
        return _unexpected(error, debug)


def _unexpected(error: BaseException, debug: bool) -> int:
    """Print an error for which there is no more specific handler, and return the exit code.

    Args:
        error: the exception.
        debug: whether to raise the exception instead of printing it.
    """
    if debug:
        raise error
    _print_error(f"unexpected error: {name_and_text(error)} (use --debug to show the traceback)")
    return 1


def _dispatch(args: list[str]) -> int:
    args = _import_user_modules(args)
    if len(args) > 1 and args[0] == "help":  # sparl help COMMAND
        args = _with_help(args[1:])
    if not args or args[0] in ("-h", "--help", "help"):
        _print_usage()
        return 0 if args else 2
    if args[0] == "--version":
        if args[1:]:
            raise UsageError(f"--version: unexpected {shown(args[1])}")
        from importlib.metadata import version

        PlainConsole().print(f"sparl {version('sparl')}")
        return 0
    if args[0] not in MODULES:
        raise UsageError(_unknown(args[0]))
    return _function(args[0])(args[1:])


def _unknown(word: str) -> str:
    """Describe the error that the first word is neither a command nor an option of sparl."""
    if word.startswith("-"):
        options = ["--help", *(option.split()[0] for option in _OPTIONS)]
        near = difflib.get_close_matches(word, options, n=1, cutoff=0.7)
        hint = f"did you mean {near[0]}?" if near else "a command must precede its options"
        return f"unknown option '{word}'; {hint}"
    near = difflib.get_close_matches(word, MODULES, n=1)
    hint = f"did you mean {near[0]}?" if near else f"commands: {', '.join(MODULES)}"
    return f"unknown command '{word}'; {hint}"


def _print_usage() -> None:
    """Print the commands, the options and the exit codes."""
    from sparl.option_help import HelpLine
    from sparl.options import print_help_text

    groups = {
        title: [HelpLine(name, text) for name, text in texts.items()]
        for title, texts in (
            ("commands", COMMANDS), ("options", _OPTIONS), ("exit codes", _EXIT_CODES),
        )
    }  # fmt: skip
    print_help_text(
        "sparl [--import MODULE] COMMAND [OPTIONS]",
        "sparl help COMMAND describes a command, for example sparl help train.",
        groups,
    )


def _with_help(words: list[str]) -> list[str]:
    """Insert --help after a command, or after the subcommand of `study` or `chip`."""
    at = 2 if words[0] in ("study", "chip") and len(words) > 1 else 1
    return [*words[:at], "--help", *words[at:]]


def _function(command: str) -> Callable[[list[str]], int]:
    """Import and return the function that implements a command and has the command's name."""
    if command == "bench":
        # Limit NumPy to one core. Its libraries read these variables when they are loaded.
        for library in ("OPENBLAS", "MKL", "OMP"):
            os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    with interrupt_held():
        module = import_module(MODULES[command])
    function: Callable[[list[str]], int] = getattr(module, command)
    return function


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


def _print_error(text: str) -> None:
    """Print an error on one line; shorten a long text, and escape line feeds."""
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST - 300]} ... {text[-300:]}"
    text = text.replace("\n", "\\n")
    PlainConsole(stderr=True).print(f"sparl: {text}")


if __name__ == "__main__":
    sys.exit(main())
