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
    except (ImportError, MemoryError) as error:  # no room for the command line itself
        text = " ".join(str(error).split())[:200] or "out of memory"
        sys.stderr.write(f"sparl: the command line cannot be loaded: {text}\n")
        return 6
    except KeyboardInterrupt:
        sys.stderr.write("sparl: interrupted\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
