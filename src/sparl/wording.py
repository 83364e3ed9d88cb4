"""Words that go with numbers or a shell, what an exception says, and texts safe to show."""

import os
import re
import reprlib
import shlex
from collections.abc import Callable, Sequence


class _Short(reprlib.Repr):
    """Representations of at most about 100 characters, whatever a value's size and depth."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 2
        self.maxtuple = self.maxlist = self.maxdict = 8
        self.maxstring = self.maxother = 80

    def repr_int(self, x: int, level: int) -> str:
        """An integer; Python itself refuses to print one of more than 4,300 digits."""
        return repr(x) if x.bit_length() <= 256 else f"an integer of {x.bit_length():,} bits"


_SHORT = _Short()


def shown(value: object) -> str:
    """Return the repr of a value from a file, cut short where it is long or deeply nested."""
    return _SHORT.repr(value)


# C0 and C1 controls, line and paragraph separators, and what changes the direction of a text.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def counted(number: int, one: str) -> str:
    """1 run, 2 runs."""
    return f"{number:,} {one}" if number == 1 else f"{number:,} {one}s"


def text_of(error: BaseException) -> str:
    """The message of an exception in one line; "" if it has none, or its __str__ raises."""
    try:
        return " ".join(str(error).split())
    except KeyboardInterrupt:
        raise
    except BaseException:  # an exception of somebody else's may be as faulty as their code
        return ""


def name_and_text(error: BaseException) -> str:
    """The type of an exception, and its message if there is one, in one line."""
    try:
        name = str(type(error).__name__)
    except Exception:  # of a class as faulty as its __str__ may be
        name = "an exception"
    text = text_of(error)
    return f"{name}: {text}" if text else name


def first_few(names: Sequence[str], describe: Callable[[str], str], most: int = 5) -> list[str]:
    """Describe the first names, and count the others: a file may hold any number of them."""
    told = [describe(name) for name in names[:most]]
    return [*told, f"and {len(names) - most:,} more"] if len(names) > most else told


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
