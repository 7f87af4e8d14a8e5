"""What a table says of cases, column by column: vendor, scanner, field strength, centre, group."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path

from nnunet_shapekd.files.case_table import TABLE, find_table, read_table
from nnunet_shapekd.files.names import same_letters, some
from nnunet_shapekd.files.whose import Patients

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)", re.ASCII)


def columns_of(
    wanted: Iterable[str], patients: Patients, folders: Iterable[Path] = (), table: str | Path | None = None
) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """What columns say of cases. Columns and values are the same in any case, and numbers as numbers (3 and 3.0).

    Args:
        wanted: the columns' names; "patient" and "phase" are known without a table, too.
        patients: of the cases.
        folders: of the dataset, see :func:`~.case_table.find_table`.
        table: instead of what lies there: a CSV with a row a case (column ``case``) or a patient (``patient``).

    Returns:
        Column as it is wanted -> case -> value, as it is written first; "" where nothing says it. And column -> why
        there is none, and which there are.

    Raises:
        ValueError: if the table has two columns of a name, or two values of one case.
    """
    path = find_table(folders) if table is None else Path(table)
    rows, names = ([], []) if path is None or path.is_dir() else read_table(path)
    known = {"patient": patients.of, "phase": patients.phase}
    known = {name: values for name, values in known.items() if any(values.values())}
    there = [*known, *(name for name in names if name and folded(name) not in {"case", *known})]
    found: dict[str, dict[str, str]] = {}
    absent: dict[str, str] = {}
    for name in dict.fromkeys(wanted):
        same = [other for other in there if folded(other) == folded(name)]
        same = [other for other in same if other == name] or same
        if len(same) > 1:
            raise ValueError(f"{path}: --by {name} could be each of its columns {', '.join(same)}; rename all but one")
        values = known.get(same[0]) or _values(same[0], rows, names, patients, path) if same else {}
        if any(values.values()):
            first: dict[str | Decimal, str] = {}
            found[name] = {case: first.setdefault(_alike(value), value) for case, value in values.items()}
            continue
        where = f"no {TABLE} was found, so" if path is None else f"{path}:"
        why = "is empty for these cases" if same else "is not there"
        absent[name] = f"{where} the column {name} {why}; there are {', '.join(there)}"
    return found, absent


def value_order(value: str) -> tuple[bool, bool, Decimal, str]:
    """What values are sorted by: numbers by their size, then texts, and last "", which is not known."""
    number = _NUMBER.fullmatch(value)
    return not value, not number, Decimal(value) if number else Decimal(0), value.casefold()


def folded(text: str) -> str:
    """A column's name, or a value that is no number, as it is compared."""
    return same_letters(" ".join(text.split())).casefold()


def _values(
    column: str, rows: Sequence[Mapping[str, str]], names: Sequence[str], patients: Patients, path: Path | None
) -> dict[str, str]:
    """Case -> value of a table's column, by the row of the case or else of its patient."""
    key = "case" if "case" in names else "patient"
    if key not in names:
        raise ValueError(f"{path}: expected a column case or patient beside {column}, got {', '.join(names)}")
    said: dict[str, str] = {}
    torn = set()
    for row in filter(lambda row: row[key], rows):
        if _alike(said.setdefault(same_letters(row[key]), row[column])) != _alike(row[column]):
            torn.add(row[key])
    if torn:
        raise ValueError(f"{path}: has two different values of {column} for one {key}: {some(sorted(torn))}")
    return {case: said.get(same_letters(case if key == "case" else of), "") for case, of in patients.of.items()}


def _alike(value: str) -> str | Decimal:
    """A value as it is compared."""
    return Decimal(value) if _NUMBER.fullmatch(value) else folded(value)
