"""MSCMRseg 2019 (Zhuang et al., Medical Image Analysis 81:102528, 2022), cardiac MRI of 45 patients in three sequences.

Files of the challenge's archives, wherever they lie below ROOT: `patientN_SEQ.nii.gz` and `patientN_SEQ_manual.nii.gz`,
SEQ being C0 (bSSFP), T2 or LGE, in folders like `C0LET2_nii45_for_challenge19/c0t2lge`, `.../c0gt`, `.../t2gt`,
`.../lgegt` and, with the labels published after the challenge, `C0LET2_gt_for_challenge19/...`; and of the copies that
weakly supervised methods use, `subjectN_DE.nii.gz` in folders `images`, its label of the same name, or with `_manual`,
in `labels`, perhaps below `train`, `val` and `test` or `TestSet`, with labels 0 to 3. These names are those that public
code reads; the archives themselves were not at hand. Not all copies number the labels as ACDC does, and one has lost a
label's origin: the first is noticed by the myocardium, which encloses the cavity, and `--label-header image` helps the
second.

Labels are brought to ACDC's order and names, so that a model of either dataset fits the other.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from nnunet_shapekd.dataset_conversion import label_maps, volumes
from nnunet_shapekd.dataset_conversion.downloads import few, nifti_files
from nnunet_shapekd.dataset_conversion.target import Command, ConversionError, check_target, option
from nnunet_shapekd.dataset_conversion.volumes import Found, LabelOptions

#: sequence -> what file names call it, nnU-Net's dataset id by default
SEQUENCES = {"LGE": ("LGE|DE", 29), "bSSFP": ("C0", 30), "T2": ("T2", 31)}
LAYOUT = "patientN_SEQ.nii.gz and patientN_SEQ_manual.nii.gz, with C0, T2 or LGE (also subjectN_DE), in any folders"
NAMES = {600: "RV", 200: "MLV", 500: "LVC", 1: "RV", 2: "MLV", 3: "LVC"}
#: the challenge's values, and those of the 0 to 3 copy, which are ACDC's
LABEL_MAP = {500: 3, 200: 2, 600: 1, 1: 1, 2: 2, 3: 3}
_NIFTI = re.compile(
    r"(?:patient|subject)(\d+)_(C0|T2|LGE|DE)(_manual|_gd|_gt|_label|_scribble|_dense)?(?i:\.nii(?:\.gz)?)"
)
#: folders of labels that were published after the challenge, or of a copy's test set
_LABELS = re.compile(r"labels?|masks?|manual|.*gt", re.IGNORECASE)
_TEST = re.compile(r".*test.*|.*gt_for_challenge.*", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class MscmrsegOptions(LabelOptions):
    """Options of MSCMRseg."""

    sequence: str = option("--sequence", required=True, choices=list(SEQUENCES), help="which images")


def find_cases(root: Path, sequence: str) -> Found:
    """The labelled cases of a sequence; those whose label lies in a test folder are test cases."""
    found = Found(root)
    images, labels, scribbles = [], [], []
    others: list[Path] = []
    for match, path in found.sort(nifti_files(root, LAYOUT), _NIFTI, LAYOUT):
        if re.fullmatch(SEQUENCES[sequence][0], match[2]):
            is_label = match[3] or _LABELS.fullmatch(path.parent.name)
            kind = scribbles if match[3] in ("_scribble", "_dense") else labels if is_label else images
            kind.append((int(match[1]), path))
        else:
            others.append(path)
    unlabelled: dict[str, Path] = {}
    for number, (image, label) in found.pair(images, labels).items():
        if label is None:
            unlabelled[f"patient{number}"] = image
            continue
        is_test = any(_TEST.fullmatch(part) for part in label.relative_to(root).parts[:-1])
        patient = f"patient{number:02d}"
        found.add(number, f"{patient}_{sequence}", image, label, is_test, patient)
    if not images:
        found.problems.append(f"{root}: no {sequence} images; expected {LAYOUT}")
    found.leave_out(unlabelled.values(), f"{sequence} images have no label and were left out: {few([*unlabelled])}.")
    found.leave_out([path for _, path in scribbles], "scribbles were left out: they are no full labels.")
    found.leave_out(others, f"files were left out: they are of other sequences than {sequence}.")
    return found


def convert_mscmrseg(root: str | Path, options: MscmrsegOptions) -> Path:
    """Converts one sequence of MSCMRseg, after checking every case; writes a whole dataset or nothing.

    Returns its folder; raises as :func:`~.volumes.convert_volumes` and for a wrong label map.
    """
    sequence = options.sequence
    if sequence not in SEQUENCES:
        raise ConversionError(f"--sequence: expected {', '.join(SEQUENCES)}, got {sequence}")
    label_map = options.label_map(LABEL_MAP)
    target = check_target(options, f"MSCMRseg{sequence}", SEQUENCES[sequence][1])
    found = find_cases(Path(root), sequence)
    if options.labels is None:
        found.remarks.append("Labels 0 to 3 count as ACDC's (1 RV, 2 myocardium, 3 LV).")
    description = {
        "channel_names": {"0": sequence},
        "labels": label_maps.name_labels(label_map, NAMES, options.names),
        "name": target.name,
        "description": f"Multi-sequence Cardiac MR Segmentation Challenge 2019, {sequence}",
        "reference": "https://zmiclab.github.io/zxh/0/mscmrseg19/",
        "citation": "Zhuang et al., Medical Image Analysis 81:102528, 2022",
        "licence": "see the terms of the MSCMRseg download",
    }
    return volumes.convert_volumes(found, target, options, label_map, description)


_COMMAND = Command(
    convert_mscmrseg,
    MscmrsegOptions,
    f"folder with the extracted archives: {LAYOUT}",
    dataset_id="29 LGE, 30 bSSFP, 31 T2",
    name="MSCMRseg and the sequence",
    labels="500:3,200:2,600:1, and 0 to 3 as ACDC has them",
)
add_arguments, run = _COMMAND.add_arguments, _COMMAND.run
