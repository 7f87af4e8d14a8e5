"""From checked 3D volumes of numbered patients to a dataset of nnU-Net's: what most sets share."""

import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nnunet_shapekd.dataset_conversion import label_maps
from nnunet_shapekd.dataset_conversion.anatomy import Looking
from nnunet_shapekd.dataset_conversion.cases import Case, check_cases, label_gaps, name_problems
from nnunet_shapekd.dataset_conversion.downloads import NIFTI_ENDINGS, few
from nnunet_shapekd.dataset_conversion.folds import read_lists, splits_by_patient, splits_problems
from nnunet_shapekd.dataset_conversion.reading import reading_of, reading_option
from nnunet_shapekd.dataset_conversion.room import room_problems
from nnunet_shapekd.dataset_conversion.target import ConversionError, Options, Target, listed, option
from nnunet_shapekd.dataset_conversion.twins import keep_together
from nnunet_shapekd.dataset_conversion.writing import SUBSETS, Dataset, write_cases
from nnunet_shapekd.files.walking import unused, walk

_LIST = "JSON list of patients' numbers {}; those in no list are left out"


@dataclass(frozen=True, kw_only=True)
class VolumeOptions(Options):
    """Options of sets whose patients have numbers."""

    train: str | Path | None = option(
        "--train", metavar="JSON", help=_LIST.format("to train on, with --val instead of five folds")
    )
    val: str | Path | None = option("--val", metavar="JSON", help=_LIST.format("to validate on"))
    max_repair_deg: float = reading_option("max_repair_deg")
    label_header: str = reading_option("label_header")
    turn: str = reading_option("turn")
    test: str | Path | None = option("--test", metavar="JSON", help=_LIST.format("for imagesTs and labelsTs"))


@dataclass(frozen=True, kw_only=True)
class LabelOptions(VolumeOptions):
    """Options of sets whose labels may be brought to other values."""

    labels: str | None = option(
        "--labels", metavar="MAP", help="label values as SOURCE:TARGET,..., the target 0 drops one"
    )
    names: str | None = option(
        "--names", metavar="A,B,...", help="names of the classes 1, 2, ... (default: the set's own)"
    )

    def label_map(self, own: Mapping[int, int]) -> Mapping[int, int]:
        """The one asked for, else the set's own."""
        return own if self.labels is None else label_maps.parse_label_map(self.labels)


@dataclass(frozen=True)
class Patient:
    """A numbered patient of a download.

    Attributes:
        name: with the number in it.
        subset: "Tr" or "Ts", as of all cases.
        cases: that go into the dataset.
        rows: of patients.csv, in which "subset" is filled in.
        problems: what is wrong with the files.
        stratum: what the folds are balanced by.
    """

    name: str
    subset: str
    cases: list[Case]
    rows: list[dict[str, str]]
    problems: tuple[str, ...] = ()
    stratum: str = ""

    @property
    def files(self) -> list[Path]:
        """Images and labels."""
        return [file for case in self.cases for file in (case.image, case.label) if file is not None]

    def in_subset(self, subset: str) -> "Patient":
        """The same patient for another use."""
        return replace(self, subset=subset, cases=[replace(case, subset=subset) for case in self.cases])


@dataclass
class Found:
    """What a download holds: patients by number, what is wrong, what to say at the end, and the files left out."""

    root: Path
    patients: dict[int, Patient] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    left_out: list[Path] = field(default_factory=list)
    #: patients that validate in the set's own one fold; None is five folds
    validate: set[int] | None = None

    def leave_out(self, files: Collection[Path], why: str) -> None:
        """Files of the set's own that become no cases: one remark says how many they are, what and why."""
        self.left_out += files
        if files:
            self.remarks.append(f"{len(files)} {why}")

    def sort(self, files: Iterable[Path], pattern: re.Pattern[str], layout: str) -> list[tuple[re.Match[str], Path]]:
        """The files whose names match wholly; others become a problem."""
        matches = [(pattern.fullmatch(path.name), path) for path in files]
        if unknown := [path for match, path in matches if not match]:
            self.problems.append(f"{self.root}: expected names like {layout}; move away {few(unknown, self.root)}")
        return [(match, path) for match, path in matches if match]

    def pair(
        self, images: Iterable[tuple[int, Path]], labels: Iterable[tuple[int, Path]]
    ) -> dict[int, tuple[Path, Path | None]]:
        """Image and label by number; two files of one number, and labels without an image, become problems."""
        by_number: list[dict[int, Path]] = [{}, {}]
        for kind, files in zip(by_number, (images, labels), strict=True):
            for number, path in files:
                if os.path.realpath(kind.setdefault(number, path)) != os.path.realpath(path):
                    self.problems.append(f"{path}: the same case as {kind[number]}; remove one of the two")
        with_image, with_label = by_number
        for number in sorted(with_label.keys() - with_image.keys()):
            self.problems.append(f"{with_label[number]}: label without an image; restore the image from the download")
        return {number: (with_image[number], with_label.get(number)) for number in sorted(with_image)}

    def add(
        self, number: int, name: str, image: Path, label: Path | None, is_test: bool, patient: str | None = None
    ) -> None:
        """A patient of one case, of the same name unless one is given."""
        subset, patient = "Ts" if is_test else "Tr", patient or name
        row = {"case": name, "patient": patient, "subset": "", "source": image.relative_to(self.root).as_posix()}
        self.patients[number] = Patient(patient, subset, [Case(name, image, label, subset)], [row])


def convert_volumes(
    found: Found,
    target: Target,
    options: VolumeOptions,
    label_map: Mapping[int, int],
    description: Mapping[str, Any],
    plan_arguments: str = " -c 2d",
) -> Path:
    """Checks all cases and writes them; a whole dataset or nothing.

    Args:
        found: the patients; their cases say which are training cases where there are no lists.
        target: of :func:`~.target.check_target`.
        options: the lists, and whether the user could have mapped labels otherwise.
        label_map: source value -> target value.
        description: dataset.json but for the number of training cases and the ending.
        plan_arguments: for the command to type next.

    Returns:
        The new dataset's folder.

    Raises:
        ConversionError: listing all problems found; nothing was written.
    """
    reading = reading_of(options)
    lists = {"train": options.train, "val": options.val, "test": options.test}
    if (options.train is None) != (options.val is None) or (options.test and not options.train):
        raise ConversionError("--train and --val belong together, and --test needs both: give all of them or none")
    numbers, problems = read_lists(lists, found.patients)
    patients = found.patients
    if options.train is not None:
        subset_of = {n: "Ts" if role == "test" else "Tr" for role, given in numbers.items() for n in given}
        patients = {n: patient.in_subset(subset_of[n]) for n, patient in patients.items() if n in subset_of}
    cases = [case for patient in patients.values() for case in patient.cases]
    problems = found.problems + problems + [text for patient in patients.values() for text in patient.problems]
    there = walk(found.root)
    problems = list(dict.fromkeys(there.problems + problems))
    problems += name_problems(cases) + label_gaps(cases)
    splits, val = [], None
    with listed(problems):
        validate = found.validate if options.train is None else numbers.get("val", [])
        val = None if validate is None else [patients[n].name for n in validate if patients[n].subset == "Tr"]
        if val == []:
            raise ConversionError(
                "the set's own fold has nobody to validate on; give --train and --val, or other folds"
            )
        splits = splits_by_patient(patients.values(), target.seed, val)
    advice = "correct the file"
    if isinstance(options, LabelOptions):
        advice += (
            f", or say what it becomes, as in --labels {label_maps.show_label_map(label_map)},VALUE:0 (0 drops it)"
        )
    files = [file for patient in patients.values() for file in patient.files]
    if not problems and (full := room_problems(target.folder, files)):
        raise ConversionError(full)
    looking = Looking(label_map, description)
    wrong, pixels = check_cases(cases, label_map, advice, target.processes, reading, looking)
    problems += wrong
    if not problems:
        problems = looking.problems(found.root, isinstance(options, LabelOptions))
        whole = {patient.name: [pixels[case.name] for case in patient.cases] for patient in patients.values()}
        with listed(problems):
            splits, remarks = keep_together(patients.values(), whole, splits, val is None)
            found.remarks += remarks
            problems += splits_problems(splits, target.other_splits)
    if problems:
        raise ConversionError(problems)

    if n_left_out := len(found.patients) - len(patients):
        found.remarks.append(f"{n_left_out} patients are in no list and were left out.")
    used = {*found.left_out, *(file for patient in found.patients.values() for file in patient.files)}
    found.remarks += unused(there, used, NIFTI_ENDINGS)
    whose = [patient.name for patient in patients.values() for _ in patient.cases]
    dataset = Dataset(
        target,
        cases,
        {**description, "numTraining": None, "file_ending": ".nii.gz"},
        splits,
        [{**row, "subset": SUBSETS[patient.subset]} for patient in patients.values() for row in patient.rows],
        found.remarks,
        whose if len(cases) > len(patients) else None,
        plan_arguments=plan_arguments,
        lie=looking.lie,
    )

    def write(folder: Path) -> None:
        repaired = write_cases(folder, cases, label_map, target.processes, reading)
        if shown := [f"{name} ({angle:.3f})" for name, angle in repaired.items() if angle]:
            axes = "Headers without perpendicular axes, turned to the nearest rotation (degrees)"
            found.remarks.append(f"{axes}: {', '.join(shown)}")

    return dataset.write(write)
