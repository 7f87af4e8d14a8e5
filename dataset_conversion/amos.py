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

from nnunet_shapekd.dataset_conversion import label_maps, volumes
from nnunet_shapekd.dataset_conversion.downloads import nifti_files
from nnunet_shapekd.dataset_conversion.organs import organs_map
from nnunet_shapekd.dataset_conversion.target import Command, ConversionError, check_target, option
from nnunet_shapekd.dataset_conversion.volumes import Found, VolumeOptions

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
_FOLDER = re.compile(r"(images|labels)(Tr|Va|Ts)")


@dataclass(frozen=True, kw_only=True)
class AmosOptions(VolumeOptions):
    """Options of AMOS22."""

    modality: str = option("--modality", required=True, choices=list(MODALITIES), help="which images")
    organs: int = option(
        "--organs", type=int, choices=(4, 8, 15), default=15,
        help="CHAOS's four, TransUNet's eight in its order, or all (default: %(default)s)",
    )  # fmt: skip


def find_cases(root: Path, modality: str) -> Found:
    """The labelled cases of a modality; the official validation cases are test cases."""
    found = Found(root)
    files: dict[str, list[tuple[int, Path]]] = {"images": [], "labels": []}
    validation: set[int] = set()
    others: list[Path] = []
    for match, path in found.sort(nifti_files(root, LAYOUT), _NIFTI, LAYOUT):
        number, folder = int(match[1]), _FOLDER.fullmatch(path.parent.name)
        if not folder:
            found.problems.append(f"{path}: expected to lie in a folder of {LAYOUT}; move it there or away")
        elif (number <= LAST_OF_CT) == (modality == "ct"):
            files[folder[1]].append((number, path))
            validation |= {number} if folder[2] == "Va" else set()
        else:
            others.append(path)
    unlabelled: list[Path] = []
    for number, (image, label) in found.pair(files["images"], files["labels"]).items():
        if label is None and image.parent.name == "imagesTs":
            unlabelled.append(image)
        else:
            found.add(number, f"amos_{number:04d}", image, label, number in validation)
    if not files["images"]:
        found.problems.append(f"{root}: no {modality} images; expected {LAYOUT}")
    found.leave_out(unlabelled, f"{modality} images of imagesTs have no labels and were left out.")
    found.leave_out(others, f"files were left out: they are not {modality}.")
    return found


def convert_amos(root: str | Path, options: AmosOptions) -> Path:
    """Converts CT or MRI of AMOS22, after checking every case; writes a whole dataset or nothing.

    Returns its folder; raises as :func:`~.volumes.convert_volumes`.
    """
    if options.modality not in MODALITIES:
        raise ConversionError(f"--modality: expected {', '.join(MODALITIES)}, got {options.modality}")
    channel, dataset_id = MODALITIES[options.modality]
    values = organs_map(ORGANS, options.organs)
    target = check_target(options, f"AMOS{options.modality}", dataset_id)
    description = {
        "channel_names": {"0": channel},
        "labels": label_maps.name_labels(values, dict(enumerate(ORGANS, 1))),
        "name": target.name,
        "description": f"Multi-modality abdominal multi-organ segmentation challenge 2022, {channel}",
        "reference": "https://amos22.grand-challenge.org/",
        "citation": "Ji et al., AMOS: a large-scale abdominal multi-organ benchmark, NeurIPS 2022",
        "licence": "see the terms of the AMOS22 download",
    }
    return volumes.convert_volumes(find_cases(Path(root), options.modality), target, options, values, description, "")


_COMMAND = Command(
    convert_amos,
    AmosOptions,
    f"the extracted download: {LAYOUT}",
    dataset_id="38 ct, 39 mr",
    name="AMOS and the modality",
)
add_arguments, run = _COMMAND.add_arguments, _COMMAND.run
