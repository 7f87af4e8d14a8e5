"""MM-WHS 2017 (Zhuang et al., Medical Image Analysis 58:101537, 2019), whole hearts in 3D CT and MRI, seven structures.

Files, wherever they lie below ROOT: `ct_train/ct_train_1001_image.nii.gz` and `..._label.nii.gz` to 1020, `mr_train`
likewise, and `ct_test/ct_test_2001_image.nii.gz` and on, whose labels are not public. The names are those that public
code reads; the download itself was not at hand.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnunet_shapekd.dataset_conversion import common, label_maps, volumes
from nnunet_shapekd.dataset_conversion.common import Case, ConversionError
from nnunet_shapekd.dataset_conversion.volumes import Found

#: modality -> nnU-Net's channel name (CT has a normalisation of its own) and dataset id by default
MODALITIES = {"ct": ("CT", 32), "mr": ("MRI", 33)}
LAYOUT = "ct_train_1001_image.nii.gz, ct_train_1001_label.nii.gz, ct_test_2001_image.nii.gz and mr_..., in any folders"
NAMES = {205: "MLV", 420: "LA", 500: "LVC", 550: "RA", 600: "RV", 820: "ascending_aorta", 850: "pulmonary_artery"}
LABEL_MAP = {source: target for target, source in enumerate(NAMES, 1)}
_NIFTI = re.compile(r"(ct|mr)_(train|test)_(\d+)_(image|label|label_encrypt\w*)(?i:\.nii(?:\.gz)?)")


def find_cases(root: Path, modality: str) -> Found:
    """The cases of a modality; the challenge's test cases are test cases."""
    found = Found(root)
    files = {"image": [], "label": []}
    unknown, encrypted, test = [], [], set()
    for path in volumes.nifti_files(root, LAYOUT):
        match = _NIFTI.fullmatch(path.name)
        if not match:
            unknown.append(path)
        elif match[1] == modality and match[4] in files:
            files[match[4]].append((int(match[3]), path))
            test |= {int(match[3])} if match[2] == "test" else set()
        elif match[1] == modality:
            encrypted.append(path)
    if unknown:
        found.problems.append(f"{root}: expected names like {LAYOUT}; move away {volumes.few(unknown, root)}")
    for number, (image, label) in volumes.pair(found, files["image"], files["label"]).items():
        subset = "Ts" if number in test else "Tr"
        stem = f"{modality}_{'test' if number in test else 'train'}_{number}"
        found.cases[number] = Case(stem, image, label, subset)
    if not files["image"]:
        found.problems.append(f"{root}: no {modality} images; expected {LAYOUT}")
    if encrypted:
        found.remarks.append(f"{len(encrypted)} encrypted labels were left out.")
    return found


def convert_mmwhs(
    root: str | Path,
    modality: str,
    dataset_id: int | None = None,
    name: str | None = None,
    *,
    labels: str | None = None,
    names: str | None = None,
    train: str | Path | None = None,
    val: str | Path | None = None,
    test: str | Path | None = None,
    **target: Any,
) -> Path:
    """Converts CT or MRI of MM-WHS, after checking every case; writes a whole dataset or nothing.

    Args:
        root: The folder with the extracted archives.
        modality: ct or mr.
        dataset_id: nnU-Net's dataset id; by default `MODALITIES`'.
        name: What follows the id; by default MMWHS and the modality.
        labels: Label map instead of all seven structures, see :func:`~.label_maps.parse_label_map`; with
            "500:3,205:2,600:1,420:0,550:0,820:0,850:0" the labels are ACDC's.
        names: The classes' names, see :func:`~.label_maps.name_labels`.
        train: JSON list of case numbers; with `val`, replaces the folds by this one, and the test cases by `test`.
        val: See `train`.
        test: See `train`.
        **target: `seed`, `processes`, `raw_folder`, `preprocessed_folder` of :func:`~.common.check_target`.

    Returns:
        The new dataset's folder.

    Raises:
        ConversionError: listing all problems found; nothing was written.
        ValueError: for a wrong label map.
    """
    if modality not in MODALITIES:
        raise ConversionError(f"--modality: expected {', '.join(MODALITIES)}, got {modality}")
    label_map = LABEL_MAP if labels is None else label_maps.parse_label_map(labels)
    classes = label_maps.name_labels(label_map, NAMES, names)
    channel, default_id = MODALITIES[modality]
    dataset_id = default_id if dataset_id is None else dataset_id
    name = name or f"MMWHS{modality}"
    checked = common.check_target(dataset_id, name, **target)
    description = {
        "channel_names": {"0": channel},
        "labels": classes,
        "name": name,
        "description": f"Multi-Modality Whole Heart Segmentation challenge 2017, {channel}",
        "reference": "https://zmiclab.github.io/zxh/0/mmwhs/",
        "citation": "Zhuang et al., Medical Image Analysis 58:101537, 2019",
        "licence": "see the terms of the MM-WHS download",
    }
    lists = {"train": train, "val": val, "test": test}
    return volumes.convert_volumes(find_cases(Path(root), modality), checked, label_map, description, lists)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `shapekd convert mmwhs`."""
    parser.add_argument("root", metavar="ROOT", help=f"folder with the extracted archives: {LAYOUT}")
    parser.add_argument("--modality", required=True, choices=list(MODALITIES), help="which images")
    volumes.add_label_arguments(parser, label_maps.show_label_map(LABEL_MAP))
    volumes.add_volume_arguments(parser, "MMWHS and the modality", "32 ct, 33 mr", "case numbers (1001, ...)")


def run(args: argparse.Namespace) -> int:
    """Converts as the parsed arguments say; returns the exit status."""
    own = {"labels": args.labels, "names": args.names}
    return common.run_conversion(lambda: convert_mmwhs(args.root, args.modality, **own, **volumes.shared(args)))


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python -m nnunet_shapekd.dataset_conversion.mmwhs`."""
    parser = argparse.ArgumentParser(prog="python -m nnunet_shapekd.dataset_conversion.mmwhs", description=__doc__)
    add_arguments(parser)
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
