"""Format counts, exceptions, shell words and untrusted text for messages."""

import os
import re
import reprlib
import shlex
from collections.abc import Callable, Sequence


class _Short(reprlib.Repr):
    """Formats at most two levels of a value, eight entries each, and 80 characters per string."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 2
        self.maxtuple = self.maxlist = self.maxdict = 8
        self.maxstring = self.maxother = 80

    def repr_int(self, x: int, level: int) -> str:
        """Give the size of a long integer; Python does not convert over 4,300 digits to text."""
        return repr(x) if x.bit_length() <= 256 else f"an integer of {x.bit_length():,} bits"


_SHORT = _Short()


def shown(value: object) -> str:
    """Return the repr of a value as one line, shortened if it is long or deeply nested."""
    return re.sub(r"\s*\n\s*", " ", _SHORT.repr(value))


# C0 and C1 controls, line and paragraph separators, and characters that change text direction.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def bound(limit: float) -> str:
    """Return a limit of a range as text, for example "1024" or "1e+12"."""
    return f"{limit}" if isinstance(limit, int) else f"{limit:g}"


def counted(number: int, one: str) -> str:
    """Format a number with its noun: 1 run, 2 runs."""
    return f"{number:,} {one}" if number == 1 else f"{number:,} {one}s"


def text_of(error: BaseException) -> str:
    """Return an exception's message as one line; "" if it is empty or cannot be obtained."""
    try:
        return " ".join(str(error).split())
    except KeyboardInterrupt:
        raise
    except BaseException:  # the __str__ of third-party exceptions may raise anything
        return ""


def name_and_text(error: BaseException) -> str:
    """Return an exception's type and, if it has one, its message as one line."""
    try:
        name = str(type(error).__name__)
    except Exception:  # the class of a third-party exception may be faulty too
        name = "an exception"
    text = text_of(error)
    return f"{name}: {text}" if text else name


def first_few(names: Sequence[str], describe: Callable[[str], str], most: int = 5) -> list[str]:
    """Describe the first few names, and only count the others."""
    first = [describe(name) for name in names[:most]]
    return [*first, f"and {len(names) - most:,} more"] if len(names) > most else first


def shell_word(path: str | os.PathLike[str]) -> str:
    """Quote a path as one word for a shell, even if its bytes are not valid text."""
    text = os.fspath(path)
    if text.isprintable():
        return shlex.quote(text)
    escaped = (
        chr(byte) if 32 <= byte < 127 and byte not in b"'\\" else f"\\x{byte:02x}"
        for byte in os.fsencode(text)
    )
    return f"$'{''.join(escaped)}'"


def has_control_characters(text: str) -> bool:
    """Return whether a string contains characters that control terminals or text direction."""
    return _CONTROL.search(text) is not None


def visible(text: str) -> str:
    """Escape every character that is not printable, except line feeds."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
