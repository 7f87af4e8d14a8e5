"""EMIDEC (Lalande et al., Data 5(4):89, 2020), late enhancement cardiac MRI with and without infarction.

Layout: `Case_N006/Images/Case_N006.nii.gz` and `Case_N006/Contours/Case_N006.nii.gz`, N for a normal and P for a
pathological case; the challenge's test cases, `Case_101` and on, have no Contours and are left out. As public loaders
read it; the download itself was not at hand.

Labels (cavity 1, myocardium 2, infarction 3, no-reflow 4) become ACDC's: infarction and no-reflow are myocardium. The
right ventricle is not annotated: the dataset says so, and it is not judged.
"""

import re
from pathlib import Path

from nnunet_shapekd.dataset_conversion import label_maps, volumes
from nnunet_shapekd.dataset_conversion.acdc import LABELS
from nnunet_shapekd.dataset_conversion.cases import Case
from nnunet_shapekd.dataset_conversion.downloads import few, nifti_files
from nnunet_shapekd.dataset_conversion.target import Command, check_target
from nnunet_shapekd.dataset_conversion.volumes import Found, LabelOptions, Patient

LAYOUT = "Case_N006/Images/Case_N006.nii.gz and Case_N006/Contours/Case_N006.nii.gz"
NAMES = {1: "LVC", 2: "MLV", 3: "infarction", 4: "no_reflow"}
LABEL_MAP = {1: 3, 2: 2, 3: 2, 4: 2}
GROUPS = {"N": "normal", "P": "pathological", "": ""}
_NIFTI = re.compile(r"Case_([NP]?)(\d+)(?i:\.nii(?:\.gz)?)")


def find_cases(root: Path) -> Found:
    """The labelled cases."""
    found = Found(root)
    files: dict[str, list[tuple[int, Path]]] = {"images": [], "contours": []}
    group_of: dict[int, str] = {}
    for match, path in found.sort(nifti_files(root, LAYOUT), _NIFTI, LAYOUT):
        kind = path.parent.name.lower()
        if kind not in files:
            found.problems.append(f"{path}: expected to lie in Images or Contours, as {LAYOUT}; move it there or away")
            continue
        files[kind].append((int(match[2]), path))
        group_of[int(match[2])] = match[1]
    unlabelled: dict[str, Path] = {}
    for number, (image, label) in found.pair(files["images"], files["contours"]).items():
        name = f"EMIDEC_{group_of[number]}{number:03d}"
        if label is None:
            unlabelled[name] = image
            continue
        group = GROUPS[group_of[number]]
        row = {"case": name, "patient": name, "subset": "", "group": group}
        row["source"] = image.relative_to(root).as_posix()
        found.patients[number] = Patient(name, "Tr", [Case(name, image, label, "Tr")], [row], (), group)
    found.leave_out(unlabelled.values(), f"images have no label and were left out: {few([*unlabelled])}.")
    return found


def convert_emidec(root: str | Path, options: LabelOptions = LabelOptions()) -> Path:  # noqa: B008 (frozen)
    """Converts EMIDEC, after checking every case; writes a whole dataset or nothing.

    Returns its folder; raises as :func:`~.volumes.convert_volumes` and for a wrong label map.
    """
    label_map = options.label_map(LABEL_MAP)
    target = check_target(options, "EMIDEC", 36)
    as_acdc = {"labels": LABELS, "not_annotated": ["RV"]}
    own = {"labels": label_maps.name_labels(label_map, NAMES, options.names)} if options.labels else as_acdc
    description = {
        "channel_names": {"0": "LGE"},
        **own,
        "name": target.name,
        "description": "Evaluation of Myocardial Infarction from Delayed-Enhancement cardiac MRI challenge 2020",
        "reference": "http://emidec.com/",
        "citation": "Lalande et al., Data 5(4):89, 2020",
        "licence": "see the terms of the EMIDEC download",
    }
    return volumes.convert_volumes(find_cases(Path(root)), target, options, label_map, description)


_COMMAND = Command(
    convert_emidec,
    LabelOptions,
    f"the extracted download: {LAYOUT}",
    dataset_id=36,
    name="EMIDEC",
    labels=label_maps.show_label_map(LABEL_MAP),
)
add_arguments, run = _COMMAND.add_arguments, _COMMAND.run
