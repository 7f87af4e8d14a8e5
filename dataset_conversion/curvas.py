"""CURVAS (Riera-Marin et al., MICCAI challenge 2024), abdominal CT that three raters labelled.

Layout: `training_set/UKCHLL001/image.nii.gz` and `annotation_1.nii.gz` to `annotation_3.nii.gz`, one of each rater,
likewise `validation_set` and `testing_set`. As public loaders read it; the download itself was not at hand. An
annotation's header may have lost its place, as one rater's of a test case has: ``--label-header image`` takes the
image's.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from nnunet_shapekd.dataset_conversion import volumes
from nnunet_shapekd.dataset_conversion.downloads import nifti_files
from nnunet_shapekd.dataset_conversion.target import Command, ConversionError, check_target, option
from nnunet_shapekd.dataset_conversion.volumes import Found, VolumeOptions

LAYOUT = (
    "training_set/UKCHLL001/image.nii.gz and annotation_1.nii.gz to annotation_3.nii.gz; validation_set, testing_set"
)
LABELS = {"background": 0, "pancreas": 1, "kidney": 2, "liver": 3}
RATERS = (1, 2, 3)
_NIFTI = re.compile(r"(image|annotation_(\d))(?i:\.nii(?:\.gz)?)")
_PATIENT = re.compile(r"([A-Za-z]+)(\d+)")


@dataclass(frozen=True, kw_only=True)
class CurvasOptions(VolumeOptions):
    """Options of CURVAS."""

    rater: int = option(
        "--rater", type=int, choices=RATERS, default=1, help="whose labels to take (default: %(default)s)"
    )


def find_cases(root: Path, rater: int) -> Found:
    """All cases with a rater's labels; those of testing_set are test cases."""
    found = Found(root)
    images, labels, others = [], [], []
    name_of: dict[int, str] = {}
    for match, path in found.sort(nifti_files(root, LAYOUT), _NIFTI, LAYOUT):
        patient = _PATIENT.fullmatch(path.parent.name)
        if not patient:
            found.problems.append(f"{path}: expected to lie in a patient's folder, as {LAYOUT}; move it there or away")
            continue
        number = int(patient[2])
        name_of[number] = path.parent.name
        if match[2] is None:
            images.append((number, path))
        elif int(match[2]) == rater:
            labels.append((number, path))
        else:
            others.append(path)
    for number, (image, label) in found.pair(images, labels).items():
        found.add(number, name_of[number], image, label, "testing_set" in image.relative_to(root).parts)
    found.leave_out(others, f"label maps of other raters than {rater} were left out.")
    return found


def convert_curvas(root: str | Path, options: CurvasOptions = CurvasOptions()) -> Path:
    """Converts CURVAS with one rater's labels, after checking every case; writes a whole dataset or nothing.

    Returns its folder; raises as :func:`~.volumes.convert_volumes`.
    """
    if options.rater not in RATERS:
        raise ConversionError(f"--rater: expected 1, 2 or 3, got {options.rater}")
    target = check_target(options, f"CURVASrater{options.rater}", 42)
    description = {
        "channel_names": {"0": "CT"},
        "labels": LABELS,
        "name": target.name,
        "description": f"Calibration and uncertainty for multirater volume assessment, rater {options.rater}",
        "reference": "https://curvas.grand-challenge.org/",
        "citation": "Riera-Marin et al., CURVAS challenge data set, 2024",
        "licence": "see the terms of the CURVAS download",
    }
    as_they_are = {value: value for value in LABELS.values() if value}
    return volumes.convert_volumes(find_cases(Path(root), options.rater), target, options, as_they_are, description, "")


_COMMAND = Command(
    convert_curvas, CurvasOptions, f"the extracted download: {LAYOUT}", dataset_id=42, name="CURVAS and the rater"
)
add_arguments, run = _COMMAND.add_arguments, _COMMAND.run
