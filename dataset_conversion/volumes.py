"""From checked 3D volumes of numbered patients to a dataset of nnU-Net's: what most sets share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnunet_shapekd.dataset_conversion import label_maps
from nnunet_shapekd.dataset_conversion.anatomy import Looking
from nnunet_shapekd.dataset_conversion.cases import check_cases, label_gaps, name_problems
from nnunet_shapekd.dataset_conversion.downloads import NIFTI_ENDINGS
from nnunet_shapekd.dataset_conversion.folds import read_lists, splits_by_patient, splits_problems
from nnunet_shapekd.dataset_conversion.found import Found
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
            raise ConversionError(f"the set's own fold has nobody to validate on; {found.advice}")
        splits = splits_by_patient(patients.values(), target.seed, val, advice=found.advice)
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
