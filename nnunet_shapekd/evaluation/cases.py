"""Which files belong together, and which classes are structures of the heart."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nnunet_shapekd.files.names import name_problem, shown
from nnunet_shapekd.files.whose import same_letters

#: Names of cardiac structures in lower case: ACDC in nnU-Net's conversion, M&Ms, MSCMRseg and what people write.
CARDIAC_NAMES = {
    "lv": ("lvc", "lv", "lv cavity", "left ventricle", "lvbp", "lv blood pool"),
    "myo": ("mlv", "myo", "lvm", "lv myocardium", "myocardium", "lv myo"),
    "rv": ("rv", "rvc", "rv cavity", "right ventricle", "rvbp", "rv blood pool"),
}


def find_dataset_json(reference: Path, prediction: Path) -> Path:
    """The dataset.json of two folders; raises FileNotFoundError, naming where it was sought.

    ``nnUNetv2_predict`` copies it beside its predictions; a ``validation`` folder has it two levels up; ``labelsTr``
    and ``gt_segmentations`` have it one level up.
    """
    candidates = [prediction, *list(prediction.parents)[:2], reference.parent, reference]
    for folder in candidates:
        if (folder / "dataset.json").is_file():
            return folder / "dataset.json"
    raise FileNotFoundError(
        f"no dataset.json in {', '.join(map(str, candidates))}: name it with -djfile, or give the label values with -l"
    )


def folded(name: str) -> str:
    """A class name as it is compared: "LV_cavity" and "lv cavity" are the same."""
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def cardiac_roles(classes: Iterable[str]) -> dict[str, str]:
    """Of "lv", "myo" and "rv" those whose class is known by its name -> class."""
    by_name = {folded(name): name for name in classes}
    roles = {role: [by_name[name] for name in names if name in by_name] for role, names in CARDIAC_NAMES.items()}
    if not roles["lv"] or not (roles["myo"] or roles["rv"]):
        return {}  # "LV" alone could be anything
    return {role: found[0] for role, found in roles.items() if found}


@dataclass(frozen=True)
class Case:
    """One reference and its prediction."""

    name: str
    reference: Path
    prediction: Path
    patient: str
    phase: str = ""  # "ED", "ES" or nothing


def find_cases(reference: Path, prediction: Path, file_ending: str, chill: bool) -> tuple[list[Case], list[str]]:
    """Pairs of files of the same name in two folders, and what is missing (unless ``chill``) or superfluous.

    Raises:
        FileNotFoundError: if a folder has no file of this ending.
    """
    names: list[dict[str, str]] = []  # as they are compared -> as they are
    problems = []
    for folder in (reference, prediction):
        # a link that leads nowhere counts: its reader says so
        found = sorted(path.name for path in folder.iterdir() if not (path.name.startswith(".") or path.is_dir()))
        found = [name for name in found if name.endswith(file_ending)]
        if not found:
            present = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
            raise FileNotFoundError(f"{folder}: no files ending in {file_ending}; found there: {present}")
        names.append({})
        for name in found:
            if why := name_problem(name.removesuffix(file_ending)):
                problems.append(f"{shown(folder / name)}: its case's name {why}; rename it")
            if names[-1].setdefault(same_letters(name), name) != name:
                problems.append(f"{folder / name}: there is another file of this name, composed of other characters")
    references, predictions = names
    if not chill:
        problems += [f"{prediction / references[key]}: is missing" for key in references.keys() - predictions.keys()]
    alone = predictions.keys() - references.keys()
    problems += [f"{prediction / predictions[key]}: has no reference in {reference}" for key in alone]
    cases = []
    for key in sorted(references.keys() & predictions.keys()):
        stem = references[key].removesuffix(file_ending)
        cases.append(Case(stem, reference / references[key], prediction / predictions[key], stem))
    return cases, sorted(problems)
