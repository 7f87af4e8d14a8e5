"""What ``shapekd stress`` is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_shapekd.across.options import ModelOptions


@dataclass(frozen=True)
class StressOptions(ModelOptions):
    """Of :func:`~.stress.stress`.

    Attributes:
        shifts: names in ``SHIFTS``; by default all, inversion where ``invert`` says of what.
        severities: of 1 to 4, by default all; 0, the images themselves, is always there.
        invert: a class (or its value) whose contrast to its surroundings the shift "inversion" weakens and turns round.
        classes: the classes (or their values) that the shifts "class-contrast" and "class-spread" change; by default
            all.
        cases: take patients, drawn by the seed, until there are so many cases; the last patient is taken whole, too.
        all_cases: judge training cases, too, see :func:`~.cases.find_subjects`.
        seed: of the shifts' patterns and of the choice of cases.
        patients: see :func:`~nnunet_shapekd.evaluation.evaluate.evaluate_folders`.
    """

    shifts: Sequence[str] | None = None
    severities: Sequence[int] | None = None
    invert: str | None = None
    classes: Sequence[str] | None = None
    cases: int | None = None
    all_cases: bool = False
    seed: int = 0
    patients: str | Path | None = None
