"""The tables of docs/evidence/moves.md, from the rows that ``train.py`` and ``judge.py`` left.

python scripts/experiments/one_card/table.py --check     fails where the page says something else
python scripts/experiments/one_card/table.py --write     writes them into the page

python scripts/experiments/one_card/table.py --add pairs OUT/rows.csv     keeps rows, under that table's name
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

DOCS = Path(__file__).parents[3] / "docs" / "evidence"
ROWS, PAGE = DOCS / "one_card.csv.gz", DOCS / "moves.md"
PLACES = {
    "ACDC": "inside",
    "LGE": "LGE",
    "bSSFP": "bSSFP",
    "Sunnybrook": "Sunnybrook",
    "bias-field": "bias field",
    "ghosting": "ghosting",
}

Rows = dict[tuple[str, str, str], dict[str, float]]  # (run, seed, place) -> patient -> mean Dice in percent


def read() -> dict[str, Rows]:
    """Table -> rows, over structures and a patient's stacks averaged."""
    found: dict[str, dict] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    with gzip.open(ROWS, "rt", newline="") as file:
        for table, run, _, seed, place, case, structure, dice in csv.reader(file):
            known = place != "Sunnybrook" or structure != "RV"  # which has no annotated RV
            chosen_on = place in ("LGE", "bSSFP") and int(case.removeprefix("subject")) % 2 == 1
            if known and (table == "explored" or not chosen_on):
                found[table][run, seed, place][case.split("_")[0]].append(100 * float(dice))
    return {
        table: {key: {name: float(np.nanmean(values)) for name, values in of.items()} for key, of in rows.items()}
        for table, rows in found.items()
    }


def explored(rows: Rows) -> Iterator[str]:
    runs = sorted({run for run, _, _ in rows}, key=lambda run: -mean(rows[run, "0", "LGE"]))
    yield "| run | inside | LGE | bSSFP |"
    yield "|---|---|---|---|"
    for run in runs:
        cells = []
        for place in ("ACDC", "LGE", "bSSFP"):
            value, stock = mean(rows[run, "0", place]), mean(rows["stock", "0", place])
            cells.append(f"{value:.1f}" if run == "stock" else f"{value:.1f} ({value - stock:+.1f})")
        yield f"| `{run}` | {' | '.join(cells)} |"


def compared(rows: Rows, run: str = "moves") -> Iterator[str]:
    seeds = sorted({seed for _, seed, _ in rows})
    yield "| judged on | patients | stock | moves | difference (each seed's) | interval |"
    yield "|---|---|---|---|---|---|"
    random = np.random.default_rng(0)
    for place, name in PLACES.items():
        patients = sorted(rows["stock", seeds[0], place])
        ours, stock = (
            np.array([[rows[which, seed, place][patient] for patient in patients] for seed in seeds])
            for which in (run, "stock")
        )
        of_patients = (ours - stock).mean(0)
        drawn = [random.choice(of_patients, len(patients)).mean() for _ in range(10000)]
        low, high = np.percentile(drawn, (2.5, 97.5))
        interval = f"{low:+.1f} to {high:+.1f}"
        if len(patients) < 10:
            interval = "patients " + ", ".join(f"{value:+.1f}" for value in of_patients)
        each = ", ".join(f"{value:+.1f}" for value in (ours - stock).mean(1))
        values = f"{stock.mean():.1f} | {ours.mean():.1f} | {of_patients.mean():+.1f} ({each})"
        yield f"| {name} | {len(patients)} | {values} | {interval} |"


def mean(of_patients: dict[str, float]) -> float:
    return float(np.mean(list(of_patients.values())))


TABLES = {"explored": explored, "first": compared, "pairs": compared}


def page(text: str) -> str:
    """The page with its tables made anew, each between ``<!-- NAME -->`` and ``<!-- end -->``."""
    rows = read()

    def made(match: re.Match[str]) -> str:
        name = match[1]
        return f"<!-- {name} -->\n" + "\n".join(TABLES[name](rows[name])) + "\n<!-- end -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- end -->", made, text, flags=re.DOTALL)


def add(table: str, path: Path) -> None:
    kept = []
    if ROWS.exists():
        with gzip.open(ROWS, "rt", newline="") as file:
            kept = [row for row in csv.reader(file) if row[0] != table]
    with path.open(newline="") as file:
        kept += [[table, *row] for row in csv.reader(file)]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(kept)
    ROWS.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--check", action="store_true")
    what.add_argument("--write", action="store_true")
    what.add_argument("--add", nargs=2, metavar=("NAME", "ROWS"))
    args = parser.parse_args()
    if args.add:
        add(args.add[0], Path(args.add[1]))
        return
    text = PAGE.read_text()
    if args.check and page(text) != text:
        sys.exit(f"{PAGE} says something else than its rows; --write puts it right")
    PAGE.write_text(page(text))


if __name__ == "__main__":
    main()
