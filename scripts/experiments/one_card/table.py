"""The tables of docs/evidence/moves.md, and one of the README, from the rows that ``train.py`` and ``judge.py`` left.

python scripts/experiments/one_card/table.py --check     fails where the page says something else
python scripts/experiments/one_card/table.py --write     writes them into the page

python scripts/experiments/one_card/table.py --add official ROWS.csv      puts rows in the place of that table's
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from evidence_table import interval, with_each
from runs import odd

ROOT = Path(__file__).parents[3]
ROWS = ROOT / "docs" / "evidence" / "one_card.csv.gz"
PAGES = ROOT / "docs" / "evidence" / "moves.md", ROOT / "README.md"
PLACES = {
    "ACDC": "inside",
    "LGE": "LGE",
    "bSSFP": "bSSFP",
    "Sunnybrook": "Sunnybrook",
    "bias-field": "bias field",
    "ghosting": "ghosting",
}

#: runs that are shown beside stock
COMPARED = ("moves", "mean-jitter", "curves", "convolutions", "moves-agree", "moves-teacher", "moves-labels")
#: beside stock on batches of nnU-Net's own loader
OF_TRAINERS = ("DA5", "SmaugLab")
#: beside two of stock
AVERAGED = ("stock", "stock+mean-jitter", "stock+moves", "mean-jitter+mean-jitter", "moves+mean-jitter", "moves+moves")
#: where images will come from, what is advised, its run and what it is beside
ADVICE = (
    ("another sequence", "`nnUNetTrainerIntensityMoves`", "moves", "stock"),
    (
        "another sequence, and predicting may take twice as long",
        "`nnUNetTrainerIntensityMoves` and `nnUNetTrainerMeanJitter`, "
        "[averaged](docs/training.md#two-trainers-one-prediction)",
        "moves+mean-jitter",
        "stock+stock",
    ),
    ("perhaps another sequence", "`nnUNetTrainerMeanJitter`", "mean-jitter", "stock"),
    (
        "perhaps another sequence, predicting may take twice as long and the training is short",
        "nnU-Net's own and `nnUNetTrainerMeanJitter`, averaged",
        "stock+mean-jitter",
        "stock+stock",
    ),
)
#: the rows of -displaced, -soft and -weights-averaged were made by code that was given up since
WON_BACK = (
    "moves",
    "moves-rare",
    "moves-rarer",
    "moves-0.5-rest-0",
    "moves-0.5-rest-0.1",
    "moves-0.5-rest-0.2",
    "moves-0.5-weights-averaged",
    "moves-0.8-rest-0.2",
    "moves-curve-alone",
    "moves-agree-features",
    "moves-from-average",
    "moves-displaced-3",
    "mean-jitter",
    "moves-soft",
    "mean-jitter-soft",
    "mean-jitter-soft-0.5",
    "mean-jitter-convolutions",
)
#: tables whose rows are of development patients
DEVELOPMENT = {"explored", "taught", "shares"}

Rows = dict[tuple[str, str, str], dict[str, float]]  # (run, seed, place) -> patient -> mean Dice in percent


def read() -> dict[str, Rows]:
    """Table -> rows, over structures and a patient's stacks averaged."""
    found: dict[str, dict] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    with gzip.open(ROWS, "rt", newline="") as file:
        for table, run, data, seed, place, case, structure, dice in csv.reader(file):
            if table == "sequences":
                run = f"{run}, {data}"
            known = place != "Sunnybrook" or structure != "RV"  # which has no annotated RV
            chosen_on = place in ("LGE", "bSSFP") and odd(case)
            if known and (table in DEVELOPMENT or not chosen_on):
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


def compared(rows: Rows, other: str = "moves", stock: str = "stock") -> Iterator[str]:
    yield f"| judged on | patients | {stock} | {other} | difference (each seed's) | interval |"
    yield "|---|---|---|---|---|---|"
    there = {place for _, _, place in rows}
    for place, name in ((place, name) for place, name in PLACES.items() if place in there):
        yield f"| {name} | {Difference.of(rows, place, other, stock).cells()} |"


def beside(rows: Rows, runs: Sequence[str], stock: str = "stock") -> Iterator[str]:
    """Each run less stock of the same seeds, and where it is worst."""
    there = {place for _, _, place in rows}
    places = {place: name for place, name in PLACES.items() if place in there}
    yield f"| run | seeds | {' | '.join(places.values())} | worst |"
    yield "|---|---|" + "---|" * len(places) + "---|"
    of_stock = {seed for run, seed, _ in rows if run == stock}
    values = [np.mean([mean(rows[stock, seed, place]) for seed in of_stock]) for place in places]
    yield f"| `{stock}` | {len(of_stock)} | {' | '.join(f'{value:.1f}' for value in values)} | |"
    for run in runs:
        seeds = {seed for name, seed, _ in rows if name == run}
        found = {name: Difference.of(rows, place, run, stock).mean for place, name in places.items()}
        cells = " | ".join(f"{difference:+.1f}" for difference in found.values())
        yield f"| `{run}` | {len(seeds)} | {cells} | {min(found, key=found.__getitem__)} |"


def peers(tables: dict[str, Rows]) -> Iterator[str]:
    """Methods less stock; those of nnU-Net's trainers less stock on batches of its loader. The same places."""
    yield from beside(tables["official"], COMPARED)
    _, _, *rows = beside(tables["trainers"], OF_TRAINERS, "stock-loader")
    yield from rows


def sequences(rows: Rows, run: str, trained_on: Sequence[str] = ("bSSFP", "LGE")) -> Iterator[str]:
    """Trained on one of MSCMRseg's sequences, judged on both."""
    yield f"| trained on | judged on | patients | stock | {run} | difference (each seed's) | interval |"
    yield "|---|---|---|---|---|---|---|"
    for data, place in product(trained_on, ("bSSFP", "LGE")):
        yield f"| {data} | {place} | {Difference.of(rows, place, f'{run}, {data}', f'stock, {data}').cells()} |"


def advice(tables: dict[str, Rows]) -> Iterator[str]:
    """What to train, with what it gains and costs after each of two lengths."""
    heads, columns = [], []
    for table, steps, suffix in (("official", "7,500 steps", ""), ("longer", "22,500 steps", "-3x")):
        for place, name in (("LGE", "late enhancement"), ("ACDC", "inside")):
            pairs = [(of_length(run, suffix), of_length(stock, suffix)) for *_, run, stock in ADVICE]
            columns.append([Difference.of(tables[table], place, *pair) for pair in pairs])
            heads.append(f"{name}, {steps}")
    (seeds,) = {len(difference.of_seeds) for column in columns for difference in column}
    yield f"| my images will come from | train ({seeds} seeds) | {' | '.join(heads)} |"
    yield "|---|---|---|---|---|---|"
    for (where, what, *_), *differences in zip(ADVICE, *columns, strict=True):
        yield f"| {where} | {what} | {' | '.join(map(str, differences))} |"
    yield "| another scanner, or the same | nnU-Net's own | moves gain nothing certain there (4 patients) | | | |"


@dataclass(frozen=True)
class Difference:
    """Another run less stock on a place, over patients with seeds averaged."""

    stock: float
    other: float
    of_patients: np.ndarray
    of_seeds: np.ndarray

    @classmethod
    def of(cls, rows: Rows, place: str, other: str = "moves", stock: str = "stock") -> Difference:
        seeds = sorted(seed for run, seed, where in rows if (run, where) == (other, place))
        patients = sorted(rows[stock, seeds[0], place])
        first, second = (
            np.array([[rows[run, seed, place][patient] for patient in patients] for seed in seeds])
            for run in (stock, other)
        )
        return cls(first.mean(), second.mean(), (second - first).mean(0), (second - first).mean(1))

    def __str__(self) -> str:
        return f"{self.mean:+.1f} ({interval(self.of_patients)})"

    def cells(self) -> str:
        """Number of patients, both values, the difference and its interval."""
        values = f"{self.stock:.1f} | {self.other:.1f} | {with_each(self.of_seeds, '+.1f')}"
        return f"{len(self.of_patients)} | {values} | {interval(self.of_patients)}"

    @property
    def mean(self) -> float:
        return float(self.of_patients.mean())


def of_length(run: str, suffix: str) -> str:
    """The name of a run, or average of runs, after trainings of another length."""
    return "+".join(of + suffix for of in run.split("+"))


def mean(of_patients: dict[str, float]) -> float:
    return float(np.mean(list(of_patients.values())))


TABLES = {
    "explored": lambda tables: explored(tables["explored"]),
    "first": lambda tables: compared(tables["first"]),
    "pairs": lambda tables: compared(tables["official"]),
    "longer": lambda tables: compared(tables["longer"], "moves-3x", "stock-3x"),
    "longer-jitter": lambda tables: compared(tables["longer"], "mean-jitter-3x", "stock-3x"),
    "longer-averages": lambda tables: beside(
        tables["longer"], [of_length(run, "-3x") for run in AVERAGED], "stock-3x+stock-3x"
    ),
    "wide": lambda tables: beside(tables["wide"], ("moves", "mean-jitter")),
    "beside": peers,
    "averages": lambda tables: beside(tables["official"], AVERAGED, "stock+stock"),
    "averages-development": lambda tables: beside(tables["shares"], AVERAGED, "stock+stock"),
    "averaged-jitter": lambda tables: compared(tables["official"], "stock+mean-jitter", "stock+stock"),
    "averaged-moves": lambda tables: compared(tables["official"], "stock+moves", "stock+stock"),
    "shares": lambda tables: beside(tables["shares"], WON_BACK),
    "jitter": lambda tables: compared(tables["official"], "mean-jitter"),
    "fifth": lambda tables: beside(tables["fifth"], ("moves-fifth", "mean-jitter-fifth"), "stock-fifth"),
    "taught": lambda tables: compared(tables["taught"], "moves-from-stock"),
    "sequences": lambda tables: sequences(tables["sequences"], "moves"),
    "sequences-jitter": lambda tables: sequences(tables["sequences"], "mean-jitter", ["bSSFP"]),
    "advice": advice,
}
BLOCK = re.compile(rf"<!-- ({'|'.join(TABLES)}) -->\n.*?<!-- end -->", re.DOTALL)


def page(text: str) -> str:
    """The page with its tables made anew, each between ``<!-- NAME -->`` and ``<!-- end -->``."""
    tables = read()
    return BLOCK.sub(lambda found: "\n".join([f"<!-- {found[1]} -->", *TABLES[found[1]](tables), "<!-- end -->"]), text)


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
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        if args.write:
            path.write_text(page(text), encoding="utf-8")
        elif page(text) != text:
            sys.exit(f"{path} says something else than its rows; --write puts it right")


if __name__ == "__main__":
    main()
