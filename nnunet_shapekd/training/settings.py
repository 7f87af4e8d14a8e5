"""The few knobs of the distillation: where each comes from, its bounds, how it is recorded.

nnU-Net has no command-line hyper-parameters, so each knob is a class attribute of the student's trainer, which an
environment variable ``SHAPEKD_<NAME>`` overrides for one run.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from math import inf
from typing import Any

PREFIX = "SHAPEKD_"


@dataclass(frozen=True)
class Settings:
    """The values a student is trained with.

    Args:
        logit_weight: factor of the logit term, finite, at least 0.
        feature_weight: factor of the feature term, finite, at least 0.
        temperature: softens both networks' probabilities in the logit term, finite, above 0.
        balanced: whether every class gets the same share of a term, however few voxels it has.
        ramp: share of the epochs, 0 to 1, over which the weights grow linearly; 0 for full weights at once.
        teacher_path: a teacher's checkpoint, or a folder that holds one; ``None`` for the teacher that nnU-Net's own
            folders hold for this dataset, plans, configuration and fold.

    Raises:
        ValueError: naming the knob, its bounds and the value given.
    """

    logit_weight: float
    feature_weight: float
    temperature: float
    balanced: bool
    ramp: float
    teacher_path: str | None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            fits, bounds = _BOUNDS[name]
            if not fits(value):
                raise ValueError(f"{name} ({_variable(name)}) must be {bounds}; got {value!r}")


def _variable(name: str) -> str:
    """The environment variable that overrides a knob."""
    return PREFIX + name.upper()


def read_settings(trainer: object, environment: Mapping[str, str]) -> tuple[Settings, dict[str, str]]:
    """A trainer's settings: its attributes, overridden by ``SHAPEKD_*`` variables.

    Args:
        trainer: has an attribute for every field of :class:`Settings`.
        environment: usually ``os.environ``. An empty variable counts as not set.

    Returns:
        The settings, and for each knob that was overridden the variable's name.

    Raises:
        ValueError: for a value out of bounds or unreadable, and for a ``SHAPEKD_`` variable that is no knob: a typing
            error must not become a training with other settings than asked for.
    """
    variables = {_variable(name): name for name in _BOUNDS}
    for variable in environment:
        if variable.startswith(PREFIX) and variable not in variables:
            close = difflib.get_close_matches(variable, variables, 1)
            raise ValueError(
                f"{variable} is no setting of nnunet_shapekd{f'; did you mean {close[0]}?' if close else '.'} "
                f"There are {', '.join(variables)}. Unset the others."
            )
    values = {name: getattr(trainer, name) for name in _BOUNDS}
    if isinstance(values["teacher_path"], os.PathLike):
        values["teacher_path"] = os.fspath(values["teacher_path"])
    given = {variable: name for variable, name in variables.items() if environment.get(variable)}
    for variable, name in given.items():
        try:
            values[name] = _PARSERS[name](environment[variable].strip())
        except (ValueError, KeyError):
            raise ValueError(f"{variable} must be {_BOUNDS[name][1]}; got {environment[variable]!r}") from None
    return Settings(**values), {name: variable for variable, name in given.items()}


def different_settings(before: Mapping[str, Any], now: Settings) -> list[str]:
    """One line for each setting that differs from a run's record.

    Not for ``teacher_path``: the same teacher may have moved. Its weights are to be compared instead.
    """
    return [
        f"{name} ({_variable(name)}): {before.get(name, 'not recorded')} before, {value} now"
        for name, value in asdict(now).items()
        if name != "teacher_path" and (name not in before or before[name] != value)
    ]


def _number(fits: Callable[[float], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, (int, float)) and not isinstance(value, bool) and fits(value)


def _boolean(text: str) -> bool:
    return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[text.lower()]


_BOUNDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "logit_weight": (_number(lambda x: 0 <= x < inf), "a finite number of at least 0"),
    "feature_weight": (_number(lambda x: 0 <= x < inf), "a finite number of at least 0"),
    "temperature": (_number(lambda x: 0 < x < inf), "a finite number above 0"),
    "balanced": (lambda value: isinstance(value, bool), "true or false (1 or 0)"),
    "ramp": (_number(lambda x: 0 <= x <= 1), "a share of the epochs, 0 to 1"),
    "teacher_path": (lambda value: value is None or isinstance(value, str), "a path"),
}
_PARSERS: dict[str, Callable[[str], Any]] = {
    "logit_weight": float,
    "feature_weight": float,
    "temperature": float,
    "balanced": _boolean,
    "ramp": float,
    "teacher_path": str,
}
