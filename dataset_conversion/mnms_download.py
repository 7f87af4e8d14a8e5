"""M&Ms' download: its table, and its images and labels by patient."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nnunet_shapekd.dataset_conversion import tables
from nnunet_shapekd.dataset_conversion.cases import Case
from nnunet_shapekd.dataset_conversion.downloads import NIFTI_ENDINGS, ending_problems, names_in, nifti_below
from nnunet_shapekd.dataset_conversion.target import ConversionError
from nnunet_shapekd.dataset_conversion.vendors import vendor_remark
from nnunet_shapekd.files.walking import Walk, file_trouble, unused, walk

LAYOUT = "ROOT/Training/Labeled/CODE/CODE_sa.nii.gz and CODE_sa_gt.nii.gz, Validation, Testing and a CSV"
REQUIRED = ("External code", "Vendor", "Centre", "ED", "ES")
_NIFTI = re.compile(r"(.+)_sa(_gt)?\.nii(?:\.gz)?", re.IGNORECASE)


@dataclass(frozen=True)
class Patient:
    """One patient's files and row of the table; what follows is known once the files were read."""

    name: str  # its code
    image: Path
    label: Path | None
    subset: str  # "Tr" or "Ts"
    row: Mapping[str, str] = field(default_factory=dict)
    n_frames: int = 0
    repair_deg: float = 0.0
    pixels: tuple[str, ...] = ()

    def frame(self, phase: str) -> int:
        """The index of ED or ES, from 0 on."""
        return int(float(self.row[phase]))

    def case(self, phase: str) -> Case:
        """The 3D case of ED or ES; its files are the 4D ones."""
        return Case(f"{self.name}_{phase}", self.image, self.label, self.subset)

    @property
    def stratum(self) -> str:
        """What the folds are balanced by."""
        return f"{self.row['Vendor']} {self.row['Centre']}"

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
        if found and (trouble := file_trouble(found[0])):
            raise ConversionError(trouble)
        if found:
            return found[0]
    raise ConversionError(f"{root}: expected M&Ms' table (CSV) there or above; name it with --csv")


def row_problems(path: Path, row: Mapping[str, str], code: str) -> list[str]:
    wrong = [
        f"{key} is no frame index: {row[key]!r}" for key in ("ED", "ES") if not re.fullmatch(r"\d+(\.0*)?", row[key])
    ]
    if not wrong and float(row["ED"]) == float(row["ES"]):
        wrong = [f"ED and ES are the same frame, {row['ED']}"]
    wrong += [f"{key} is empty" for key in ("Vendor", "Centre") if not row[key]]
    return [f"{path}: {code}: {problem}; correct it" for problem in wrong]


def find_files(folder: Path) -> tuple[dict[tuple[Path, str], Path], dict[tuple[Path, str], Path], list[str]]:
    """Images and labels below a folder by their own folder and patient's code, and problems."""
    images: dict[tuple[Path, str], Path] = {}
    labels: dict[tuple[Path, str], Path] = {}
    problems = []
    for path in nifti_below(folder):
        match = _NIFTI.fullmatch(path.name)
        if match:
            kind, what = (labels, "label") if match[2] else (images, "patient")
            twin = kind.setdefault((path.parent, match[1]), path)
            if twin != path:
                problems.append(f"{path}: the same {what} as {twin}; remove one of the two")
    return images, labels, problems


def folder_problems(folder: Path, images: Collection[tuple[Path, str]], codes: Collection[str]) -> list[str]:
    """Folders of the table's patients, and others in the first level, that are without an image."""
    below = {(around, code) for parent, code in images for around in (parent, *parent.parents)}
    not_empty = {around for around, _ in below}
    problems = []
    for path in walk(folder).folders:
        known = path.name in codes
        if (path, path.name) not in below if known else path.parent == folder and path not in not_empty:
            name = path.name if known else "CODE"
            problems.append(f"{path}: has no {name}_sa.nii.gz; restore it from the download, or remove the folder")
    return problems


def find_patients(root: Path, table: Path, options: Any) -> tuple[list[Patient], list[str], list[str]]:
    """The patients of the folders and vendors named, problems, and remarks on the others and on files not used.

    Args:
        options: :class:`~.mnms.MnmsOptions`.
    """
    rows, problems = tables.rows_by("External code", table, REQUIRED)
    there = walk(root) if root.is_dir() else Walk(root)
    problems = there.problems + problems
    patients: dict[str, Patient] = {}
    for folder in (*options.train_from, *options.test_from):
        if not (root / folder).is_dir():
            problems.append(f"{root / folder}: no such folder; expected {LAYOUT}, found: {names_in(root)}")
            continue
        images, labels, wrong = find_files(root / folder)
        problems += wrong
        if not images:
            problems.append(f"{root / folder}: no file named CODE_sa.nii.gz; expected {LAYOUT}")
        alone = [key for key in labels if key not in images]
        problems += [
            f"{labels[parent, code]}: label without an image; restore {code}_sa.nii.gz from the download"
            for parent, code in alone
        ]
        if images:
            problems += folder_problems(root / folder, {*images, *alone}, rows)
        for (parent, code), image in images.items():
            label = labels.get((parent, code))
            if code in patients:
                problems.append(f"{image}: the same patient as {patients[code].image}; remove one of the two")
            elif code not in rows:
                problems.append(f"{table}: has no row of {code} ({image}); complete the table or remove the patient")
            else:
                wrong = row_problems(table, rows[code], code) + ending_problems(filter(None, (image, label)))
                problems += wrong
                if not wrong:
                    subset = "Tr" if folder in options.train_from else "Ts"
                    patients[code] = Patient(code, image, label, subset, rows[code])
    problems += options.vendor_problems({patient.row["Vendor"] for patient in patients.values()})
    divided = [
        replace(patient, subset=subset)
        for _, patient in sorted(patients.items())
        if (subset := options.subset_of(patient.row["Vendor"], patient.subset))
    ]
    remarks = []
    found = {match[1] for path in there.files if (match := _NIFTI.fullmatch(path.name)) and not match[2]}
    if absent := sorted(rows.keys() - found):
        remarks.append(f"{len(absent)} patients of the table are not in {root}: {', '.join(absent)}")
    unlabelled = [*find_files(root / "Training/Unlabeled")[0].values()]
    if unlabelled:
        remarks.append(f"The {len(unlabelled)} patients of Training/Unlabeled have no labels and were left out.")
    if n_left_out := len(patients) - len(divided):
        remarks.append(f"{n_left_out} patients of other vendors were left out (--test-vendors).")
    used = [path for patient in patients.values() for path in (patient.image, patient.label) if path is not None]
    remarks += unused(there, used + unlabelled, NIFTI_ENDINGS)
    remarks.append(vendor_remark([(patient.row["Vendor"], patient.subset) for patient in divided]))
    return divided, problems, remarks
