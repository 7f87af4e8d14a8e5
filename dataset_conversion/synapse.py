"""Synapse multi-atlas abdomen, BTCV (Landman et al., MICCAI challenge 2015, syn3193805), abdominal CT, 13 organs.

Layout: `RawData/Training/img/img0001.nii.gz` and `RawData/Training/label/label0001.nii.gz`, 0001 to 0010 and 0021 to
0040; ROOT is the folder that holds RawData, or Training, or img and label. `RawData/Testing` has no labels and is left
out. Many copies have `imagesTr/img0001.nii.gz` and `labelsTr/label0001.nii.gz`, with `imagesTs`. The layouts are those
that public code reads; the download itself was not at hand.

TransUNet (Chen et al., arXiv:2102.04306) has eight of the organs, in an order of its own, and reports on twelve of the
cases (its repository's lists/lists_Synapse): here they become the test set, so that numbers can be compared and nothing
is chosen on them; the five folds divide the other eighteen.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from nnunet_shapekd.dataset_conversion import label_maps
from nnunet_shapekd.dataset_conversion.downloads import names_in, nifti_below, nifti_files
from nnunet_shapekd.dataset_conversion.found import Found
from nnunet_shapekd.dataset_conversion.organs import TRANSUNET_ORGANS, organs_map  # noqa: F401 (both are public)
from nnunet_shapekd.dataset_conversion.target import Command, ConversionError, option
from nnunet_shapekd.dataset_conversion.volumes import VolumeOptions, VolumeSet

LAYOUT = "RawData/Training/img/img0001.nii.gz and RawData/Training/label/label0001.nii.gz"
#: in the order of their values in the download, 1 to 13
ORGANS = (
    "spleen", "right_kidney", "left_kidney", "gallbladder", "esophagus", "liver", "stomach", "aorta",
    "inferior_vena_cava", "portal_and_splenic_veins", "pancreas", "right_adrenal_gland", "left_adrenal_gland",
)  # fmt: skip
LABELLED = (*range(1, 11), *range(21, 41))
TRANSUNET_TEST = (1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38)
#: folders of images and labels, and of images without labels beside them
_FOLDERS = (("img", "label", "../Testing"), ("imagesTr", "labelsTr", "imagesTs"))
_NIFTI = {kind: re.compile(kind + r"(\d{4})(?i:\.nii(?:\.gz)?)") for kind in ("img", "label")}


@dataclass(frozen=True, kw_only=True)
class SynapseOptions(VolumeOptions):
    """Options of Synapse."""

    organs: int = option(
        "--organs",
        type=int,
        choices=(4, 8, 13),
        default=8,
        help="TransUNet's eight in its order, CHAOS's four, or all (default: 8)",
    )
    split: str = option(
        "--split", choices=("transunet", "folds"), default="transunet",
        help="transunet: its 12 test cases are the test set; folds: all cases are training cases (default: transunet)",
    )  # fmt: skip


def find_cases(root: Path, options: SynapseOptions) -> Found:
    """The labelled cases; with the split "transunet" its twelve are test cases, all of which must be there."""
    found, split = Found(root), options.split if options.train is None else None
    bases = (root / "RawData/Training", root / "Training", root)
    places = [(base, *names) for base in bases for names in _FOLDERS if nifti_below(base / names[0])]
    if not places:
        raise ConversionError(
            f"{root}: expected ROOT/{LAYOUT}, or RawData or Training as ROOT, or imagesTr and labelsTr; found: "
            f"{names_in(root)}"
        )
    base, of_images, of_labels, without = places[0]
    images, labels = (
        [(int(match[1]), path) for match, path in found.sort(nifti_files(base / folder, LAYOUT), pattern, LAYOUT)]
        for folder, pattern in ((of_images, _NIFTI["img"]), (of_labels, _NIFTI["label"]))
    )
    test = TRANSUNET_TEST if split == "transunet" else ()
    for number, (image, label) in found.pair(images, labels).items():
        found.add(number, f"case{number:04d}", image, label, number in test)
    missing = [f"img{number:04d}" for number in test if number not in found.patients]
    if missing:
        found.problems.append(
            f"{base / of_images}: TransUNet's test cases {', '.join(missing)} are missing; restore them from the "
            "download, or divide the cases with --split folds or your own lists"
        )
    absent = [f"img{number:04d}" for number in LABELLED if number not in (*found.patients, *test)]
    if absent and split is not None:
        found.remarks.append(f"{len(absent)} of the {len(LABELLED)} labelled cases are not there: {', '.join(absent)}.")
    testing = [path for path in nifti_below(base / without) if path.name.lower().startswith("img")]
    found.leave_out(testing, f"images of {Path(without).name} have no labels and were left out.")
    return found


def convert_synapse(root: str | Path, options: SynapseOptions = SynapseOptions()) -> Path:
    """Converts Synapse's abdominal CT; returns and raises as :func:`~.volumes.convert_volumes`."""
    options.chosen("split")
    values = organs_map(ORGANS, options.chosen("organs"))
    return VolumeSet(
        name="Synapse",
        dataset_id=34,
        channel="CT",
        labels=label_maps.name_labels(values, dict(enumerate(ORGANS, 1))),
        label_map=values,
        title=f"Multi-atlas labelling beyond the cranial vault, abdominal CT, {options.organs} organs",
        reference="https://www.synapse.org/Synapse:syn3193805",
        citation="Landman et al., MICCAI multi-atlas labeling beyond the cranial vault challenge, 2015",
        terms="Synapse",
        plan_arguments="",
    ).convert(root, options, find_cases)


_COMMAND = Command(convert_synapse, SynapseOptions, f"the extracted download: {LAYOUT}", dataset_id=34, name="Synapse")
add_arguments, run = _COMMAND.add_arguments, _COMMAND.run
