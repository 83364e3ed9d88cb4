"""Entry point of the command `sparl` and of `python -m sparl`.

Importing the command line takes time and opens files. Before importing it, this module therefore
opens standard streams that are closed, starts to watch the parent process and handles Ctrl-C.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
import time

from sparl.standard_streams import open_closed_streams
from sparl.training.interrupt import end_with_parent, interrupt_held

# Minimum address space of a process; with less, libraries abort it instead of raising an exception.
_LEAST_ADDRESS_SPACE = 768 << 20
_THREADS_SECONDS = 5.0  # maximum total time to wait, after a command, for third-party threads


def main() -> int:
    """Run a command and return its exit code."""
    open_closed_streams()
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < _LEAST_ADDRESS_SPACE:
        return _out_of_memory(
            f"the address space is limited to {limit >> 20} MiB (ulimit -v), but at least "
            f"{_LEAST_ADDRESS_SPACE >> 20} MiB are needed; raise the limit"
        )
    end_with_parent()
    try:
        with interrupt_held():
            from sparl import cli
        return _without_threads(cli.main())
    except MemoryError:
        return _out_of_memory("out of memory")
    except KeyboardInterrupt:
        sys.stderr.write("sparl: interrupted\n")
        return 130


def _without_threads(code: int) -> int:
    """Wait for third-party threads, and return the exit code; exit here if one keeps running."""
    end = time.monotonic() + _THREADS_SECONDS
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(max(end - time.monotonic(), 0))
            if thread.is_alive():
                sys.stderr.write(f"sparl: ended although thread {thread.name!r} is still running\n")
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
    return code


def _out_of_memory(text: str) -> int:
    """Print an error message and return the exit code for insufficient memory."""
    sys.stderr.write(f"sparl: {text}\n")
    return 6


if __name__ == "__main__":
    sys.exit(main())
