"""Which files belong together, what their labels mean, and which cases are one patient's."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nnunet_shapekd.files.patients import CASE_PATTERN, info_entries

#: Names of cardiac structures in lower case: ACDC in nnU-Net's conversion, M&Ms, MSCMRseg and what people write.
CARDIAC_NAMES = {
    "lv": ("lvc", "lv", "lv cavity", "left ventricle", "lvbp", "lv blood pool"),
    "myo": ("mlv", "myo", "lvm", "lv myocardium", "myocardium", "lv myo"),
    "rv": ("rv", "rvc", "rv cavity", "right ventricle", "rvbp", "rv blood pool"),
}
PHASES = ("", "ED", "ES")


@dataclass(frozen=True)
class Labels:
    """What the values in a label map mean.

    Attributes:
        classes: foreground class or region -> its values.
        ignore: the value of voxels that are not evaluated.
        left_out: known values that are not evaluated: background for every class.
    """

    classes: dict[str, tuple[int, ...]]
    ignore: int | None = None
    left_out: tuple[int, ...] = ()

    @property
    def values(self) -> set[int]:
        """All values a label map may hold."""
        known = {0, *self.left_out, *(value for values in self.classes.values() for value in values)}
        return known if self.ignore is None else known | {self.ignore}

    def without(self, names: Iterable[str]) -> Labels:
        """These labels, of which the classes named (or given by a value) are not evaluated.

        Raises:
            ValueError: if there is no such class, or none remains.
        """
        classes, left_out = dict(self.classes), set(self.left_out)
        for name in names:
            found = [
                c for c, values in self.classes.items() if name in (c, *(map(str, values) if len(values) == 1 else ()))
            ]
            if not found:
                raise ValueError(f"--leave-out {name}: no such class; there are {', '.join(self.classes)}")
            left_out.update(classes.pop(found[0], ()))
        if not classes:
            raise ValueError("--leave-out names all classes: nothing is left to evaluate")
        return Labels(classes, self.ignore, tuple(sorted(left_out)))


def labels_of_dataset(dataset_json: Mapping[str, Any]) -> Labels:
    """Classes or regions of a dataset.json, as nnU-Net's label manager has them.

    Classes under "not_annotated" have a value and are in no label map, as nnU-Net wants values without gaps and EMIDEC
    has no right ventricle: they are not evaluated.

    Raises:
        ValueError: if the entry "labels" is missing or not as nnU-Net wants it.
    """
    try:
        values = {
            str(name): tuple(int(v) for v in (value if isinstance(value, (list, tuple)) else [value]))
            for name, value in dataset_json["labels"].items()
        }
    except (KeyError, AttributeError, TypeError, ValueError):
        raise ValueError('dataset.json: expected "labels": {"background": 0, NAME: VALUE or [VALUES], ...}') from None
    ignore = values.pop("ignore", (None,))[0]
    left_out = tuple(v for name in dataset_json.get("not_annotated", ()) for v in values.pop(name, ()))
    classes = {name: value for name, value in values.items() if set(value) != {0}}
    if not classes or "mean" in classes:
        raise ValueError(
            f"dataset.json: expected classes besides background, none of them called mean, got {', '.join(classes)}"
        )
    return Labels(classes, ignore, left_out)


def labels_by_value(values: Sequence[int], ignore: int | None = None) -> Labels:
    """Classes that are named by their values."""
    if not values or min(values) < 1 or max(values) > 65535:
        raise ValueError(f"-l: expected label values of 1 to 65535, got {' '.join(map(str, values)) or 'none'}")
    if ignore is not None and (ignore < 1 or ignore > 65535 or ignore in values):
        raise ValueError(f"-il: expected a label value of 1 to 65535 that is not among those of -l, got {ignore}")
    return Labels({str(value): (value,) for value in values}, ignore)


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


def read_dataset_json(path: Path) -> dict[str, Any]:
    """The content of a dataset.json; raises FileNotFoundError or ValueError, saying what is expected."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; give the dataset.json that names the labels") from None
    except ValueError as error:
        raise ValueError(f"{path}: is no JSON ({error})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a dataset.json of nnU-Net's, got a {type(content).__name__}")
    return content


def cardiac_roles(classes: Iterable[str]) -> dict[str, str]:
    """Of "lv", "myo" and "rv" those whose class is known by its name -> class."""
    by_name = {re.sub(r"[\s_-]+", " ", name).strip().lower(): name for name in classes}
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
    names = []
    for folder in (reference, prediction):
        found = sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
        names.append([name for name in found if name.endswith(file_ending)])
        if not names[-1]:
            present = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
            raise FileNotFoundError(f"{folder}: no files ending in {file_ending}; found there: {present}")
    references, predictions = map(set, names)
    problems = [] if chill else [f"{prediction / name}: is missing" for name in references - predictions]
    problems += [f"{prediction / name}: has no reference in {reference}" for name in predictions - references]
    stems = [name.removesuffix(file_ending) for name in names[0] if name in predictions]
    cases = [
        Case(stem, *(folder / f"{stem}{file_ending}" for folder in (reference, prediction)), stem) for stem in stems
    ]
    return cases, sorted(problems)


def with_patients(
    cases: Sequence[Case], reference: Path, patients: str | Path | None, pattern: str | None
) -> list[Case]:
    """The cases with patient and phase: :func:`by_table` or :func:`by_pattern`, whichever is given.

    By default by their names, and by patients.csv beside the references' folder where there is one.

    Raises:
        FileNotFoundError, ValueError: as these functions do, or if both are given.
    """
    if patients is not None and pattern is not None:
        raise ValueError("--patients and --pattern both say which cases are one patient's: give one of them")
    if patients is not None:
        return by_table(cases, Path(patients))
    grouped, beside = by_pattern(cases, pattern), reference.parent / "patients.csv"
    if pattern is None and beside.is_file():
        try:
            return by_table(grouped, beside, complete=False)
        except ValueError as error:
            print(f"Not used for patients and phases: {error}. Say it with --patients or --pattern.", file=sys.stderr)
    return grouped


def by_pattern(cases: Iterable[Case], pattern: str | None) -> list[Case]:
    """The cases with patient, and phase where the pattern has such a group, from their names.

    A name the default pattern does not match is a patient of its own; one that a given pattern does not match is an
    error.

    Raises:
        ValueError: naming the cases that do not match, or what is wrong with the pattern.
    """
    try:
        compiled = re.compile(pattern or CASE_PATTERN)
    except re.error as error:
        raise ValueError(f"--pattern {pattern}: is no regular expression ({error})") from None
    if "patient" not in compiled.groupindex:
        raise ValueError(f"--pattern {pattern}: has no group (?P<patient>...), which must say whose case it is")
    grouped, unmatched = [], []
    for case in cases:
        match = compiled.fullmatch(case.name)
        if match is None or not match["patient"]:
            unmatched.append(case.name)
            grouped.append(case)
            continue
        phase = (match.groupdict().get("phase") or "").upper()
        if phase not in PHASES:
            raise ValueError(
                f"--pattern {pattern}: the group phase must match ED, ES or nothing; got {phase}: {case.name}"
            )
        grouped.append(replace(case, patient=match["patient"], phase=phase))
    if pattern and unmatched:
        raise ValueError(f"--pattern {pattern}: finds no patient in the whole name of {some(unmatched)}")
    return grouped


def by_table(cases: Sequence[Case], table: Path, complete: bool = True) -> list[Case]:
    """The cases with patient and phase from a table.

    Args:
        table: a CSV with a row a case (columns ``case``, ``patient`` and, if wanted, ``phase``), or with a row a
            patient as ``shapekd convert acdc`` writes it (``patient``, ``ed_frame``, ``es_frame``; the cases are
            ``patient_frameNN``); or a folder of ACDC's, whose Info.cfg files say the same.
        complete: the table must know every case; else those it does not know stay as they are.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the columns are others, a case is missing in the table, or a phase is neither ED, ES nor empty.
    """
    known: dict[str, tuple[str, str]] = {}
    for case, patient, phase in info_entries(table) if table.is_dir() else _csv_entries(table):
        if phase.upper() not in PHASES:
            raise ValueError(f"{table}: phase of {case}: expected ED, ES or nothing, got {phase}")
        if known.setdefault(case, (patient, phase.upper())) != (patient, phase.upper()):
            raise ValueError(f"{table}: has two different rows of the case {case}")
    unknown = [case.name for case in cases if case.name not in known]
    if unknown and complete:
        raise ValueError(f"{table}: says nothing about {some(unknown)}")
    entries = ((case, *known.get(case.name, (case.patient, case.phase))) for case in cases)
    return [replace(case, patient=patient, phase=phase) for case, patient, phase in entries]


def _csv_entries(table: Path) -> list[tuple[str, str, str]]:
    """Case, patient and phase of every row."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), set(reader.fieldnames or ())
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{table}: no such file; --patients is a CSV with columns case,patient[,phase]"
        ) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{table}: is no CSV ({error})") from None
    if {"case", "patient"} <= columns:
        return [(row["case"], row["patient"] or row["case"], row.get("phase") or "") for row in rows]
    if {"patient", "ed_frame", "es_frame"} <= columns:
        return [
            (f"{row['patient']}_frame{int(row[column]):02d}", row["patient"], phase)
            for row in rows
            for column, phase in (("ed_frame", "ED"), ("es_frame", "ES"))
            if (row[column] or "").isdecimal()
        ]
    raise ValueError(f"{table}: expected columns case,patient[,phase], got {', '.join(sorted(columns)) or 'none'}")


def some(names: Sequence[str]) -> str:
    """The first five names, and how many more."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
