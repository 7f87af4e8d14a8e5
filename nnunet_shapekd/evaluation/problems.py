"""Collecting all that is wrong before saying so once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def listed(problems: list[str]) -> Iterator[None]:
    """What goes wrong within, for reasons that the user can mend, joins the problems, a line each."""
    try:
        yield
    except (FileNotFoundError, ValueError) as error:
        problems += str(error).split("\n")


def out_of_range(*limits: tuple[str, float | None, float]) -> list[str]:
    """What is wrong with numbers, of which each has an option's name, a value and a least value; None is right."""
    return [
        f"{option}: expected {least} or more, got {value}"
        for option, value, least in limits
        if value is not None and not (math.isfinite(value) and value >= least)
    ]
