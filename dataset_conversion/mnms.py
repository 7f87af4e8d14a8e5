"""M&Ms (Campello et al., IEEE TMI 40(12):3543-3554, 2021), cine cardiac MRI of several vendors and centres.

Layout of the download: `Training/Labeled`, `Training/Unlabeled`, `Validation` and `Testing`, in each of them
`CODE/CODE_sa.nii.gz`, the 4D cine, and `CODE/CODE_sa_gt.nii.gz`, labelled in the frames ED and ES and 0 elsewhere; the
table `211230_M&Ms_Dataset_information_diagnosis_opendataset.csv` with the columns External code, Vendor, Centre, ED and
ES, which are indices of frames from 0 on. As public code reads it, nnU-Net's Dataset114_MNMs among it; the download
itself was not at hand, so the labels are checked to be where the table says.

The frames ED and ES become the 3D cases CODE_ED and CODE_ES, their labels (LV 1, myocardium 2, RV 3) ACDC's, so that a
model of either dataset fits the other. nnU-Net's own conversion leaves the labels and names cases by frame.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from nnunet_shapekd.dataset_conversion import acdc, common, volumes
from nnunet_shapekd.dataset_conversion.cine import read_cine
from nnunet_shapekd.dataset_conversion.common import Case, ConversionError
from nnunet_shapekd.dataset_conversion.label_maps import relabel, values_in
from nnunet_shapekd.files.output import new_folder
from nnunet_shapekd.files.parallel import map_in_processes

FOLDERS = ("Training/Labeled", "Validation", "Testing")
LAYOUT = "ROOT/Training/Labeled/CODE/CODE_sa.nii.gz and CODE_sa_gt.nii.gz, Validation, Testing and a CSV"
LABEL_MAP = {1: 3, 2: 2, 3: 1}  # to acdc.LABELS
REQUIRED = ("External code", "Vendor", "Centre", "ED", "ES")
#: column of patients.csv -> column of the download's table
EXTRA = {"vendor_name": "VendorName", "pathology": "Pathology", "age": "Age", "sex": "Sex",
         "height": "Height", "weight": "Weight"}  # fmt: skip
_NIFTI = re.compile(r"(.+)_sa(_gt)?\.nii(?:\.gz)?", re.IGNORECASE)
COLUMNS = ["case", "patient", "phase", "subset", "vendor", "centre", "frame", "n_frames", "repair_deg", *EXTRA]
_CASES_PER_WORKER = 10  # a 4D file is read about three times as long as two 3D ones


@dataclass(frozen=True)
class Patient:
    """One patient's files and row of the table; `n_frames` and `repair_deg` are known once the files were read."""

    code: str
    image: Path
    label: Path | None
    subset: str  # "Tr" or "Ts"
    row: Mapping[str, str] = field(default_factory=dict)
    n_frames: int = 0
    repair_deg: float = 0.0

    def frame(self, phase: str) -> int:
        """The index of ED or ES, from 0 on."""
        return int(float(self.row[phase]))

    def case(self, phase: str) -> Case:
        """The 3D case of ED or ES; its files are the 4D ones."""
        return Case(f"{self.code}_{phase}", self.image, self.label, self.subset)

    @property
    def cases(self) -> list[Case]:
        """ED and ES."""
        return [self.case(phase) for phase in ("ED", "ES")]


def find_table(root: Path, given: str | Path | None) -> Path:
    """The download's CSV: the one given, else the only one with the columns in ROOT or above it."""
    if given is not None:
        return Path(given)
    for folder in (root, root.parent):
        found = [path for path in sorted(folder.glob("*.csv")) if not path.name.startswith(".")]
        if len(found) > 1:
            raise ConversionError(f"{folder}: has several CSV files; name M&Ms' table with --csv")
        if found:
            return found[0]
    raise ConversionError(f"{root}: expected M&Ms' table (CSV) there or above; name it with --csv")


def read_table(path: Path) -> tuple[dict[str, dict[str, str]], list[str]]:
    """The rows by patient, and what is wrong with them."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            lines, columns = list(reader), reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConversionError(f"{path}: cannot be read as CSV ({error}); restore it from the download") from None
    missing = [column for column in REQUIRED if column not in columns]
    if missing:
        raise ConversionError(f"{path}: expected the columns {', '.join(REQUIRED)}, {', '.join(missing)} missing")
    rows: dict[str, dict[str, str]] = {}
    problems = []
    for line in lines:
        row = {key: (value or "").strip() for key, value in line.items() if isinstance(key, str) and key}
        if rows.setdefault(row["External code"], row) != row:
            problems.append(f"{path}: has two different rows of {row['External code']}; remove one")
    return rows, problems


def _row_problems(path: Path, row: Mapping[str, str], code: str) -> list[str]:
    wrong = [
        f"{key} is no frame index: {row[key]!r}" for key in ("ED", "ES") if not re.fullmatch(r"\d+(\.0*)?", row[key])
    ]
    if not wrong and float(row["ED"]) == float(row["ES"]):
        wrong = [f"ED and ES are the same frame, {row['ED']}"]
    wrong += [f"{key} is empty" for key in ("Vendor", "Centre") if not row[key]]
    return [f"{path}: {code}: {problem}; correct it" for problem in wrong]


def _find_files(folder: Path) -> tuple[dict[tuple[Path, str], Path], dict[tuple[Path, str], Path], list[str]]:
    """Images and labels below a folder by their own folder and patient's code, and problems."""
    images: dict[tuple[Path, str], Path] = {}
    labels: dict[tuple[Path, str], Path] = {}
    problems = []
    for path in volumes.nifti_below(folder):
        match = _NIFTI.fullmatch(path.name)
        if match:
            kind, what = (labels, "label") if match[2] else (images, "patient")
            twin = kind.setdefault((path.parent, match[1]), path)
            if twin != path:
                problems.append(f"{path}: the same {what} as {twin}; remove one of the two")
    return images, labels, problems


def _folder_problems(folder: Path, images: Collection[tuple[Path, str]], codes: Collection[str]) -> list[str]:
    """Folders of the table's patients, and others in the first level, that are without an image."""
    below = {(around, code) for parent, code in images for around in (parent, *parent.parents)}
    not_empty = {around for around, _ in below}
    problems = []
    for path in sorted(path for path in folder.rglob("*") if path.is_dir() and not volumes.is_hidden(path, folder)):
        known = path.name in codes
        if (path, path.name) not in below if known else path.parent == folder and path not in not_empty:
            name = path.name if known else "CODE"
            problems.append(f"{path}: has no {name}_sa.nii.gz; restore it from the download, or remove the folder")
    return problems


def absent_patients(root: Path, table: Path) -> list[str]:
    """The patients of the table that have no image anywhere below ROOT."""
    found = {match[1] for path in volumes.nifti_below(root) if (match := _NIFTI.fullmatch(path.name)) and not match[2]}
    return sorted(read_table(table)[0].keys() - found)


def find_patients(
    root: Path, table: Path, train_from: Sequence[str], test_from: Sequence[str], train_vendors: Sequence[str] | None
) -> tuple[list[Patient], list[str]]:
    """The patients of the folders named, and problems; training patients of other vendors become test patients."""
    rows, problems = read_table(table)
    patients: dict[str, Patient] = {}
    for folder in (*train_from, *test_from):
        if not (root / folder).is_dir():
            there = ", ".join(sorted(path.name for path in root.iterdir())[:10]) if root.is_dir() else "no such folder"
            problems.append(f"{root / folder}: no such folder; expected {LAYOUT}, found: {there}")
            continue
        images, labels, wrong = _find_files(root / folder)
        problems += wrong
        if not images:
            problems.append(f"{root / folder}: no file named CODE_sa.nii.gz; expected {LAYOUT}")
        alone = [key for key in labels if key not in images]
        problems += [
            f"{labels[parent, code]}: label without an image; restore {code}_sa.nii.gz from the download"
            for parent, code in alone
        ]
        if images:
            problems += _folder_problems(root / folder, {*images, *alone}, rows)
        for (parent, code), image in images.items():
            label = labels.get((parent, code))
            if code in patients:
                problems.append(f"{image}: the same patient as {patients[code].image}; remove one of the two")
            elif code not in rows:
                problems.append(f"{table}: has no row of {code} ({image}); complete the table or remove the patient")
            else:
                wrong = _row_problems(table, rows[code], code) + volumes.ending_problems(filter(None, (image, label)))
                problems += wrong
                train = folder in train_from and (train_vendors is None or rows[code]["Vendor"] in train_vendors)
                if not wrong:
                    patients[code] = Patient(code, image, label, "Tr" if train else "Ts", rows[code])
    vendors = {patient.row["Vendor"] for patient in patients.values()}
    for vendor in train_vendors or ():
        if vendor not in vendors:
            problems.append(
                f"--train-vendors {vendor}: no such vendor; there are {', '.join(sorted(vendors)) or 'none'}"
            )
    return [patients[code] for code in sorted(patients)], problems


def check_patient(patient: Patient, max_repair_deg: float) -> tuple[Patient, list[str]]:
    """Reads a patient's files once: the patient with what they say, and what is wrong with them."""
    problems, images = [], {}
    for path in filter(None, (patient.image, patient.label)):
        try:
            images[path], angle = read_cine(path, max_repair_deg)
        except ValueError as error:
            problems.append(str(error))
            continue
        patient = replace(patient, repair_deg=max(angle, patient.repair_deg))
    if patient.image in images:
        n_frames = images[patient.image].GetSize()[3]
        patient = replace(patient, n_frames=n_frames)
        beyond = [f"{phase} {patient.frame(phase)}" for phase in ("ED", "ES") if patient.frame(phase) >= n_frames]
        if beyond:
            where = f"frames 0 to {n_frames - 1}"
            problems.append(f"{patient.image}: has {where}, the table says {' and '.join(beyond)}; correct the table")
    if problems or patient.label is None:
        return patient, problems
    image, label = images[patient.image], images[patient.label]
    if image.GetSize() != label.GetSize():
        sizes = f"{label.GetSize()} differs from its image's {image.GetSize()}"
        return patient, [f"{patient.label}: size {sizes}; correct one of them"]
    problems += common.geometry_problems(patient.case("ED"), image[..., 0], label[..., 0])
    return patient, problems + _label_problems(patient, sitk.GetArrayViewFromImage(label))


def _label_problems(patient: Patient, values: np.ndarray) -> list[str]:
    try:
        found = values_in(values)
    except ValueError as error:
        return [f"{patient.label}: {error}; correct or remove the patient"]
    if found[-1] > max(LABEL_MAP):
        shown = ", ".join(map(str, found[:10]))
        return [f"{patient.label}: expected labels 0 to {max(LABEL_MAP)}, got {shown}; correct or remove the patient"]
    labelled = np.flatnonzero(values.reshape(len(values), -1).any(axis=1)).tolist()
    empty = [f"{phase} {patient.frame(phase)}" for phase in ("ED", "ES") if patient.frame(phase) not in labelled]
    if not empty:
        return []
    shown = ", ".join(map(str, labelled)) or "none"
    return [
        f"{patient.label}: no label in the frame {' and '.join(empty)} of the table (counted from 0), labelled are "
        f"{shown}; correct the table or remove the patient"
    ]


def write_patient(patient: Patient, folder: Path, max_repair_deg: float) -> None:
    """Writes the frames ED and ES below a dataset folder, with their labels where there are some."""
    image, _ = read_cine(patient.image, max_repair_deg)
    label = read_cine(patient.label, max_repair_deg)[0] if patient.label else None
    for phase in ("ED", "ES"):
        case, frame = patient.case(phase), patient.frame(phase)
        target = folder / f"images{case.subset}" / f"{case.name}_0000.nii.gz"
        sitk.WriteImage(image[..., frame], str(target), useCompression=True)
        if label is not None:
            old = label[..., frame]
            new = sitk.GetImageFromArray(relabel(sitk.GetArrayViewFromImage(old), LABEL_MAP))
            new.CopyInformation(old)
            target = folder / f"labels{case.subset}" / f"{case.name}.nii.gz"
            sitk.WriteImage(new, str(target), useCompression=True)


def make_splits(patients: Sequence[Patient], seed: int) -> list[dict[str, list[str]]]:
    """The content of splits_final.json: five folds by patient, stratified by vendor and centre."""
    training = {patient.code: patient for patient in patients if patient.subset == "Tr"}
    stratum_of = {code: f"{patient.row['Vendor']} {patient.row['Centre']}" for code, patient in training.items()}

    def names(codes: set[str]) -> list[str]:
        return sorted(case.name for code in codes for case in training[code].cases)

    if len(training) < 5:
        raise ConversionError(
            f"five folds need at least 5 training patients, got {len(training)}; see --train-from and --train-vendors"
        )
    folds = [set(fold) for fold in common.folds_by_patient(stratum_of, seed)]
    return [{"train": names(training.keys() - fold), "val": names(fold)} for fold in folds]


def convert_mnms(
    root: str | Path,
    dataset_id: int = 28,
    name: str | None = None,
    *,
    table: str | Path | None = None,
    train_from: Sequence[str] = FOLDERS[:1],
    test_from: Sequence[str] = FOLDERS[1:],
    train_vendors: Sequence[str] | None = None,
    max_repair_deg: float = 1.0,
    **target: Any,
) -> Path:
    """Converts M&Ms, after checking every patient; writes a whole dataset or nothing.

    Args:
        root: The extracted download.
        dataset_id: nnU-Net's dataset id.
        name: What follows the id, MNMs by default.
        table: The download's CSV; by default the only one in ROOT or above it.
        train_from: Folders of the training patients, below ROOT.
        test_from: Folders of the test patients, below ROOT.
        train_vendors: Train on these vendors only; other patients of `train_from` become test patients.
        max_repair_deg: By how many degrees a header's axes may be turned to be perpendicular.
        **target: `seed`, `processes`, `raw_folder`, `preprocessed_folder` of :func:`~.common.check_target`.

    Returns:
        The new dataset's folder.

    Raises:
        ConversionError: listing all problems found; nothing was written.
    """
    root = Path(root)
    name = name or "MNMs"
    checked = common.check_target(dataset_id, name, **target)
    if not 0 <= max_repair_deg <= 10:
        raise ConversionError(f"--max-repair: expected 0 to 10 degrees, got {max_repair_deg}")
    table = find_table(root, table)
    patients, problems = find_patients(root, table, train_from, test_from, train_vendors)
    problems += common.label_gaps([patient.case("ED") for patient in patients])
    splits: list[dict[str, list[str]]] = []
    try:
        splits = make_splits(patients, checked.seed)
    except ConversionError as error:
        problems += error.problems
    if checked.other_splits is not None and not problems:
        problems += common.splits_problems(splits, checked.other_splits)
    check = partial(check_patient, max_repair_deg=max_repair_deg)
    seen = map_in_processes(check, patients, checked.processes, "Checking patients", _CASES_PER_WORKER)
    problems += [problem for _, found in seen for problem in found]
    if problems:
        raise ConversionError(problems)

    patients = [patient for patient, _ in seen]
    with new_folder(checked.folder) as folder:
        for case in (case for patient in patients for case in patient.cases):
            (folder / f"images{case.subset}").mkdir(exist_ok=True)
            if case.label is not None:
                (folder / f"labels{case.subset}").mkdir(exist_ok=True)
        write = partial(write_patient, folder=folder, max_repair_deg=max_repair_deg)
        map_in_processes(write, patients, checked.processes, "Writing frames", _CASES_PER_WORKER)
        common.write_json(folder / "dataset.json", _dataset_json(name, 2 * sum(p.subset == "Tr" for p in patients)))
        common.write_json(folder / "splits_final.json", splits)
        common.write_json(folder / "vendors.json", _cases_of_vendors(patients))
        _write_cases(folder / "patients.csv", patients)
    _print_summary(checked, patients, root, absent_patients(root, table))
    return checked.folder


def _cases_of_vendors(patients: Sequence[Patient]) -> dict[str, list[str]]:
    vendors: dict[str, list[str]] = {vendor: [] for vendor in sorted({patient.row["Vendor"] for patient in patients})}
    for patient in patients:
        vendors[patient.row["Vendor"]] += [case.name for case in patient.cases]
    return vendors


def _write_cases(path: Path, patients: Sequence[Patient]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for patient in patients:
            row, subset = patient.row, "train" if patient.subset == "Tr" else "test"
            for phase in ("ED", "ES"):
                start = [patient.case(phase).name, patient.code, phase, subset, row["Vendor"], row["Centre"]]
                known = [patient.frame(phase), patient.n_frames, f"{patient.repair_deg:.3f}"]
                writer.writerow([*start, *known, *(row.get(column, "") for column in EXTRA.values())])


def _print_summary(target: common.Target, patients: Sequence[Patient], root: Path, absent: Sequence[str]) -> None:
    n = Counter(patient.subset for patient in patients)
    vendors = Counter((patient.row["Vendor"], patient.subset) for patient in patients)
    shown = ", ".join(
        f"{vendor} {vendors[vendor, 'Tr']} + {vendors[vendor, 'Ts']}" for vendor in sorted({v for v, _ in vendors})
    )
    unlabelled = len(_find_files(root / "Training/Unlabeled")[0])
    if absent:
        print(f"{len(absent)} patients of the table are not in {root}: {', '.join(absent)}")
    if unlabelled:
        print(f"The {unlabelled} patients of Training/Unlabeled have no labels and were left out.")
    repaired = [f"{patient.code} ({patient.repair_deg:.3f})" for patient in patients if patient.repair_deg]
    if repaired:
        print(f"Headers without perpendicular axes, turned to the nearest rotation (degrees): {', '.join(repaired)}")
    print(
        f"Wrote {target.folder}: {2 * n['Tr']} training cases of {n['Tr']} patients, {2 * n['Ts']} test cases of "
        f"{n['Ts']} patients, 5 folds. Patients by vendor, training + test: {shown}.\n"
        f"Next: nnUNetv2_plan_and_preprocess -d {target.dataset_id} -c 2d\n"
        "Train folds 0 to 4 only: for any other number nnU-Net splits at random by case, not by patient."
    )


def _dataset_json(name: str, n_training: int) -> dict[str, Any]:
    return {
        "channel_names": {"0": "cineMRI"},
        "labels": acdc.LABELS,
        "numTraining": n_training,
        "file_ending": ".nii.gz",
        "name": name,
        "description": "Multi-Centre, Multi-Vendor and Multi-Disease challenge, short-axis cine MRI, ED and ES",
        "reference": "https://www.ub.edu/mnms/",
        "citation": "Campello et al., IEEE Transactions on Medical Imaging 40(12):3543-3554, 2021",
        "licence": "see the terms of the M&Ms download",
        "converted_by": "nnunet_shapekd",
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `shapekd convert mnms`."""
    add = parser.add_argument
    add("root", metavar="ROOT", help=f"the extracted M&Ms download: {LAYOUT}")
    add("--csv", metavar="FILE", help="its table (default: the only CSV in ROOT or above it)")
    folders = "folders below ROOT of the {} patients (default: {})"
    add(
        "--train-from",
        nargs="+",
        metavar="FOLDER",
        default=list(FOLDERS[:1]),
        help=folders.format("training", FOLDERS[0]),
    )
    add(
        "--test-from",
        nargs="*",
        metavar="FOLDER",
        default=list(FOLDERS[1:]),
        help=folders.format("test", " ".join(FOLDERS[1:])),
    )
    add(
        "--train-vendors", nargs="+", metavar="A", help="train on these vendors only, test on the others' patients, too"
    )
    about = "degrees by which axes that are not perpendicular may be turned (default: %(default)s); more is refused"
    add("--max-repair", type=float, default=1.0, metavar="DEGREES", help=about)
    common.add_target_arguments(parser, "MNMs", 28)


def run(args: argparse.Namespace) -> int:
    """Converts as the parsed arguments say; returns the exit status."""
    return common.run_conversion(
        lambda: convert_mnms(
            args.root,
            args.dataset_id,
            args.name,
            table=args.csv,
            train_from=args.train_from,
            test_from=args.test_from,
            train_vendors=args.train_vendors,
            max_repair_deg=args.max_repair,
            seed=args.seed,
            processes=args.processes,
        )
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python -m nnunet_shapekd.dataset_conversion.mnms`."""
    parser = argparse.ArgumentParser(prog="python -m nnunet_shapekd.dataset_conversion.mnms", description=__doc__)
    add_arguments(parser)
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
