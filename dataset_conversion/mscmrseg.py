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

from nnunet_shapekd.dataset_conversion import label_maps
from nnunet_shapekd.dataset_conversion.found import Found
from nnunet_shapekd.dataset_conversion.target import Command, option
from nnunet_shapekd.dataset_conversion.volumes import LabelOptions, VolumeSet

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


def find_cases(root: Path, options: MscmrsegOptions) -> Found:
    """The labelled cases of a sequence; those whose label lies in a test folder are test cases."""
    found, sequence = Found(root), options.sequence

    def place(match: re.Match[str], path: Path) -> tuple[str, int]:
        number, called, kind = int(match[1]), match[2], match[3]
        if not re.fullmatch(SEQUENCES[sequence][0], called):
            return f"files were left out: they are of other sequences than {sequence}.", number
        if kind in ("_scribble", "_dense"):
            return "scribbles were left out: they are no full labels.", number
        return "label" if kind or _LABELS.fullmatch(path.parent.name) else "image", number

    pairs = found.pairs(LAYOUT, _NIFTI, place, f"{sequence} images", lambda number, _: f"patient{number}")
    for number, (image, label) in pairs.items():
        is_test = any(_TEST.fullmatch(part) for part in label.relative_to(root).parts[:-1])
        patient = f"patient{number:02d}"
        found.add(number, f"{patient}_{sequence}", image, label, is_test, patient)
    if options.labels is None:
        found.remarks.append("Labels 0 to 3 count as ACDC's (1 RV, 2 myocardium, 3 LV).")
    return found


def convert_mscmrseg(root: str | Path, options: MscmrsegOptions) -> Path:
    """Converts a sequence of MSCMRseg; returns and raises as :func:`~.volumes.convert_volumes` (a wrong map, too)."""
    sequence, label_map = options.chosen("sequence"), options.label_map(LABEL_MAP)
    return VolumeSet(
        name=f"MSCMRseg{sequence}",
        dataset_id=SEQUENCES[sequence][1],
        channel=sequence,
        labels=label_maps.name_labels(label_map, NAMES, options.names),
        label_map=label_map,
        title=f"Multi-sequence Cardiac MR Segmentation Challenge 2019, {sequence}",
        reference="https://zmiclab.github.io/zxh/0/mscmrseg19/",
        citation="Zhuang et al., Medical Image Analysis 81:102528, 2022",
        terms="MSCMRseg",
    ).convert(root, options, find_cases)


_COMMAND = Command(
    convert_mscmrseg,
    MscmrsegOptions,
    f"folder with the extracted archives: {LAYOUT}",
    dataset_id="29 LGE, 30 bSSFP, 31 T2",
    name="MSCMRseg and the sequence",
    labels="500:3,200:2,600:1, and 0 to 3 as ACDC has them",
)
add_arguments, run = _COMMAND.add_arguments, _COMMAND.run
