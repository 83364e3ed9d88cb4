"""Words that go with numbers."""


def counted(number: int, one: str) -> str:
    """1 run, 2 runs."""
    return f"{number:,} {one}" if number == 1 else f"{number:,} {one}s"
