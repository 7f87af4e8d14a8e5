"""The knobs of a trainer: where each comes from, its bounds, how it is recorded and compared.

nnU-Net has no command-line hyper-parameters, so each knob is a class attribute of a trainer, which an environment
variable ``SHAPEKD_<NAME>`` overrides for one run. A mixin names its own in ``known_settings``.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

PREFIX = "SHAPEKD_"


@dataclass(frozen=True)
class Setting:
    """What a knob may be.

    Attributes:
        bounds: in words, for error messages.
        fits: whether a value is within them.
        parse: the value of an environment variable's text; raises ValueError or KeyError.
        default: where the trainer has no attribute of that name.
    """

    bounds: str
    fits: Callable[[Any], bool]
    parse: Callable[[str], Any] = float
    default: Any = 0.0


def number(bounds: str, fits: Callable[[float], bool]) -> Setting:
    """A knob that is a number within bounds."""
    return Setting(bounds, lambda x: isinstance(x, (int, float)) and not isinstance(x, bool) and fits(x))


WEIGHT = number("a finite number of at least 0", lambda x: 0 <= x < inf)
ABOVE_0 = number("a finite number above 0", lambda x: 0 < x < inf)
SHARE = number("a share, 0 to 1", lambda x: 0 <= x <= 1)
SWITCH = Setting(
    "true or false (1 or 0)",
    lambda x: isinstance(x, bool),
    lambda text: {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[text.lower()],
)
PATH = Setting("a path", lambda x: x is None or isinstance(x, str), str, None)


def variable(name: str) -> str:
    """The environment variable that overrides a knob."""
    return PREFIX + name.upper()


def read_settings(trainer: Any, environment: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """A trainer's settings: its attributes, overridden by ``SHAPEKD_*`` variables.

    Args:
        trainer: a trainer of this package or its class; its ``known_settings()`` names the knobs.
        environment: usually ``os.environ``. An empty variable counts as not set.

    Returns:
        Name -> value of all knobs, and of those that were overridden name -> variable.

    Raises:
        ValueError: for a value out of bounds or unreadable, and for a ``SHAPEKD_`` variable that is no knob: a typing
            error must not become a training with other settings than asked for.
    """
    known: dict[str, Setting] = trainer.known_settings()
    if not known:  # a teacher's: the variables are for its student, trained by the same command
        return {}, {}
    variables = {variable(name): name for name in known}
    for given, text in environment.items():
        if text and given.startswith(PREFIX) and given not in variables:
            close = difflib.get_close_matches(given, variables, 1)
            kind = (trainer if isinstance(trainer, type) else type(trainer)).__name__
            raise ValueError(
                f"{given} is no setting of {kind}{f'; did you mean {close[0]}?' if close else '.'} "
                f"There are {', '.join(variables)}. Unset the others."
            )
    values, overridden = {}, {}
    for name, setting in known.items():
        value = getattr(trainer, name, setting.default)
        values[name] = os.fspath(value) if isinstance(value, os.PathLike) else value
        if text := environment.get(variable(name)):
            overridden[name] = variable(name)
            try:
                values[name] = setting.parse(text.strip())
            except (ValueError, KeyError):
                raise ValueError(f"{variable(name)} must be {setting.bounds}; got {text!r}") from None
        if not setting.fits(values[name]):
            raise ValueError(f"{name} ({variable(name)}) must be {setting.bounds}; got {values[name]!r}")
    return values, overridden


def different_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One line for each setting that differs from a run's record.

    Not for ``teacher_path``: the same teacher may have moved. Its weights are to be compared instead.
    """
    missing = object()
    return [
        f"{name} ({variable(name)}): {before.get(name, 'not recorded')} before, {now.get(name, 'no such setting')} now"
        for name in {**now, **before}
        if name != "teacher_path" and before.get(name, missing) != now.get(name, missing)
    ]
