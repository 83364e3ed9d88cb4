"""Errors that are reported to the user: the command line prints one line and sets its exit code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class SparlError(Exception):
    """Base class of these errors. A message is one line: the value, the rule and the remedy."""

    exit_code = 1


class UsageError(SparlError, ValueError):
    """The configuration, the command line, an argument or a custom rule is invalid."""

    exit_code = 2


class UnknownEnvironment(UsageError):
    """No imported module has registered the id of an environment with Gymnasium.

    Attributes:
        problem: the message without the remedy.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem}; {remedy}" if remedy else problem)
        self.problem = problem


class RunExists(UsageError):
    """The folder of a new run already contains a run."""


class DataError(SparlError):
    """One of a run's files is missing or damaged, or has an unsupported format."""

    exit_code = 3


class EnvironmentFault(SparlError):
    """The environment raised an exception or returned invalid values."""

    exit_code = 4


class Diverged(SparlError):
    """A loss, an action or a weight is not finite."""

    exit_code = 5


class ResourceError(SparlError):
    """There is not enough disk space or memory, or a file cannot be written."""

    exit_code = 6


class RunInUse(SparlError):
    """Another process is using the run folder, or the folder was replaced during training."""

    exit_code = 7


# Exceptions that code may raise when it uses the content of a damaged file.
DAMAGE_ERRORS = (
    AttributeError, IndexError, KeyError, OverflowError, RecursionError, TypeError, ValueError,
)  # fmt: skip


@contextmanager
def damage_reported(problem: str) -> Iterator[None]:
    """Raise DataError instead of any exception listed in DAMAGE_ERRORS.

    Args:
        problem: the beginning of the message: the file's path, and what cannot be done with it.

    Raises:
        DataError: if the block raises one of DAMAGE_ERRORS.
    """
    try:
        yield
    except DAMAGE_ERRORS as error:
        raise DataError(f"{problem} ({type(error).__name__}: {error})") from None
