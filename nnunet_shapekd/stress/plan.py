"""What ``shapekd stress`` is going to do: everything that can be wrong is found before anything is predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from nnunet_shapekd.across.model import Model, read_models
from nnunet_shapekd.evaluation.judging import Judging
from nnunet_shapekd.evaluation.problems import listed, out_of_range
from nnunet_shapekd.files.versions import release
from nnunet_shapekd.files.whose import find_patients
from nnunet_shapekd.stress.cases import Changed, Subject, drawn, find_subjects, wrong_files
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
        changed: see :data:`~.cases.Changed`.
        schemes: the models' normalisations.
        remarks: what a reader must know.
        judging: of the predictions.
    """

    models: dict[str, Model]
    steps: list[tuple[str, int]]
    subjects: list[Subject]
    folds: dict[str, tuple[str, ...]]
    changed: Changed
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
    steps, problems = plan_steps(options)
    changed, unknown = changed_classes(known.classes, options)
    problems += unknown
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
    return Plan(models, steps, subjects, folds, changed, schemes, remarks, judging)


def plan_steps(options: StressOptions) -> tuple[list[tuple[str, int]], list[str]]:
    """Shift and severity of every step, the unshifted images first; and what is wrong with the arguments."""
    names = list(dict.fromkeys(SHIFTS if options.shifts is None else options.shifts))
    if options.shifts is None and not options.invert:
        names.remove("inversion")
    levels = sorted(set(SEVERITIES[1:] if options.severities is None else options.severities))
    problems = []
    if unknown := [name for name in names if name not in SHIFTS]:
        problems.append(f"--shifts: expected some of {', '.join(SHIFTS)}, got {', '.join(unknown)}")
    if not levels or not set(levels) <= set(SEVERITIES[1:]):
        problems.append(f"--severities: expected some of 1 to {SEVERITIES[-1]}, got {', '.join(map(str, levels))}")
    if "inversion" in names and not options.invert:
        problems.append("--shifts inversion: name the class to invert with --invert")
    for option, given in _named(options).items():
        of_option = [name for name, shift in SHIFTS.items() if shift.classes == option]
        if given and not set(of_option) & set(names):
            said = f"is for the shift {' or '.join(of_option)}, which is not among --shifts"
            problems.append(f"{option} {' '.join(given)}: {said}")
    return [(UNSHIFTED, 0), *((name, level) for name in names for level in levels)], problems


def changed_classes(
    known: Mapping[str, tuple[int, ...]], options: StressOptions
) -> tuple[dict[str, list[list[int]]], list[str]]:
    """The label values of the classes that each shift changes, see :data:`~.cases.Changed`; and what is wrong.

    Regions overlap and what is changed must not: values are one class where the same of the named classes hold them.

    Args:
        known: class, or region -> its label values.
        options: name some of them, by themselves or by a value; by default it is all.
    """
    by_name = known | {str(values[0]): values for values in known.values() if len(values) == 1}
    found, problems = {}, []
    for option, names in _named(options).items():
        if unknown := [name for name in names if name not in by_name]:
            problems.append(f"{option} {' '.join(unknown)}: no such class; there are {', '.join(known)}")
        named = [by_name[name] for name in names if name in by_name] or list(known.values())
        together: dict[tuple[bool, ...], list[int]] = {}
        for value in sorted(set().union(*named)):
            together.setdefault(tuple(value in values for values in named), []).append(value)
        found[option] = list(together.values())
    return {name: found[shift.classes] for name, shift in SHIFTS.items() if shift.classes}, problems


def _named(options: StressOptions) -> dict[str, Sequence[str]]:
    """Option -> the classes it names."""
    return {"--invert": [options.invert] if options.invert else [], "--classes": options.classes or []}


def check_library() -> None:
    """Raises ValueError, with what to type, where TorchIO is not installed, or too old."""
    try:
        import torchio  # noqa: F401

        found = version("torchio")
        if release(found) < TORCHIO:
            raise ImportError(f"this is {found}")
    except ImportError as error:
        raise ValueError(f"shapekd stress needs TorchIO ({error}): pip install 'torchio>=1.2,<2'") from None
