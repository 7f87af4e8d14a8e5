"""MSCMRseg 2019 (Zhuang et al., Medical Image Analysis 81:102528, 2022), cardiac MRI of 45 patients in three sequences.

Files of the challenge's archives, wherever they lie below ROOT: `patientN_SEQ.nii.gz` and `patientN_SEQ_manual.nii.gz`,
SEQ being C0 (bSSFP), T2 or LGE, in folders like `C0LET2_nii45_for_challenge19/c0t2lge`, `.../c0gt`, `.../t2gt`,
`.../lgegt` and, with the labels published after the challenge, `C0LET2_gt_for_challenge19/...`; and of the copy that
weakly supervised methods use, `subjectN_DE.nii.gz` in `train`, `val` and `test` with labels 0 to 3. These names are
those that public code reads; the archives themselves were not at hand.

Labels are brought to ACDC's order and names, so that a model of either dataset fits the other.
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

#: sequence -> what file names call it, nnU-Net's dataset id by default
SEQUENCES = {"LGE": ("LGE|DE", 29), "bSSFP": ("C0", 30), "T2": ("T2", 31)}
LAYOUT = "patientN_SEQ.nii.gz and patientN_SEQ_manual.nii.gz, with C0, T2 or LGE (also subjectN_DE), in any folders"
NAMES = {600: "RV", 200: "MLV", 500: "LVC", 1: "RV", 2: "MLV", 3: "LVC"}
#: the challenge's values, and those of the 0 to 3 copy, which are ACDC's
LABEL_MAP = {500: 3, 200: 2, 600: 1, 1: 1, 2: 2, 3: 3}
_NIFTI = re.compile(r"(?:patient|subject)(\d+)_(C0|T2|LGE|DE)(_manual|_scribble)?(?i:\.nii(?:\.gz)?)")
#: folders of labels that were published after the challenge, or of a copy's test set
_TEST = re.compile(r".*test.*|.*gt_for_challenge.*", re.IGNORECASE)


def find_cases(root: Path, sequence: str) -> Found:
    """The labelled cases of a sequence; those whose label lies in a test folder are test cases."""
    found = Found(root)
    files = {"": [], "_manual": [], "_scribble": []}
    unknown = []
    for path in volumes.nifti_files(root, LAYOUT):
        match = _NIFTI.fullmatch(path.name)
        if not match:
            unknown.append(path)
        elif re.fullmatch(SEQUENCES[sequence][0], match[2]):
            files[match[3] or ""].append((int(match[1]), path))
    if unknown:
        found.problems.append(f"{root}: expected names like {LAYOUT}; move away {volumes.few(unknown, root)}")
    unlabelled = []
    for number, (image, label) in volumes.pair(found, files[""], files["_manual"]).items():
        if label is None:
            unlabelled.append(number)
            continue
        is_test = any(_TEST.fullmatch(part) for part in label.relative_to(root).parts[:-1])
        found.cases[number] = Case(f"patient{number:02d}_{sequence}", image, label, "Ts" if is_test else "Tr")
    if not files[""]:
        found.problems.append(f"{root}: no {sequence} images; expected {LAYOUT}")
    if unlabelled:
        which = volumes.few([f"patient{number}" for number in unlabelled])
        found.remarks.append(f"{len(unlabelled)} {sequence} images have no label and were left out: {which}.")
    if files["_scribble"]:
        found.remarks.append(f"{len(files['_scribble'])} scribbles were left out: they are no full labels.")
    return found


def convert_mscmrseg(
    root: str | Path,
    sequence: str,
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
    """Converts one sequence of MSCMRseg, after checking every case; writes a whole dataset or nothing.

    Args:
        root: The folder with the extracted archives.
        sequence: LGE, bSSFP or T2.
        dataset_id: nnU-Net's dataset id; by default `SEQUENCES`'.
        name: What follows the id; by default MSCMRseg and the sequence.
        labels: Label map instead of `LABEL_MAP`, see :func:`~.label_maps.parse_label_map`.
        names: The classes' names, see :func:`~.label_maps.name_labels`.
        train: JSON list of patient numbers; with `val`, replaces the folds by this one, and test folders by `test`.
        val: See `train`.
        test: See `train`.
        **target: `seed`, `processes`, `raw_folder`, `preprocessed_folder` of :func:`~.common.check_target`.

    Returns:
        The new dataset's folder.

    Raises:
        ConversionError: listing all problems found; nothing was written.
        ValueError: for a wrong label map.
    """
    if sequence not in SEQUENCES:
        raise ConversionError(f"--sequence: expected {', '.join(SEQUENCES)}, got {sequence}")
    label_map = LABEL_MAP if labels is None else label_maps.parse_label_map(labels)
    classes = label_maps.name_labels(label_map, NAMES, names)
    dataset_id = SEQUENCES[sequence][1] if dataset_id is None else dataset_id
    name = name or f"MSCMRseg{sequence}"
    checked = common.check_target(dataset_id, name, **target)
    found = find_cases(Path(root), sequence)
    if labels is None:
        found.remarks.append("Labels 0 to 3 count as ACDC's (1 RV, 2 myocardium, 3 LV); if they are not, use --labels.")
    description = {
        "channel_names": {"0": sequence},
        "labels": classes,
        "name": name,
        "description": f"Multi-sequence Cardiac MR Segmentation Challenge 2019, {sequence}",
        "reference": "https://zmiclab.github.io/zxh/0/mscmrseg19/",
        "citation": "Zhuang et al., Medical Image Analysis 81:102528, 2022",
        "licence": "see the terms of the MSCMRseg download",
    }
    lists = {"train": train, "val": val, "test": test}
    return volumes.convert_volumes(found, checked, label_map, description, lists, " -c 2d")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `shapekd convert mscmrseg`."""
    parser.add_argument("root", metavar="ROOT", help=f"folder with the extracted archives: {LAYOUT}")
    parser.add_argument("--sequence", required=True, choices=list(SEQUENCES), help="which images")
    volumes.add_label_arguments(parser, "500:3,200:2,600:1, and 0 to 3 as ACDC has them")
    volumes.add_volume_arguments(parser, "MSCMRseg and the sequence", "29 LGE, 30 bSSFP, 31 T2", "patient numbers")


def run(args: argparse.Namespace) -> int:
    """Converts as the parsed arguments say; returns the exit status."""
    own = {"labels": args.labels, "names": args.names}
    return common.run_conversion(lambda: convert_mscmrseg(args.root, args.sequence, **own, **volumes.shared(args)))


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python -m nnunet_shapekd.dataset_conversion.mscmrseg`."""
    parser = argparse.ArgumentParser(prog="python -m nnunet_shapekd.dataset_conversion.mscmrseg", description=__doc__)
    add_arguments(parser)
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
