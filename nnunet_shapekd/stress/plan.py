"""What ``shapekd stress`` is going to do: everything that can be wrong is found before anything is predicted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from nnunet_shapekd.across.model import Model, read_models
from nnunet_shapekd.evaluation.judging import Judging
from nnunet_shapekd.evaluation.problems import listed, out_of_range
from nnunet_shapekd.files.whose import find_patients
from nnunet_shapekd.stress.cases import Subject, drawn, find_subjects, wrong_files
from nnunet_shapekd.stress.options import StressOptions
from nnunet_shapekd.stress.shifts import SEVERITIES, SHIFTS, UNSHIFTED
from nnunet_shapekd.stress.tables import is_marked

#: the oldest that fits
TORCHIO = (1, 2)


@dataclass(frozen=True)
class Plan:
    """What is shifted, predicted and judged.

    Attributes:
        models: name -> baselines, then the model.
        steps: shift and severity, the unshifted images first.
        subjects: the cases.
        folds: case -> the folds that predict it.
        inverted: label values of the structure to invert.
        schemes: the models' normalisations.
        remarks: what a reader must know.
        judging: of the predictions.
    """

    models: dict[str, Model]
    steps: list[tuple[str, int]]
    subjects: list[Subject]
    folds: dict[str, tuple[str, ...]]
    inverted: tuple[int, ...]
    schemes: list[str]
    remarks: list[str]
    judging: Judging

    @property
    def reader(self) -> str:
        """Of the models' plans, by its name."""
        return next(iter(self.models.values())).reader


def make_plan(model_folder: str | Path, images: Path, labels: Path, options: StressOptions) -> Plan:
    """Find the models and the cases, and check all there is to check.

    Raises:
        FileNotFoundError, ValueError: listing what is missing or does not fit together.
    """
    models = read_models(model_folder, options)
    model = list(models.values())[-1]
    known = model.labels
    by_name = known.classes | {str(values[0]): values for values in known.classes.values() if len(values) == 1}
    inverted = by_name.get(options.invert, ())
    steps, problems = plan_steps(options.shifts, options.severities, options.invert)
    if options.invert and not inverted:
        problems.append(f"--invert {options.invert}: no such class; there are {', '.join(known.classes)}")
    if wrong := [*out_of_range(("--cases", options.cases, 1), ("--seed", options.seed, 0)), *options.problems()]:
        problems += wrong
        options = replace(options, cases=None, seed=0)
    subjects, folds, remarks, not_judged, judging = [], {}, [], [], Judging()
    with listed(problems):
        judging = options.judging(leave_out=options.leave_out, patients=options.patients, chill=True)
    with listed(problems):
        not_judged = [name for name in known.classes if name not in known.without(options.leave_out).classes]
    with listed(problems):
        subjects, folds, remarks, found = find_subjects(images, labels, list(models.values()), options.all_cases)
        problems += found
    if subjects:
        names, beside = [one.case for one in subjects], [labels.resolve().parent]
        patients = find_patients(names, beside)
        with listed(problems):
            patients = find_patients(names, beside, options.patients, options.pattern)
        remarks += filter(None, [patients.unused, patients.remark()])
        subjects = drawn(subjects, patients, options)
        problems += wrong_files(subjects, labels, model, not_judged, patients, options)
    if problems:
        raise ValueError("".join(["nothing was predicted:", *(f"\n  - {problem}" for problem in problems)]))
    schemes = sorted({scheme for one in models.values() for scheme in one.normalization_schemes})
    if not is_marked(schemes):
        remarks.append(
            f"Not marked is what nnU-Net trains with: the models normalise with {', '.join(schemes)}, and sizes "
            "compare with training's only where each image's channels are brought to mean 0 and sd 1"
        )
    return Plan(models, steps, subjects, folds, inverted, schemes, remarks, judging)


def plan_steps(
    shifts: Sequence[str] | None, severities: Sequence[int] | None, invert: str | None
) -> tuple[list[tuple[str, int]], list[str]]:
    """Shift and severity of every step, the unshifted images first; and what is wrong with the arguments."""
    names = list(dict.fromkeys(SHIFTS if shifts is None else shifts))
    if shifts is None and not invert:
        names.remove("inversion")
    levels, problems = sorted(set(SEVERITIES[1:] if severities is None else severities)), []
    if unknown := [name for name in names if name not in SHIFTS]:
        problems.append(f"--shifts: expected some of {', '.join(SHIFTS)}, got {', '.join(unknown)}")
    if not levels or not set(levels) <= set(SEVERITIES[1:]):
        problems.append(f"--severities: expected some of 1 to {SEVERITIES[-1]}, got {', '.join(map(str, levels))}")
    if "inversion" in names and not invert:
        problems.append("--shifts inversion: name the class to invert with --invert")
    if invert and "inversion" not in names:
        problems.append(f"--invert {invert}: is for the shift inversion, which is not among --shifts")
    return [(UNSHIFTED, 0), *((name, level) for name in names for level in levels)], problems


def check_library() -> None:
    """Raises ValueError, with what to type, where TorchIO is not installed, or too old."""
    try:
        import torchio  # noqa: F401

        found = version("torchio")
        if tuple(map(int, re.findall(r"\d+", found)[:2])) < TORCHIO:
            raise ImportError(f"this is {found}")
    except ImportError as error:
        raise ValueError(f"shapekd stress needs TorchIO ({error}): pip install 'torchio>=1.2,<2'") from None
