"""The command `sparl`, and `python -m sparl`.

Standard streams are opened, the parent is watched and Ctrl-C is heard before the command line is
loaded, which takes a while and opens files.
"""

from __future__ import annotations

import sys

from sparl.standard_streams import open_closed_streams
from sparl.training.interrupt import end_with_parent, interrupt_held


def main() -> int:
    """Run a command and return its exit code."""
    open_closed_streams()
    end_with_parent()
    try:
        with interrupt_held():
            from sparl import cli
        return cli.main()
    except KeyboardInterrupt:
        sys.stderr.write("sparl: interrupted\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
