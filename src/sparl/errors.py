"""Errors reported to the user. The command line prints each as one line and returns its code."""

from __future__ import annotations


class SparlError(Exception):
    """Base class. The message names the value, the rule and the remedy in one line."""

    exit_code = 1


class UsageError(SparlError, ValueError):
    """The configuration, the command line or an argument is invalid."""

    exit_code = 2


class UnknownEnvironment(UsageError):
    """No imported module has registered an environment's id with Gymnasium.

    Attributes:
        problem: the message without the remedy.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem}; {remedy}" if remedy else problem)
        self.problem = problem


class RunExists(UsageError):
    """The folder of a new run already contains a run."""


class DataError(SparlError):
    """A file of a run is missing, damaged or of another format."""

    exit_code = 3


class EnvironmentFault(SparlError):
    """The environment raised an exception or returned invalid values."""

    exit_code = 4


class Diverged(SparlError):
    """A loss or an action is not finite."""

    exit_code = 5


class ResourceError(SparlError):
    """There is not enough disk space or memory, or a file cannot be written."""

    exit_code = 6


class RunInUse(SparlError):
    """Another process is using the run folder."""

    exit_code = 7
