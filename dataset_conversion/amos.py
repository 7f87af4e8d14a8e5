"""AMOS22 (Ji et al., NeurIPS 2022), abdominal CT and MRI with 15 organs.

Layout: `imagesTr/amos_0001.nii.gz` and `labelsTr/amos_0001.nii.gz`, `imagesVa` and `labelsVa`, `imagesTs` whose labels
are not public. Numbers up to 500 are CT, those above MRI. As public loaders read it; the download itself was not at
hand.

The official validation cases become the test set, the training cases are divided into folds. Organs are called as in
Synapse, so that models of one are judged on the other, and models of CT on MRI.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from nnunet_shapekd.dataset_conversion import label_maps
from nnunet_shapekd.dataset_conversion.found import Found
from nnunet_shapekd.dataset_conversion.organs import organs_map
from nnunet_shapekd.dataset_conversion.target import Command, option
from nnunet_shapekd.dataset_conversion.volumes import VolumeOptions, VolumeSet

#: modality -> nnU-Net's channel name and dataset id by default
MODALITIES = {"ct": ("CT", 38), "mr": ("MRI", 39)}
LAST_OF_CT = 500
LAYOUT = "imagesTr/amos_0001.nii.gz, labelsTr/amos_0001.nii.gz, imagesVa, labelsVa and imagesTs"
#: in the order of their values in the download, 1 to 15
ORGANS = (
    "spleen", "right_kidney", "left_kidney", "gallbladder", "esophagus", "liver", "stomach", "aorta",
    "inferior_vena_cava", "pancreas", "right_adrenal_gland", "left_adrenal_gland", "duodenum", "bladder",
    "prostate_or_uterus",
)  # fmt: skip
_NIFTI = re.compile(r"amos_(\d{4})(?i:\.nii(?:\.gz)?)")
_KINDS = {f"{kind}s{part}": kind for kind in ("image", "label") for part in ("Tr", "Va", "Ts")}


@dataclass(frozen=True, kw_only=True)
class AmosOptions(VolumeOptions):
    """Options of AMOS22."""

    modality: str = option("--modality", required=True, choices=list(MODALITIES), help="which images")
    organs: int = option(
        "--organs", type=int, choices=(4, 8, 15), default=15,
        help="CHAOS's four, TransUNet's eight in its order, or all (default: %(default)s)",
    )  # fmt: skip


def find_cases(root: Path, options: AmosOptions) -> Found:
    """The labelled cases of a modality; the official validation cases are test cases."""
    found, modality = Found(root), options.modality

    def place(match: re.Match[str], path: Path) -> tuple[str, int] | None:
        number, kind = int(match[1]), _KINDS.get(path.parent.name)
        if (number <= LAST_OF_CT) != (modality == "ct"):
            kind = kind and f"files were left out: they are not {modality}."
        return (kind, number) if kind else None

    unlabelled: list[Path] = []
    for number, (image, label) in found.pairs(LAYOUT, _NIFTI, place, f"{modality} images").items():
        if label is None and image.parent.name == "imagesTs":
            unlabelled.append(image)
        else:
            is_test = any(path.parent.name.endswith("Va") for path in (image, label) if path)
            found.add(number, f"amos_{number:04d}", image, label, is_test)
    found.leave_out(unlabelled, f"{modality} images of imagesTs have no labels and were left out.")
    return found


def convert_amos(root: str | Path, options: AmosOptions) -> Path:
    """Converts CT or MRI of AMOS22; returns and raises as :func:`~.volumes.convert_volumes`."""
    channel, dataset_id = MODALITIES[options.chosen("modality")]
    values = organs_map(ORGANS, options.chosen("organs"))
    return VolumeSet(
        name=f"AMOS{options.modality}",
        dataset_id=dataset_id,
        channel=channel,
        labels=label_maps.name_labels(values, dict(enumerate(ORGANS, 1))),
        label_map=values,
        title=f"Multi-modality abdominal multi-organ segmentation challenge 2022, {channel}",
        reference="https://amos22.grand-challenge.org/",
        citation="Ji et al., AMOS: a large-scale abdominal multi-organ benchmark, NeurIPS 2022",
        terms="AMOS22",
        plan_arguments="",
    ).convert(root, options, find_cases)


_COMMAND = Command(
    convert_amos,
    AmosOptions,
    f"the extracted download: {LAYOUT}",
    dataset_id="38 ct, 39 mr",
    name="AMOS and the modality",
)
add_arguments, run = _COMMAND.add_arguments, _COMMAND.run
