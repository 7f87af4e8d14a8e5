"""Tables of what ``evidence.py`` found: every run, and its difference to one of them.

    python scripts/experiments/evidence_table.py stock student student-of-half --to student

Mean Dice (%) over structures, cases and patients, with each seed's in brackets. Differences are paired by seed and
case; their 95 % interval is over patients, with seeds averaged within a patient, and knows nothing of other seeds.
HD95 (mm) is over the structures that have one in all runs listed.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np

from nnunet_shapekd.evaluation.statistics import MIN_PATIENTS, bootstrap_interval

VALUES = Path(__file__).resolve().parents[2] / "docs" / "evidence" / "values.csv"

#: (case, patient, class) -> value
Values = dict[tuple[str, str, str], float]


def read(path: Path, fold: int) -> dict[tuple[str, int, str, str], Values]:
    """Run, seed, shift (with severity) and metric -> what was measured."""
    found: dict[tuple[str, int, str, str], Values] = defaultdict(dict)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if int(row["fold"]) == fold:
                shift = row["shift"] if row["severity"] == "0" else f"{row['shift']} {row['severity']}"
                of = row["run"], int(row["seed"]), shift, row["metric"]
                found[of][row["case"], row["patient"], row["class"]] = float(row["value"])
    return dict(found)


def of_patients(values: Values, keys: list[tuple[str, str, str]], name: str | None = None) -> np.ndarray:
    """One value a patient, sorted: the mean over a case's classes (or of one), then over the patient's cases."""
    cases: dict[tuple[str, str], list[float]] = defaultdict(list)
    for case, patient, of_class in keys:
        if name in (None, of_class):
            cases[patient, case].append(values[case, patient, of_class])
    patients: dict[str, list[float]] = defaultdict(list)
    for (patient, _), of_case in cases.items():
        patients[patient].append(float(np.mean(of_case)))
    return np.array([np.mean(patients[patient]) for patient in sorted(patients)])


def cell(of_seeds: list[float], factor: float = 100, sign: str = "") -> str:
    each = ", ".join(f"{factor * value:{sign}.1f}" for value in of_seeds)
    return f"{factor * np.mean(of_seeds):{sign}.1f} ({each})"


def interval(differences: np.ndarray) -> str:
    """Of too few patients: the patients' values."""
    if len(differences) < MIN_PATIENTS:
        return "patients " + ", ".join(f"{value:+.1f}" for value in differences)
    low, high = bootstrap_interval(differences)
    return f"{low:+.1f} to {high:+.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--to", metavar="RUN", help="the run that the differences are to; by default the first")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--values", type=Path, default=VALUES, help="by default %(default)s")
    args = parser.parse_args()
    to = args.to or args.runs[0]
    runs = list(dict.fromkeys([to, *args.runs]))
    found = read(args.values, args.fold)
    seeds = sorted(set.intersection(*({seed for run, seed, *_ in found if run == one} for one in runs)))
    if not seeds:
        parser.error(f"no seed has all of {', '.join(runs)} in fold {args.fold} of {args.values}")
    shifts = list(dict.fromkeys(shift for run, _, shift, _ in found if run == to))

    def keys(metric: str, shift: str) -> list[tuple[str, str, str]]:  # defined in all runs and seeds
        return sorted(set.intersection(*(set(found[run, seed, shift, metric]) for run in runs for seed in seeds)))

    classes = list(dict.fromkeys(key[2] for key in found[to, seeds[0], shifts[0], "dice"]))
    print(f"Fold {args.fold}, seeds {', '.join(map(str, seeds))}.\n")
    print("| run | shift | Dice | " + " | ".join(classes) + " | HD95 | predicted / true |")
    print("|---" * (5 + len(classes)) + "|")
    for shift in shifts:
        dice_keys, hd95_keys = keys("dice", shift), keys("hd95", shift)
        for run in runs:
            dice, hd95, predicted, true = (
                [found[run, seed, shift, metric] for seed in seeds]
                for metric in ("dice", "hd95", "prediction_size", "reference_size")
            )
            row = [run, shift, cell([of_patients(values, dice_keys).mean() for values in dice])]
            for name in classes:
                known = any(name == of_class for *_, of_class in dice_keys)
                means = [of_patients(values, dice_keys, name).mean() for values in dice] if known else []
                row.append(f"{100 * np.mean(means):.1f}" if known else "–")
            row.append(cell([of_patients(values, hd95_keys).mean() for values in hd95], 1))
            row.append(f"{sum(sum(v.values()) for v in predicted) / sum(sum(v.values()) for v in true):.2f}")
            print(f"| {' | '.join(row)} |")
    for metric, title, factor in (("dice", "Dice (%)", 100), ("hd95", "HD95 (mm)", 1)):
        print(f"\n| {title}, difference to {to} | " + " | ".join(shifts) + " |")
        print("|---" * (1 + len(shifts)) + "|")
        for run in runs[1:]:
            cells = []
            for shift in shifts:
                of_all = keys(metric, shift)
                differences = factor * np.stack(
                    [
                        of_patients(found[run, seed, shift, metric], of_all)
                        - of_patients(found[to, seed, shift, metric], of_all)
                        for seed in seeds
                    ]
                )  # (seeds, patients)
                cells.append(f"{cell(list(differences.mean(1)), 1, '+')}; {interval(differences.mean(0))}")
            print(f"| {run} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
