"""Tables of what ``evidence.py`` found, as docs/evidence.md has them: every run, and its difference to one of them.

    python scripts/experiments/evidence_table.py stock ramp mean-jitter --fold 1

Mean Dice (%) over structures, cases and patients, with each seed's in brackets; HD95 (mm; of an empty prediction it is
the image's diagonal) clean, and the volume predicted over the true one, summed over cases and structures. Differences
are to the first run, paired by seed and case, of the seeds that both have; after the semicolon their 95 % interval over
patients (``bootstrap_interval``), with seeds averaged within a patient. It knows nothing of other seeds.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_shapekd.evaluation.statistics import MIN_PATIENTS, bootstrap_interval

VALUES = Path(__file__).resolve().parents[2] / "docs" / "evidence" / "values.csv"
TITLES = {"none": "clean", "bias-field 3": "bias field", "ghosting 3": "ghosting", "inversion 3": "inversion of LVC"}
TITLES |= {"inversion of MLV 3": "inversion of MLV"}
UNKNOWN = "–"

#: (case, patient, class) -> value
Values = dict[tuple[str, str, str], float]
#: (run, seed, shift with severity, metric) -> what was measured
Found = dict[tuple[str, int, str, str], Values]


def read(path: Path, fold: int) -> Found:
    found: Found = defaultdict(dict)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if int(row["fold"]) == fold:
                shift = row["shift"] if row["severity"] == "0" else f"{row['shift']} {row['severity']}"
                of = row["run"], int(row["seed"]), shift, row["metric"]
                found[of][row["case"], row["patient"], row["class"]] = float(row["value"])
    return dict(found)


def of_patients(values: Values, keys: Iterable[tuple[str, str, str]], name: str | None = None) -> np.ndarray:
    """One value a patient, sorted: the mean over a case's classes (or of one), then over the patient's cases."""
    cases: dict[tuple[str, str], list[float]] = defaultdict(list)
    for case, patient, of_class in keys:
        if name in (None, of_class):
            cases[patient, case].append(values[case, patient, of_class])
    patients: dict[str, list[float]] = defaultdict(list)
    for (patient, _), of_case in cases.items():
        patients[patient].append(float(np.mean(of_case)))
    return np.array([np.mean(patients[patient]) for patient in sorted(patients)])


def interval(of_patients: np.ndarray) -> str:
    """Of too few patients: the patients' values."""
    if len(of_patients) < MIN_PATIENTS:
        return "patients " + ", ".join(f"{value:+.1f}" for value in of_patients)
    low, high = bootstrap_interval(of_patients)
    return f"{low:+.1f} to {high:+.1f}"


def with_each(of_seeds: np.ndarray, form: str) -> str:
    """The mean and, of several seeds, each one's."""
    each = f" ({', '.join(format(value, form) for value in of_seeds)})" if len(of_seeds) > 1 else ""
    return format(of_seeds.mean(), form) + each


@dataclass(frozen=True)
class Run:
    """What was found of a run. Its answers are cells of a table; Dice is in percent."""

    found: Found
    name: str
    seeds: list[int]

    def has(self, shift: str, metric: str) -> bool:
        return (self.name, self.seeds[0], shift, metric) in self.found

    def values(self, shift: str, metric: str, seed: int) -> Values:
        return self.found[self.name, seed, shift, metric]

    def mean(self, shift: str, metric: str = "dice", factor: float = 100) -> str:
        if not self.has(shift, metric):
            return UNKNOWN
        of_seeds = [self.values(shift, metric, seed) for seed in self.seeds]
        return with_each(factor * np.array([of_patients(values, values).mean() for values in of_seeds]), ".1f")

    def structures(self, shift: str) -> str:
        if not self.has(shift, "dice"):
            return UNKNOWN
        of_seeds = [self.values(shift, "dice", seed) for seed in self.seeds]
        names = dict.fromkeys(name for _, _, name in of_seeds[0])
        means = (np.mean([of_patients(values, values, name).mean() for values in of_seeds]) for name in names)
        return ", ".join(f"{name} {100 * mean:.1f}" for name, mean in zip(names, means, strict=True))

    def volume(self, shift: str) -> str:
        if not self.has(shift, "prediction_size"):
            return UNKNOWN
        predicted, true = (
            sum(sum(self.values(shift, metric, seed).values()) for seed in self.seeds)
            for metric in ("prediction_size", "reference_size")
        )
        return f"{predicted / true:.2f}"

    def less(self, other: Run, shift: str, metric: str = "dice", factor: float = 100) -> str:
        """Over the structures in which both have the metric in all seeds that both have."""
        if not (self.has(shift, metric) and other.has(shift, metric)):
            return UNKNOWN
        seeds = sorted(set(self.seeds) & set(other.seeds))
        both = [[run.values(shift, metric, seed) for seed in seeds] for run in (self, other)]
        keys = set.intersection(*(set(values) for run in both for values in run))
        own, others = (np.stack([of_patients(values, keys) for values in run]) for run in both)
        differences = factor * (own - others)  # (seeds, patients)
        return f"{with_each(differences.mean(1), '+.1f')}; {interval(differences.mean(0))}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="the first is what the others are compared with")
    parser.add_argument("--seeds", type=int, nargs="+", help="by default all that a run has")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--values", type=Path, default=VALUES, help="by default %(default)s")
    args = parser.parse_args()
    found = read(args.values, args.fold)
    runs = []
    for name in args.runs:
        seeds = {seed for run, seed, *_ in found if run == name} & set(args.seeds or [seed for _, seed, *_ in found])
        if not seeds & set(runs[0].seeds if runs else seeds):
            parser.error(f"{name} has no such seed in fold {args.fold} of {args.values}")
        runs.append(Run(found, name, sorted(seeds)))
    to = runs[0]
    shifts = list(dict.fromkeys(shift for run, _, shift, _ in found if run == to.name))
    clean, titles = shifts[0], [TITLES.get(shift, shift) for shift in shifts]

    def table(*head: str) -> None:
        print(f"\n| {' | '.join(head)} |\n" + "|---" * len(head) + "|")

    def row(run: Run, *cells: str) -> None:
        print(f"| `{run.name}` | {' | '.join(cells)} |")

    columns = *titles, f"HD95 (mm): {titles[0]}", "volume"
    table("mean Dice (%)", *columns)
    for run in runs:
        row(run, *map(run.mean, shifts), run.mean(clean, "hd95", 1), run.volume(clean))
    table("mean Dice (%), then differences to it", *columns)
    row(to, *map(to.mean, shifts), to.mean(clean, "hd95", 1), to.volume(clean))
    for run in runs[1:]:
        row(run, *(run.less(to, shift) for shift in shifts), run.less(to, clean, "hd95", 1), run.volume(clean))
    table("mean Dice (%), volume", *titles)
    for run in runs:
        row(run, *(f"{run.mean(shift).split(' (')[0]}, {run.volume(shift)}" for shift in shifts))
    table("mean Dice (%)", *titles)
    for run in runs:
        row(run, *map(run.structures, shifts))


if __name__ == "__main__":
    main()
