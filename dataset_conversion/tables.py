"""Tables that come with a download: comma- or semicolon-separated, perhaps padded with empty rows."""

import csv
from collections.abc import Sequence
from pathlib import Path

from nnunet_shapekd.dataset_conversion.target import ConversionError


def read_table(path: Path, required: Sequence[str], what: str = "restore it from the download") -> list[dict[str, str]]:
    """The rows that are not empty, values without blanks around them; a column without a name is left out.

    Args:
        path: the file.
        required: columns that must be there.
        what: to do where it cannot be read.

    Raises:
        ConversionError: if it cannot be read, or lacks columns.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            lines = csv.reader(file, delimiter=";" if first.count(";") > first.count(",") else ",")
            columns = [name.strip() for name in next(lines, [])]
            # M&Ms-2's table has a million rows of commas below the patients': they are not kept
            rows = [line for line in lines if any(value.strip() for value in line)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConversionError(f"{path}: cannot be read as CSV ({error}); {what}") from None
    if missing := [column for column in required if column not in columns]:
        raise ConversionError(f"{path}: expected the columns {', '.join(required)}, {', '.join(missing)} missing")
    return [
        {name: value.strip() for name, value in zip(columns, [*row, *[""] * len(columns)], strict=False) if name}
        for row in rows
    ]


def rows_by(key: str, path: Path, required: Sequence[str], **what: str) -> tuple[dict[str, dict[str, str]], list[str]]:
    """The rows of :func:`read_table` by one column, and what is wrong where two of them differ."""
    rows: dict[str, dict[str, str]] = {}
    found = read_table(path, required, **what)
    twice = [row[key] for row in found if rows.setdefault(row[key], row) != row]
    return rows, [f"{path}: has two different rows of {value}; remove one" for value in twice]
