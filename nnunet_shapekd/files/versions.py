"""Which release a version is of."""

import re


def release(version: str) -> tuple[int, ...]:
    """Major and minor number, (2, 9) of 2.9a1, to be compared with others."""
    return tuple(map(int, re.findall(r"\d+", version)[:2]))
