"""ACDC (Bernard et al., IEEE TMI 37(11), 2018), cine cardiac MRI: the official download into nnU-Net's raw format.

Case, channel and label names are those of nnU-Net's own conversion (Dataset027_ACDC, nnunetv2 2.8.1), so that models of
either dataset fit the other. New are the checks, the folds stratified by pathology, the user's own split, test labels.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_shapekd.dataset_conversion import common
from nnunet_shapekd.dataset_conversion.common import Case, ConversionError
from nnunet_shapekd.files.output import new_folder
from nnunet_shapekd.files.patients import read_info

LABELS = {"background": 0, "RV": 1, "MLV": 2, "LVC": 3}
COLUMNS = ["patient", "subset", "group", "ed_frame", "es_frame", "n_frames", "height_cm", "weight_kg", "source_folder"]
LAYOUTS = "ROOT/training (and ROOT/testing), ROOT/database/training (and testing), or ROOT/patient001, ..."
_NIFTI = re.compile(r"(patient\d+)_(?:frame(\d{2,})(_gt)?|4d.*)\.nii(?:\.gz)?")


@dataclass
class Patient:
    """One patient's folder: `frames` maps the frame number to image and label, `info` holds Info.cfg's known keys."""

    name: str
    folder: Path
    subset: str  # "Tr" or "Ts"
    info: dict[str, str] = field(default_factory=dict)
    frames: dict[int, tuple[Path, Path | None]] = field(default_factory=dict)

    @property
    def cases(self) -> list[Case]:
        return [
            Case(f"{self.name}_frame{frame:02d}", image, label, self.subset)
            for frame, (image, label) in sorted(self.frames.items())
        ]


def find_patients(root: Path) -> tuple[dict[int, Patient], list[str]]:
    """Patients by number below ROOT, in the first of ROOT and ROOT/database that has any, and problems."""
    if not root.is_dir():
        raise ConversionError(f"{root}: no such folder; ROOT is the extracted ACDC download: {LAYOUTS}")
    patients: dict[int, Patient] = {}
    problems: list[str] = []
    for base in (root, root / "database"):
        for parent, subset in ((base / "training", "Tr"), (base / "testing", "Ts"), (base, "Tr")):
            for folder in sorted(parent.iterdir()) if parent.is_dir() else []:
                match = re.fullmatch(r"patient(\d+)", folder.name)
                if not match or not folder.is_dir():
                    continue
                twin = patients.setdefault(int(match[1]), Patient(folder.name, folder, subset))
                if twin.folder != folder:
                    problems.append(f"{folder}: the same patient as {twin.folder}; remove one of the two")
        if patients:
            return dict(sorted(patients.items())), problems
    found = ", ".join(sorted(path.name for path in root.iterdir())[:10]) or "nothing"
    raise ConversionError(f"{root}: no patient folders found. Accepted layouts: {LAYOUTS}. Found there: {found}")


def read_patient(patient: Patient) -> list[str]:
    """Fills in `info` and `frames` from the patient's folder; returns problems."""
    patient.info, problems = read_info(patient.folder / "Info.cfg")
    found: dict[tuple[int, bool], Path] = {}
    for path in sorted(patient.folder.iterdir()):
        if path.name.startswith(".") or not path.name.endswith((".nii", ".nii.gz")):
            continue
        match = _NIFTI.fullmatch(path.name)
        if not match or match[1] != patient.name:
            example = f"{patient.name}_frame01.nii.gz or {patient.name}_frame01_gt.nii.gz"
            problems.append(f"{path}: expected a name like {example}; rename it or move it away")
        elif match[2] is None:
            continue  # the 4D cine
        elif path.is_dir():
            problems.append(f"{path}: is a folder, not a file; move the file inside it to its place")
        elif (key := (int(match[2]), bool(match[3]))) in found:
            problems.append(f"{path}: the same frame as {found[key].name}; remove one of the two")
        else:
            found[key] = path
    patient.frames = {frame: (path, found.get((frame, True))) for (frame, is_gt), path in found.items() if not is_gt}
    for (frame, is_gt), path in found.items():
        if is_gt and frame not in patient.frames:
            problems.append(f"{path}: label without an image; restore the image from the download")
    return problems or _frame_problems(patient)


def _frame_problems(patient: Patient) -> list[str]:
    frames = ", ".join(f"{frame:02d}" for frame in sorted(patient.frames)) or "none"
    if not patient.info:
        if len(patient.frames) == 2:
            return []
        return [f"{patient.folder}: expected two frames (ED and ES) as there is no Info.cfg, got {frames}"]
    expected = {int(patient.info["ED"]), int(patient.info["ES"])}
    if expected == set(patient.frames):
        return []
    asked = f"ED {patient.info['ED']} and ES {patient.info['ES']}"
    return [f"{patient.folder}: Info.cfg says frames {asked}, got {frames}; restore the folder from the download"]


def _label_gaps(patients: Iterable[Patient]) -> list[str]:
    """Training cases need labels; test cases all have one or none has."""
    cases = [case for patient in patients for case in patient.cases]
    problems = [
        f"{case.image}: training image without a label ({case.name}_gt.nii.gz); restore it from the download"
        for case in cases
        if case.subset == "Tr" and case.label is None
    ]
    test = [case for case in cases if case.subset == "Ts"]
    unlabelled = [case for case in test if case.label is None]
    if len(unlabelled) < len(test):
        problems += [
            f"{case.image}: test image without a label, while {len(test) - len(unlabelled)} of {len(test)} test images "
            "have one; add it or remove all test labels"
            for case in unlabelled
        ]
    return problems


def make_splits(patients: Iterable[Patient], lists: dict[str, list[int]], seed: int) -> list[dict[str, list[str]]]:
    """The content of splits_final.json: the user's one fold, or five folds by patient, stratified by pathology."""
    training = {patient.name: patient for patient in patients if patient.subset == "Tr"}
    if lists:
        in_val = set(lists["val"])
        folds = [[name for name in training if int(name.removeprefix("patient")) in in_val]]
    else:
        group_of = {name: patient.info.get("Group", "") for name, patient in training.items()}
        folds = common.folds_by_patient(group_of, seed)

    def names(chosen: Iterable[str]) -> list[str]:
        return sorted(case.name for name in chosen for case in training[name].cases)

    return [{"train": names(set(training) - set(fold)), "val": names(fold)} for fold in folds]


def convert_acdc(
    root: str | Path,
    dataset_id: int = 27,
    name: str = "ACDC",
    *,
    train: str | Path | None = None,
    val: str | Path | None = None,
    test: str | Path | None = None,
    seed: int = 12345,
    processes: int | None = None,
    raw_folder: str | Path | None = None,
    preprocessed_folder: str | Path | None = None,
) -> Path:
    """Converts the ACDC download, after checking every case; writes a whole dataset or nothing.

    Args:
        root: The extracted download, in any of `LAYOUTS`.
        dataset_id: nnU-Net's dataset id, 1 to 999.
        name: What follows the id in the dataset's name.
        train: JSON list of patient numbers; with `val`, replaces the five folds by this one. Only listed patients are
            used then, wherever they lie.
        val: See `train`.
        test: JSON list of the patients for imagesTs and labelsTs; without lists these are those of ROOT/testing.
        seed: Shuffles the patients before they are dealt to folds.
        processes: Cases read at once; by default the available cores, eight at most.
        raw_folder: Instead of the environment variable nnUNet_raw.
        preprocessed_folder: Instead of nnUNet_preprocessed, where an other splits_final.json would win; may be unset.

    Returns:
        The new dataset's folder.

    Raises:
        ConversionError: listing all problems found; nothing was written.
    """
    root = Path(root)
    target = common.check_target(dataset_id, name, seed, processes, raw_folder, preprocessed_folder)
    if (train is None) != (val is None) or (test is not None and train is None):
        raise ConversionError("--train and --val belong together, and --test needs both: give all of them or none")

    by_number, problems = find_patients(root)
    lists, list_problems = common.read_lists({"train": train, "val": val, "test": test}, by_number)
    patients = list(by_number.values()) if train is None else _listed(by_number, lists)
    problems += list_problems
    for patient in patients:
        problems += read_patient(patient)
    problems += _label_gaps(patients)
    splits: list[dict[str, list[str]]] = []
    try:
        splits = make_splits(patients, lists, seed) if not list_problems else []
    except ConversionError as error:
        problems += error.problems
    if target.other_splits is not None and not problems:
        problems += common.splits_problems(splits, target.other_splits)
    cases = [case for patient in patients for case in patient.cases]
    problems += common.check_cases(cases, max(LABELS.values()), target.processes)
    if problems:
        raise ConversionError(problems)

    with new_folder(target.folder) as folder:
        common.write_cases(folder, cases, target.processes)
        common.write_json(folder / "dataset.json", _dataset_json(name, sum(case.subset == "Tr" for case in cases)))
        common.write_json(folder / "splits_final.json", splits)
        _write_patients(folder / "patients.csv", patients, root)
    _print_summary(target.folder, dataset_id, patients, len(splits), len(by_number) - len(patients))
    return target.folder


def _listed(by_number: dict[int, Patient], lists: dict[str, list[int]]) -> list[Patient]:
    """The listed patients only, each in its list's subset, wherever the download has it."""
    for role, numbers in lists.items():
        for number in numbers:
            by_number[number].subset = "Ts" if role == "test" else "Tr"
    listed = {number for numbers in lists.values() for number in numbers}
    return [patient for number, patient in by_number.items() if number in listed]


def _print_summary(folder: Path, dataset_id: int, patients: Sequence[Patient], n_folds: int, n_left_out: int) -> None:
    n_patients = {subset: sum(patient.subset == subset for patient in patients) for subset in ("Tr", "Ts")}
    n_cases = {key: sum(len(patient.cases) for patient in patients if patient.subset == key) for key in n_patients}
    folds = "fold 0" if n_folds == 1 else f"folds 0 to {n_folds - 1}"
    if n_left_out:
        print(f"{n_left_out} patients are in no list and were left out.")
    print(
        f"Wrote {folder}: {n_cases['Tr']} training cases of {n_patients['Tr']} patients, {n_cases['Ts']} test cases of "
        f"{n_patients['Ts']} patients, {n_folds} fold{'s' * (n_folds != 1)}.\n"
        f"Next: nnUNetv2_plan_and_preprocess -d {dataset_id} -c 2d\n"
        f"Train {folds} only: for any other number nnU-Net splits at random by case, not by patient."
    )


def _dataset_json(name: str, n_training: int) -> dict:
    return {
        "channel_names": {"0": "cineMRI"},
        "labels": LABELS,
        "numTraining": n_training,
        "file_ending": ".nii.gz",
        "name": name,
        "description": "Automated Cardiac Diagnosis Challenge, short-axis cine MRI, end diastole and end systole",
        "reference": "https://www.creatis.insa-lyon.fr/Challenge/acdc/",
        "citation": "Bernard et al., IEEE Transactions on Medical Imaging 37(11):2514-2525, 2018",
        "licence": "see the terms of the ACDC download",
        "converted_by": "nnunet_shapekd",
    }


def _write_patients(path: Path, patients: Sequence[Patient], root: Path) -> None:
    keys = ("Group", "ED", "ES", "NbFrame", "Height", "Weight")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for patient in patients:
            values = [patient.info.get(key, "") for key in keys]
            subset = "train" if patient.subset == "Tr" else "test"
            writer.writerow([patient.name, subset, *values, patient.folder.relative_to(root).as_posix()])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `shapekd convert acdc` and of `python -m nnunet_shapekd.dataset_conversion.acdc`."""
    parser.add_argument("root", metavar="ROOT", help=f"the extracted ACDC download: {LAYOUTS}")
    parser.add_argument("-d", "--dataset-id", type=int, default=27, help="nnU-Net dataset id (default: %(default)s)")
    parser.add_argument("--name", default="ACDC", help="dataset name after the id (default: %(default)s)")
    own = "JSON list of patient numbers {}; patients in no list are left out"
    parser.add_argument("--train", metavar="JSON", help=own.format("to train on, with --val instead of five folds"))
    parser.add_argument("--val", metavar="JSON", help=own.format("to validate on"))
    parser.add_argument("--test", metavar="JSON", help=own.format("for imagesTs and labelsTs"))
    parser.add_argument("--seed", type=int, default=12345, help="seed of the five folds (default: %(default)s)")
    parser.add_argument("--processes", type=int, help="cases read at once (default: the cores, at most 8)")


def run(args: argparse.Namespace) -> int:
    """Converts as the parsed arguments say; returns the exit status."""
    own = {key: getattr(args, key) for key in ("train", "val", "test", "seed", "processes")}
    return common.run_conversion(lambda: convert_acdc(args.root, args.dataset_id, args.name, **own))


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python -m nnunet_shapekd.dataset_conversion.acdc`."""
    parser = argparse.ArgumentParser(prog="python -m nnunet_shapekd.dataset_conversion.acdc", description=__doc__)
    add_arguments(parser)
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
