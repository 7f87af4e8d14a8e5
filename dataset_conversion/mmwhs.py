"""MM-WHS 2017 (Zhuang et al., Medical Image Analysis 58:101537, 2019), whole hearts in 3D CT and MRI, seven structures.

Files, wherever they lie below ROOT: `ct_train/ct_train_1001_image.nii.gz` and `..._label.nii.gz` to 1020, `mr_train`
likewise, and `ct_test/ct_test_2001_image.nii.gz` and on, whose labels are not public. The names are those that public
code reads; the download itself was not at hand. The label 421 of mr_train_1010 is left atrium, which is 420 elsewhere.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from nnunet_shapekd.dataset_conversion import label_maps
from nnunet_shapekd.dataset_conversion.found import Found
from nnunet_shapekd.dataset_conversion.target import Command, option
from nnunet_shapekd.dataset_conversion.volumes import LabelOptions, VolumeSet

#: modality -> nnU-Net's channel name (CT has a normalisation of its own) and dataset id by default
MODALITIES = {"ct": ("CT", 32), "mr": ("MRI", 33)}
LAYOUT = "ct_train_1001_image.nii.gz, ct_train_1001_label.nii.gz, ct_test_2001_image.nii.gz and mr_..., in any folders"
NAMES = {205: "MLV", 420: "LA", 500: "LVC", 550: "RA", 600: "RV", 820: "ascending_aorta", 850: "pulmonary_artery"}
LABEL_MAP = {source: target for target, source in enumerate(NAMES, 1)}
#: a slip in one label map -> what it stands for
SLIPS = {421: 420}
_NIFTI = re.compile(r"(ct|mr)_(train|test)_(\d+)_(image|label|label_encrypt\w*)(?i:\.nii(?:\.gz)?)")


@dataclass(frozen=True, kw_only=True)
class MmwhsOptions(LabelOptions):
    """Options of MM-WHS; with labels="500:3,205:2,600:1,420:0,550:0,820:0,850:0" the labels are ACDC's."""

    modality: str = option("--modality", required=True, choices=list(MODALITIES), help="which images")


def find_cases(root: Path, options: MmwhsOptions) -> Found:
    """The cases of a modality; the challenge's test cases are test cases."""
    found, modality = Found(root), options.modality

    def place(match: re.Match[str], path: Path) -> tuple[str, int]:
        if match[1] != modality:
            return f"files were left out: they are not {modality}.", int(match[3])
        return match[4] if match[4] in ("image", "label") else "encrypted labels were left out.", int(match[3])

    for number, (image, label) in found.pairs(LAYOUT, _NIFTI, place, f"{modality} images").items():
        part = _NIFTI.fullmatch(image.name)[2]
        found.add(number, f"{modality}_{part}_{number}", image, label, part == "test")
    return found


def convert_mmwhs(root: str | Path, options: MmwhsOptions) -> Path:
    """Converts CT or MRI of MM-WHS; returns and raises as :func:`~.volumes.convert_volumes` (a wrong map, too)."""
    channel, dataset_id = MODALITIES[options.chosen("modality")]
    label_map = dict(options.label_map(LABEL_MAP))
    names = {**NAMES, **{slip: NAMES[value] for slip, value in SLIPS.items()}}
    if options.modality == "mr":
        label_map |= {s: label_map[v] for s, v in SLIPS.items() if v in label_map and s not in label_map}
    return VolumeSet(
        name=f"MMWHS{options.modality}",
        dataset_id=dataset_id,
        channel=channel,
        labels=label_maps.name_labels(label_map, names, options.names),
        label_map=label_map,
        title=f"Multi-Modality Whole Heart Segmentation challenge 2017, {channel}",
        reference="https://zmiclab.github.io/zxh/0/mmwhs/",
        citation="Zhuang et al., Medical Image Analysis 58:101537, 2019",
        terms="MM-WHS",
        plan_arguments="",
    ).convert(root, options, find_cases)


_COMMAND = Command(
    convert_mmwhs,
    MmwhsOptions,
    f"folder with the extracted archives: {LAYOUT}",
    dataset_id="32 ct, 33 mr",
    name="MMWHS and the modality",
    labels=label_maps.show_label_map(LABEL_MAP),
)
add_arguments, run = _COMMAND.add_arguments, _COMMAND.run
