"""The table of ``five_tasks.sh``: seeds are averaged within a patient, then patients are resampled.

    python scripts/experiments/five_tasks_table.py OUT --seeds 0 1 --csv docs/tasks/results.csv

Prints rows for docs/tasks/README.md and writes every value they rest on. Seeds are replicates: they are never counted
as patients.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np

from nnunet_shapekd.evaluation.results import Evaluation, read_evaluation, write_csv
from nnunet_shapekd.evaluation.statistics import MIN_PATIENTS, bootstrap_interval, patient_means

MODELS = ("stock", "student")
#: frames of few sequences, whose independence nobody vouches for: no interval
DEPENDENT = {"Dataset064_ColonDB"}


def values(evaluation: Evaluation, column: str) -> dict[tuple[str, str], float]:
    """(case, class) -> value, where it is defined."""
    found = {(row["case"], row["class"]): row[column] for row in evaluation.rows}
    return {key: value for key, value in found.items() if not math.isnan(value)}


def of_patients(evaluation: Evaluation, column: str, keys: set[tuple[str, str]]) -> np.ndarray:
    """(patients,): the mean over classes, then over a patient's cases."""
    found, whose = values(evaluation, column), {row["case"]: row["patient"] for row in evaluation.rows}
    cases = sorted({case for case, _ in keys})
    means = [np.mean([found[key] for key in sorted(keys) if key[0] == case]) for case in cases]
    return patient_means(np.array(means), [whose[case] for case in cases])[1]


def share(evaluation: Evaluation) -> float:
    """Predicted / true size, all classes and cases together."""
    return sum(r["prediction_size"] for r in evaluation.rows) / sum(r["reference_size"] for r in evaluation.rows)


def cell(numbers: np.ndarray, factor: float = 100, sign: str = "") -> str:
    """The numbers of all seeds, with their mean in front where there are several."""
    each = ", ".join(f"{factor * number:{sign}.1f}" for number in numbers)
    return each if len(numbers) == 1 else f"{factor * np.mean(numbers):{sign}.1f} ({each})"


def shared(judged: list[dict[str, Evaluation]]) -> tuple[set[tuple[str, str]], int]:
    """(case, class) that all runs have a Dice for, and how many others there are: structures that some run invented."""
    of_runs = [set(values(evaluation, "dice")) for of_seed in judged for evaluation in of_seed.values()]
    return set.intersection(*of_runs), len(set.union(*of_runs) - set.intersection(*of_runs))


def row(task: str, dataset: str, judged: list[dict[str, Evaluation]]) -> str:
    """One line of the table; ``judged`` has an evaluation a model for each seed."""
    keys, _ = shared(judged)
    dice = {m: np.stack([of_patients(s[m], "dice", keys) for s in judged]) for m in MODELS}
    hd95 = {m: np.stack([of_patients(s[m], "hd95", keys) for s in judged]) for m in MODELS}
    differences = dice["student"] - dice["stock"]  # (seeds, patients)
    interval = "–"
    if differences.shape[1] >= MIN_PATIENTS and dataset not in DEPENDENT:
        low, high = bootstrap_interval(differences.mean(axis=0))
        interval = f"{100 * low:+.1f} to {100 * high:+.1f}"
    unit = judged[0]["stock"].distance_unit
    return " | ".join(
        (
            f"| {task}",
            dataset.split("_")[1],
            f"{len({case for case, _ in keys})} ({differences.shape[1]})",
            cell(dice["stock"].mean(axis=1)),
            cell(dice["student"].mean(axis=1)),
            cell(differences.mean(axis=1), sign="+"),
            interval,
            " → ".join(cell(hd95[m].mean(axis=1), 1) for m in MODELS) + f" {unit}",
            " → ".join(f"{np.mean([share(s[m]) for s in judged]):.2f}" for m in MODELS) + " |",
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="OUT of five_tasks.sh")
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--csv", type=Path, required=True, help="every value, to write")
    args = parser.parse_args()

    if len(set(args.seeds)) < len(args.seeds):
        parser.error("--seeds: each seed once")
    judged_folders = {seed: args.out / "judged" / f"seed{seed}" for seed in args.seeds}
    sets = {f"seed {s}": {p.relative_to(f) for p in f.glob("*/Dataset*")} for s, f in judged_folders.items()}
    everything = sorted(set.union(*sets.values()))
    if missing := [f"{path} of {seed}" for seed, found in sets.items() for path in everything if path not in found]:
        parser.error(f"not judged yet: {', '.join(missing)}")

    rows = []
    for path in everything:
        task, dataset = path.parts
        judged = []
        for seed, folder in judged_folders.items():
            judged.append({model: read_evaluation(folder / path / model) for model in MODELS})
            for model, evaluation in judged[-1].items():
                units = {"dice": "1", "hd95": evaluation.distance_unit}
                units |= dict.fromkeys(("reference_size", "prediction_size"), evaluation.size_unit)
                rows += [
                    (task, dataset, seed, model, r["case"], r["patient"], r["class"], metric, unit, r[metric])
                    for r in evaluation.rows
                    for metric, unit in units.items()
                ]
        print(row(task, dataset, judged))
        if invented := shared(judged)[1]:
            print(f"{dataset}: without {invented} structures that are not there and that some run predicted")
    columns = ("task", "dataset", "seed", "model", "case", "patient", "class", "metric", "unit", "value")
    write_csv(args.csv, columns, rows)


if __name__ == "__main__":
    main()
