"""The tables of docs/paper.md, from the rows that ``paper_train.py`` left.

python scripts/experiments/paper/paper_table.py --check      fails where the page says something else
python scripts/experiments/paper/paper_table.py --write      writes them into the page

python scripts/experiments/paper/paper_table.py --add OUT    keeps the rows of OUT's networks
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "one_card"))
import table
from evidence_table import interval, with_each

ROOT = Path(__file__).parents[3]
ROWS = ROOT / "docs" / "evidence" / "paper.csv.gz"
PAGE = ROOT / "docs" / "paper.md"
COLUMNS = "name", "seed", "place", "case", "structure", "there", "dice", "by_slice"
PLACES = {"ACDC": "inside", "bSSFP": "bSSFP", "LGE": "LGE", "Sunnybrook": "Sunnybrook"}

Row = dict[str, str]


def of_stacks(row: Row) -> float | None:
    """Ours: a missed structure scores 0, one that is neither there nor predicted nothing (nor one not annotated)."""
    return float(row["dice"]) if row["there"] == "1" else None


def of_the_code(row: Row) -> float:
    """The paper's published script: an invented structure scores 1, one that is not predicted 0, there or not."""
    if row["dice"] == "nan":
        return 0.0
    return float(row["dice"]) if row["there"] == "1" else 1.0


def of_slices(row: Row) -> float | None:
    """The mean over slices, of which one where the structure is neither there nor predicted scores 1."""
    return float(row["by_slice"]) if row["there"] == "1" else None


def of_missed(row: Row) -> float | None:
    """1 where a structure is there and not a voxel of it was found."""
    return float(float(row["dice"]) == 0) if row["there"] == "1" else None


SCORINGS: dict[str, Callable[[Row], float | None]] = {
    "ours, a stack": of_stacks,
    "the published script's, a stack": of_the_code,
    "a slice, 1 where there is nothing to find": of_slices,
}


def read() -> list[Row]:
    with gzip.open(ROWS, "rt", newline="") as file:
        return list(csv.DictReader(file, COLUMNS))


@dataclass(frozen=True)
class Pair:
    """Networks with and without a teacher, judged on a place: Dice in percent, ``(seeds, patients)``."""

    without: np.ndarray
    student: np.ndarray

    @classmethod
    def of(cls, rows: list[Row], names: tuple[str, str], place: str, scoring: Callable[[Row], float | None]) -> Pair:
        """Of the seeds that both have."""
        found: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for row in rows:
            if row["place"] == place and row["name"] in names and (value := scoring(row)) is not None:
                found[row["name"], row["seed"]][row["case"].split("_")[0]].append(100 * value)
        seeds = sorted({seed for _, seed in found if all((name, seed) in found for name in names)})
        patients = sorted(found[names[0], seeds[0]])
        return cls(
            *(np.array([[np.mean(found[name, seed][one]) for one in patients] for seed in seeds]) for name in names)
        )

    @property
    def differences(self) -> np.ndarray:
        return self.student - self.without

    def cells(self) -> list[str]:
        """Without a teacher, with one, the difference (each seed's), its interval over patients."""
        difference = with_each(self.differences.mean(1), "+.1f")
        return [
            f"{self.without.mean():.1f}", f"{self.student.mean():.1f}", difference, interval(self.differences.mean(0))
        ]  # fmt: skip


def gain(rows: list[Row]) -> Iterator[str]:
    """The whole recipe, judged as we judge; and how many structures are missed altogether."""
    names = "paper", "paper+features"
    yield "| judged on | patients | without teacher | with | difference (each seed's) | interval | missed, both |"
    yield "|---|---|---|---|---|---|---|"
    for place, title in PLACES.items():
        pair = Pair.of(rows, names, place, of_stacks)
        missed = Pair.of(rows, names, place, of_missed)
        shares = f"{missed.without.mean():.1f} %, {missed.student.mean():.1f} %"
        yield f"| {title} | {pair.without.shape[1]} | {' | '.join(pair.cells())} | {shares} |"


def scorings(rows: list[Row]) -> Iterator[str]:
    yield "| judged on | scoring | without teacher | with | difference (each seed's) | interval |"
    yield "|---|---|---|---|---|---|"
    for place, title in PLACES.items():
        for name, scoring in SCORINGS.items():
            cells = Pair.of(rows, ("paper", "paper+features"), place, scoring).cells()
            yield f"| {title} | {name} | {' | '.join(cells)} |"


def ingredients(rows: list[Row]) -> Iterator[str]:
    """Of each student, the same without a teacher and the difference to it; and nnU-Net's own recipe without one."""
    networks = {(row["name"], row["seed"]) for row in rows}
    students = sorted(
        {name for name, _ in networks if "+" in name}, key=lambda name: (not name.startswith("paper"), name)
    )
    stock = table.read()["taught"]
    yield f"| recipe, term | seeds | {' | '.join(PLACES.values())} |"
    yield "|---|---|---|---|---|---|"
    for name in students:
        base, _, term = name.partition("+")
        seeds = sorted({seed for one, seed in networks if one == name and (base, seed) in networks})
        pairs = [Pair.of(rows, (base, name), place, of_stacks) for place in PLACES]
        cells = [f"{pair.without.mean():.1f} {pair.differences.mean():+.1f}" for pair in pairs]
        yield f"| `{base}`, {term} | {', '.join(seeds)} | {' | '.join(cells)} |"
    seeds = sorted(seed for run, seed, place in stock if (run, place) == ("stock", "ACDC"))
    cells = [
        f"{np.mean([table.mean(stock['stock', seed, place]) for seed in seeds]):.1f}"
        if ("stock", seeds[0], place) in stock
        else "–"
        for place in PLACES
    ]
    yield f"| nnU-Net's own, `stock` of [moves](evidence/moves.md) | {', '.join(seeds)} | {' | '.join(cells)} |"


TABLES = {"gain": gain, "scorings": scorings, "ingredients": ingredients}
BLOCK = re.compile(rf"<!-- ({'|'.join(TABLES)}) -->\n.*?<!-- end -->", re.DOTALL)


def page(text: str) -> str:
    """The page with its tables made anew, each between ``<!-- NAME -->`` and ``<!-- end -->``."""
    rows = read()
    return BLOCK.sub(lambda found: "\n".join([f"<!-- {found[1]} -->", *TABLES[found[1]](rows), "<!-- end -->"]), text)


def add(out: Path) -> None:
    """In the place of what is kept of the same networks."""
    networks = {path: path.stem.rsplit("-", 1) for path in sorted(out.glob("*-*.csv"))}
    rows = []
    if ROWS.exists():
        rows = [list(row.values()) for row in read() if [row["name"], row["seed"]] not in networks.values()]
    for path in networks:
        with path.open(newline="") as file:
            rows += csv.reader(file)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    ROWS.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--check", action="store_true")
    what.add_argument("--write", action="store_true")
    what.add_argument("--add", type=Path, metavar="OUT")
    args = parser.parse_args()
    if args.add:
        add(args.add)
        return
    text = PAGE.read_text(encoding="utf-8")
    if args.check and page(text) != text:
        sys.exit(f"{PAGE} says something else than its rows; --write puts it right")
    PAGE.write_text(page(text), encoding="utf-8")


if __name__ == "__main__":
    main()
