"""Entry point of the command `sparl` and of `python -m sparl`.

Loading the command line takes time and opens files. Therefore, before it is loaded, standard
streams are opened, the parent process is watched and Ctrl-C is handled.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
import time

from sparl.standard_streams import open_closed_streams
from sparl.training.interrupt import end_with_parent, interrupt_held

# Minimum address space of a process; with less, libraries abort the process without an exception.
_LEAST_ADDRESS_SPACE = 768 << 20
_THREADS_SECONDS = 5.0  # grace period for threads of an environment after a command


def main() -> int:
    """Run a command and return its exit code."""
    open_closed_streams()
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < _LEAST_ADDRESS_SPACE:
        return _out_of_memory(
            f"the address space is limited to {limit >> 20} MB (ulimit -v), but at least "
            f"{_LEAST_ADDRESS_SPACE >> 20} MB are needed"
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
    """Return the exit code; end the process instead if third-party threads would keep it alive."""
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
    """Write an error line and return the exit code."""
    sys.stderr.write(f"sparl: {text}\n")
    return 6


if __name__ == "__main__":
    sys.exit(main())
