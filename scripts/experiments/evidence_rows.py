"""The rows of ``evidence.py``: read, and added to while other processes do the same.

``values.csv.gz`` has a row a run, seed, fold, place where it was judged, case and structure, a column a metric, which
is empty where it is not defined. ``runs.csv`` and ``why.csv`` have a row a run, seed and fold.
"""

from __future__ import annotations

import csv
import fcntl
import gzip
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nnunet_shapekd.files.output import new_file

EVIDENCE = Path(__file__).resolve().parents[2] / "docs" / "evidence"
VALUES, PROVENANCE, WHY = (EVIDENCE / name for name in ("values.csv.gz", "runs.csv", "why.csv"))
KEY = ("run", "seed", "fold")
METRICS = ("dice", "hd95_mm", "reference_ml", "prediction_ml")
COLUMNS = {
    VALUES.name: (*KEY, "judged_on", "case", "patient", "class", *METRICS),
    PROVENANCE.name: (
        *KEY,
        "trainer",
        "settings",
        "steps",
        "teacher_run",
        "seconds",
        "commit",
        "nnunetv2",
        "torch",
        "hardware",
    ),
    WHY.name: (*KEY, "batches", "cosine", "norm", "missed", "false", "volume", "entropy", "commit"),
}


def read(path: Path) -> list[dict[str, str]]:
    """All rows of one of the files; none if it is not there yet."""
    if not path.exists():
        return []
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


def put(path: Path, rows: Sequence[Sequence[object]]) -> None:
    """Add rows to one of the files, in place of all that it has of their runs, seeds and folds.

    The file is replaced as a whole, and rows go to its end, so that Git stores little for each version.
    """
    mine = {tuple(map(str, row[: len(KEY)])) for row in rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    with alone(path.with_suffix(".lock")):
        before = [tuple(row.values()) for row in read(path) if tuple(row[name] for name in KEY) not in mine]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([COLUMNS[path.name], *before, *rows])
        data = text.getvalue().encode()
        with new_file(path) as building:
            building.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Wait until no other process holds the lock, which ends with its process."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
