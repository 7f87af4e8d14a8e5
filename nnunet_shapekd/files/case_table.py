"""The table of a dataset's cases, patients.csv: where it lies, and its rows."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable
from pathlib import Path

from nnunet_shapekd.files.names import of_cell

#: what conversions leave in a raw dataset
TABLE = "patients.csv"


def find_table(folders: Iterable[Path]) -> Path | None:
    """The first patients.csv in folders of a dataset, or called like it: then in ``nnUNet_raw``'s of that name, too."""
    raw = os.environ.get("nnUNet_raw")
    for folder in folders:
        places = [folder, *([Path(raw, folder.name)] if raw and re.match(r"Dataset\d{3}_", folder.name) else [])]
        for place in places:
            if (place / TABLE).is_file():
                return place / TABLE
    return None


def read_table(table: Path) -> tuple[list[dict[str, str]], list[str]]:
    """A CSV's rows, without spaces around cells, and its columns.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it is no CSV.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), [(name or "").strip() for name in reader.fieldnames or ()]
    except FileNotFoundError:
        wanted = "a CSV with columns case,patient[,phase]"
        raise FileNotFoundError(f"{table}: no such file; --patients is {wanted}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{table}: is no CSV ({error})") from None
    return [{k.strip(): of_cell((v or "").strip()) for k, v in row.items() if k is not None} for row in rows], columns
