"""From checked 3D volumes of numbered patients to a dataset of nnU-Net's: what most sets share."""

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nnunet_shapekd.dataset_conversion import label_maps
from nnunet_shapekd.dataset_conversion.anatomy import Looking
from nnunet_shapekd.dataset_conversion.cases import Case, check_cases, label_gaps, name_problems
from nnunet_shapekd.dataset_conversion.downloads import NIFTI_ENDINGS, few, nifti_files
from nnunet_shapekd.dataset_conversion.folds import read_lists, splits_by_patient, splits_problems
from nnunet_shapekd.dataset_conversion.reading import Reading, repair_remark
from nnunet_shapekd.dataset_conversion.room import room_problems
from nnunet_shapekd.dataset_conversion.target import ConversionError, Target, check_target, listed, option
from nnunet_shapekd.dataset_conversion.twins import keep_together
from nnunet_shapekd.dataset_conversion.writing import SUBSETS, Dataset, write_cases
from nnunet_shapekd.files.walking import unused, walk

_LIST = "JSON list of patients' numbers {}; those in no list are left out"


@dataclass(frozen=True, kw_only=True)
class VolumeOptions(Reading):
    """Options of sets whose patients have numbers."""

    train: str | Path | None = option(
        "--train", metavar="JSON", help=_LIST.format("to train on, with --val instead of five folds")
    )
    val: str | Path | None = option("--val", metavar="JSON", help=_LIST.format("to validate on"))
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
    """A numbered patient of a download."""

    name: str  # with the number in it
    subset: str  # "Tr" or "Ts", as of all cases
    cases: list[Case]
    rows: list[dict[str, str]]  # of patients.csv, in which "subset" is filled in
    problems: tuple[str, ...] = ()  # of the files
    stratum: str = ""  # what the folds are balanced by

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

    def pairs(
        self,
        layout: str,
        pattern: re.Pattern[str],
        place: Callable[[re.Match[str], Path], tuple[str, int] | None],
        images: str = "images",
        unlabelled: Callable[[int, Path], str] | None = None,
    ) -> dict[int, tuple[Path, Path | None]]:
        """Image and label by number, of all NIfTI files below the root, as :meth:`pair`.

        Args:
            layout: in words.
            pattern: of file names.
            place: of a file: "image", "label" or else why it is left out, and its number; None where it lies wrongly.
            images: what they are called; there must be some.
            unlabelled: what one without a label is called, if it is left out.
        """
        kinds: dict[str, list[tuple[int, Path]]] = {"image": [], "label": []}
        for match, path in self.sort(nifti_files(self.root, layout), pattern, layout):
            if placed := place(match, path):
                kinds.setdefault(placed[0], []).append((placed[1], path))
            else:
                self.problems.append(f"{path}: expected to lie as in {layout}; move it there or away")
        pairs = self.pair(kinds.pop("image"), kinds.pop("label"))
        if not pairs:
            self.problems.append(f"{self.root}: no {images}; expected {layout}")
        if unlabelled:
            alone = {unlabelled(number, image): image for number, (image, label) in pairs.items() if label is None}
            self.leave_out(alone.values(), f"{images} have no label and were left out: {few([*alone])}.")
            pairs = {number: pair for number, pair in pairs.items() if pair[1]}
        for why, files in kinds.items():
            self.leave_out([path for _, path in files], why)
        return pairs

    def add(
        self,
        number: int,
        name: str,
        image: Path,
        label: Path | None,
        is_test: bool = False,
        patient: str | None = None,
        source: Path | None = None,
        **columns: str,
    ) -> None:
        """A patient of one case, of the same name unless one is given.

        Args:
            source: what patients.csv names; by default the image.
            columns: more of patients.csv, by which the folds are balanced.
        """
        subset, patient = "Ts" if is_test else "Tr", patient or name
        row = {"case": name, "patient": patient, "subset": "", **columns}
        row["source"] = (source or image).relative_to(self.root).as_posix()
        case = Case(name, image, label, subset)
        self.patients[number] = Patient(patient, subset, [case], [row], stratum=" ".join(columns.values()))


@dataclass(frozen=True, kw_only=True)
class VolumeSet:
    """A public set of volumes, as dataset.json tells of it.

    Attributes:
        name, dataset_id: by default.
        channel: nnU-Net's name of it, by which it normalises.
        labels: class -> value.
        label_map: value in the download -> value; by default they are the same.
        more: entries that follow the labels.
        title, reference, citation: of the set.
        terms: whose terms are the licence.
        plan_arguments: for the command to type next.
    """

    name: str
    dataset_id: int
    channel: str
    labels: Mapping[str, int]
    label_map: Mapping[int, int] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    title: str
    reference: str
    citation: str
    terms: str
    plan_arguments: str = " -c 2d"

    def description(self, name: str) -> dict[str, Any]:
        """dataset.json of the set by this name, but for what is not known before all cases are."""
        return {
            "channel_names": {"0": self.channel},
            "labels": self.labels,
            **self.more,
            "name": name,
            "description": self.title,
            "reference": self.reference,
            "citation": self.citation,
            "licence": f"see the terms of the {self.terms} download",
        }

    def convert(self, root: str | Path, options: VolumeOptions, find: Callable[[Path, Any], Found]) -> Path:
        """Converts what ``find(root, options)`` finds, as :func:`convert_volumes`."""
        target = check_target(options, self.name, self.dataset_id)
        label_map = self.label_map or {value: value for value in self.labels.values() if value}
        found, description = find(Path(root), options), self.description(target.name)
        return convert_volumes(found, target, options, label_map, description, self.plan_arguments)


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
    options.check()
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
    wrong, pixels = check_cases(cases, label_map, advice, target.processes, options, looking)
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
        found.remarks += repair_remark(write_cases(folder, cases, label_map, target.processes, options))

    return dataset.write(write)
