"""The table of ``five_tasks.sh``: seeds are averaged within a patient, then patients are resampled.

    python scripts/experiments/five_tasks_table.py OUT --seeds 0 1 --csv docs/tasks/results.csv

Prints rows for docs/tasks/README.md and writes every value they rest on. Seeds are replicates: they are never counted
as patients.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from nnunet_shapekd.evaluation.record import Evaluation
from nnunet_shapekd.evaluation.results import mean_over_classes, per_patient, read_evaluation, shared, write_csv
from nnunet_shapekd.evaluation.statistics import MIN_PATIENTS, bootstrap_interval

MODELS = ("stock", "student")
#: frames of few sequences, whose independence nobody vouches for: no interval
DEPENDENT = {"Dataset064_ColonDB"}


def share(evaluation: Evaluation) -> float:
    """Predicted / true size, all classes and cases together."""
    return sum(r["prediction_size"] for r in evaluation.rows) / sum(r["reference_size"] for r in evaluation.rows)


def cell(numbers: np.ndarray, factor: float = 100, sign: str = "") -> str:
    """The numbers of all seeds, with their mean in front where there are several."""
    each = ", ".join(f"{factor * number:{sign}.1f}" for number in numbers)
    return each if len(numbers) == 1 else f"{factor * np.mean(numbers):{sign}.1f} ({each})"


def all_runs(judged: list[dict[str, Evaluation]]) -> list[Evaluation]:
    """Those of all seeds and models."""
    return [evaluation for of_seed in judged for evaluation in of_seed.values()]


def row(task: str, dataset: str, judged: list[dict[str, Evaluation]]) -> str:
    """One line of the table; ``judged`` has an evaluation a model for each seed."""
    keys, _ = shared(all_runs(judged))

    def of_patients(model: str, metric: str) -> np.ndarray:  # (seeds, patients)
        return np.stack([per_patient(s[model], mean_over_classes(s[model], metric, keys)) for s in judged])

    dice, hd95 = ({model: of_patients(model, metric) for model in MODELS} for metric in ("dice", "hd95"))
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
        if invented := shared(all_runs(judged))[1]:
            print(f"{dataset}: without {invented} structures that are not there and that some run predicted")
    columns = ("task", "dataset", "seed", "model", "case", "patient", "class", "metric", "unit", "value")
    write_csv(args.csv, columns, rows)


if __name__ == "__main__":
    main()
