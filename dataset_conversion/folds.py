"""Who is trained on and who is not: folds by patient, and a user's own lists."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_shapekd.dataset_conversion.target import ConversionError

#: the content of splits_final.json
Splits = list[dict[str, list[str]]]


def folds_by_patient(
    stratum_of: Mapping[str, str],
    seed: int,
    n_folds: int = 5,
    advice: str = "give your own split",
) -> list[list[str]]:
    """Deals patients to folds; fold sizes, and the counts of each stratum, differ by at most one between folds.

    Raises:
        ConversionError: for fewer patients than folds, with the advice.
    """
    if len(stratum_of) < n_folds:
        raise ConversionError(
            f"{n_folds} folds by patient need at least {n_folds} training patients, got {len(stratum_of)}; {advice}"
        )
    random = np.random.RandomState(seed)  # its stream is frozen; default_rng's may change with NumPy's version
    dealt: list[str] = []
    for stratum in sorted(set(stratum_of.values())):
        members = sorted(patient for patient in stratum_of if stratum_of[patient] == stratum)
        random.shuffle(members)
        dealt += members
    return [sorted(dealt[fold::n_folds]) for fold in range(n_folds)]


def splits_by_patient(patients: Iterable[Any], seed: int, val: Iterable[str] | None = None, **advice: str) -> Splits:
    """Five folds (:func:`folds_by_patient`) of those to train on, or the one in which the names ``val`` validate.

    Patients have a name, a subset, a stratum and cases.
    """
    training = [patient for patient in patients if patient.subset == "Tr"]
    stratum_of = {patient.name: patient.stratum for patient in training}
    folds = folds_by_patient(stratum_of, seed, **advice) if val is None else [val]
    return splits_of({patient.name: [case.name for case in patient.cases] for patient in training}, folds)


def splits_of(cases_of: Mapping[str, Sequence[str]], folds: Iterable[Iterable[str]]) -> Splits:
    """Each fold's patients validate, with all their cases (training patient -> its cases), and the others train."""
    return [
        {
            "train": sorted(case for patient in cases_of.keys() - fold for case in cases_of[patient]),
            "val": sorted(case for patient in fold for case in cases_of[patient]),
        }
        for fold in map(set, folds)
    ]


def splits_problems(splits: Splits, existing: Path | None) -> list[str]:
    """What is wrong with a split file that already lies where planning copies the new one; its absence is fine."""
    if existing is None or not existing.is_file():
        return []
    try:
        if _as_sets(json.loads(existing.read_text())) == _as_sets(splits):
            return []
    except (ValueError, TypeError, KeyError):
        pass
    # Planning would keep the old file and stop in a bare assert (nnU-Net 2.8.1), hence a refusal here.
    return [
        f"{existing}: differs from the splits_final.json that this conversion would write into the raw dataset; "
        "delete or rename it, give the split it was made from, or choose another id with -d"
    ]


def _as_sets(splits: Any) -> list[tuple[set, set]]:
    return [(set(split["train"]), set(split["val"])) for split in splits]


def read_lists(
    paths: Mapping[str, str | Path | None], available: Iterable[int]
) -> tuple[dict[str, list[int]], list[str]]:
    """Patient numbers of the user's train, val and test lists (JSON, strings or integers), and problems."""
    lists: dict[str, list[int]] = {}
    problems: list[str] = []
    seen: dict[int, str] = {}
    available = set(available)
    for role, path in paths.items():
        if path is None:
            continue
        try:
            entries = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            problems.append(f"--{role} {path}: cannot be read as JSON ({error})")
            continue
        if not isinstance(entries, list) or not entries:
            problems.append(f'--{role} {path}: expected a list of patient numbers, like ["001", "002"]')
            continue
        lists[role] = []
        for entry in entries:
            if not re.fullmatch(r"\d+", str(entry)):
                problems.append(f"--{role} {path}: expected a patient number, got {entry!r}")
                continue
            number = int(entry)
            if number in seen:
                where = f"in --{seen[number]}, too" if seen[number] != role else "listed twice"
                problems.append(f"--{role} {path}: patient {entry} is {where}; list every patient once")
            elif number not in available:
                problems.append(f"--{role} {path}: patient {entry} is not in the download; remove it from the list")
            else:
                lists[role].append(number)
            seen.setdefault(number, role)
    return lists, problems
