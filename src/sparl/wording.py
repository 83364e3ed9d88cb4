"""Words that go with numbers, words of a shell, and texts that are safe to show."""

import os
import re
import shlex

# C0 and C1 controls, line and paragraph separators, and what changes the direction of a text.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


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


def has_control_characters(text: str) -> bool:
    """Return whether a text holds characters that a terminal or an editor obeys."""
    return _CONTROL.search(text) is not None


def visible(text: str) -> str:
    """Return a text with every character that is not printable as an escape sequence.

    Line feeds are kept.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
