"""Words that go with numbers, and words of a shell."""

import os
import shlex


def counted(number: int, one: str) -> str:
    """1 run, 2 runs."""
    return f"{number:,} {one}" if number == 1 else f"{number:,} {one}s"


def shell_word(path: str | os.PathLike[str]) -> str:
    """A path as one word of a shell's command line, whatever bytes it holds."""
    text = os.fspath(path)
    if text.isprintable():
        return shlex.quote(text)
    escaped = (
        chr(byte) if 32 <= byte < 127 and byte not in b"'\\" else f"\\x{byte:02x}"
        for byte in os.fsencode(text)
    )
    return f"$'{''.join(escaped)}'"
