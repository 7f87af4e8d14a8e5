"""Synapse multi-atlas abdomen, BTCV (Landman et al., MICCAI challenge 2015, syn3193805), abdominal CT, 13 organs.

Layout: `RawData/Training/img/img0001.nii.gz` and `RawData/Training/label/label0001.nii.gz`, 0001 to 0010 and 0021 to
0040; ROOT is the folder that holds RawData, or Training, or img and label. `RawData/Testing` has no labels and is left
out. The layout is the one that public code reads; the download itself was not at hand.

TransUNet (Chen et al., arXiv:2102.04306) has eight of the organs, in an order of its own, and reports on twelve of the
cases (its repository's lists/lists_Synapse): here they become the test set, so that numbers can be compared and nothing
is chosen on them; the five folds divide the other eighteen.
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

LAYOUT = "RawData/Training/img/img0001.nii.gz and RawData/Training/label/label0001.nii.gz"
#: in the order of their values in the download, 1 to 13
ORGANS = (
    "spleen", "right_kidney", "left_kidney", "gallbladder", "esophagus", "liver", "stomach", "aorta",
    "inferior_vena_cava", "portal_and_splenic_veins", "pancreas", "right_adrenal_gland", "left_adrenal_gland",
)  # fmt: skip
#: in the order of their values in TransUNet's data, 1 to 8
TRANSUNET_ORGANS = (
    "aorta", "gallbladder", "left_kidney", "right_kidney", "liver", "pancreas", "spleen", "stomach",
)  # fmt: skip
LABELLED = (*range(1, 11), *range(21, 41))
TRANSUNET_TEST = (1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38)
SPLITS = ("transunet", "folds")
_NIFTI = re.compile(r"(img|label)(\d{4})(?i:\.nii(?:\.gz)?)")


def label_map(n_organs: int) -> dict[int, int]:
    """The download's values -> those of 8 or 13 organs."""
    chosen = {8: TRANSUNET_ORGANS, 13: ORGANS}
    if n_organs not in chosen:
        raise ConversionError(f"--organs: expected 8 or 13, got {n_organs}")
    target_of = {organ: value for value, organ in enumerate(chosen[n_organs], 1)}
    return {source: target_of.get(organ, 0) for source, organ in enumerate(ORGANS, 1)}


def find_cases(root: Path, split: str | None) -> Found:
    """The labelled cases; with the split "transunet" its twelve are test cases, all of which must be there."""
    if split not in (*SPLITS, None):
        raise ConversionError(f"--split: expected {' or '.join(SPLITS)}, got {split}")
    bases = [base for base in (root / "RawData/Training", root / "Training", root) if (base / "img").is_dir()]
    if not bases:
        there = ", ".join(sorted(path.name for path in root.iterdir())[:10]) if root.is_dir() else "no such folder"
        raise ConversionError(f"{root}: expected ROOT/{LAYOUT}, or RawData or Training as ROOT; found: {there}")
    found = Found(root)
    files, unknown = {"img": [], "label": []}, []
    for kind in files:
        for path in volumes.nifti_files(bases[0] / kind, LAYOUT):
            match = _NIFTI.fullmatch(path.name)
            if match and match[1] == kind:
                files[kind].append((int(match[2]), path))
            else:
                unknown.append(path)
    if unknown:
        found.problems.append(f"{root}: expected names like {LAYOUT}; move away {volumes.few(unknown, root)}")
    test = TRANSUNET_TEST if split == "transunet" else ()
    for number, (image, label) in volumes.pair(found, files["img"], files["label"]).items():
        found.cases[number] = Case(f"case{number:04d}", image, label, "Ts" if number in test else "Tr")
    missing = [f"img{number:04d}" for number in test if number not in found.cases]
    if missing:
        found.problems.append(
            f"{bases[0] / 'img'}: TransUNet's test cases {', '.join(missing)} are missing; restore them from the "
            "download, or divide the cases with --split folds or your own lists"
        )
    absent = [f"img{number:04d}" for number in LABELLED if number not in (*found.cases, *test)]
    if absent and split is not None:
        found.remarks.append(f"{len(absent)} of the {len(LABELLED)} labelled cases are not there: {', '.join(absent)}.")
    testing = volumes.nifti_below(bases[0].parent / "Testing")
    n_testing = sum(path.name.lower().startswith("img") for path in testing)
    if n_testing:
        found.remarks.append(f"The {n_testing} images of Testing have no labels and were left out.")
    return found


def convert_synapse(
    root: str | Path,
    dataset_id: int = 34,
    name: str | None = None,
    *,
    organs: int = 8,
    split: str = "transunet",
    train: str | Path | None = None,
    val: str | Path | None = None,
    test: str | Path | None = None,
    **target: Any,
) -> Path:
    """Converts Synapse's abdominal CT, after checking every case; writes a whole dataset or nothing.

    Args:
        root: The folder with RawData.
        dataset_id: nnU-Net's dataset id.
        name: What follows the id, Synapse by default.
        organs: 8, those of TransUNet in its order, or 13.
        split: "transunet": its 12 test cases are the test set; "folds": all labelled cases are training cases.
        train: JSON list of case numbers; with `val`, replaces the folds by this one, and `split` by `test`.
        val: See `train`.
        test: See `train`.
        **target: `seed`, `processes`, `raw_folder`, `preprocessed_folder` of :func:`~.common.check_target`.

    Returns:
        The new dataset's folder.

    Raises:
        ConversionError: listing all problems found; nothing was written.
    """
    values = label_map(organs)
    name = name or "Synapse"
    checked = common.check_target(dataset_id, name, **target)
    found = find_cases(Path(root), split if train is None else None)
    description = {
        "channel_names": {"0": "CT"},
        "labels": label_maps.name_labels(values, dict(enumerate(ORGANS, 1))),
        "name": name,
        "description": f"Multi-atlas labelling beyond the cranial vault, abdominal CT, {organs} organs",
        "reference": "https://www.synapse.org/Synapse:syn3193805",
        "citation": "Landman et al., MICCAI multi-atlas labeling beyond the cranial vault challenge, 2015",
        "licence": "see the terms of the Synapse download",
    }
    return volumes.convert_volumes(found, checked, values, description, {"train": train, "val": val, "test": test})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `shapekd convert synapse`."""
    parser.add_argument("root", metavar="ROOT", help=f"the extracted download: {LAYOUT}")
    parser.add_argument(
        "--organs", type=int, choices=(8, 13), default=8, help="TransUNet's eight in its order, or all (default: 8)"
    )
    parser.add_argument(
        "--split", choices=SPLITS, default=SPLITS[0],
        help="transunet: its 12 test cases are the test set; folds: all cases are training cases (default: transunet)",
    )  # fmt: skip
    volumes.add_volume_arguments(parser, "Synapse", 34, "case numbers (1 to 40)")


def run(args: argparse.Namespace) -> int:
    """Converts as the parsed arguments say; returns the exit status."""
    own = {"organs": args.organs, "split": args.split}
    return common.run_conversion(lambda: convert_synapse(args.root, **own, **volumes.shared(args)))


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python -m nnunet_shapekd.dataset_conversion.synapse`."""
    parser = argparse.ArgumentParser(prog="python -m nnunet_shapekd.dataset_conversion.synapse", description=__doc__)
    add_arguments(parser)
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
