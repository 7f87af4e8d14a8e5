"""M&Ms-2 (Martin-Isla et al., IEEE JBHI 27(7), 2023), cine cardiac MRI of 360 patients and three vendors.

Layout: `MnM2/dataset_information.csv` with the columns SUBJECT_CODE (integers without zeros in front), DISEASE, VENDOR,
SCANNER and FIELD, and about a million empty rows below the patients'; `MnM2/dataset/001/001_SA_ED.nii.gz`,
`001_SA_ED_gt.nii.gz`, the same with ES, and with LA for the long axis; `001_SA_CINE.nii.gz` is not used. As public
loaders read it; the download itself was not at hand.

The official division is by number: 1 to 160 train, 161 to 200 validate, 201 to 360 test. Labels (LV 1, myocardium 2, RV
3) become ACDC's.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from nnunet_shapekd.dataset_conversion import tables
from nnunet_shapekd.dataset_conversion.acdc import LABELS
from nnunet_shapekd.dataset_conversion.cases import Case
from nnunet_shapekd.dataset_conversion.downloads import few, nifti_files
from nnunet_shapekd.dataset_conversion.found import Found, Patient
from nnunet_shapekd.dataset_conversion.mnms import LABEL_MAP
from nnunet_shapekd.dataset_conversion.target import Command, ConversionError, option
from nnunet_shapekd.dataset_conversion.vendors import VendorOptions, vendor_remark
from nnunet_shapekd.dataset_conversion.volumes import VolumeOptions, VolumeSet

LAYOUT = "dataset_information.csv and dataset/001/001_SA_ED.nii.gz, 001_SA_ED_gt.nii.gz, ..._ES, ..._LA_..."
TABLE = "dataset_information.csv"
REQUIRED = ("SUBJECT_CODE", "DISEASE", "VENDOR", "SCANNER", "FIELD")
LAST_OF_TRAINING, LAST_OF_VALIDATION = 160, 200
_NIFTI = re.compile(r"(\d+)_(SA|LA)_(ED|ES|CINE)(_gt)?\.nii(?:\.gz)?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Mnms2Options(VolumeOptions, VendorOptions):
    """Options of M&Ms-2."""

    view: str = option("--view", choices=("SA", "LA"), default="SA", help="short or long axis (default: %(default)s)")
    split: str = option(
        "--split",
        choices=("official", "folds"),
        default="official",
        help="official: one fold, 1 to 160 train, 161 to 200 validate; folds: five of all 200 (default: %(default)s)",
    )


def read_information(root: Path) -> dict[int, dict[str, str]]:
    """The table's rows by patient number; it lies in ROOT, below or directly above it."""
    found = [path for path in (root / TABLE, *sorted(root.glob(f"*/{TABLE}")), root.parent / TABLE) if path.is_file()]
    if not found:
        raise ConversionError(f"{root}: expected {TABLE} there; ROOT is the extracted download: {LAYOUT}")
    rows: dict[int, dict[str, str]] = {}
    problems = []
    for row in tables.read_table(found[0], REQUIRED):
        code = row["SUBJECT_CODE"]
        if not re.fullmatch(r"\d+(\.0*)?", code):
            problems.append(f"{found[0]}: SUBJECT_CODE is no number: {code!r}; correct it")
        elif not row["VENDOR"]:
            problems.append(f"{found[0]}: the VENDOR of {code} is empty; correct it")
        elif rows.setdefault(int(float(code)), row) != row:
            problems.append(f"{found[0]}: has two different rows of {code}; remove one")
    if problems:
        raise ConversionError(problems)
    return rows


def find_patients(root: Path, options: Mnms2Options) -> Found:
    """The patients with their frames of the view asked for."""
    found = Found(root)
    files: dict[int, dict[tuple[str, bool], Path]] = {}
    others: list[Path] = []
    for match, path in found.sort(nifti_files(root, LAYOUT), _NIFTI, LAYOUT):
        view, phase = match[2].upper(), match[3].upper()
        if view != options.view or phase == "CINE":
            others.append(path)
        else:
            own = files.setdefault(int(match[1]), {})
            if own.setdefault((phase, bool(match[4])), path) != path:
                found.problems.append(f"{path}: the same frame as {own[phase, bool(match[4])]}; remove one of the two")
    found.leave_out(others, f"files were left out: they are whole cines, or not {options.view}.")
    rows = read_information(root)
    if unknown := sorted(files.keys() - rows.keys()):
        found.problems.append(f"{root}: {TABLE} has no row of {few([str(n) for n in unknown])}; complete the table")
    if absent := sorted(rows.keys() - files.keys()):
        found.remarks.append(f"{len(absent)} patients of the table are not there: {few([str(n) for n in absent])}.")
    if not files:
        found.problems.append(f"{root}: no {options.view} images; expected {LAYOUT}")
    found.problems += options.vendor_problems({rows[number]["VENDOR"] for number in files.keys() & rows.keys()})
    n_left_out = 0
    for number in sorted(files.keys() & rows.keys()):
        row = rows[number]
        subset = options.subset_of(row["VENDOR"], "Tr" if number <= LAST_OF_VALIDATION else "Ts")
        if subset is None:
            n_left_out += 1
            found.left_out += files[number].values()
        else:
            found.patients[number] = _patient(number, files[number], row, subset, options.view, root)
    if n_left_out:
        found.remarks.append(f"{n_left_out} patients of other vendors were left out (--test-vendors).")
    if options.split == "official":
        found.validate = {n for n in found.patients if LAST_OF_TRAINING < n <= LAST_OF_VALIDATION}
    found.remarks.append(vendor_remark([(p.rows[0]["vendor"], p.subset) for p in found.patients.values() if p.rows]))
    return found


def _patient(
    number: int, files: dict[tuple[str, bool], Path], row: dict[str, str], subset: str, view: str, root: Path
) -> Patient:
    name = f"MnM2_{number:03d}"
    cases, lines, problems = [], [], []
    for phase in ("ED", "ES"):
        image, label = files.get((phase, False)), files.get((phase, True))
        if image is None:
            own = f"{number:03d}_{view}_{phase}.nii.gz"
            around = next(iter(files.values())).parent
            problems.append(f"{around}: has no {own}; restore it from the download, or remove the patient")
            if label is not None:
                problems.append(f"{label}: label without an image; restore the image from the download")
            continue
        cases.append(Case(f"{name}_{view}_{phase}", image, label, subset))
        own = {"case": cases[-1].name, "patient": name, "phase": phase, "subset": ""}
        own |= {"vendor": row["VENDOR"], "scanner": row["SCANNER"], "field": row["FIELD"], "pathology": row["DISEASE"]}
        lines.append(own | {"source": image.relative_to(root).as_posix()})
    return Patient(name, subset, cases, lines, tuple(problems), f"{row['VENDOR']} {row['DISEASE']}")


def convert_mnms2(root: str | Path, options: Mnms2Options = Mnms2Options()) -> Path:
    """Converts a view of M&Ms-2; returns and raises as :func:`~.volumes.convert_volumes`."""
    options.chosen("split")
    return VolumeSet(
        name=f"MNMs2{options.chosen('view')}",
        dataset_id=35,
        channel="cineMRI",
        labels=LABELS,
        label_map=LABEL_MAP,
        title=f"Multi-Disease, Multi-View and Multi-Centre challenge, cine MRI, {options.view}, ED and ES",
        reference="https://www.ub.edu/mnms-2/",
        citation="Martin-Isla et al., IEEE Journal of Biomedical and Health Informatics 27(7):3302-3313, 2023",
        terms="M&Ms-2",
    ).convert(root, options, find_patients)


_COMMAND = Command(
    convert_mnms2, Mnms2Options, f"the extracted M&Ms-2 download: {LAYOUT}", dataset_id=35, name="MNMs2 and the view"
)
add_arguments, run = _COMMAND.add_arguments, _COMMAND.run
