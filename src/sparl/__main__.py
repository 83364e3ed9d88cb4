"""The command `sparl`, and `python -m sparl`: Ctrl-C is heard while the command line is loaded."""

from __future__ import annotations

import sys

from sparl.training.interrupt import interrupt_held


def main() -> int:
    """Run a command and return its exit code."""
    try:
        with interrupt_held():
            from sparl import cli
        return cli.main()
    except KeyboardInterrupt:
        sys.stderr.write("sparl: interrupted\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
