"""CURVAS (Riera-Marin et al., MICCAI challenge 2024), abdominal CT that three raters labelled.

Layout: `training_set/UKCHLL001/image.nii.gz` and `annotation_1.nii.gz` to `annotation_3.nii.gz`, one of each rater,
likewise `validation_set` and `testing_set`. As public loaders read it; the download itself was not at hand. An
annotation's header may have lost its place, as one rater's of a test case has: ``--label-header image`` takes the
image's.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from nnunet_shapekd.dataset_conversion.found import Found
from nnunet_shapekd.dataset_conversion.target import Command, option
from nnunet_shapekd.dataset_conversion.volumes import VolumeOptions, VolumeSet

LAYOUT = (
    "training_set/UKCHLL001/image.nii.gz and annotation_1.nii.gz to annotation_3.nii.gz; validation_set, testing_set"
)
LABELS = {"background": 0, "pancreas": 1, "kidney": 2, "liver": 3}
RATERS = (1, 2, 3)
_NIFTI = re.compile(r"(image|annotation_(?P<rater>\d))(?i:\.nii(?:\.gz)?)")


@dataclass(frozen=True, kw_only=True)
class CurvasOptions(VolumeOptions):
    """Options of CURVAS."""

    rater: int = option(
        "--rater", type=int, choices=RATERS, default=1, help="whose labels to take (default: %(default)s)"
    )


def find_cases(root: Path, options: CurvasOptions) -> Found:
    """All cases with a rater's labels; those of testing_set are test cases."""
    found = Found(root)

    def place(match: re.Match[str], path: Path) -> tuple[str, int] | None:
        patient, rater = re.fullmatch(r"[A-Za-z]+(\d+)", path.parent.name), match["rater"]
        kind = "image" if rater is None else f"label maps of other raters than {options.rater} were left out."
        return ("label" if rater == str(options.rater) else kind, int(patient[1])) if patient else None

    for number, (image, label) in found.pairs(LAYOUT, _NIFTI, place).items():
        found.add(number, image.parent.name, image, label, "testing_set" in image.relative_to(root).parts)
    return found


def convert_curvas(root: str | Path, options: CurvasOptions = CurvasOptions()) -> Path:
    """Converts CURVAS with one rater's labels; returns and raises as :func:`~.volumes.convert_volumes`."""
    return VolumeSet(
        name=f"CURVASrater{options.chosen('rater')}",
        dataset_id=42,
        channel="CT",
        labels=LABELS,
        title=f"Calibration and uncertainty for multirater volume assessment, rater {options.rater}",
        reference="https://curvas.grand-challenge.org/",
        citation="Riera-Marin et al., CURVAS challenge data set, 2024",
        terms="CURVAS",
        plan_arguments="",
    ).convert(root, options, find_cases)


_COMMAND = Command(
    convert_curvas, CurvasOptions, f"the extracted download: {LAYOUT}", dataset_id=42, name="CURVAS and the rater"
)
add_arguments, run = _COMMAND.add_arguments, _COMMAND.run
