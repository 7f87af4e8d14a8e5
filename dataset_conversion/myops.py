"""MyoPS 2020 (Zhuang and Li, MyoPS challenge, MICCAI 2020), cardiac MRI of 45 patients in three aligned sequences.

Files, wherever they lie below ROOT: `train25/myops_training_101_C0.nii.gz`, `..._DE` and `..._T2`, and one label map of
all three, `train25_myops_gd/myops_training_101_gd.nii.gz`; `test20/myops_test_201_C0.nii.gz` and on have no public
labels and are left out. As public loaders read it; the download itself was not at hand.

Labels (myocardium 200, LV 500, RV 600, edema 1220, scar 2221) become ACDC's: edema and scar are myocardium.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from nnunet_shapekd.dataset_conversion import label_maps
from nnunet_shapekd.dataset_conversion.found import Found
from nnunet_shapekd.dataset_conversion.target import Command, option
from nnunet_shapekd.dataset_conversion.volumes import LabelOptions, VolumeSet

#: sequence, called as MSCMRseg's is -> what file names call it
SEQUENCES = {"LGE": "DE", "bSSFP": "C0", "T2": "T2"}
LAYOUT = "train25/myops_training_101_C0.nii.gz, ..._DE, ..._T2 and train25_myops_gd/myops_training_101_gd.nii.gz"
NAMES = {500: "LVC", 200: "MLV", 600: "RV", 1220: "edema", 2221: "scar"}
LABEL_MAP = {500: 3, 200: 2, 600: 1, 1220: 2, 2221: 2}
_CLASSES = {500: "LVC", 200: "MLV", 600: "RV", 1220: "MLV", 2221: "MLV"}
_NIFTI = re.compile(r"myops_(training|test)_(\d+)_(C0|DE|T2|gd)(?i:\.nii(?:\.gz)?)")


@dataclass(frozen=True, kw_only=True)
class MyopsOptions(LabelOptions):
    """Options of MyoPS 2020."""

    sequence: str = option("--sequence", required=True, choices=list(SEQUENCES), help="which images")


def find_cases(root: Path, options: MyopsOptions) -> Found:
    """The labelled cases of a sequence."""
    found, sequence = Found(root), options.sequence
    kinds = {SEQUENCES[sequence]: "image", "gd": "label"}

    def place(match: re.Match[str], path: Path) -> tuple[str, int]:
        return kinds.get(match[3], f"files were left out: they are of other sequences than {sequence}."), int(match[2])

    pairs = found.pairs(LAYOUT, _NIFTI, place, f"{sequence} images", lambda number, _: f"MyoPS{number}")
    for number, (image, label) in pairs.items():
        found.add(number, f"MyoPS{number}_{sequence}", image, label, patient=f"MyoPS{number}")
    found.remarks.append(
        "MyoPS 2020 and MSCMRseg are of the same 45 patients under other numbers: do not test on one what was trained "
        "on the other."
    )
    return found


def convert_myops(root: str | Path, options: MyopsOptions) -> Path:
    """Converts a sequence of MyoPS 2020; returns and raises as :func:`~.volumes.convert_volumes` (a wrong map, too)."""
    sequence, label_map = options.chosen("sequence"), options.label_map(LABEL_MAP)
    return VolumeSet(
        name=f"MyoPS{sequence}",
        dataset_id=37,
        channel=sequence,
        labels=label_maps.name_labels(label_map, NAMES if options.labels else _CLASSES, options.names),
        label_map=label_map,
        title=f"Myocardial pathology segmentation challenge 2020, {sequence}",
        reference="https://zmiclab.github.io/zxh/0/myops20/",
        citation="Li et al., MyoPS: a benchmark of myocardial pathology segmentation, MedIA 87:102808, 2023",
        terms="MyoPS",
    ).convert(root, options, find_cases)


_COMMAND = Command(
    convert_myops,
    MyopsOptions,
    f"folder with the extracted archives: {LAYOUT}",
    dataset_id=37,
    name="MyoPS and the sequence",
    labels=label_maps.show_label_map(LABEL_MAP),
)
add_arguments, run = _COMMAND.add_arguments, _COMMAND.run
