"""Words that go with numbers, what an exception says, and words of a shell."""

import os
import shlex


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
    text = text_of(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


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
