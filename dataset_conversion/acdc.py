"""ACDC (Bernard et al., IEEE TMI 37(11), 2018), cine cardiac MRI: the official download into nnU-Net's raw format.

Case, channel and label names are those of nnU-Net's own conversion (Dataset027_ACDC, nnunetv2 2.8.1), so that models of
either dataset fit the other. New are the checks, the folds stratified by pathology, the user's own split, test labels.
"""

import re
from pathlib import Path

from nnunet_shapekd.dataset_conversion.cases import Case
from nnunet_shapekd.dataset_conversion.downloads import names_in, nifti_of
from nnunet_shapekd.dataset_conversion.found import Found, Patient
from nnunet_shapekd.dataset_conversion.target import Command, ConversionError
from nnunet_shapekd.dataset_conversion.volumes import VolumeOptions, VolumeSet
from nnunet_shapekd.files.patients import acdc_folders, read_info
from nnunet_shapekd.files.walking import file_trouble, walk

LABELS = {"background": 0, "RV": 1, "MLV": 2, "LVC": 3}
#: column of patients.csv -> key of Info.cfg
INFO = {"group": "Group", "ed_frame": "ED", "es_frame": "ES", "n_frames": "NbFrame", "height_cm": "Height",
        "weight_kg": "Weight"}  # fmt: skip
LAYOUTS = "ROOT/training (and ROOT/testing), ROOT/database/training (and testing), or ROOT/patient001, ..."
_NIFTI = re.compile(r"(patient\d+)_(?:frame(\d{2,})(_gt)?|4d.*)\.nii(?:\.gz)?")


def find_patients(root: Path, options: VolumeOptions) -> Found:
    """Patients below ROOT, see :func:`~nnunet_shapekd.files.patients.acdc_folders`."""
    if not root.is_dir():
        raise ConversionError(f"{root}: no such folder; ROOT is the extracted ACDC download: {LAYOUTS}")
    folders, problems = acdc_folders(root)
    if not folders:
        raise ConversionError(
            f"{root}: no patient folders found. Accepted layouts: {LAYOUTS}. Found there: {names_in(root)}"
        )
    found = Found(root, problems=problems)
    cines: list[Path] = []
    for number, (folder, subset) in folders.items():
        found.patients[number] = read_patient(folder, subset, root, cines)
    found.leave_out(cines, "4D cines were left out: their frames ED and ES lie beside them.")
    return found


def read_patient(folder: Path, subset: str, root: Path, cines: list[Path]) -> Patient:
    """The patient of a folder, whose frames ED and ES are cases; its 4D file is added to the cines."""
    info, problems = read_info(folder)
    name = folder.name.lower()
    found: dict[tuple[int, bool], Path] = {}
    there = walk(folder, deep=False)
    problems += there.problems
    for path in nifti_of([*there.files, *there.folders]):
        match = _NIFTI.fullmatch(path.name)
        if not match or match[1].lower() != name:
            example = f"{name}_frame01.nii.gz or {name}_frame01_gt.nii.gz"
            problems.append(f"{path}: expected a name like {example}; rename it or move it away")
        elif trouble := file_trouble(path):
            problems.append(trouble)
        elif match[2] is None:
            cines.append(path)
        elif (key := (int(match[2]), bool(match[3]))) in found:
            problems.append(f"{path}: the same frame as {found[key].name}; remove one of the two")
        else:
            found[key] = path
    frames = sorted(frame for frame, is_gt in found if not is_gt)
    for (frame, is_gt), path in found.items():
        if is_gt and frame not in frames:
            problems.append(f"{path}: label without an image; restore the image from the download")
    cases = [
        Case(f"{name}_frame{frame:02d}", found[frame, False], found.get((frame, True)), subset) for frame in frames
    ]
    row = {"patient": name, "subset": "", **{column: info.get(key, "") for column, key in INFO.items()}}
    row["source_folder"] = folder.relative_to(root).as_posix()
    problems = problems or _frame_problems(folder, frames, info)
    return Patient(name, subset, cases, [row], tuple(problems), info.get("Group", ""))


def _frame_problems(folder: Path, frames: list[int], info: dict[str, str]) -> list[str]:
    got = ", ".join(f"{frame:02d}" for frame in frames) or "none"
    if not info:
        if len(frames) == 2:
            return []
        return [f"{folder}: expected two frames (ED and ES) as there is no Info.cfg, got {got}"]
    if {int(info["ED"]), int(info["ES"])} == set(frames):
        return []
    asked = f"ED {info['ED']} and ES {info['ES']}"
    return [f"{folder}: Info.cfg says frames {asked}, got {got}; restore the folder from the download"]


def convert_acdc(root: str | Path, options: VolumeOptions = VolumeOptions()) -> Path:  # noqa: B008 (frozen)
    """Converts the ACDC download; returns and raises as :func:`~.volumes.convert_volumes`."""
    return VolumeSet(
        name="ACDC",
        dataset_id=27,
        channel="cineMRI",
        labels=LABELS,
        more={"numTraining": None, "file_ending": ".nii.gz"},
        title="Automated Cardiac Diagnosis Challenge, short-axis cine MRI, end diastole and end systole",
        reference="https://www.creatis.insa-lyon.fr/Challenge/acdc/",
        citation="Bernard et al., IEEE Transactions on Medical Imaging 37(11):2514-2525, 2018",
        terms="ACDC",
    ).convert(root, options, find_patients)


_COMMAND = Command(convert_acdc, VolumeOptions, f"the extracted ACDC download: {LAYOUTS}", dataset_id=27, name="ACDC")
add_arguments, run = _COMMAND.add_arguments, _COMMAND.run
