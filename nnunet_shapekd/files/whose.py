"""Which patient a case belongs to: the one rule, by a table, a pattern, or the case's name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_shapekd.files.case_table import find_table, read_table
from nnunet_shapekd.files.names import same_letters, some
from nnunet_shapekd.files.patients import info_entries

PHASES = ("", "ED", "ES")
#: Case names that say which patient, and what more: patient001_frame12, A1D0Z6_ED, MnM2_001_SA_ED,
#: patient01_LGE (DE is the same sequence, C0 is bSSFP).
PATTERN = r"(?P<patient>.+?)_(?:frame\d+|(?:[SL]A_)?(?P<phase>ED|ES)|LGE|DE|bSSFP|C0|T2)"


@dataclass(frozen=True)
class Patients:
    """Which patient's each case is.

    Attributes:
        of: case -> patient; of an unknown one the case itself.
        phase: case -> "ED", "ES" or nothing.
        unknown: cases of which nothing says whose they are.
        source: what says whose the others are.
        unused: what is wrong with a table that lies there and was not used, if one does.
    """

    of: dict[str, str]
    phase: dict[str, str]
    unknown: tuple[str, ...]
    source: str
    unused: str = field(default="", compare=False)

    def torn(self, some: Iterable[str], others: Iterable[str]) -> list[str]:
        """The patients that have cases among both, sorted; cases that are not known here are patients of their own."""
        return sorted({self.of.get(case, case) for case in some} & {self.of.get(case, case) for case in others})

    def remark(self) -> str:
        """What must be said where patients are unknown, "" where none is."""
        if not self.unknown:
            return ""
        shown = ", ".join(self.unknown[:3]) + (", ..." if len(self.unknown) > 3 else "")
        return (
            f"whose {len(self.unknown)} of {len(self.of)} cases are is not known ({shown}): each counts as a patient "
            "of its own, which is wrong where a patient has several"
        )


def find_patients(
    cases: Iterable[str],
    folders: Iterable[Path] = (),
    table: str | Path | None = None,
    pattern: str | None = None,
) -> Patients:
    """Whose the cases are: by a table or a pattern that is given, else by patients.csv and the cases' names.

    Args:
        cases: their names.
        folders: of the dataset, or called like it, in which (or in ``nnUNet_raw``'s folder of that name) patients.csv
            may lie; cases it does not name are known by :data:`PATTERN`.
        table: instead, a CSV with a row a case (columns ``case``, ``patient`` and, if wanted, ``phase``), or with a row
            a patient as ``shapekd convert acdc`` writes it (``patient``, ``ed_frame``, ``es_frame``; the cases are
            ``patient_frameNN``); or a folder of ACDC's, whose Info.cfg files say the same. It must name all cases.
        pattern: instead, a regular expression that fits every whole name, with a group "patient", and "phase" if
            wanted.

    Raises:
        FileNotFoundError: if the table is not there.
        ValueError: if it, or the pattern, is not as it must be: an empty patient, a phase that is neither ED nor ES nor
            empty, a case that is missing; or both are given.
    """
    cases = list(cases)
    if table is not None and pattern is not None:
        raise ValueError("--patients and --pattern both say which cases are one patient's: give one of them")
    if table is not None:
        known = _by_table(Path(table))
        if missing := [case for case in cases if same_letters(case) not in known]:
            raise ValueError(f"{table}: says nothing about {some(missing)}")
        return _found(cases, known, {}, str(table))
    by_name = _by_pattern(cases, pattern)
    if pattern is not None:
        return _found(cases, {}, by_name, f"--pattern {pattern}")
    beside, unused = find_table(folders), ""
    if beside is not None:
        columns = {*read_table(beside)[1]}
        if {"patient"} <= columns and ("case" in columns or {"ed_frame", "es_frame"} <= columns):
            return _found(cases, _by_table(beside), by_name, f"{beside} and names" if by_name else str(beside))
        unused = f"{beside}: expected columns case,patient[,phase], got {', '.join(sorted(columns)) or 'none'}"
    return _found(cases, {}, by_name, "names like patient001_frame01 and A1D0Z6_ED", unused)


def _found(
    cases: Sequence[str],
    table: dict[str, tuple[str, str]],
    by_name: dict[str, tuple[str, str]],
    source: str,
    unused: str = "",
) -> Patients:
    known = {case: table.get(same_letters(case)) or by_name.get(case) for case in cases}
    return Patients(
        {case: found[0] if found else case for case, found in known.items()},
        {case: found[1] if found else "" for case, found in known.items()},
        tuple(case for case, found in known.items() if not found),
        source,
        unused,
    )


def _by_pattern(cases: Iterable[str], pattern: str | None) -> dict[str, tuple[str, str]]:
    """Case -> patient, and phase where the pattern has such a group; a given pattern must fit all names."""
    try:
        compiled = re.compile(pattern or PATTERN)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"--pattern {pattern}: is no regular expression ({error})") from None
    if "patient" not in compiled.groupindex:
        raise ValueError(f"--pattern {pattern}: has no group (?P<patient>...), which must say whose case it is")
    known, unmatched = {}, []
    for case in cases:
        match = compiled.fullmatch(case)
        if match is None or not match["patient"]:
            unmatched.append(case)
            continue
        phase = (match.groupdict().get("phase") or "").upper()
        if phase not in PHASES:
            raise ValueError(f"--pattern {pattern}: the group phase must match ED, ES or nothing; got {phase}: {case}")
        known[case] = (match["patient"], phase)
    if pattern and unmatched:
        raise ValueError(f"--pattern {pattern}: finds no patient in the whole name of {some(unmatched)}")
    return known


def _by_table(table: Path) -> dict[str, tuple[str, str]]:
    """Case, as :func:`same_letters` has it -> patient and phase, of every row."""
    known: dict[str, tuple[str, str]] = {}
    for case, patient, phase in info_entries(table) if table.is_dir() else _csv_entries(table):
        if not patient:
            raise ValueError(f"{table}: the patient of {case or 'a case'} is empty; fill it in")
        if phase.upper() not in PHASES:
            raise ValueError(f"{table}: phase of {case}: expected ED, ES or nothing, got {phase}")
        if known.setdefault(same_letters(case), (patient, phase.upper())) != (patient, phase.upper()):
            raise ValueError(f"{table}: has two different rows of the case {case}")
    return known


def _csv_entries(table: Path) -> list[tuple[str, str, str]]:
    """Case, patient and phase of every row."""
    rows, columns = read_table(table)
    if {"case", "patient"} <= {*columns}:
        return [(row["case"], row["patient"], row.get("phase", "")) for row in rows if any(row.values())]
    if not {"patient", "ed_frame", "es_frame"} <= {*columns}:
        raise ValueError(f"{table}: expected columns case,patient[,phase], got {', '.join(sorted(columns)) or 'none'}")
    entries = []
    for row in filter(lambda row: any(row.values()), rows):
        for column, phase in (("ed_frame", "ED"), ("es_frame", "ES")):
            if row[column] and not row[column].isdecimal():
                raise ValueError(f"{table}: {column} of {row['patient']}: expected a number, got {row[column]}")
            if row[column]:
                entries.append((f"{row['patient']}_frame{int(row[column]):02d}", row["patient"], phase))
            elif not row["patient"]:
                entries.append(("", "", phase))
    return entries
