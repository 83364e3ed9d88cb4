"""Read the C sources of sparl_chip, and write the configuration header of a program."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from sparl.errors import DataError

HEADER, SOURCE, CONFIG = "sparl_chip.h", "sparl_chip.c", "sparl_chip_config.h"


def source(name: str) -> str:
    """Return the text of a file of the C library.

    Raises:
        DataError: if the installation lacks the file.
    """
    installed = Path(__file__).parent / "c" / name
    checkout = Path(__file__).parents[3] / "chip" / name
    for path in (installed, checkout):
        if path.exists():
            return path.read_text(encoding="ascii")
    raise DataError(f"{installed}: the file is missing; install sparl again")


def configuration_header(values: Mapping[str, object], about: list[str]) -> str:
    """Return the text of a configuration header.

    Args:
        values: values of the macros, by name without the prefix SPARL_CHIP_; floats are written as
            C floats.
        about: lines that describe the program, for a comment; printable ASCII without "*/".

    Raises:
        ValueError: if the library's header does not define a macro exactly once.
    """
    text = source(CONFIG)
    for name, value in values.items():
        shown = f"{value!r}f" if isinstance(value, float) else str(value)
        text, found = re.subn(rf"(#define SPARL_CHIP_{name}) [^\s/]+", rf"\g<1> {shown}", text)
        if found != 1:
            raise ValueError(f"{CONFIG} has {found} definitions of SPARL_CHIP_{name}")
    comment = "\n".join(f" * {line}".rstrip() for line in about)
    old = text[text.index(" * Copy this file") : text.index(" */\n")]
    return text.replace(old, f"{comment}\n").replace("These are 80 % sparse networks:", "Default:")
