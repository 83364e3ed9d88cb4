"""What can go wrong for a user. Each is one line and an exit code; none shows a traceback."""

from __future__ import annotations


class SparlError(Exception):
    """What, where, the numbers, what to do; in one line."""

    exit_code = 1


class UsageError(SparlError, ValueError):
    """The configuration or the command line is wrong."""

    exit_code = 2


class UnknownEnvironment(UsageError):
    """Gymnasium does not know an environment's id in this process."""


class RunExists(UsageError):
    """A new run was asked for in a folder that holds one."""


class DataError(SparlError):
    """A file of a run is missing, damaged or not what it should be."""

    exit_code = 3


class EnvironmentFault(SparlError):
    """The environment raised, or returned what it must not."""

    exit_code = 4


class Diverged(SparlError):
    """A loss or an action is not finite."""

    exit_code = 5


class ResourceError(SparlError):
    """Disk or memory does not suffice."""

    exit_code = 6


class RunInUse(SparlError):
    """Another process works on the run folder."""

    exit_code = 7
