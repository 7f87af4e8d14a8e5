"""EMIDEC (Lalande et al., Data 5(4):89, 2020), late enhancement cardiac MRI with and without infarction.

Layout: `Case_N006/Images/Case_N006.nii.gz` and `Case_N006/Contours/Case_N006.nii.gz`, N for a normal and P for a
pathological case; the challenge's test cases, `Case_101` and on, have no Contours and are left out. As public loaders
read it; the download itself was not at hand.

Labels (cavity 1, myocardium 2, infarction 3, no-reflow 4) become ACDC's: infarction and no-reflow are myocardium. The
right ventricle is not annotated: the dataset says so, and it is not judged.
"""

import re
from pathlib import Path

from nnunet_shapekd.dataset_conversion import label_maps
from nnunet_shapekd.dataset_conversion.acdc import LABELS
from nnunet_shapekd.dataset_conversion.found import Found
from nnunet_shapekd.dataset_conversion.target import Command
from nnunet_shapekd.dataset_conversion.volumes import LabelOptions, VolumeSet

LAYOUT = "Case_N006/Images/Case_N006.nii.gz and Case_N006/Contours/Case_N006.nii.gz"
NAMES = {1: "LVC", 2: "MLV", 3: "infarction", 4: "no_reflow"}
LABEL_MAP = {1: 3, 2: 2, 3: 2, 4: 2}
GROUPS = {"N": "normal", "P": "pathological", "": ""}
_NIFTI = re.compile(r"Case_([NP]?)(\d+)(?i:\.nii(?:\.gz)?)")
_KINDS = {"images": "image", "contours": "label"}


def find_cases(root: Path, options: LabelOptions) -> Found:
    """The labelled cases."""
    found = Found(root)

    def place(match: re.Match[str], path: Path) -> tuple[str, int] | None:
        kind = _KINDS.get(path.parent.name.lower())
        return (kind, int(match[2])) if kind else None

    def name(number: int, image: Path) -> str:
        return f"EMIDEC_{_NIFTI.fullmatch(image.name)[1]}{number:03d}"

    for number, (image, label) in found.pairs(LAYOUT, _NIFTI, place, unlabelled=name).items():
        group = GROUPS[_NIFTI.fullmatch(image.name)[1]]
        found.add(number, name(number, image), image, label, group=group)
    return found


def convert_emidec(root: str | Path, options: LabelOptions = LabelOptions()) -> Path:  # noqa: B008 (frozen)
    """Converts EMIDEC; returns and raises as :func:`~.volumes.convert_volumes` (a wrong map, too)."""
    label_map = options.label_map(LABEL_MAP)
    return VolumeSet(
        name="EMIDEC",
        dataset_id=36,
        channel="LGE",
        labels=label_maps.name_labels(label_map, NAMES, options.names) if options.labels else LABELS,
        label_map=label_map,
        more={} if options.labels else {"not_annotated": ["RV"]},
        title="Evaluation of Myocardial Infarction from Delayed-Enhancement cardiac MRI challenge 2020",
        reference="http://emidec.com/",
        citation="Lalande et al., Data 5(4):89, 2020",
        terms="EMIDEC",
    ).convert(root, options, find_cases)


_COMMAND = Command(
    convert_emidec,
    LabelOptions,
    f"the extracted download: {LAYOUT}",
    dataset_id=36,
    name="EMIDEC",
    labels=label_maps.show_label_map(LABEL_MAP),
)
add_arguments, run = _COMMAND.add_arguments, _COMMAND.run
